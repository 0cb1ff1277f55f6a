"""Sessions of signed-in users, kept in the server's memory, and the limit on failed tries.

The browser has a random token in its cookie; the server keeps the token's hash alone. A restart of
the server ends all sessions.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from threading import Lock

from appliance.operations.users import User, Users
from appliance.settings.dashboard import Dashboard

FREE_TRIES = 3
"""Number of failed tries without a delay."""
LONGEST_DELAY_S = 300.0
RETRY_S = 5.0
"""Time in which an opening that could not be kept is not tried again: a view has many tiles."""
_FORGET_S = 3600.0
_MOST_KEYS = 10_000
Clock = Callable[[], float]


@dataclass(slots=True)
class Session:
    """One sign-in; `stamp` is the password's hash at that time. Times in seconds of the clock.

    `vouched` is a user for whom the hospital's provider vouched, whom the users' file lacks.
    `opened` has the time from which on an opening of a case is one again.
    """

    name: str
    stamp: str
    began: float
    used: float
    vouched: User | None = None
    opened: dict[str, float] = field(default_factory=dict)


class Sessions:
    """Sessions by the hash of their token; several threads use them."""

    def __init__(self, users: Users, settings: Dashboard, clock: Clock = time.monotonic) -> None:
        self._users, self._clock = users, clock
        self._idle_s = settings.idle_minutes * 60
        self._longest_s = settings.longest_hours * 3600
        self._held: dict[str, Session] = {}
        self._lock = Lock()

    def begin(self, user: User, *, vouched: bool = False) -> str:
        """Begin a session; return its token. `vouched`: the users' file lacks the user."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            for key in [key for key, each in self._held.items() if self._is_over(each, now)]:
                del self._held[key]
            self._held[_hashed(token)] = Session(
                user.name, user.password, now, now, user if vouched else None
            )
        return token

    def user(self, token: str, *, active: bool = False) -> User | None:
        """Return the user of a token; None where the session is over, or there was none.

        `active`: a person did something, so that the idle time begins anew. A session also ends
        when its user is removed or has another password. A user whom the provider vouched for has
        the role of the sign-in until the session ends.
        """
        key, now = _hashed(token), self._clock()
        with self._lock:
            session = self._held.get(key)
            if session is None:
                return None
            user = session.vouched or self._users.all().get(session.name)
            if user is None or user.password != session.stamp or self._is_over(session, now):
                del self._held[key]
                return None
            if active:
                session.used = now
            return user

    def is_first(self, token: str, case: str) -> bool:
        """Return whether a case is opened for the first time in a session that lives."""
        with self._lock:
            session, now = self._held.get(_hashed(token)), self._clock()
            if session is None or now < session.opened.get(case, now):
                return False
            session.opened[case] = inf
            return True

    def not_opened(self, token: str, case: str) -> None:
        """Take back that a case was opened: the next opening, in `RETRY_S`, is the first one."""
        with self._lock:
            if (session := self._held.get(_hashed(token))) is not None:
                session.opened[case] = self._clock() + RETRY_S

    def end(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._held.pop(_hashed(token), None)

    def _is_over(self, session: Session, now: float) -> bool:
        idle, life = now - session.used, now - session.began
        return idle >= self._idle_s or life >= self._longest_s


class Tries:
    """Failed tries to sign in, for each user's name and for each address.

    The first `FREE_TRIES` are free; each further one doubles the time until the next is heard.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, tuple[int, float]] = {}
        self._lock = Lock()

    def wait_s(self, *keys: str) -> float:
        """Return the time in seconds until a try is heard; 0 where it is heard now."""
        with self._lock:
            return max((self._left(key) for key in keys), default=0.0)

    def fail(self, *keys: str) -> None:
        """Note a failed try."""
        now = self._clock()
        with self._lock:
            for key in keys:
                number, at = self._failed.pop(key, (0, now))
                self._failed[key] = (1 if now - at > _FORGET_S else number + 1, now)
            while len(self._failed) > _MOST_KEYS:  # the one that failed longest ago
                del self._failed[next(iter(self._failed))]

    def forget(self, *keys: str) -> None:
        """Forget the failed tries of someone who signed in."""
        with self._lock:
            for key in keys:
                self._failed.pop(key, None)

    def _left(self, key: str) -> float:
        number, at = self._failed.get(key, (0, 0.0))
        if number < FREE_TRIES:
            return 0.0
        delay = min(2.0 ** min(number - FREE_TRIES, 20), LONGEST_DELAY_S)
        return max(0.0, at + delay - self._clock())


def session_name(token: str) -> str:
    """Return a name by which a page tells its session from another one; it opens none."""
    return _hashed(token)[:12]


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
