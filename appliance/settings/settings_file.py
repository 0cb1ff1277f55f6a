"""The settings file: which one is read, and what is wrong in it, key by key."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from appliance.errors import SettingsError
from appliance.settings.settings import Settings

SEARCHED = ("tandem.toml", "/etc/tandem/tandem.toml")
"""Where settings are looked for when neither --config nor TANDEM_CONFIG names a file."""


def find_settings_file(explicit: Path | None) -> Path | None:
    """The TOML file to read: --config, else TANDEM_CONFIG, else the first of `SEARCHED`.

    Raises
    ------
    SettingsError
        If a file was named and is not there.
    """
    named = explicit or (
        Path(os.environ["TANDEM_CONFIG"]) if "TANDEM_CONFIG" in os.environ else None
    )
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"{named}: no such settings file. Check --config or TANDEM_CONFIG.")
        return named
    return next((Path(name) for name in SEARCHED if Path(name).is_file()), None)


def load_settings(explicit: Path | None = None) -> Settings:
    """Read and validate the settings.

    Raises
    ------
    SettingsError
        With one line per offending key: its name, what is wrong, and what would be right.
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
                sources += (TomlConfigSettingsSource(settings_cls, toml_file=path),)
            return sources

    try:
        loaded = FromFile()
    except ValidationError as err:
        raise SettingsError(_explain(err, path)) from err
    except ValueError as err:  # TOML syntax
        raise SettingsError(f"{path}: not valid TOML: {err}") from err
    # A plain Settings: the local class could not be pickled to a worker.
    return Settings.model_construct(
        **{name: getattr(loaded, name) for name in Settings.model_fields}
    )


def _explain(err: ValidationError, path: Path | None) -> str:
    where = path or "environment (no settings file was read)"
    lines = []
    for problem in err.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key '{key}'. Remove it{_nearest(key)}.")
        else:
            lines.append(f"{where}: '{key}'{_shown(key, problem['input'])}: {problem['msg']}.")
    return "\n".join(lines)


def _shown(key: str, value: object) -> str:
    """A wrong value, but no secret: a url may hold one, and a whole section may hold a url."""
    plain = isinstance(value, (str, int, float)) and not re.search("url|secret|destinations$", key)
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
