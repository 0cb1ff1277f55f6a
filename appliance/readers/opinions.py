"""Files that every reading has: its opinion."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.findings.opinion import CalibrationReference, ModelReference, Opinion
from models.spec import ModelSpec

OPINION_NAME = "opinion.json"


def save_opinion(opinion: Opinion, folder: Path) -> None:
    """Write ``opinion.json``."""
    (folder / OPINION_NAME).write_text(json.dumps(opinion.as_json()))


def load_opinion(folder: Path) -> Opinion:
    """Read what `save_opinion` wrote."""
    return Opinion.of_json(json.loads((folder / OPINION_NAME).read_text()))


def reference_to(spec: ModelSpec) -> ModelReference:
    """Reference to the weights of a manifest, and to their calibration for this site."""
    site = spec.site
    return ModelReference(
        task=spec.task.value,
        name=spec.name,
        version=spec.version,
        sha256=spec.sha256,
        fingerprint=spec.fingerprint,
        calibration=None
        if site is None
        else CalibrationReference(
            fingerprint=site.fingerprint, tiles=site.tiles, patients=site.patients
        ),
        on_real=str(spec.figures.get("real", "")),
    )
