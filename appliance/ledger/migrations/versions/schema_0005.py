"""Organ and specimen of the sidecar are kept at identify."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, text

from appliance.ledger.migrations.columns import add_missing, change_state

revision = "0005"
down_revision = "0004"

_UNSCORED = """
SELECT slide.id, slide.state FROM slide WHERE slide.state IN ('identified', 'inspected', 'read')
  AND NOT EXISTS (SELECT 1 FROM "case" WHERE "case".accession = slide.accession
    AND "case".block = slide.block AND "case".findings_key != '') ORDER BY slide.id
"""
_READY = "SELECT id, state FROM \"case\" WHERE state = 'ready' AND findings_key = '' ORDER BY id"


def upgrade() -> None:
    """Add the columns; slides that no result uses yet are identified anew, for their sidecars."""
    add_missing(
        "slide",
        Column("organ", String, nullable=False, server_default=""),
        Column("specimen", String, nullable=False, server_default=""),
    )
    connection = op.get_bind()
    for slide_id, state in connection.execute(text(_UNSCORED)).all():
        change_state(connection, "slide", slide_id, state, "arriving")
    for case_id, state in connection.execute(text(_READY)).all():
        change_state(connection, "case", case_id, state, "waiting")
