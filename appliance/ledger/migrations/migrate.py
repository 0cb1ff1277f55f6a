"""Migration of a ledger of an earlier build to today's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Column, Connection, NullPool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import SQLModel

from appliance.errors import LedgerError
from appliance.ledger.lock import LOCK_SLICE_MS, WriteLock
from appliance.ledger.schema import SCHEMA, TABLES, columns_there, lacking

_FOLDER = Path(__file__).parent


def migrate(file: Path, lock: WriteLock) -> str:
    """Bring a ledger to today's schema; return the name of the revision that it had.

    All is one transaction: a process that is killed meanwhile leaves the ledger as it was.

    Raises
    ------
    LedgerError
        If a column is missing whose values cannot be known, or rows refer to rows that are gone.
    """
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool, hide_parameters=True)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", lock.begin)
    with engine.begin() as connection:
        found = revision_of(connection)
        context = MigrationContext.configure(connection)
        with Operations.context(context) as operations:
            for step in steps_after(found):
                step.module.upgrade()
            _complete(connection, operations)
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
            raise LedgerError(
                f"{file}: rows refer to rows that are gone, so the ledger is not migrated. "
                "Restore a backup: tandem ledger restore."
            )
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA}")
    engine.dispose()
    return found


def steps_after(revision: str) -> list[Script]:
    """Return the steps that lead from a revision to today's, in order."""
    scripts = ScriptDirectory(str(_FOLDER), version_locations=[str(_FOLDER / "versions")])
    return list(reversed(list(scripts.iterate_revisions("head", revision))))


def revision_of(connection: Connection) -> str:
    """Return the revision of a ledger's tables by the first column that a later one changed."""
    columns = columns_there(connection)
    slide, case, written = columns["slide"], columns["case"], columns["event"]
    if "code" not in written:
        return "0002" if "worker_crashes" in slide else "0001"
    if "assay" not in case or "case_id" in slide:
        return "0003"
    if not slide >= {"organ", "specimen"}:
        return "0004"
    if "read_key" in slide:
        return "0005"
    if not case >= {"anatomy", "target"} or "case_delivery" not in columns:
        return "0006"
    new = {"stat", "step_tries", "claim_token"}
    if not slide & case >= new or not written >= {"score", "by"}:
        return "0007"
    return "0008"


def _complete(connection: Connection, operations: Operations) -> None:
    """Add what is missing beside the differences of the schemas, with the model's defaults."""
    columns = columns_there(connection)
    for model in TABLES:
        table = SQLModel.metadata.tables[str(model.__tablename__)]
        if table.name not in columns:
            table.create(connection)
            continue
        for name in lacking(model, columns):
            default = model.model_fields[name].default
            if not isinstance(default, (str, int, float)):
                raise LedgerError(
                    f"The ledger lacks the column '{name}' of its table '{table.name}', whose "
                    "values cannot be known. Restore a backup: tandem ledger restore."
                )
            stated = str(int(default)) if isinstance(default, bool) else str(default)
            kind: Any = table.c[name].type
            column = Column(name, kind, nullable=False, server_default=stated)
            operations.add_column(table.name, column)
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # BEGIN is ours: WriteLock.begin. Foreign keys would hinder the rebuild of a table; the
    # pragma has no effect within a transaction.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {LOCK_SLICE_MS}")
    cursor.execute("PRAGMA foreign_keys = OFF")
    cursor.close()
