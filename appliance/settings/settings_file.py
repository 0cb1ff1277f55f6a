"""Settings file: search, reading, and one line per wrong key."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)
from pydantic_settings import SettingsError as NotReadError

from appliance.errors import SettingsError
from appliance.settings.environment import check_variables, not_read, variable_of
from appliance.settings.secrets import check_settings_file
from appliance.settings.section import read_toml
from appliance.settings.settings import Settings

SEARCHED = ("tandem.toml", "/etc/tandem/tandem.toml")
"""Paths searched for settings when neither --config nor TANDEM_CONFIG names a file."""

_SECRETIVE = re.compile(r"url|secret|pass|token|api_?key|destinations(\.\d+)?$")
"""Keys whose wrong values are not shown."""


def find_settings_file(explicit: Path | None) -> Path | None:
    """Return the TOML file to read: --config, else TANDEM_CONFIG, else the first of `SEARCHED`.

    Raises
    ------
    SettingsError
        If a file is named that does not exist; or if none is found, and the folder where the
        command is given cannot be looked into.
    """
    named = explicit or (
        Path(os.environ["TANDEM_CONFIG"]) if "TANDEM_CONFIG" in os.environ else None
    )
    if named is not None:
        if not _is_file(named):
            raise SettingsError(f"{named}: no such settings file. Check --config or TANDEM_CONFIG.")
        return named
    here, *others = map(Path, SEARCHED)
    hidden = ""
    try:
        if here.is_file():
            return here
    except PermissionError:  # such as root's home by sudo
        hidden = "the settings of this folder, if it has any, cannot be read"
    found = next((each for each in others if _is_file(each)), None)
    if hidden and found is None:
        raise SettingsError(f"{hidden}, and there are no others. Name a file by --config.")
    if hidden:
        _tell(f"{hidden}; using {found}")
    return found


@cache
def _tell(line: str) -> None:
    """Print a line once, however often the file is looked for."""
    print(line, file=sys.stderr)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # the attempt to read it tells
        return True


def load_settings(explicit: Path | None = None) -> Settings:
    """Read and validate the settings; extensions are loaded by then.

    Raises
    ------
    SettingsError
        With one line per wrong key: its name, the problem and the remedy; the same for variables
        of the environment. Or if the file holds a secret and everyone can read it.
    """
    path = find_settings_file(explicit)

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
            if path is not None:
                sources += (InitSettingsSource(settings_cls, read_toml(path)),)
            return sources

    try:
        loaded = FromFile()
    except ValidationError as err:
        raise SettingsError(_explain(err, path)) from err
    except OSError as err:
        raise SettingsError(
            f"{path}: cannot be read ({err.strerror}). Run this as a user who may, such as: "
            "sudo -u tandem."
        ) from err
    except NotReadError as err:
        raise SettingsError(
            f"environment variable {', '.join(not_read())}: no JSON. In the environment a list is "
            'written as ["/a", "/b"], a table as {"folder": "/a"}.'
        ) from err
    except ValueError as err:  # TOML syntax
        raise SettingsError(f"{path}: not valid TOML: {err}.{_remedy(str(err))}") from err
    # A plain Settings: the local class cannot be pickled for a worker.
    settings = Settings.model_construct(
        **{name: getattr(loaded, name) for name in Settings.model_fields}
    )
    check_variables(settings)
    if path is not None:
        check_settings_file(path, settings)
    return settings


def _remedy(wrong: str) -> str:
    """Return what to do about a backslash, which begins an escape in TOML's "strings"."""
    if "\\" not in wrong and "hex value" not in wrong:
        return ""
    return " Write paths with / or in single quotes: 'C:\\slides'."


def _explain(err: ValidationError, path: Path | None) -> str:
    lines = []
    for problem in err.errors():
        where: object = path or "environment (no settings file was read)"
        if variable := variable_of(problem["loc"], problem["input"]):
            where = f"environment variable {variable}"
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key '{key}'. Remove it{_nearest(key)}.")
        else:
            lines.append(f"{where}: '{key}'{_shown(key, problem['input'])}: {problem['msg']}.")
    return "\n".join(lines)


def _shown(key: str, value: object) -> str:
    """Return a wrong value for display; empty if it may hold a secret.

    A URL may hold one, and so may a value in place of a whole section.
    """
    plain = isinstance(value, (str, int, float)) and not _SECRETIVE.search(key)
    return f" = {value!r}" if plain else ""


def _nearest(key: str) -> str:
    import difflib

    *parents, last = key.split(".")
    model: Any = Settings
    for parent in parents:
        model = model.model_fields[parent].annotation if parent in model.model_fields else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ""
    close = difflib.get_close_matches(last, list(model.model_fields), n=1)
    return f", or did you mean '{'.'.join([*parents, close[0]])}'?" if close else ""
