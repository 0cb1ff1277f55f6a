"""A case keeps the stains that it pairs; an object on its way may belong to several cases."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKey, Integer, String

from appliance.ledger.migrations.columns import add_missing, tables_of

revision = "0007"
down_revision = "0006"

_TARGET = """
UPDATE "case" SET target = coalesce((SELECT stain FROM slide
  WHERE slide.accession = "case".accession AND slide.block = "case".block
  AND stain NOT IN ('', 'HE') LIMIT 1), upper(assay))
  WHERE assay != 'her2'
"""
"""Stain of another assay than HER2: of the block's slides, if there are any."""


def upgrade() -> None:
    """Add the columns and the table of objects and cases."""
    add_missing(
        "case",
        Column("anatomy", String, nullable=False, server_default="HE"),
        Column("target", String, nullable=False, server_default="HER2"),
    )
    op.execute(_TARGET)
    if "case_delivery" not in tables_of(op.get_bind()):
        op.create_table(
            "case_delivery",
            Column("case_id", Integer, ForeignKey("case.id"), primary_key=True),
            Column("delivery_id", Integer, ForeignKey("delivery.id"), primary_key=True),
        )
        op.create_index("ix_case_delivery_delivery_id", "case_delivery", ["delivery_id"])
        op.execute("INSERT INTO case_delivery SELECT case_id, id FROM delivery")
