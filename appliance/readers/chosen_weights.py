"""Sets of weights: which there are, which are in use, and how a lab puts in its own.

Strongest first: a folder named in the settings (``models.tumor = …``), the set that ``tandem
weights use`` selected, the reference weights that ship. The selection is a file and is read at each
step, so a running daemon follows it.

::

    <state_dir>/weights/
        selected.json           task → name and fingerprint
        lock                    one writer at a time
        <task>/<name>/          manifest.json, model.safetensors, MODEL_CARD.md; never changed
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.artifacts import write_whole, writing_folder
from appliance.errors import WeightsError
from appliance.geometry import TILE_MPP, TILE_PX
from appliance.settings.settings import Settings
from models.errors import ManifestError
from models.spec import (
    CARD_NAME,
    CLASSES,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    ModelSpec,
    Task,
    read_manifest,
    reference_folder,
    verify,
)

REFERENCE = "reference"
"""Name of the weights that ship."""
FROM_SETTINGS = "(settings)"
"""Shown as name of a folder that the settings name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWeights:
    """A set of weights of this installation; `spec` is None where its manifest is unusable."""

    task: Task
    name: str
    folder: Path
    in_use: bool
    spec: ModelSpec | None
    problem: str = ""


# what is in use


def chosen_weights(task: Task, settings: Settings) -> tuple[Path, ModelSpec]:
    """Folder and verified manifest of the weights in use for `task`.

    Raises
    ------
    WeightsError
        If they are for another task, were changed since they were selected, or are gone.
    ManifestError
        If the weights are not those of their manifest.
    """
    folder, fingerprint = _choice(task, settings)
    spec = verify(folder)
    _check_usable(spec, folder, task)
    if fingerprint not in (None, spec.fingerprint):
        raise WeightsError(
            f"{folder / MANIFEST_NAME} was changed after it was selected. If that is right: "
            f"tandem weights use {task} {folder.name}"
        )
    return folder, spec


def with_chosen_weights(settings: Settings) -> Settings:
    """The settings with each folder of weights named: they hold under another `state_dir` too."""
    folders = {task.value: chosen_weights(task, settings)[0] for task in Task}
    return settings.model_copy(update={"models": settings.models.model_copy(update=folders)})


def check_weights(folder: Path, task: Task | None = None) -> ModelSpec:
    """Recompute the checksum and load the network; returns the manifest.

    Raises
    ------
    ManifestError
        If the weights are not those of their manifest or do not fit their architecture.
    WeightsError
        If they cannot serve this appliance, or not for `task`.
    """
    from models.checkpoint import load_network

    spec, _ = load_network(folder)
    _check_usable(spec, folder, task or spec.task)
    return spec


def known_weights(settings: Settings) -> list[KnownWeights]:
    """All sets, by task and name: reference, installed, and folders that the settings name."""
    found = []
    for task in Task:
        chosen, _ = _choice(task, settings)
        sets = {REFERENCE: reference_folder(task)}
        installed = settings.weights_dir / task
        if installed.is_dir():
            folders = (path for path in sorted(installed.iterdir()) if _NAME.fullmatch(path.name))
            sets |= {path.name: path for path in folders if path.is_dir()}
        if chosen not in sets.values():
            sets[FROM_SETTINGS if _named(task, settings) else chosen.name] = chosen
        for name, folder in sets.items():
            spec, problem = None, ""
            try:
                spec = read_manifest(folder)
            except ManifestError as err:
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


def _named(task: Task, settings: Settings) -> Path | None:
    return {
        Task.TUMOR: settings.models.tumor,
        Task.INTENSITY: settings.models.intensity,
        Task.SEGMENTATION: settings.models.segmentation,
    }[task]


def _choice(task: Task, settings: Settings) -> tuple[Path, str | None]:
    """Folder in use, and the fingerprint that it had when it was selected."""
    if (named := _named(task, settings)) is not None:
        return named, None
    if (entry := _selected(settings).get(task.value)) is not None:
        return settings.weights_dir / task / entry["name"], entry["fingerprint"]
    return reference_folder(task), None


def _selected(settings: Settings) -> dict[str, dict[str, str]]:
    path = settings.weights_dir / "selected.json"
    try:
        selected: dict[str, dict[str, str]] = json.loads(path.read_text())
        for task, entry in selected.items():
            Task(task), entry["name"], entry["fingerprint"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise WeightsError(
            f"{path} cannot be read ({err}). Delete it, then select again: tandem weights use"
        ) from err
    return selected


def _check_usable(spec: ModelSpec, folder: Path, task: Task) -> None:
    manifest = folder / MANIFEST_NAME
    if spec.task is not task:
        raise WeightsError(f"{manifest} is for {spec.task}, not for {task}. Name another folder.")
    if spec.classes != CLASSES[task]:
        raise WeightsError(
            f"{manifest}: classes {', '.join(spec.classes)}; {task} needs "
            f"{', '.join(CLASSES[task])}, in this order."
        )
    if spec.tile_px != TILE_PX or abs(spec.mpp / TILE_MPP - 1) > 0.01:
        raise WeightsError(
            f"{manifest}: tiles of {spec.tile_px} px at {spec.mpp} µm/px; Tandem reads {TILE_PX} "
            f"px at {TILE_MPP} µm/px. Train for those."
        )


# putting in


def install_weights(folder: Path, settings: Settings, name: str | None = None) -> KnownWeights:
    """Copy a folder of weights into the state folder, verified; all of it or nothing.

    `name` is by default the manifest's name and version. Installing the same twice is no error.

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
    with _only_writer(settings):
        with writing_folder(final) as copy:
            for file in (MANIFEST_NAME, WEIGHTS_NAME, CARD_NAME):
                if not (folder / file).is_file():
                    raise WeightsError(f"{folder / file} is missing. Export the weights again.")
                shutil.copyfile(folder / file, copy / file)
            try:
                # The copy and not the original: that is what will be used.
                spec = check_weights(copy)
            except (ManifestError, WeightsError) as err:
                # The copy is gone when a person reads this.
                raise type(err)(str(err).replace(str(copy), str(folder))) from err
            if final.is_dir() and not _intact(final):
                shutil.rmtree(final)
        there = verify(final)
    if there.fingerprint != spec.fingerprint:
        raise WeightsError(f"other weights have the name {name!r} already. Choose one with --name.")
    return KnownWeights(task=spec.task, name=name, folder=final, in_use=False, spec=there)


def select_weights(task: Task, name: str, settings: Settings) -> KnownWeights:
    """Use the set `name` for `task` from the next step on; ``reference`` goes back.

    Raises
    ------
    ManifestError, WeightsError
        If there is no such set, or it cannot be used.
    """
    folder = reference_folder(task) if name == REFERENCE else settings.weights_dir / task / name
    if name != REFERENCE and not (_NAME.fullmatch(name) and folder.is_dir()):
        known = ", ".join(each.name for each in known_weights(settings) if each.task is task)
        raise WeightsError(f"no weights {name!r} for {task}. There are: {known}.")
    spec = check_weights(folder, task)
    with _only_writer(settings):
        selected = _selected(settings)
        selected.pop(task.value, None)
        if name != REFERENCE:
            selected[task.value] = {"name": name, "fingerprint": spec.fingerprint}
        text = json.dumps(selected, indent=2, sort_keys=True) + "\n"
        write_whole(settings.weights_dir / "selected.json", text.encode())
    return KnownWeights(
        task=task, name=name, folder=folder, in_use=_named(task, settings) is None, spec=spec
    )


def _intact(folder: Path) -> bool:
    try:
        verify(folder)
    except ManifestError:
        return False
    return True


@contextmanager
def _only_writer(settings: Settings) -> Iterator[None]:
    """One installing or selecting process at a time; removes what a killed one left."""
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
