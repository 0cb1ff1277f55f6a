"""The result of reading a slide alone is found by its artifact key and no more in the row."""

from __future__ import annotations

from alembic import op

from appliance.ledger.migrations.columns import columns_of

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Drop the column."""
    if "read_key" in columns_of(op.get_bind(), "slide"):
        op.drop_column("slide", "read_key")
