"""Backups of the ledger: one file each, with a JSON file that says what is in it.

``<state>/backups/ledger-20261126T180000Z-3c1f….sqlite`` has the head of the chain of events in its
name. ``newest.json`` beside them is the description of the backup that the ledger goes on from, and
``to-take-up.json`` that of a restored one of an earlier build, until the ledger is migrated.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from appliance.settings.installation import copy_salt

FOLDER = "backups"
NEWEST = "newest.json"
TO_TAKE_UP = "to-take-up.json"
LEFT_ALONE = "left_alone-*.txt"
"""Files of the state folder that name what was there at the first start (`intake.left_alone`).
Without them all that waits in a watched folder would be left alone by ``start_from_now``."""
INTERRUPTED_S = 3600.0
"""Age from which a part of a backup is what an interrupted one left."""
_HEAD_LETTERS = 12
_STAMP = "%Y%m%dT%H%M%S%fZ"
_STAMPED = "ledger-*T*Z-*"
"""Names of backups without their ending; another name is of a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """Description of a backup: `event` and `head` are id and hash of the last event in it."""

    name: str
    made_at: float
    event: int
    head: str
    slides: int
    cases: int
    schema: int
    whole: bool  # SQLite found no damage in it

    @property
    def made(self) -> str:
        """Time for people, UTC."""
        return datetime.fromtimestamp(self.made_at, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def folder_of(file: Path) -> Path:
    """Return the folder of a ledger's backups."""
    return file.parent / FOLDER


def make_backup(file: Path) -> Backup:
    """Copy a ledger that may be in use, check the copy, and return its description.

    The copy is made in one step: writers go on meanwhile, where steps would begin anew with each
    write.

    Raises
    ------
    sqlite3.Error, OSError
        If the ledger cannot be read or the copy not be written.
    """
    folder = folder_of(file)
    folder.mkdir(exist_ok=True)
    part = folder / f".{os.getpid()}.part"
    part.unlink(missing_ok=True)
    try:
        backup = copied(file, part)
        # First: `prune` removes no backup without its description.
        _write(folder / _description(backup), json.dumps(asdict(backup), indent=1))
        part.replace(folder / backup.name)
    finally:
        part.unlink(missing_ok=True)
    _write(folder / NEWEST, json.dumps(asdict(backup), indent=1))
    copy_salt(file.parent)
    _copy_left_alone(file.parent, folder, over=True)
    _sync(folder)
    return backup


def copied(file: Path, part: Path) -> Backup:
    """Copy a ledger with what its write-ahead log holds, and return the copy's description.

    Raises
    ------
    sqlite3.Error, OSError
        As `make_backup`.
    """
    source = sqlite3.connect(file, timeout=30.0)
    target = sqlite3.connect(part)
    try:
        source.backup(target, pages=-1)
        # One file, without a write-ahead log beside it.
        target.execute("PRAGMA journal_mode = DELETE")
        backup = describe(target, now=time.time())
    finally:
        source.close()
        target.close()
    with part.open("rb") as written:
        os.fsync(written.fileno())
    return backup


def describe(connection: sqlite3.Connection, now: float) -> Backup:
    """Return the description of a ledger, or of a copy of one."""
    last = connection.execute("SELECT id, hash FROM event ORDER BY id DESC LIMIT 1").fetchone()
    event, head = last or (0, "")
    checked = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    stamp = datetime.fromtimestamp(now, tz=UTC).strftime(_STAMP)
    return Backup(
        name=f"ledger-{stamp}-{head[:_HEAD_LETTERS] or 'empty'}.sqlite",
        made_at=now,
        event=int(event),
        head=str(head),
        slides=_number(connection, "slide"),
        cases=_number(connection, "case"),
        schema=int(connection.execute("PRAGMA user_version").fetchone()[0]),
        whole=checked == "ok",
    )


def backups_of(file: Path, *, alone: bool = False) -> list[Backup]:
    """Return the backups of a ledger that are there, newest first.

    With `alone`, also those that were copied without their description: each is read, which takes
    as long as its check. They are a person's, and `prune` counts and removes none of them.

    One that was made under a wrong clock comes after the others: it is of the future, or one of an
    earlier time goes on from it.
    """
    found = [_read(path) for path in folder_of(file).glob("ledger-*.json")]
    if alone:
        copies = sorted(folder_of(file).glob(f"{_STAMPED}.sqlite"))
        found += [described(path) for path in copies if not path.with_suffix(".json").exists()]
    there = [each for each in found if each and (folder_of(file) / each.name).is_file()]
    now = time.time()
    misdated = {
        each.name
        for each in there
        if each.made_at > now or any(_goes_on(file, other, each) for other in there)
    }
    return sorted(there, key=lambda backup: (backup.name in misdated, -backup.made_at))


def _goes_on(file: Path, backup: Backup, former: Backup) -> bool:
    """Return whether a backup of an earlier time has all events of another one, and more.

    The number of events alone does not tell: a ledger that was restored has fewer.
    """
    if backup.made_at >= former.made_at or backup.event <= former.event:
        return False
    try:
        with closing(sqlite3.connect(f"{_uri(file, backup)}?mode=ro", uri=True)) as opened:
            row = opened.execute("SELECT hash FROM event WHERE id = ?", (former.event,)).fetchone()
    except sqlite3.Error:  # a damaged one tells nothing
        return False
    return row is not None and row[0] == former.head


def is_as_described(file: Path, backup: Backup) -> bool:
    """Return whether the file of a backup has no damage, and the events of its description."""
    try:
        with closing(sqlite3.connect(f"{_uri(file, backup)}?mode=ro", uri=True)) as opened:
            found = describe(opened, now=backup.made_at)
    except sqlite3.Error:  # it is damaged, or no database any more
        return False
    same = (found.event, found.head, found.schema) == (backup.event, backup.head, backup.schema)
    return same and found.whole and backup.whole


def _uri(file: Path, backup: Backup) -> str:
    return (folder_of(file) / backup.name).absolute().as_uri()


def newest_good(file: Path, *, alone: bool = False) -> Backup | None:
    """Return the newest backup without damage, or None; `alone` as for `backups_of`."""
    return next((backup for backup in backups_of(file, alone=alone) if backup.whole), None)


def goes_on_from(file: Path) -> Backup | None:
    """Return the backup that the ledger goes on from: its last one, or the one restored."""
    return _read(folder_of(file) / NEWEST)


def set_goes_on_from(file: Path, backup: Backup) -> None:
    """Say that the ledger goes on from a backup."""
    _write(folder_of(file) / NEWEST, json.dumps(asdict(backup), indent=1))
    _sync(folder_of(file))


def to_take_up(file: Path) -> Backup | None:
    """Return the backup of an earlier build that was restored, and is not taken up yet."""
    return _read(folder_of(file) / TO_TAKE_UP)


def set_to_take_up(file: Path, backup: Backup | None) -> None:
    """Say which restored backup is to be taken up once it is migrated; None for none."""
    path = folder_of(file) / TO_TAKE_UP
    if backup is not None:
        _write(path, json.dumps(asdict(backup), indent=1))
    elif path.exists():
        path.unlink()
    else:
        return
    _sync(folder_of(file))


def bring_left_alone(file: Path) -> None:
    """Put the files of `LEFT_ALONE` back from the backups into a state folder that lacks them."""
    _copy_left_alone(folder_of(file), file.parent, over=False)


def _copy_left_alone(source: Path, to: Path, *, over: bool) -> None:
    for path in source.glob(LEFT_ALONE):
        there, text = to / path.name, path.read_text()
        if not there.is_file() or (over and there.read_text() != text):
            _write(there, text)


def prune(file: Path, keep: int) -> int:
    """Remove all but the newest `keep` good backups and the newest damaged one.

    Returns how many were removed. The newest good one of an earlier schema stays: without it there
    is no way back to the edition before. A damaged ledger is backed up again and again: its backups
    must neither take the place of good ones nor fill the disk. What backups left that were killed
    goes, too.
    """
    known = backups_of(file)
    good = [backup for backup in known if backup.whole]
    way_back = next((backup for backup in good if backup.schema < good[0].schema), None)
    gone = [backup for backup in good[keep:] if backup != way_back]
    gone += [backup for backup in known if not backup.whole][1:]
    for backup in gone:
        path = folder_of(file) / backup.name
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
    _sweep(folder_of(file))
    return len(gone)


def _sweep(folder: Path) -> None:
    """Remove copies without an end or a description, and descriptions without a copy.

    One that is younger than `INTERRUPTED_S` may be of a process that goes on. A copy that is whole
    is one that a person brought without its description; it stays.
    """
    now = time.time()
    left = [*folder.glob("*.part*")]
    for pattern, other in ((f"{_STAMPED}.sqlite", ".json"), (f"{_STAMPED}.json", ".sqlite")):
        left += [each for each in folder.glob(pattern) if not each.with_suffix(other).exists()]
    for path in left:
        with suppress(OSError):
            if now - path.stat().st_mtime > INTERRUPTED_S and not _is_whole(path):
                path.unlink()


def _is_whole(path: Path) -> bool:
    if path.suffix != ".sqlite":
        return False
    found = described(path)
    return found is not None and found.whole


def described(path: Path) -> Backup | None:
    """Return the description of a file that lies there without one; None where it is no ledger.

    Its time is that of its name, or of the file where a person gave it another name.
    """
    try:
        stamp = datetime.strptime(path.name.split("-")[1], _STAMP).replace(tzinfo=UTC).timestamp()
    except (ValueError, IndexError):
        stamp = path.stat().st_mtime
    # Without a log beside it SQLite is to make none: it would stay in the folder of backups.
    logs = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal"))
    how = "mode=ro" if any(log.exists() for log in logs) else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as opened:
            return replace(describe(opened, now=stamp), name=path.name)
    except (sqlite3.Error, TypeError):  # damaged, or another database
        return None


def _description(backup: Backup) -> str:
    return Path(backup.name).with_suffix(".json").name


def _number(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # noqa: S608


def _read(path: Path) -> Backup | None:
    try:
        return Backup(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    with part.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())  # a name that outlives a loss of power without its text is empty
    part.replace(path)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
