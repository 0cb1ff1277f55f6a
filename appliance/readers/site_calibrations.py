"""Calibrations of this site on disk: one file per set of weights that was calibrated here.

::

    <state_dir>/weights/<task>/calibration-<first digits of the weights' fingerprint>.json

Weights that are selected again later find their calibration again. Every step reads the file, so a
running daemon follows a change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance.errors import WeightsError
from appliance.settings.settings import Settings
from models.errors import CalibrationError
from models.site_calibration import SiteCalibration
from models.spec import ModelSpec

FINGERPRINT_DIGITS = 12


def calibration_path(spec: ModelSpec, settings: Settings) -> Path:
    """File of the calibration of these weights, whether it is there or not."""
    name = f"calibration-{spec.weights_fingerprint[:FINGERPRINT_DIGITS]}.json"
    return calibrations_folder(settings) / spec.task / name


def calibrations_folder(settings: Settings) -> Path:
    """Folder of all calibrations: that of the installed weights, unless the settings name one."""
    return settings.models.calibrations or settings.weights_dir


def require_calibrations_folder(settings: Settings) -> None:
    """Raise `WeightsError` if the settings name a folder that is not there.

    It may be a share that is away: what it holds is unknown, and it is not to be made anew.
    """
    named = settings.models.calibrations
    if named is not None and not named.is_dir():
        raise WeightsError(
            f"models.calibrations = {named}: no folder is there. Mount or create it, or "
            "correct the setting."
        )


def with_site_calibration(spec: ModelSpec, settings: Settings) -> ModelSpec:
    """The weights' manifest with the calibration of this site; unchanged where there is none.

    Raises
    ------
    WeightsError
        If the file cannot be read, was changed, or belongs to other weights, or if the folder that
        the settings name is not there: scores without the calibration would differ, so that none
        are given.
    """
    path = calibration_path(spec, settings)
    try:
        return replace(spec, site=SiteCalibration.of_json(path.read_text()))
    except FileNotFoundError:
        require_calibrations_folder(settings)
        return spec
    except OSError as err:
        raise WeightsError(
            f"{path}: {err.strerror}. Mount the share, or correct its rights (the service's user "
            "must read it)."
        ) from err
    except (UnicodeDecodeError, CalibrationError) as err:
        raise WeightsError(
            f"{path}: {err}. Calibrate again, or take it out: tandem calibrate --remove "
            f"--task {spec.task}"
        ) from err


def calibration_words(spec: ModelSpec, settings: Settings) -> str:
    """Words for people on weights in use: calibrated by what, or not, or only other weights."""
    site = spec.site
    if site is None:
        own = calibration_path(spec, settings)
        others = any(path != own for path in own.parent.glob("calibration-*.json"))
        of_others = " (a calibration of other weights is there; it is not applied)"
        return f"not calibrated for this site{of_others if others else ''}"
    return (
        f"calibrated for this site: {site.tiles} tiles of {site.patients} patients, "
        f"{site.made[:10]}, fingerprint {site.fingerprint[:FINGERPRINT_DIGITS]}…"
    )
