"""The work of ``tandem ledger``: verify, back up, restore."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.artifacts import copy_whole
from appliance.errors import LedgerError, SettingsError
from appliance.ledger.backups import Backup, backups_of, folder_of, newest_good, set_goes_on_from
from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.ledger.migrations.sentences import of_event
from appliance.ledger.queries import LEDGER, RESTORED
from appliance.ledger.trouble import told
from appliance.ledger.verify import Verified, verify
from appliance.settings.settings import Settings

REPLACED = "replaced"
"""Folder of ledgers that a backup replaced, below that of the backups."""
_FILES = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Result of a restore: `kept` holds the replaced ledger.

    `lost` lists the corrections and confirmations of people that the replaced ledger had and the
    backup has not; it is None where the replaced ledger could not be read.
    """

    backup: Backup
    kept: Path | None
    lost: tuple[str, ...] | None


def verify_ledger(settings: Settings) -> Verified:
    """Verify the ledger of a state folder; the daemon may run.

    Raises
    ------
    LedgerError
        If there is none, or it cannot be read at all.
    """
    file = settings.ledger_file
    if not file.is_file():
        raise LedgerError(f"{file}: no ledger here. Name its settings with --config.")
    with told(file, writing=False):
        return verify(file)


def back_up(settings: Settings) -> Backup:
    """Make a backup of the ledger; the daemon may run.

    Raises
    ------
    LedgerError
        If there is no ledger, or it is damaged or locked.
    """
    file = settings.ledger_file
    if not file.is_file():
        raise LedgerError(f"{file}: no ledger here. Name its settings with --config.")
    return backup_ledger(settings)


def restore_ledger(settings: Settings, name: str = "", *, anyway: bool = False) -> Restored:
    """Put a backup in the ledger's place: that of a name, or the newest good one.

    The backup is verified first; `anyway` takes it also where that finds something. The replaced
    ledger is kept.

    Raises
    ------
    SettingsError
        If a daemon runs, there is no such backup, or it is damaged.
    """
    file = settings.ledger_file
    backup = _chosen(file, name)
    source = folder_of(file) / backup.name
    with no_daemon(settings.state_dir):
        with told(source, writing=False):
            verified = verify(source)
        if verified.problems and not anyway:
            raise LedgerError(
                f"{source}: the backup is damaged ({verified.problems[0]}). Name another one, or "
                "take it as it is: --anyway."
            )
        lost = _lost_words(file, source)
        kept = _set_aside(file)
        copy_whole(file, source)
        set_goes_on_from(file, backup)
        if not verified.older:
            _take_up(settings, backup)
    return Restored(backup=backup, kept=kept, lost=lost)


def _chosen(file: Path, name: str) -> Backup:
    known = backups_of(file)
    found = newest_good(file) if not name else next((b for b in known if b.name == name), None)
    if found is None:
        listed = ", ".join(backup.name for backup in known) or "none"
        raise SettingsError(
            f"{folder_of(file)}: no {f'backup {name!r}' if name else 'good backup'} here; there "
            f"are: {listed}."
        )
    return found


def _set_aside(file: Path) -> Path | None:
    """Move the ledger with its write-ahead log to a folder of its own and return it."""
    there = [file.with_name(name) for name in _FILES if file.with_name(name).exists()]
    if not there:
        return None
    stamp = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S%fZ")
    kept = folder_of(file) / REPLACED / stamp
    kept.mkdir(parents=True)
    for path in there:
        path.replace(kept / path.name)
    return kept


def _take_up(settings: Settings, backup: Backup) -> None:
    """Say in the restored ledger what happened; objects may have been sent since the backup."""
    ledger = Ledger(settings.ledger_url)
    try:
        with ledger.transaction() as tx:
            tx.note(LEDGER, RESTORED, time.time(), params={"backup": backup.name})
            for row in tx.deliveries():
                # An object with attempts is looked for at its destination before it is sent.
                row.attempts = max(row.attempts, 1)
                tx.session.add(row)
    finally:
        ledger.close()


def _lost_words(file: Path, backup: Path) -> tuple[str, ...] | None:
    if not file.is_file():
        return None
    known = _words(backup)
    try:
        there = _words(file)
    except sqlite3.Error:
        return None
    return tuple(text for event, text in there.items() if event not in known)


def _words(file: Path) -> dict[tuple[float, str], str]:
    """Return the sentence of each person's word on a score by time and subject, which migrations
    keep."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(event)")}
        facts = "code, params" if "code" in columns else "'', text"
        notes = connection.execute(
            f"SELECT at, subject, {facts} FROM event WHERE kind = 'note' ORDER BY id"  # noqa: S608
        ).fetchall()
    found = {}
    for at, subject, code, params in notes:
        note = {"code": code, "params": params} if code else of_event("note", params)
        if note["code"] in ("corrected-by", "confirmed-by"):
            said = json.loads(note["params"])
            when = datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
            score = f"{said['score']} confirmed"
            if note["code"] == "corrected-by":
                score = f"{said['was'] or 'none'} to {said['score'] or 'none'}"
            found[at, subject] = f"{subject}: {score} by {said['by']} ({when})"
    return found


@contextmanager
def no_daemon(state_dir: Path) -> Iterator[None]:
    """Hold the lock of the state folder, which a running daemon holds."""
    with (state_dir / "daemon.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise SettingsError(
                f"{state_dir}: a daemon runs on this state folder. Stop it first."
            ) from err
        yield
