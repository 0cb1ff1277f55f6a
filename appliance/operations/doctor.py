"""``tandem doctor``: is everything there that a case needs? One line each, with the remedy."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.assays.her2.guideline import choose_guideline
from appliance.delivery.destinations.contract import KindCheck, open_destination
from appliance.delivery.orders import check_worklist
from appliance.errors import SettingsError, TandemError
from appliance.readers.chosen_weights import chosen_weights
from appliance.settings.settings import Settings
from appliance.settings.settings_file import find_settings_file, load_settings
from models.errors import ModelError
from models.spec import Task


@dataclass(frozen=True, slots=True)
class Examined:
    """One line of the doctor."""

    what: str
    ok: bool
    text: str


def examine(config: Path | None) -> list[Examined]:
    """All checks; the first to fail never hides the others."""
    try:
        settings = load_settings(config)
        source = find_settings_file(config) or "defaults (no settings file)"
    except TandemError as err:
        return [Examined("settings", False, str(err))]
    return [Examined("settings", True, str(source)), *_checks(settings)]


def examine_destination(settings: Settings, name: str) -> list[KindCheck]:
    """Which kinds of objects a destination takes, before the first case needs it.

    Raises
    ------
    TandemError
        If there is no such destination, or it cannot be asked.
    """
    for section in settings.destinations:
        if section.name == name:
            return open_destination(settings, section).kinds()
    known = ", ".join(section.name for section in settings.destinations)
    raise SettingsError(f"no destination '{name}' in the settings; there are: {known}")


def _checks(settings: Settings) -> Iterator[Examined]:
    yield _try("scanner's folder", lambda: _watch(settings.watch.folder))
    yield _try("state folder", lambda: _writable(settings.state_dir, settings.low_disk_gib))
    yield _try("guideline", lambda: _guideline(settings))
    for task in Task:
        yield _try(f"weights for {task}", partial(_weights, task, settings))
    yield _try("device", lambda: _device(settings))
    yield _try("libturbojpeg", _turbojpeg)
    if settings.worklist is not None:
        yield _try("worklist", partial(check_worklist, settings.worklist))
    for section in settings.destinations:
        yield _try(f"destination {section.name}", open_destination(settings, section).check)


def _try(what: str, check: Callable[[], str]) -> Examined:
    try:
        return Examined(what, True, check())
    except (TandemError, ModelError, OSError) as err:
        return Examined(what, False, str(err))


def _watch(folder: Path) -> str:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there. Create it, mount it, or set watch.folder.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be read. Give this user the right to read it.")
    return f"{folder} (read)"


def _writable(folder: Path, least_gib: float) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder):
        pass
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < least_gib:
        raise OSError(f"only {free_gib:.1f} GiB free in {folder}: make room or move state_dir.")
    return f"{folder} (write), {free_gib:.0f} GiB free"


def _guideline(settings: Settings) -> str:
    guideline = choose_guideline(settings.scoring).guideline
    return f"{guideline.title}, {guideline.version} ({guideline.status}; {guideline.source})"


def _weights(task: Task, settings: Settings) -> str:
    _, spec = chosen_weights(task, settings)
    return f"{spec.name} {spec.version}, sha256 {spec.sha256[:12]}… fits"


def _device(settings: Settings) -> str:
    if settings.models.device == "cpu":
        return "CPU, as set"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        if settings.models.device == "cuda":
            raise OSError("models.device = 'cuda', but no NVIDIA driver is installed.")
        return "no GPU found: CPU is used"
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    if found.returncode != 0:
        raise OSError(f"nvidia-smi failed: {found.stderr.strip() or found.stdout.strip()}")
    return found.stdout.strip()


def _turbojpeg() -> str:
    if ctypes.util.find_library("turbojpeg") is None:
        return "not installed: slides are converted the slower way (apt install libturbojpeg0)"
    return "installed: JPEG tiles pass through untouched"
