"""``tandem weights``: list, check, install and select sets of weights.

`appliance.readers.chosen_weights` says which set is in use. This module adds one file to the folder
that is drawn there: ``lock``, which admits one writer at a time.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.artifacts import write_whole, writing_folder
from appliance.errors import WeightsError
from appliance.readers.chosen_weights import (
    SELECTION_NAME,
    check_usable,
    chosen_folder,
    folder_in_settings,
    selected_weights,
)
from appliance.readers.site_calibrations import with_site_calibration
from appliance.settings.settings import Settings
from models.errors import ManifestError
from models.spec import (
    CARD_NAME,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    ModelSpec,
    Task,
    read_manifest,
    reference_folder,
    verify,
)

REFERENCE = "reference"
"""Name of the weights that ship with Tandem."""
FROM_SETTINGS = "(settings)"
"""Name shown for a folder that the settings name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWeights:
    """A set of weights of this installation; `spec` is None where its manifest is unusable.

    `spec` has the site's calibration of these weights.
    """

    task: Task
    name: str
    folder: Path
    in_use: bool
    spec: ModelSpec | None
    problem: str = ""


def known_weights(settings: Settings, tasks: Sequence[Task]) -> list[KnownWeights]:
    """All sets for `tasks`, by task and name: reference, installed, named in the settings."""
    found = []
    for task in tasks:
        chosen, _ = chosen_folder(task, settings)
        for name, folder in _sets(task, chosen, settings).items():
            spec, problem = None, ""
            try:
                spec = read_manifest(folder)
                spec = with_site_calibration(spec, settings)
            except (ManifestError, WeightsError) as err:
                problem = str(err)
            found.append(
                KnownWeights(
                    task=task,
                    name=name,
                    folder=folder,
                    in_use=folder == chosen,
                    spec=spec,
                    problem=problem,
                )
            )
    return found


def check_weights(folder: Path, task: Task | None = None) -> ModelSpec:
    """Recompute the checksum and load the network; return the manifest.

    Raises
    ------
    ManifestError
        If the weights do not match their manifest or do not fit their architecture.
    WeightsError
        If they cannot serve this appliance, or not for `task`.
    """
    from models.checkpoint import load_network

    spec, _ = load_network(folder)
    check_usable(spec, folder, task or spec.task)
    return spec


def install_weights(folder: Path, settings: Settings, name: str | None = None) -> KnownWeights:
    """Copy a folder of weights into the state folder, verified; all of it or nothing.

    `name` is by default the manifest's name and version. Installing the same set twice is no error.

    Raises
    ------
    ManifestError, WeightsError
        If the folder cannot be used as it is, or other weights have that name.
    """
    spec = read_manifest(folder)
    name = name or f"{spec.name}-{spec.version}"
    if name == REFERENCE or not _NAME.fullmatch(name):
        raise WeightsError(
            f"{name!r} cannot be a name: letters, digits, '.', '_', '-'; see --name."
        )
    final = settings.weights_dir / spec.task / name
    with only_writer(settings):
        with writing_folder(final) as copy:
            for file in (MANIFEST_NAME, WEIGHTS_NAME, CARD_NAME):
                if not (folder / file).is_file():
                    raise WeightsError(f"{folder / file} is missing. Export the weights again.")
                shutil.copyfile(folder / file, copy / file)
            try:
                # Check the copy, not the original: the copy will be used.
                spec = check_weights(copy)
            except (ManifestError, WeightsError) as err:
                # Name the original: the copy is deleted before a person reads the message.
                raise type(err)(str(err).replace(str(copy), str(folder))) from err
            if final.is_dir() and not _intact(final):
                shutil.rmtree(final)
        there = verify(final)
    if there.fingerprint != spec.fingerprint:
        raise WeightsError(f"other weights have the name {name!r} already. Choose one with --name.")
    return KnownWeights(task=spec.task, name=name, folder=final, in_use=False, spec=there)


def select_weights(task: Task, name: str, settings: Settings) -> KnownWeights:
    """Use the set `name` for `task` from the next step on; ``reference`` undoes a selection.

    Raises
    ------
    ManifestError, WeightsError
        If there is no such set, or it cannot be used.
    """
    folder = reference_folder(task) if name == REFERENCE else settings.weights_dir / task / name
    if name != REFERENCE and not (_NAME.fullmatch(name) and folder.is_dir()):
        known = ", ".join(each.name for each in known_weights(settings, [task]))
        raise WeightsError(f"no weights {name!r} for {task}. There are: {known}.")
    spec = check_weights(folder, task)
    with only_writer(settings):
        selected = selected_weights(settings)
        selected.pop(task.value, None)
        if name != REFERENCE:
            selected[task.value] = {"name": name, "fingerprint": spec.fingerprint}
        text = json.dumps(selected, indent=2, sort_keys=True) + "\n"
        write_whole(settings.weights_dir / SELECTION_NAME, text.encode())
    in_use = folder_in_settings(task, settings) is None
    return KnownWeights(task=task, name=name, folder=folder, in_use=in_use, spec=spec)


def _sets(task: Task, chosen: Path, settings: Settings) -> dict[str, Path]:
    """Folders of all sets for `task` by name; `chosen` is the one in use."""
    sets = {REFERENCE: reference_folder(task)}
    installed = settings.weights_dir / task
    if installed.is_dir():
        folders = (path for path in sorted(installed.iterdir()) if _NAME.fullmatch(path.name))
        sets |= {path.name: path for path in folders if path.is_dir()}
    if chosen not in sets.values():
        named = folder_in_settings(task, settings) is not None
        sets[FROM_SETTINGS if named else chosen.name] = chosen
    return sets


def _intact(folder: Path) -> bool:
    try:
        verify(folder)
    except ManifestError:
        return False
    return True


@contextmanager
def only_writer(settings: Settings) -> Iterator[None]:
    """Admit one installing or selecting process at a time; delete the folders that a killed one
    left."""
    root = settings.weights_dir
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in root.glob("*/.*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
    except OSError as err:
        raise WeightsError(
            f"{err}. Run this as the daemon's user, and see that there is room."
        ) from err
