"""Storing and removing a site's calibration beside the weights."""

from __future__ import annotations

from pathlib import Path

from appliance.artifacts import write_whole
from appliance.intake.identity.sidecar import read_sidecar
from appliance.operations.install_weights import only_writer
from appliance.readers.site_calibrations import calibration_path, require_calibrations_folder
from appliance.settings.settings import Settings
from models.site_calibration import SiteCalibration
from models.spec import ModelSpec, Task

EQUAL_ODDS = 0.5
"""Value of ``scoring.tumor_threshold`` that calibrations of C are fitted and judged at."""


def declared_mpp(slide: Path) -> float | None:
    """Resolution in µm/px that a slide's sidecar declares, which the daemon obeys; None: none."""
    return read_sidecar(slide).mpp


def threshold_trouble(task: Task, settings: Settings) -> str:
    """Return why a calibration does not go with the site's threshold; empty where it does.

    A threshold that was moved to correct the network, and a calibration beside it, correct the same
    error twice.
    """
    threshold = settings.scoring.tumor_threshold
    if task is not Task.TUMOR or threshold == EQUAL_ODDS:
        return ""
    return (
        f"scoring.tumor_threshold = {threshold:g}: a calibration is made for {EQUAL_ODDS}, and "
        f"both together correct the network twice. Set it back to {EQUAL_ODDS} first."
    )


def store_calibration(site: SiteCalibration, spec: ModelSpec, settings: Settings) -> Path:
    """Write the calibration of these weights in place of an earlier one; used from the next step.

    Raises
    ------
    WeightsError
        If the folder cannot be written, or the one that the settings name is not there.
    """
    path = calibration_path(spec, settings)
    with only_writer(settings):
        require_calibrations_folder(settings)
        write_whole(path, site.to_json().encode())
    return path


def remove_calibration(spec: ModelSpec, settings: Settings) -> bool:
    """Take the calibration of these weights out; False where there was none.

    Raises
    ------
    WeightsError
        If the file cannot be removed, or the folder that the settings name is not there: the
        calibration would be in use again once it is.
    """
    path = calibration_path(spec, settings)
    with only_writer(settings):
        require_calibrations_folder(settings)
        there = path.exists()
        path.unlink(missing_ok=True)
    return there
