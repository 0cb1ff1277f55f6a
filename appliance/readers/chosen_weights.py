"""The weights in use for each task of a network.

Order of precedence: a folder that the settings name (``models.tumor = …``), the set that ``tandem
weights use`` selected, the reference weights that ship with Tandem. The selection is a file. Every
step reads it again, so a running daemon follows a change.

::

    <state_dir>/weights/
        selected.json           task → name and fingerprint
        <task>/<name>/          manifest.json, model.safetensors, MODEL_CARD.md; never changed
        <task>/calibration-….json   `appliance.readers.site_calibrations`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import WeightsError
from appliance.geometry import TILE_MPP, TILE_PX
from appliance.readers.site_calibrations import calibrations_folder, with_site_calibration
from appliance.settings.settings import Settings
from models.spec import CLASSES, MANIFEST_NAME, ModelSpec, Task, reference_folder, verify

SELECTION_NAME = "selected.json"


def chosen_weights(task: Task, settings: Settings) -> tuple[Path, ModelSpec]:
    """Folder and verified manifest of the weights in use for `task`, with the site's calibration.

    Raises
    ------
    WeightsError
        If they are for another task, were changed since they were selected, or are gone, or if
        their calibration cannot be used.
    ManifestError
        If the weights do not match their manifest.
    """
    folder, spec = uncalibrated_weights(task, settings)
    return folder, with_site_calibration(spec, settings)


def uncalibrated_weights(task: Task, settings: Settings) -> tuple[Path, ModelSpec]:
    """Folder and verified manifest of the weights in use for `task`, without the calibration.

    Raises
    ------
    WeightsError, ManifestError
        See `chosen_weights`.
    """
    folder, fingerprint = chosen_folder(task, settings)
    spec = verify(folder)
    check_usable(spec, folder, task)
    if fingerprint not in (None, spec.fingerprint):
        raise WeightsError(
            f"{folder / MANIFEST_NAME} was changed after it was selected. If that is right: "
            f"tandem weights use {task} {folder.name}"
        )
    return folder, spec


def with_chosen_weights(settings: Settings, tasks: Sequence[Task]) -> Settings:
    """Settings that name the folder in use for each of `tasks`, and that of the calibrations: valid
    under any `state_dir`.

    Raises
    ------
    WeightsError, ManifestError
        See `chosen_weights`.
    """
    folders = {task.value: chosen_weights(task, settings)[0] for task in tasks}
    if (calibrations := calibrations_folder(settings)).is_dir():
        folders["calibrations"] = calibrations
    return settings.model_copy(update={"models": settings.models.model_copy(update=folders)})


def chosen_folder(task: Task, settings: Settings) -> tuple[Path, str | None]:
    """Folder in use for `task`, not verified, and its fingerprint at selection.

    The fingerprint is None for weights that were not selected: those of the settings, and the
    reference weights.

    Raises
    ------
    WeightsError
        If the selection cannot be read.
    """
    if (named := folder_in_settings(task, settings)) is not None:
        return named, None
    if (entry := selected_weights(settings).get(task.value)) is not None:
        return settings.weights_dir / task / entry["name"], entry["fingerprint"]
    return reference_folder(task), None


def folder_in_settings(task: Task, settings: Settings) -> Path | None:
    """Folder that the settings name for `task`; None without one."""
    named: Path | None = getattr(settings.models, task.value, None)
    return named


def selected_weights(settings: Settings) -> dict[str, dict[str, str]]:
    """Selection by task: ``name`` and ``fingerprint`` of each set; empty where none was selected.

    Raises
    ------
    WeightsError
        If the file of the selection cannot be read.
    """
    path = settings.weights_dir / SELECTION_NAME
    try:
        selected: dict[str, dict[str, str]] = json.loads(path.read_text())
        for task, entry in selected.items():
            Task(task), entry["name"], entry["fingerprint"]
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise WeightsError(
            f"{path}: {err.strerror}. It says which weights are selected: make it readable for the "
            "service's user."
        ) from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise WeightsError(
            f"{path} cannot be read ({err}). Delete it, then select again: tandem weights use"
        ) from err
    return selected


def check_usable(spec: ModelSpec, folder: Path, task: Task) -> None:
    """Check that weights answer `task` with its classes, on tiles of Tandem's size and resolution.

    Raises
    ------
    WeightsError
        If they do not; the message names the manifest in `folder`.
    """
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
