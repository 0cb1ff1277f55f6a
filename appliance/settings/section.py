"""Base type of every table of the settings file, and the reading of the file itself."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _named(value: Any) -> Any:
    if value == "":
        raise ValueError("an empty path: name one, or leave the key out")
    return value


SomePath = Annotated[Path, BeforeValidator(_named)]
"""Path that is not empty: an empty one would be the current folder."""
PathOrNone = Annotated[
    SomePath | None, BeforeValidator(lambda value: None if value == "" else value)
]
"""Path of a file of a connection; empty is none, as an environment variable without a value says.

Where none would change what is scored, whose a slide is or where results go, an empty one is
refused (`SomePath`).
"""


class Section(BaseModel):
    """Table of the TOML file. Unknown keys are refused; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_toml(file: Path) -> dict[str, Any]:
    """Read a settings file; some editors begin one with a byte order mark.

    Raises
    ------
    ValueError
        If it is not TOML in UTF-8.
    OSError
        If it cannot be read.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = file.read_bytes()[: err.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not in UTF-8. Save the file as UTF-8") from err
    if "\0" in text:
        raise ValueError("it is not in UTF-8. Save the file as UTF-8")
    return tomllib.loads(text)
