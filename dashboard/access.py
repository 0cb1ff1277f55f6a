"""Access to the dashboard's server: users and sessions, one object for guard, routes and pages."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from appliance.errors import TandemError
from appliance.operations.users import Role, User, Users
from appliance.settings.settings import Settings
from appliance.text import person_key
from dashboard import actions
from dashboard.sessions import Clock, Sessions, Tries

COOKIE = "tandem_session"
HIDDEN_NAMES, CHOSEN = "tandem_names_hidden", "1"
"""Cookie of a browser in which somebody hid the names, and its value."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """Answer to a try to sign in: a token, or why there is none; `wait_s` until the next try."""

    token: str = ""
    why: str = ""
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """Somebody for whom the provider vouches; `role` is None where no group gives one.

    `account` is the provider's own lasting name (``sub``), `name` the one that people know.
    """

    account: str
    name: str
    person: str
    role: Role | None


class Access:
    """Users, sessions and the record of who came; `required` tells whether people sign in."""

    def __init__(
        self, settings: Settings, *, required: bool, clock: Clock = time.monotonic
    ) -> None:
        self.required, self.open_metrics = required, settings.dashboard.open_metrics
        self.oidc = settings.dashboard.oidc
        self._settings, self._users = settings, Users(settings)
        self._sessions = Sessions(self._users, settings.dashboard, clock)
        self._tries = Tries(clock)

    def user(self, token: str, *, active: bool = False) -> User | None:
        """Return the user of a token; nobody where the users cannot be read."""
        if not token:
            return None
        try:
            return self._sessions.user(token, active=active)
        except TandemError as err:
            _LOG.error("%s", err)
            return None

    def hides(self, token: str, *, chosen: bool) -> bool:
        """Return whether the screen of a session hides names, by the settings or as was `chosen`.

        A token without a user counts as a viewer's.
        """
        rule = self._settings.dashboard.mask
        if chosen or rule == "always":
            return True
        if rule != "viewers" or not self.required:
            return False
        user = self.user(token)
        return user is None or user.role == Role.VIEWER

    def sign_in(self, name: str, password: str, address: str) -> Told:
        """Check a name and a password; a try that comes too early is not looked at."""
        name = name.strip().lower()[:64]
        keys = (f"user {name}", f"address {address}")
        if (wait := self._tries.wait_s(*keys)) > 0:
            return Told(why="Too many failed tries. Wait, and try again.", wait_s=wait)
        self._tries.fail(*keys)  # before the check, which takes time, so that none slips by
        try:
            user = self._users.checked(name, password)
        except TandemError as err:
            _LOG.error("%s", err)
            return Told(why="The users cannot be read: tandem users list says why.")
        if user is None:
            # An unknown name may be a password that was typed into the wrong field.
            known = name if name in self._users.all() else "someone unknown"
            self._note("sign-in-failed", "", name=known, address=address)
            return Told(why="Name or password is wrong.")
        self._tries.forget(*keys)
        self._note("signed-in", user.person, name=user.name, address=address)
        return Told(self._sessions.begin(user))

    def vouched(self, given: Vouched, address: str) -> Told:
        """Let in whom the hospital's provider vouches for, if a group gives a role."""
        try:
            local = [person_key(each.person) for each in self._users.all().values()]
        except TandemError as err:
            _LOG.error("%s", err)
            return Told(why="The users cannot be read: tandem users list says why.")
        if given.role is None or person_key(given.person) in local:
            self._note_vouched("sign-in-failed", "", given, address)
            if given.role is None:
                return Told(why="Your account has no role here: ask for a group that has one.")
            # Else what both do could not be told apart in the record.
            return Told(why="A local user has your name: an admin removes one of the two.")
        self._tries.forget(f"provider {address}")
        self._note_vouched("signed-in", given.person, given, address)
        user = User(name=given.name, role=given.role, person=given.person, password="")
        return Told(self._sessions.begin(user, vouched=True))

    def try_of_provider(self, address: str) -> float:
        """Count a try by the provider's way back; return the time in seconds until it is heard.

        It costs requests to the provider, so those that fail are heard less and less often.
        """
        key = f"provider {address}"
        if (wait := self._tries.wait_s(key)) == 0:
            self._tries.fail(key)
        return wait

    def not_vouched(self, address: str) -> None:
        """Note a sign-in that the provider did not vouch for."""
        self._note("sign-in-failed", "", name="someone unknown", address=address)

    def has_users(self) -> bool:
        """Return whether there are users of ``tandem users add``, who have passwords."""
        try:
            return bool(self._users.all())
        except TandemError:
            return True

    def sign_out(self, token: str) -> None:
        """End a session, and note it."""
        user = self.user(token)
        self._sessions.end(token)
        if user is not None:
            self._note("signed-out", user.person, name=user.name)

    def opened(self, token: str, case_id: int) -> None:
        """Note that the user of a session opened a case: once in each session."""
        user, case = self.user(token), f"case-{case_id}"
        if user is None or not self._sessions.is_first(token, case):
            return
        if not self._note("case-opened", user.person, user.name, about=case_id, case=case):
            self._sessions.not_opened(token, case)

    def _note_vouched(self, code: str, by: str, given: Vouched, address: str) -> None:
        self._note(code, by, name=given.name, account=given.account, address=address)

    def _note(
        self, code: str, by: str, user: str = "", about: int | None = None, **params: str
    ) -> bool:
        """Keep an event, and return whether that was done.

        People are let in also where it cannot be kept, which the log tells.
        """
        answer = actions.note_access(self._settings, code, by=by, about=about, **params)
        if not answer.done:
            what = " of ".join(filter(None, (code, params.get("case"))))
            who = params.get("name", user)
            _LOG.warning("The record lacks '%s' by %s: %s", what, who, answer.text)
        return answer.done and answer.text == code


_SERVER: list[Access] = []
"""Access of this process's server; empty in a page that no server of ours shows."""


def serve_by(access: Access) -> None:
    """Make an access that of this process."""
    _SERVER[:] = [access]


def of_server() -> Access | None:
    """Return the access of this process; None where pages are shown by no server of ours."""
    return _SERVER[0] if _SERVER else None


def token_of(cookies: str) -> str:
    """Return the token in a Cookie header; empty where there is none."""
    found = _cookies(cookies).get(COOKIE)
    return found.value if found else ""


def chose_hidden(cookies: str) -> bool:
    """Return whether a Cookie header says that somebody hid the names in this browser."""
    found = _cookies(cookies).get(HIDDEN_NAMES)
    return found is not None and found.value == CHOSEN


def _cookies(header: str) -> SimpleCookie:
    try:
        return SimpleCookie(header)
    except CookieError:
        return SimpleCookie()
