"""Users of the dashboard: names, roles and password hashes, in one file of the state folder.

Passwords are kept as Argon2id hashes (RFC 9106), each with its own salt and its parameters. There
is no default user and no default password.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from fcntl import LOCK_EX, flock
from functools import cache
from unicodedata import normalize

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from appliance.artifacts import write_whole
from appliance.errors import SettingsError
from appliance.settings.settings import Settings
from appliance.text import is_text, person_key

USERS_NAME = "users.json"
LEAST_CHARACTERS, MOST_CHARACTERS = 12, 256
"""Bounds of a password's length. Length counts, not its kinds of signs (NIST SP 800-63B)."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HASHER = PasswordHasher()


class Role(StrEnum):
    """Rights of a user; each role may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PATHOLOGIST = "pathologist"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Return whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user; `person` stands beside what the user does, and in reports."""

    name: str
    role: Role
    person: str
    password: str  # hash, with salt and parameters


class Users:
    """The users of a state folder; the file is read again whenever it changed."""

    def __init__(self, settings: Settings) -> None:
        self.file = settings.state_dir / USERS_NAME
        self._seen: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}

    def all(self) -> dict[str, User]:
        """Return the users by name.

        Raises
        ------
        SettingsError
            If the file cannot be read, or is not one of users.
        """
        try:
            found = self.file.stat()
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            if seen != self._seen:
                self._users, self._seen = _parsed(self.file.read_text()), seen
        except FileNotFoundError:
            self._users, self._seen = {}, None
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise SettingsError(
                f"{self.file}: the users cannot be read ({type(err).__name__}). Put back a copy "
                "of the file, or remove it and add the users again: tandem users add."
            ) from err
        return self._users

    def checked(self, name: str, password: str) -> User | None:
        """Return the user of a name and a password, or None.

        An unknown name takes the same work as a wrong password, so that time tells neither.
        """
        user = self.all().get(name.strip().lower())
        kept = user.password if user else _nobody()
        # All of them, so that the time tells nothing.
        fits = [_verified(kept, each[:MOST_CHARACTERS]) for each in _spellings(password)]
        return user if any(fits) else None

    def add(self, name: str, role: str, person: str, password: str) -> User:
        """Add a user; without `person` it is the name."""
        name = name.strip().lower()
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{name!r}: names have letters a-z, digits and '.', '-', '_', such as a.meyer."
            )
        person = person.strip() or name
        if not person.isprintable() or not is_text(person) or len(person) > 64:
            raise SettingsError("--person: a name of at most 64 readable characters: Meyer^Anna.")
        made = User(name=name, role=role_of(role), person=person, password=_hashed(password))
        with self._changing() as users:
            if name in users:
                raise SettingsError(
                    f"{name}: there is such a user. Use: tandem users role, or password."
                )
            if any(person_key(each.person) == person_key(person) for each in users.values()):
                raise SettingsError(
                    f"{person}: another user has this person's name. Choose another: --person."
                )
            users[name] = made
        return made

    def set_role(self, name: str, role: str) -> None:
        """Give a user another role; sessions that are open have it at once."""
        given = role_of(role)
        with self._changing() as users:
            user = _user(users, name)
            users[user.name] = replace(user, role=given)

    def set_password(self, name: str, password: str) -> None:
        """Give a user another password; it ends the user's sessions."""
        hashed = _hashed(password)
        with self._changing() as users:
            user = _user(users, name)
            users[user.name] = replace(user, password=hashed)

    def remove(self, name: str) -> None:
        """Remove a user; it ends the user's sessions. What the user did keeps the person."""
        with self._changing() as users:
            del users[_user(users, name).name]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, User]]:
        """Yield the users to be changed; they are written, whole, if the block ends well.

        One process changes them at a time.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.with_name(f".{USERS_NAME}.lock").open("w") as lock:
                flock(lock, LOCK_EX)
                users = dict(self.all())
                yield users
                shown = {"users": [asdict(user) for user in users.values()]}
                write_whole(self.file, json.dumps(shown, indent=2).encode(), mode=0o600)
        except OSError as err:
            if err.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SettingsError(
                    f"{self.file}: the disk is full; nothing was changed. Make room first."
                ) from err
            raise SettingsError(
                f"{self.file}: cannot be written ({err.strerror}). Run this as the service's user: "
                "sudo -u tandem tandem users …"
            ) from err


def role_of(text: str) -> Role:
    """Return the role of a name.

    Raises
    ------
    SettingsError
        If there is none.
    """
    try:
        return Role(text.strip().lower())
    except ValueError:
        raise SettingsError(f"{text!r} is no role. Roles: {', '.join(Role)}.") from None


def _user(users: dict[str, User], name: str) -> User:
    user = users.get(name.strip().lower())
    if user is None:
        raise SettingsError(f"{name}: there is no such user. See: tandem users list.")
    return user


def _spellings(password: str) -> set[str]:
    """Return the ways to write a password: machines compose an accented letter, or do not.

    The composed one is kept; earlier editions kept what was typed.
    """
    return {password, *(normalize(form, password) for form in ("NFC", "NFD"))}


def _verified(kept: str, password: str) -> bool:
    try:
        return _HASHER.verify(kept, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False


def _hashed(password: str) -> str:
    if not is_text(password):
        raise SettingsError("password: it is not in UTF-8. Give it in UTF-8, or without accents.")
    password = normalize("NFC", password)
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise SettingsError(
            f"password: {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters; several words are good."
        )
    return _HASHER.hash(password)


@cache
def _nobody() -> str:
    """Return the hash against which the password of an unknown user is checked."""
    return _HASHER.hash("the password of nobody")


def _parsed(text: str) -> dict[str, User]:
    rows = json.loads(text)["users"]
    found = [User(**row | {"role": Role(row["role"])}) for row in rows]
    return {user.name: user for user in found}
