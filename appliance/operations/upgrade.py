"""``tandem upgrade``: what this edition would do with a state folder, and the doing of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, NullPool, create_engine

from appliance.artifacts import is_unchecked
from appliance.errors import LedgerError
from appliance.findings.earlier import LATER
from appliance.findings.findings import FINDINGS_VERSION
from appliance.ledger.backups import newest_good
from appliance.ledger.schema import SCHEMA, has_tables, is_older, number_of
from appliance.ledger.start import open_at_start
from appliance.ledger.trouble import told
from appliance.operations.backup import no_daemon
from appliance.settings.settings import Settings

ROOM = 3
"""Free space that a migration needs, in sizes of the ledger: its backup, and at most two for the
write-ahead log and the growth while tables are rebuilt."""
_SQLITES_OWN = 2**20
"""Room in bytes for SQLite's index beside a copy of the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """State folder as it is, and what this edition would do with it.

    `migrations` are revision and words of each step, in order. `findings` and `artifacts` are
    numbers by version and by step. `trouble` says why this edition cannot take the folder over;
    empty: it can.
    """

    edition: str
    schema: int | None
    migrations: tuple[tuple[str, str], ...] = ()
    is_older: bool = False
    findings: dict[int, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    artifacts: dict[str, int] = field(default_factory=dict)
    unchecked: dict[str, int] = field(default_factory=dict)
    needed: int = 0
    free: int = 0
    backup: str = ""
    trouble: str = ""


def check_upgrade(settings: Settings) -> Upgrade:
    """Look at a state folder and change nothing in it, not even SQLite's files beside the ledger.

    Raises
    ------
    OSError
        If the state folder cannot be read.
    """
    file, edition = settings.ledger_file, version("tandem-her2")
    if not settings.state_dir.is_dir():
        return Upgrade(edition=edition, schema=None)
    findings, unreadable = _findings(settings.artifacts_dir / "findings")
    artifacts, unchecked = _artifacts(settings.artifacts_dir)
    schema, older, steps, trouble = _ledger(file)
    size = sum(path.stat().st_size for path in _files(file))
    needed = ROOM * size if older else 0
    free = shutil.disk_usage(settings.state_dir).free
    if not trouble and needed > free:
        trouble = (
            f"{settings.state_dir}: the upgrade needs {needed / 2**20:.0f} MiB, and "
            f"{free / 2**20:.0f} MiB are free. Make room first."
        )
    newest = newest_good(file)
    return Upgrade(
        edition=edition,
        schema=schema,
        migrations=steps,
        is_older=older,
        findings=findings,
        unreadable=unreadable,
        artifacts=artifacts,
        unchecked=unchecked,
        needed=needed,
        free=free,
        backup="" if newest is None else newest.name,
        trouble=trouble,
    )


def upgrade_now(settings: Settings) -> None:
    """Do what the daemon does at its start: a backup, then the migration, in one transaction.

    Raises
    ------
    SettingsError
        If a daemon runs on the state folder, also on another machine.
    LedgerError
        If the ledger cannot be migrated; it stays as it was.
    """
    with no_daemon(settings):
        open_at_start(settings.ledger_url, threading.Event()).close()


def _ledger(file: Path) -> tuple[int | None, bool, tuple[tuple[str, str], ...], str]:
    """Return schema, whether it is to be migrated, the steps of that, and the trouble with it."""
    if not file.is_file() or not file.stat().st_size:
        lost = newest_good(file, alone=True) is not None
        said = f"{file}: the ledger is gone, and there are backups: tandem ledger restore."
        return None, False, (), said if lost else ""
    schema = None
    if trouble := _no_room_to_look(file):
        return schema, False, (), trouble
    try:
        with told(file, writing=False), _unchanged(file) as connection:
            if not has_tables(connection):
                return None, False, (), ""
            schema = number_of(connection)
            older = is_older(connection)
            return schema, older, _steps(connection) if older else (), ""
    except LedgerError as err:
        # The copy that was looked at has another folder.
        return schema, False, (), f"{file.parent}: {str(err).partition(': ')[2] or err}"


def _steps(connection: Connection) -> tuple[tuple[str, str], ...]:
    # Alembic, which no other command needs.
    from appliance.ledger.migrations.migrate import revision_of, steps_after

    scripts = steps_after(revision_of(connection))
    return tuple((step.revision, (step.doc or "").strip()) for step in scripts)


def _no_room_to_look(file: Path) -> str:
    """Return why the copy of `_unchanged` has no room; empty where it has, or none is made."""
    files = _files(file)
    if len(files) < 2:
        return ""
    needed = sum(path.stat().st_size for path in files) + _SQLITES_OWN
    copy = f"a copy of the ledger, which is looked at, needs {needed / 2**20:.0f} MiB"
    remedy = "Name another folder in the variable TMPDIR."
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:  # it tries to write a few bytes into each that it knows
        return f"{copy}, and no folder for temporary files can be written. {remedy}"
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return ""
    return f"{folder}: {copy}, and {free / 2**20:.0f} MiB are free. {remedy}"


@contextmanager
def _unchanged(file: Path) -> Iterator[Connection]:
    """Open a ledger so that no file beside it is made or changed.

    With a write-ahead log, SQLite would write its index: a copy is read then.
    """
    with ExitStack() as stack:
        address = f"{file.absolute().as_uri()}?immutable=1"
        if len(_files(file)) > 1:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for path in _files(file):
                shutil.copyfile(path, folder / path.name)
            address = f"{(folder / file.name).as_uri()}?mode=rw"
        opened = stack.enter_context(
            closing(sqlite3.connect(address, uri=True, check_same_thread=False))
        )
        engine = create_engine("sqlite://", creator=lambda: opened, poolclass=NullPool)
        yield stack.enter_context(engine.connect())


def _files(file: Path) -> list[Path]:
    """Return the ledger and its write-ahead log, where these have bytes."""
    return [
        path
        for path in (file, file.with_name(f"{file.name}-wal"))
        if path.is_file() and path.stat().st_size
    ]


def _findings(root: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the number of findings of each version, and the names of those that no codec reads."""
    versions: Counter[int] = Counter()
    unreadable = []
    for folder in sorted(root.glob("[!.]*")):
        try:
            found = int(json.loads((folder / "findings.json").read_text())["version"])
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(folder.name)
            continue
        versions[found] += 1
        if found != FINDINGS_VERSION and found not in LATER:
            unreadable.append(folder.name)
    return dict(sorted(versions.items())), tuple(unreadable)


def _artifacts(root: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of artifacts of each step, and of those without checksums."""
    there: Counter[str] = Counter()
    unchecked: Counter[str] = Counter()
    for folder in root.glob("[!.]*/[!.]*"):
        there[folder.parent.name] += 1
        unchecked[folder.parent.name] += is_unchecked(folder)
    return dict(sorted(there.items())), {s: n for s, n in sorted(unchecked.items()) if n}


def sentences_of(found: Upgrade) -> Iterator[str]:
    """Yield what people read, a line each."""
    if found.schema is None:
        yield "ledger: none yet; tandem run makes one"
    else:
        yield f"ledger: schema {found.schema}; this edition ({found.edition}) has {SCHEMA}"
    if found.is_older:
        yield "first: a backup of the ledger into backups/"
        for revision, words in found.migrations:
            yield f"migration {revision}: {words}"
        yield "last: columns and indexes that are lacking, and the number of the schema"
        yield "back again: stop, install the earlier edition, tandem ledger restore NAME_OF_BACKUP"
    for number, count in found.findings.items():
        how = "read as they are" if number == FINDINGS_VERSION else "converted when they are read"
        yield f"findings of version {number}: {count}, {how}"
    if found.unreadable:
        yield f"findings that cannot be read: {len(found.unreadable)}; run their cases again"
    for step, count in found.artifacts.items():
        if step != "findings":
            yield f"artifacts '{step}': {count}"
    for step, count in found.unchecked.items():
        how = "kept as they are" if step in ("findings", "objects") else "made again when wanted"
        yield f"artifacts '{step}' of an edition that wrote no checksums: {count}, {how}"
    if found.artifacts:
        yield (
            "artifacts are found by keys that hold the version of what made them: those of today's "
            "versions are read, others are made again when their case is run again"
        )
    if found.backup:
        yield f"newest good backup: {found.backup}"
    yield f"room: {found.needed / 2**20:.1f} MiB needed, {found.free / 2**20:.0f} MiB free"
    yield found.trouble or (
        "This edition takes the folder over at the daemon's next start, or now: tandem upgrade"
        if found.is_older
        else "Nothing is to be done."
    )
