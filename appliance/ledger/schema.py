"""The schema of the ledger's file: whether it is there, and of which build it is.

The number of the schema is in the file's ``PRAGMA user_version``. Builds before number 2 wrote
none; their schemas, and a ledger that lacks a column, are recognized by tables and columns.
"""

from __future__ import annotations

from sqlalchemy import Connection
from sqlmodel import SQLModel

from appliance.errors import LedgerError
from appliance.ledger.tables import (
    CaseDeliveryRow,
    CaseRow,
    DeliveryRow,
    EventRow,
    SlideRow,
)

SCHEMA = 5
"""Raised with each change of a table, together with a new file in `migrations/versions`."""
TABLES: tuple[type[SQLModel], ...] = (
    SlideRow,
    CaseRow,
    DeliveryRow,
    CaseDeliveryRow,
    EventRow,
)
OLDEST_TABLES = frozenset({"slide", "case", "delivery", "event"})
"""Tables that a ledger of any build has."""


def create_or_check(connection: Connection) -> None:
    """Create the tables in an empty file, or check the schema of those that are there.

    The tables and their number come in one transaction, so no reader sees one without the other.

    Raises
    ------
    LedgerError
        If another build made the ledger.
    """
    if not is_there(connection):
        SQLModel.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")


def is_there(connection: Connection) -> bool:
    """Return whether the file holds a ledger of this build; False for an empty file.

    Raises
    ------
    LedgerError
        If another build made the ledger.
    """
    if not has_tables(connection):
        return False
    if is_older(connection):
        raise LedgerError(
            f"{_folder(connection)}: an earlier build made this ledger (schema "
            f"{number_of(connection)}; this build has {SCHEMA}). The daemon migrates it at its "
            "next start: tandem run."
        )
    return True


def is_older(connection: Connection) -> bool:
    """Return whether the ledger is to be migrated: of an earlier build, or without a column.

    Raises
    ------
    LedgerError
        If the ledger is of a newer build, or no ledger at all.
    """
    number, columns = number_of(connection), columns_there(connection)
    if number > SCHEMA:
        raise LedgerError(
            f"{_folder(connection)}: a newer build made this ledger (schema {number}; this build "
            f"has {SCHEMA}). Use that build, or restore a backup of this one: tandem ledger "
            "restore."
        )
    if not columns.keys() >= OLDEST_TABLES:
        raise LedgerError(
            f"{_folder(connection)}: ledger.sqlite holds other tables than a ledger of Tandem. "
            "Restore a backup: tandem ledger restore."
        )
    return number != SCHEMA or any(lacking(table, columns) for table in TABLES)


def lacking(table: type[SQLModel], columns: dict[str, set[str]]) -> list[str]:
    """Return the names of the columns that a table of the file lacks."""
    there = columns.get(str(table.__tablename__), set())
    return [name for name in table.model_fields if name not in there]


def has_tables(connection: Connection) -> bool:
    """Return whether the file holds any table."""
    count = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    return bool(count)


def number_of(connection: Connection) -> int:
    """Return the number of the schema that the file states."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def columns_there(connection: Connection) -> dict[str, set[str]]:
    """Return the names of the columns of each table of the file."""
    found: dict[str, set[str]] = {}
    query = (
        "SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p "
        "WHERE m.type = 'table'"
    )
    for table, column in connection.exec_driver_sql(query):
        found.setdefault(table, set()).add(column)
    return found


def _folder(connection: Connection) -> str:
    file = connection.engine.url.database or ""
    return file.rpartition("/")[0] or "."
