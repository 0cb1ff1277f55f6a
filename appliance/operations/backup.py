"""The work of ``tandem ledger``: verify, back up, restore."""

from __future__ import annotations

import errno
import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.artifacts import becoming, copy_whole
from appliance.delivery.made_with_salt import discard_made_with_salt, may_be_made_with_salt
from appliance.errors import DiskFullError, LedgerError, SettingsError
from appliance.ledger.backups import (
    Backup,
    backups_of,
    bring_left_alone,
    copied,
    described,
    folder_of,
    set_goes_on_from,
    set_to_take_up,
)
from appliance.ledger.daily import backup_ledger
from appliance.ledger.heartbeat import lives_elsewhere
from appliance.ledger.ledger import Ledger
from appliance.ledger.migrations.sentences import of_event
from appliance.ledger.trouble import told
from appliance.ledger.verify import Verified, verify
from appliance.operations.audit import telling_again_from
from appliance.settings.installation import SALT_NAME, salts_differ
from appliance.settings.settings import Settings
from appliance.words.say import say

REPLACED = "replaced"
"""Folder of ledgers that a backup replaced, below that of the backups."""
_COMMANDS = {
    "corrected-by": "correct",
    "confirmed-by": "confirm",
    "rerun": "rerun",
    "retry": "retry",
    "word-set": "identify set",
    "word-pair": "identify pair",
    "word-unpair": "identify unpair",
    "word-exclude": "identify exclude",
    "word-keep": "identify keep",
    "word-retry": "identify retry",
    "stat": "stat",
    "stat-off": "stat --off",
}
"""Codes of the events of people's words on slides and cases, with the commands that say them."""
_FILES = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Result of a restore: `kept` holds the replaced ledger; `found` says whether there was one.

    `lost` lists the words of people that the replaced ledger had and the backup has not; it is None
    where there was none, or it could not be read. They name files, accessions and reasons: they are
    for the person who restores, and for no log.
    """

    backup: Backup
    kept: Path | None
    found: bool
    lost: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """Word of a person on a slide or case; `params` are those of its event."""

    at: float
    subject: str
    code: str
    by: str
    params: Mapping[str, Any]

    @property
    def event(self) -> tuple[float, str, str]:
        """Time, subject and code, which migrations keep; the id of the event changes."""
        return self.at, self.subject, self.code


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
    ledger is kept; it stays in its place until the other one is whole beside it.

    Raises
    ------
    SettingsError
        If a daemon runs, there is no such backup, or it is damaged.
    DiskFullError
        If there is no room; nothing is replaced.
    """
    file = settings.ledger_file
    backup = _chosen(file, name)
    source = folder_of(file) / backup.name
    with _room_told(settings), no_daemon(settings):
        with told(source, writing=False):
            verified = verify(source)
        if verified.problems and not anyway:
            raise LedgerError(
                f"{source}: the backup is damaged ({verified.problems[0]}). Name another one, or "
                "take it as it is: --anyway."
            )
        replaced = _last_of(file)
        found, lost = replaced.is_file(), _lost_words(replaced, source)
        other_salt = _takes_salt(settings, replaced)
        with _copied(file, source) as copy:
            if not verified.older:
                _take_up(copy, backup)
            kept = _kept_folder(file)
            # An earlier edition finds what it wrote; the start that migrates it takes it up.
            if verified.older:
                set_to_take_up(file, backup)
            bring_left_alone(file)
            if other_salt:
                # Before the salt: what ends between finds what is to be removed again.
                discard_made_with_salt(settings, _accessions(replaced))
                copy_whole(file.with_name(SALT_NAME), folder_of(file) / SALT_NAME)
            set_goes_on_from(file, backup)
            # Last of what needs room: moving files needs none.
            with telling_again_from(settings, backup.event):
                if kept is not None:
                    _set_aside(file, kept)
                with becoming(file) as whole:
                    copy.replace(whole)
            if not verified.older:
                set_to_take_up(file, None)
        if kept is not None:  # a dashboard that is up may have taken words meanwhile
            lost = _lost_words(kept / file.name, source) or lost
    return Restored(backup=backup, kept=kept, found=found, lost=lost)


@contextmanager
def _room_told(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (OSError, DiskFullError) as err:
        if isinstance(err, OSError) and err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"The disk of the state folder {settings.state_dir} is full; no ledger was replaced. "
            "Make room, then first: tandem ledger verify. A ledger that cannot be read on a "
            "full disk may be whole. Where it is not, again: tandem ledger restore"
        ) from err


@contextmanager
def _copied(file: Path, source: Path) -> Iterator[Path]:
    """Copy a backup to a file beside the ledger, which is removed at the end if it is there."""
    copy = file.with_name(f"{file.name}.restored")
    files = [copy.with_name(f"{copy.name}{end}") for end in ("", "-wal", "-shm")]
    try:
        for path in files:
            path.unlink(missing_ok=True)
        log = source.with_name(f"{source.name}-wal")
        if log.is_file() and log.stat().st_size:
            # A person's copy, whose last events are in its log.
            with told(source, writing=True):
                copied(source, copy)
        else:
            copy_whole(copy, source)
        yield copy
    finally:
        for path in files:
            path.unlink(missing_ok=True)


def _last_of(file: Path) -> Path:
    """Return the ledger, or the one that an interrupted restore has moved away."""
    moved = sorted((folder_of(file) / REPLACED).glob(f"*/{file.name}"))
    if file.is_file() or not moved:
        return file
    made = [backup.name.split("-")[1] for backup in backups_of(file)]
    # One that was replaced before a backup was made is none of this restore.
    return moved[-1] if moved[-1].parent.name > max(made, default="") else file


def _chosen(file: Path, name: str) -> Backup:
    folder = folder_of(file)
    if Path(name).name != name:
        if Path(name).parent.resolve() != folder.resolve():
            raise SettingsError(
                f"{name} does not lie in {folder}, and a restore takes no other file. Copy it "
                f"there, then: tandem ledger restore {Path(name).name}"
            )
        name = Path(name).name
    known = backups_of(file, alone=True)
    good = next((backup for backup in known if backup.whole), None)
    found = good if not name else next((b for b in known if b.name == name), None)
    if found is None and name and (folder / name).is_file():
        found = described(folder / name)  # a person gave it another name
    if found is None:
        listed = ", ".join(backup.name for backup in known) or "none"
        raise SettingsError(
            f"{folder}: no {f'backup {name!r}' if name else 'good backup'} here; there "
            f"are: {listed}."
        )
    return found


def _files_of(file: Path) -> list[Path]:
    return [file.with_name(name) for name in _FILES if file.with_name(name).exists()]


def _kept_folder(file: Path) -> Path | None:
    """Make the folder that the ledger is moved to; None where there is no ledger."""
    if not _files_of(file):
        return None
    stamp = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S%fZ")
    kept = folder_of(file) / REPLACED / stamp
    kept.mkdir(parents=True)
    return kept


def _takes_salt(settings: Settings, replaced: Path) -> bool:
    """Return whether the salt of the backups takes the place of another one.

    A machine that was started once has drawn one. With it, new objects of an accession would get
    another Study UID and another stand-in Patient ID than those that were sent.

    Raises
    ------
    SettingsError
        If objects of the replaced ledger may have been sent under the other one.
    """
    state_dir = settings.state_dir
    if not salts_differ(state_dir):
        return False
    if not _has_sent(replaced, settings):
        return True
    raise SettingsError(
        f"{state_dir / SALT_NAME} and {folder_of(settings.ledger_file) / SALT_NAME} differ, and "
        "objects may have been sent under each: Study UIDs and stand-in Patient IDs are made with "
        "it. Put the one in both places under which the objects of the backup were sent, then "
        "restore again."
    )


def _has_sent(ledger: Path, settings: Settings) -> bool:
    """Return whether objects of a ledger may have been sent: also where that cannot be read.

    Where it is gone or empty, none were if all that were written are of another salt.
    """
    if not ledger.is_file() or not ledger.stat().st_size:
        return may_be_made_with_salt(settings)
    try:
        with _opened(ledger) as opened:
            query = "SELECT 1 FROM delivery WHERE state <> 'queued' OR attempts > 0 LIMIT 1"
            return opened.execute(query).fetchone() is not None
    except sqlite3.Error:
        return True


def _accessions(ledger: Path) -> list[str]:
    """Return the accessions of a ledger's slides and cases; none where there is no ledger."""
    if not ledger.is_file() or not ledger.stat().st_size:
        return []
    with told(ledger, writing=False), _opened(ledger) as opened:
        query = 'SELECT accession FROM slide UNION SELECT accession FROM "case"'
        return [str(accession) for (accession,) in opened.execute(query) if accession]


def _set_aside(file: Path, kept: Path) -> None:
    """Move the ledger with its write-ahead log to a folder."""
    for path in _files_of(file):
        path.replace(kept / path.name)


def _take_up(copy: Path, backup: Backup) -> None:
    """Say in a ledger to be restored what happens; objects may have been sent since the backup."""
    ledger = Ledger(f"sqlite:///{copy}")
    try:
        with ledger.transaction() as tx:
            tx.take_up(backup.name, time.time())
    finally:
        ledger.close()
    # One file again; it raises where its last pages find no room.
    with told(copy, writing=True), closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _lost_words(file: Path, backup: Path) -> tuple[str, ...] | None:
    if not file.is_file():
        return None
    with _opened(backup) as then:
        known = {word.event for word in _words(then)}
        try:
            with _opened(file) as now:
                lost = [word for word in _words(now) if word.event not in known]
                return tuple(_line(word, _places(now, then, word.subject)) for word in lost)
        except (sqlite3.Error, ValueError, LookupError):  # damage may read as anything
            return None


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger of any schema, to be read alone."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def _words(ledger: sqlite3.Connection) -> list[_Word]:
    """Return all that people said of slides and cases, oldest first."""
    columns = {name for _, name, *_ in ledger.execute("PRAGMA table_info(event)")}
    facts = "code, params" if "code" in columns else "'', text"
    by = '"by"' if "by" in columns else "''"
    query = (
        f"SELECT at, subject, kind, {by}, {facts} FROM event WHERE kind IN ('note', 'state') "  # noqa: S608
        "AND (subject LIKE 'slide-%' OR subject LIKE 'case-%') ORDER BY id"
    )
    found: dict[tuple[float, str, str], _Word] = {}
    for at, subject, kind, person, code, params in ledger.execute(query):
        note = {"code": code, "params": params} if code else of_event(kind, params)
        if note["code"] in _COMMANDS:
            said = json.loads(note["params"])
            word = _Word(
                at=at,
                subject=subject,
                code=note["code"],
                by=person or said.get("by", ""),
                params=said,
            )
            found[word.event] = word
    # What follows of a retry with a reason is no word of its own.
    return [
        word
        for word in found.values()
        if word.code != "retry" or (word.at, word.subject, "word-retry") not in found
    ]


def _places(now: sqlite3.Connection, then: sqlite3.Connection, subject: str) -> str:
    """Return what has a subject's number in the replaced ledger, and whether the backup has it."""
    place = _place(now, subject)
    return place if place == _place(then, subject) else f"{place}, not in the backup"


def _place(ledger: sqlite3.Connection, subject: str) -> str:
    """Return the file of a slide, or block and accession of a case; empty where there is none.

    A number alone says little: after a restore the next slide that comes gets a lost one.
    """
    kind, _, number = subject.partition("-")
    if kind == "slide":
        row = ledger.execute("SELECT path FROM slide WHERE id = ?", (number,)).fetchone()
        return "" if row is None else str(row[0])
    row = ledger.execute('SELECT block, accession FROM "case" WHERE id = ?', (number,)).fetchone()
    return "" if row is None else "block {} of {}".format(*row)


def _line(word: _Word, place: str) -> str:
    """Return a lost word for people, with the command that says it again."""
    said, by = word.params, word.by
    when = datetime.fromtimestamp(word.at, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    if word.code == "corrected-by":
        told = f"{said['was'] or 'none'} to {said['score'] or 'none'} by {by}"
    elif word.code == "confirmed-by":
        told = f"{said['score']} confirmed by {by}"
    else:
        told = say("event", word.code, said) + (f", by {by}" if by else "")
    again = f"tandem {_COMMANDS[word.code]}"
    return f"{word.subject}: {told} ({when}; {place}); repeat it: {again}"


@contextmanager
def no_daemon(settings: Settings) -> Iterator[None]:
    """Hold the lock of the state folder, which a running daemon holds.

    Raises
    ------
    SettingsError
        If a daemon runs on the state folder, also on another machine.
    """
    state_dir = settings.state_dir
    with (state_dir / "daemon.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise SettingsError(
                f"{state_dir}: a daemon runs on this state folder. Stop it first."
            ) from err
        # The lock is not seen by another machine that has mounted the folder.
        if lives_elsewhere(settings, time.sleep):
            raise SettingsError(
                f"{state_dir}: a daemon on another machine runs on this state folder. Stop it "
                "first."
            )
        yield
