"""Operations on tables and rows that the steps of a migration share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from alembic import op
from sqlalchemy import Column, Connection, inspect, text

from appliance.ledger.events import Event, chained

AT_ONCE = 10_000
"""Most rows that are held in memory."""


def tables_of(connection: Connection) -> set[str]:
    """Return the names of the tables."""
    return set(inspect(connection).get_table_names())


def columns_of(connection: Connection, table: str) -> set[str]:
    """Return the names of a table's columns."""
    return {column["name"] for column in inspect(connection).get_columns(table)}


def add_missing(table: str, *columns: Column[Any]) -> None:
    """Add those of some columns that a table lacks; each has a server default."""
    there = columns_of(op.get_bind(), table)
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)


def rows_by_id(connection: Connection, table: str, columns: str) -> Iterator[Sequence[Any]]:
    """Yield id and `columns` of each row, by id; few at once, as a ledger may be of years.

    Rows may be changed meanwhile, but for their ids.
    """
    query = text(
        f'SELECT id, {columns} FROM "{table}" WHERE id > :last ORDER BY id LIMIT :most'  # noqa: S608
    )
    last = 0
    while rows := connection.execute(query, {"last": last, "most": AT_ONCE}).all():
        yield from rows
        last = rows[-1].id


def change_state(
    connection: Connection, table: Literal["slide", "case"], row_id: int, old: str, new: str
) -> None:
    """Change the state of a row with its event."""
    connection.execute(
        text(f'UPDATE "{table}" SET state = :new WHERE id = :id'),  # noqa: S608
        {"new": new, "id": row_id},
    )
    subject = f"{table}-{row_id}"
    add_event(connection, subject, "state", code="migrated", from_state=old, to_state=new)


def add_event(
    connection: Connection, subject: str, kind: Literal["state", "note"], **facts: Any
) -> None:
    """Append an event to the chain, with the columns that the table has by now."""
    head = connection.execute(text("SELECT hash FROM event ORDER BY id DESC LIMIT 1")).scalar()
    event = Event(at=time.time(), subject=subject, kind=kind, **facts)
    there = columns_of(connection, "event")
    (columns,) = chained([event], head or "")
    names = [name for name in columns if name in there]
    listed = ", ".join(f'"{name}"' for name in names)
    places = ", ".join(f":{name}" for name in names)
    connection.execute(
        text(f"INSERT INTO event ({listed}) VALUES ({places})"),  # noqa: S608
        {name: columns[name] for name in names},
    )
