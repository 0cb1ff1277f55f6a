"""Installation: a random salt that tells the UIDs of one appliance from those of every other."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from appliance.errors import SettingsError

SALT_NAME = "installation.txt"
"""File of the salt, in the state folder and in the folder of the ledger's backups."""
BACKUPS = "backups"
_SALT = re.compile(r"[0-9a-f]{64}")


def installation_salt(state_dir: Path) -> str:
    """Return the salt of an installation: 64 hexadecimal digits, drawn when first asked for.

    A salt that is gone is taken from the backups of the ledger. Several processes may ask at once;
    all get the same one.

    Raises
    ------
    SettingsError
        If the file holds no salt.
    OSError
        If the state folder cannot be read or written.
    """
    path = state_dir / SALT_NAME
    with suppress(FileNotFoundError):
        return _read(path)
    try:
        salt = _read(state_dir / BACKUPS / SALT_NAME)
    except FileNotFoundError:
        salt = secrets.token_hex(32)
    _write_new(path, salt)
    return _read(path)


def installation_name(state_dir: Path) -> str:
    """Return a name of an installation that tells it from others, and does not tell its salt.

    Raises
    ------
    SettingsError, OSError
        As `installation_salt`.
    """
    return hashlib.sha256(f"device {installation_salt(state_dir)}".encode()).hexdigest()[:32]


def copy_salt(state_dir: Path) -> None:
    """Put a copy of the salt beside the backups of the ledger, where there is a salt."""
    with suppress(FileNotFoundError, FileExistsError):
        salt = _read(state_dir / SALT_NAME)
        _write_new(state_dir / BACKUPS / SALT_NAME, salt)


def salts_differ(state_dir: Path) -> bool:
    """Return whether the state folder has another salt than the backups of the ledger.

    Raises
    ------
    SettingsError
        If one of the files holds no salt.
    """
    try:
        return _read(state_dir / SALT_NAME) != _read(state_dir / BACKUPS / SALT_NAME)
    except FileNotFoundError:
        return False


def _read(path: Path) -> str:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not _SALT.fullmatch(text):
        of_backups = path.parent.name == BACKUPS
        other = path.parent.parent / SALT_NAME if of_backups else f"{BACKUPS}/"
        raise SettingsError(
            f"{path}: not the salt of an installation. Restore the file; there is a copy in "
            f"{other}. Another salt would put new objects into other studies."
        )
    return text


def _write_new(path: Path, salt: str) -> None:
    """Write a file that is whole under its name, unless another process wrote it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with part.open("x", encoding="ascii") as stream:
            stream.write(f"{salt}\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a share without hard links
            if not path.exists():
                part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # objects that name its studies may leave the machine from now on
    finally:
        os.close(folder)
