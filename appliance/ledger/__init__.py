"""The ledger: tables, states, events, the writer's door and the read-only door."""
