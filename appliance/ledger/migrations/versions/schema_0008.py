"""STAT, tries and token of a claim, indexes; events hold score and person."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Integer, String, TextClause, text

from appliance.ledger.migrations.columns import add_event, add_missing

revision = "0008"
down_revision = "0007"

_FREE, _CLAIMED = text("claimed_by = ''"), text("claimed_by != ''")


def upgrade() -> None:
    """Add columns and indexes; put the scores of today into the chain."""
    for table in ("slide", "case"):
        add_missing(
            table,
            Column("step_tries", Integer, nullable=False, server_default="0"),
            Column("claim_token", String, nullable=False, server_default=""),
            Column("stat", Boolean, nullable=False, server_default="0"),
        )
    add_missing(
        "event",
        Column("score", String, nullable=False, server_default=""),
        Column("by", String, nullable=False, server_default=""),
    )
    connection = op.get_bind()
    for table in ("slide", "case", "delivery"):
        op.drop_index(f"ix_{table}_state", table, if_exists=True)
    for table, more in (("slide", []), ("case", ["assay"])):
        claim = ["state", "stat", "id", "not_before", *more]
        _index(f"ix_{table}_state_changed", table, ["state", "changed_at"])
        _index(f"ix_{table}_claim", table, claim, where=_FREE)
        _index(f"ix_{table}_claimed", table, ["claimed_by"], where=_CLAIMED)
    _index("ix_case_review", "case", ["id"], where=text("review != '[]'"))
    _index("ix_delivery_due", "delivery", ["state", "not_before"])
    scored = text("SELECT id, score FROM \"case\" WHERE score != '' ORDER BY id")
    for case_id, score in connection.execute(scored).all():
        said = {"score": score}
        subject = f"case-{case_id}"
        add_event(connection, subject, "note", code="carried-over", score=score, params=said)


def _index(name: str, table: str, columns: list[str], where: TextClause | None = None) -> None:
    op.create_index(name, table, columns, sqlite_where=where, if_not_exists=True)
