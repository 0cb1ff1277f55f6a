"""Neural networks, the data and the training that make them. No access to ledger or network."""
