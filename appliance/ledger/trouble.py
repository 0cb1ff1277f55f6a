"""Trouble with the ledger's file, told by the error that SQLite raises."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from appliance.errors import DiskFullError, LedgerError, LedgerUnwritableError, TandemError
from appliance.ledger.backups import newest_good

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)
_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""Codes of a file beside the ledger for which a full disk has no room: readers need one, too."""
_LEAST_ROOM = 64 * 2**10
"""Bytes that those files need."""


@contextmanager
def told(file: Path, *, writing: bool) -> Iterator[None]:
    """Raise what SQLite says of the file as an error that Tandem knows, with what to do.

    Raises
    ------
    LedgerError
        If the file is damaged or locked by another process, or a reader cannot open it: also where
        the disk is full.
    DiskFullError, LedgerUnwritableError
        If a writer has no room, or cannot write now.
    """
    try:
        yield
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        if writing and isinstance(err, json.JSONDecodeError):
            raise
        raise damaged(file, "the ledger is damaged.") from err
    except (DBAPIError, sqlite3.Error) as err:
        found = _trouble(code_of(err), file, writing=writing)
        if found is None and "Could not decode to UTF-8" in str(err):  # SQLite checks no text
            found = damaged(file, "the ledger is damaged.")
        if found is None:
            raise
        raise found from err


def is_locked(err: DBAPIError | sqlite3.Error) -> bool:
    """Return whether another process holds the lock."""
    return code_of(err) in _LOCKED


def code_of(err: DBAPIError | sqlite3.Error) -> int:
    """Return SQLite's primary result code of an error; 0 where it has none."""
    cause = err.orig if isinstance(err, DBAPIError) else err
    code: int = getattr(cause, "sqlite_errorcode", 0)
    return code & 0xFF


def damaged(file: Path, what: str) -> LedgerError:
    """Return the error of a ledger that must not be used, with what to do."""
    good = newest_good(file, alone=True)
    if good is None:
        remedy = (
            "There is no backup. Move this state folder away to begin anew; slides that are still "
            "in the scanner's folder are taken in again."
        )
    else:
        remedy = (
            f"Stop the daemon, then: tandem ledger restore. The last good backup is {good.name} "
            f"({good.made}). To begin anew instead, move this state folder away."
        )
    return LedgerError(f"{file}: {what} {remedy}")


def locked(file: Path) -> LedgerError:
    """Return the error of a ledger that another process holds."""
    return LedgerError(
        f"{file}: another process holds the ledger locked. Wait for it or end it; the daemon "
        "waits and goes on by itself."
    )


def _trouble(code: int, file: Path, *, writing: bool) -> TandemError | None:
    disk_fails = code in _DAMAGED and _disk_fails(file)
    if code in _DAMAGED and not disk_fails:
        return damaged(file, "the ledger is damaged.")
    if code in _LOCKED:
        return locked(file)
    is_full = code == sqlite3.SQLITE_FULL or (code in _NO_ROOM and _is_full(file.parent))
    if is_full and not writing:
        return LedgerError(
            f"{file}: the ledger cannot be read: the disk of the state folder is full. It may be "
            "whole; restore no backup for this. Make room, then: tandem ledger verify"
        )
    if is_full:
        return DiskFullError(
            f"The disk of the state folder {file.parent} is full, and the ledger cannot be "
            "written. Make room; Tandem goes on by itself."
        )
    unwritable = disk_fails or code in _UNWRITABLE
    if unwritable and writing:
        return LedgerUnwritableError(
            f"The ledger in {file.parent} cannot be written (SQLite's code {code}). See to the "
            "disk and the rights of the state folder; Tandem goes on by itself."
        )
    if unwritable:
        return LedgerError(
            f"{file}: the ledger cannot be read (SQLite's code {code}). See to the disk and the "
            "rights of the state folder."
        )
    return None


def _is_full(folder: Path) -> bool:
    """Return whether a disk has no room for SQLite's files beside the ledger, or no inode."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    has_inodes = disk.f_favail > 0 or disk.f_files == 0  # some file systems count none
    return disk.f_bavail * disk.f_frsize < _LEAST_ROOM or not has_inodes


def _disk_fails(file: Path) -> bool:
    """Return whether the file cannot be read: after an error of the disk SQLite calls a ledger
    malformed that is whole."""
    try:
        with file.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
