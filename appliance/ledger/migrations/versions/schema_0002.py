"""`deaths` becomes `worker_crashes`."""

from __future__ import annotations

from alembic import op

from appliance.ledger.migrations.columns import columns_of

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rename the column."""
    for table in ("slide", "case"):
        if "deaths" in columns_of(op.get_bind(), table):
            op.execute(f'ALTER TABLE "{table}" RENAME COLUMN deaths TO worker_crashes')
