"""Options that several commands share, and the settings that commands load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.errors import SettingsError
from appliance.settings.logs import configure_logging
from appliance.settings.owner import other_user
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


def settings_with_logging(config: Path | None, *, writes: bool = True) -> Settings:
    """Load the settings and configure logging at their level.

    `writes` says whether the command may write into the state folder; see `refuse_root`.

    Raises
    ------
    SettingsError
        If the settings file cannot be used, or root is to write into another user's state folder.
    """
    settings = load_settings(config)
    configure_logging(settings.logging)
    if writes:
        refuse_root(settings)
    return settings


def refuse_root(settings: Settings) -> None:
    """Refuse to let root write into the state folder of a service that runs as another user.

    Raises
    ------
    SettingsError
        If root runs this command, and the state folder is another user's; see `other_user`.
    """
    if user := other_user(settings):
        raise SettingsError(
            f"{settings.state_dir} is not root's, and what root writes there its user cannot read. "
            f"Run this as that user: sudo -u {user} tandem …"
        )
