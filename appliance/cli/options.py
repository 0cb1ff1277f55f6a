"""Options that several commands share, and the settings that commands load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.settings.logs import configure_logging
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Settings file. Default: $TANDEM_CONFIG, ./tandem.toml, /etc/tandem/tandem.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def settings_with_logging(config: Path | None) -> Settings:
    """Load the settings and configure logging at their level.

    Raises
    ------
    SettingsError
        If the settings file cannot be used.
    """
    settings = load_settings(config)
    configure_logging(settings.logging)
    return settings
