"""Variables of the environment: which one gave a wrong value, and those that name no setting."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_settings import EnvSettingsSource
from pydantic_settings import SettingsError as NotReadError

from appliance.errors import SettingsError
from appliance.settings.settings import Settings

PREFIX = "TANDEM_"
_LEVELS = "__"
_OTHERS = frozenset(
    PREFIX + name
    for name in (
        *("CONFIG", "DASHBOARD_NAMES"),
        # of the trials and tests, which start commands
        *("QUICK_SECONDS", "HEADERS", "IMAGE", "PAIRS", "REPLAY", "SCREENSHOTS"),
    )
)
"""Variables that are no settings."""


def not_read() -> list[str]:
    """Return the variables whose value stands for a list or a table, and is no JSON."""
    found = []
    for name in _names():
        source = EnvSettingsSource(Settings)
        source.env_vars = {name.lower(): source.env_vars[name.lower()]}
        try:
            source()
        except NotReadError:
            found.append(name)
    return found


def variable_of(key: Sequence[int | str], value: object) -> str:
    """Return the variable that gave a wrong value to a key; empty where none did."""
    given: Any = EnvSettingsSource(Settings)()
    for part in key:
        if isinstance(given, list):  # it takes the place of the file's as a whole
            break
        if not isinstance(given, dict) or part not in given:
            return ""
        given = given[part]
    if not isinstance(given, list) and given != value:
        return ""
    names = {name.upper(): name for name in _names()}
    wanted = [PREFIX + _LEVELS.join(map(str, key[:n])).upper() for n in range(len(key), 0, -1)]
    below = (names[name] for name in names if name.startswith(wanted[0] + _LEVELS))
    return next((names[name] for name in wanted if name in names), next(below, ""))


def check_variables(settings: Settings) -> None:
    """Check that each variable of Tandem's names a setting.

    Raises
    ------
    SettingsError
        With one line for each that does not.
    """
    secrets = {getattr(section, "secret_env", None) for section in _with_secret(settings)}
    wrong = [
        name
        for name in _names()
        if _field(name) not in Settings.model_fields
        and name not in _OTHERS | secrets
        and not name.startswith(tuple(_links()))
    ]
    if wrong:
        raise SettingsError("\n".join(map(_unknown, wrong)))


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(_field(name), list(Settings.model_fields), n=1)
    meant = f", or did you mean {PREFIX}{close[0].upper()}?" if close else "."
    return (
        f"environment variable {name}: no setting has this name. Remove it{meant} Two underscores "
        "stand between a table and its key."
    )


def _names() -> list[str]:
    return sorted(name for name in os.environ if name.upper().startswith(PREFIX))


def _field(name: str) -> str:
    return name[len(PREFIX) :].partition(_LEVELS)[0].lower()


def _with_secret(settings: Settings) -> tuple[object, ...]:
    """Sections that may name a variable with a secret, whatever it is called."""
    alerts = settings.alerts
    sections = (settings.workitems, settings.dashboard.oidc, alerts.mail, alerts.webhook)
    return (*sections, *settings.destinations)


def _links() -> Iterator[str]:
    """Yield how variables begin that Kubernetes sets for a service whose name is Tandem's."""
    for name in _names():
        if name.endswith("_PORT") and "://" in os.environ[name]:
            yield from (name, name.removesuffix("PORT") + "SERVICE_")
