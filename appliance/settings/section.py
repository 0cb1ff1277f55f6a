"""Base type of every table of the settings file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Table of the TOML file. Unknown keys are refused; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
