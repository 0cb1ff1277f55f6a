"""Migrations of the ledger's schema by Alembic; `versions/` has one file per schema."""
