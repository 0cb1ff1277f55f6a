"""The files of ``tandem init``: the settings file, and the units of systemd made from it."""

from __future__ import annotations

import os
import shlex
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from appliance.artifacts import write_whole
from appliance.errors import SettingsError
from appliance.operations.service_units import (
    commands,
    link_commands,
    unit_files,
    worker_commands,
)
from appliance.operations.settings_text import settings_text
from appliance.settings.settings_file import load_settings

SETTINGS_NAME = "tandem.toml"
UNITS_NAME = "systemd"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFiles:
    """Files that were written, and commands: the settings file, the units, and what root runs.

    `worker_commands` are those for each worker's machine; empty without a cluster. `again` is the
    command that writes the units anew.
    """

    config: Path
    made_config: bool
    units: tuple[Path, ...] = ()
    commands: tuple[str, ...] = ()
    worker_commands: tuple[str, ...] = ()
    again: str = ""


def write_site(folder: Path, scans: Path, state: Path, *, systemd: bool) -> SiteFiles:
    """Write the settings file, unless there is one, and the units of the settings that are there.

    Raises
    ------
    SettingsError
        If the folder cannot be written, or the settings do not suit services.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  links stay as they are named
    config = folder / SETTINGS_NAME
    try:
        made = not config.is_file()
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in missing:
            each.chmod(0o755)  # as /etc has it; the file itself is closed
        if made:
            write_whole(config, _new_settings(scans, state))
        if not systemd:
            return SiteFiles(config=config, made_config=made)
        settings = load_settings(config)
        program = Path(sysconfig.get_path("scripts")) / "tandem"
        units = folder / UNITS_NAME
        written = []
        for name, text in unit_files(settings, config, program).items():
            write_whole(units / name, text.encode())
            written.append(units / name)
            _open_to_read(units / name)
    except OSError as err:
        raise SettingsError(f"{folder}: {err.strerror or err}. Choose another folder.") from err
    return SiteFiles(
        config=config,
        made_config=made,
        units=tuple(written),
        commands=(*link_commands(program), *commands(settings, config, units)),
        worker_commands=tuple(worker_commands(settings, config, units)),
        again=shlex.join((str(program), "init", "--out", str(folder), "--systemd")),
    )


def _new_settings(scans: Path, state: Path) -> bytes:
    try:
        return settings_text({"state_dir": state, "watch.folder": scans}).encode()
    except UnicodeEncodeError as err:
        raise SettingsError(
            "--scans or --state is a folder whose name is not in UTF-8, and a settings file is. "
            "Rename that folder."
        ) from err


def _open_to_read(unit: Path) -> None:
    """Let everyone read a unit, as those of the system: they hold no secrets.

    Nothing else in these folders is touched: with ``--out /etc`` they are the system's.
    """
    unit.chmod(0o644)
    for folder in unit.parents:
        folder.chmod(0o755)
        if folder.name == UNITS_NAME:
            break
