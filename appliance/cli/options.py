"""Options that several commands share, and the settings that commands load."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from appliance.errors import SettingsError
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


CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
"""Files by which Docker and Podman mark a container's root."""


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
        If root runs this command, and neither the state folder nor the ledger is root's. In a
        container root may begin a ledger in a folder that the host gave to somebody.
    """
    owners = []
    for path in (settings.state_dir, settings.ledger_file):
        with suppress(OSError):  # not there, or not to be seen: the command tells
            owners.append(path.stat().st_uid)
    if os.geteuid() != 0 or not owners or 0 in owners:
        return
    if not settings.ledger_file.exists() and any(Path(mark).exists() for mark in CONTAINER_MARKS):
        return
    try:
        user = pwd.getpwuid(owners[0]).pw_name
    except KeyError:
        user = f"'#{owners[0]}'"
    raise SettingsError(
        f"{settings.state_dir} is not root's, and what root writes there its user cannot read. Run "
        f"this as that user: sudo -u {user} tandem …"
    )
