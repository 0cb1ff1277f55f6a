"""A slide keeps the evidence of its identity, its patient, its picture and a person's word."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, String

from appliance.ledger.migrations.columns import add_missing

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns; what an earlier build did not keep stays empty."""
    add_missing(
        "slide",
        Column("evidence", String, nullable=False, server_default="[]"),
        Column("patient", String, nullable=False, server_default="{}"),
        Column("picture", String, nullable=False, server_default="{}"),
        Column("said", String, nullable=False, server_default="{}"),
        Column("scanned_at", Float, nullable=False, server_default="0"),
    )
    op.create_index("ix_slide_fingerprint", "slide", ["fingerprint"], if_not_exists=True)
    add_missing("case", Column("overruled", String, nullable=False, server_default="[]"))
