"""The number of the ledger's schema, in the file's ``PRAGMA user_version``."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlmodel import SQLModel

from appliance.errors import SettingsError
from appliance.ledger import tables  # noqa: F401  registers the tables

SCHEMA = 4
"""Raised with each change of a table. Builds before number 2 wrote none, so 0 is theirs."""


def create_or_check(connection: Connection) -> None:
    """Create the tables in an empty file, or check the schema of those that are there.

    The tables and their number come in one transaction, so no reader sees one without the other.

    Raises
    ------
    SettingsError
        If another build made the ledger.
    """
    if not is_there(connection):
        SQLModel.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")


def is_there(connection: Connection) -> bool:
    """Return whether the file holds a ledger of this build; False for an empty file.

    Raises
    ------
    SettingsError
        If another build made the ledger.
    """
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    tables_there = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    if tables_there and found != SCHEMA:
        folder = _folder(connection)
        raise SettingsError(
            f"{folder}: this state folder has ledger schema {found}, this build has {SCHEMA}. "
            "Move this state folder away, or finish its cases with the build that made it; "
            "migrations come with a later version."
        )
    return bool(tables_there)


def _folder(connection: Connection) -> str:
    file = connection.engine.url.database or ""
    return file.rpartition("/")[0] or "."
