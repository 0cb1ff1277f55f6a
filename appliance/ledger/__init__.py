"""The ledger: tables, states, events, progress."""
