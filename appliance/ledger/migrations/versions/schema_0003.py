"""Sentences become codes with parameters; events get columns, and so new hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from alembic import op
from sqlalchemy import Boolean, Column, Connection, Float, String, text

from appliance.ledger.events import hash_of
from appliance.ledger.migrations import sentences
from appliance.ledger.migrations.columns import add_event, add_missing, columns_of, rows_by_id

revision = "0003"
down_revision = "0002"

_EVENT = ("code", "from_state", "to_state", "step", "seconds", "reused", "reason", "params")


def upgrade() -> None:
    """Add the columns, convert each row, and drop the sentences."""
    connection = op.get_bind()
    add_missing("slide", Column("params", String, nullable=False, server_default="{}"))
    add_missing("case", Column("params", String, nullable=False, server_default="{}"))
    add_missing(
        "delivery",
        Column("reason", String, nullable=False, server_default=""),
        Column("params", String, nullable=False, server_default="{}"),
    )
    add_missing(
        "event",
        *(
            Column(name, String, nullable=False, server_default="")
            for name in ("code", "from_state", "to_state", "step", "reason")
        ),
        Column("seconds", Float, nullable=False, server_default="0"),
        Column("reused", Boolean, nullable=False, server_default="0"),
        Column("params", String, nullable=False, server_default="{}"),
    )
    _convert(connection, "slide", "reason, detail", "params", sentences.of_slide)
    _convert(connection, "case", "reason, review", "reason, params, review", sentences.of_case)
    _convert(connection, "delivery", "error, destination", "reason, params", sentences.of_delivery)
    code, params = _convert_events(connection)
    for table, column in (("slide", "detail"), ("delivery", "error"), ("event", "text")):
        if column in columns_of(connection, table):
            op.drop_column(table, column)
    add_event(connection, "ledger", "note", code=code, params=params)


def _convert(
    connection: Connection, table: str, read: str, written: str, convert: sentences.Conversion
) -> None:
    there = columns_of(connection, table)
    columns = ", ".join(name if name in there else "''" for name in read.split(", "))
    names = written.split(", ")
    places = ", ".join(f"{name} = :{name}" for name in names)
    update = text(f'UPDATE "{table}" SET {places} WHERE id = :id')  # noqa: S608
    for row_id, *said in rows_by_id(connection, table, columns):
        values = dict(zip(names, convert(*said), strict=True))
        connection.execute(update, values | {"id": row_id})


def _convert_events(connection: Connection) -> tuple[str, dict[str, Any]]:
    """Convert all events; return the fact of what their chain was."""
    places = ", ".join(f"{name} = :{name}" for name in (*_EVENT, "hash"))
    update = text(f"UPDATE event SET {places} WHERE id = :id")  # noqa: S608
    events = rows_by_id(connection, "event", "at, subject, kind, text, hash")
    previous = old = ""
    broken = None
    for row_id, at, subject, kind, said, stored in events:
        facts = json.dumps([old, at, subject, kind, said])
        if broken is None and hashlib.sha256(facts.encode()).hexdigest() != stored:
            broken = row_id
        old = stored
        columns: dict[str, Any] = {"at": at, "subject": subject, "kind": kind}
        columns |= sentences.of_event(kind, said)
        previous = hash_of(previous, columns)
        connection.execute(update, columns | {"hash": previous, "id": row_id})
    if broken is None:
        return "chain-carried-over", {"head": old}
    return "chain-was-broken", {"event": broken}
