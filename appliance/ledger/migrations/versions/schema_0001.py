"""Schema of the first edition: sentences in rows and events."""

from __future__ import annotations

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Do nothing: ledgers begin with this schema or a later one."""
