"""Evidence of a file that is opened: its header, its label, its sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.errors import TandemError
from appliance.intake.identity.identify import NO_EVIDENCE, Evidence, Told
from appliance.intake.identity.sidecar import Sidecar, read_sidecar
from appliance.settings.identify import Identify
from appliance.slides.label import label_texts
from appliance.slides.reader import SlideReader


def evidence_in(
    path: Path,
    properties: Mapping[str, str],
    sidecar: Sidecar,
    settings: Identify,
    said: Mapping[str, str],
) -> Evidence:
    """Return the evidence of a slide that is open; `said` is a person's word on it."""
    return Evidence(
        properties=dict(properties),
        labels=label_texts(path) if settings.weight("label") > 0 else (),
        sidecar=Told(accession=sidecar.accession, block=sidecar.block, stain=sidecar.stain),
        said=Told(**{part: said.get(part, "") for part in ("accession", "block", "stain")}),
    )


def evidence_of(path: Path, settings: Identify) -> tuple[Evidence, str]:
    """Return the evidence of a file, and a note where it cannot be opened; never raises for it."""
    try:
        if path.stat().st_size == 0:
            return NO_EVIDENCE, "By its name alone: the file is empty."
    except OSError:
        return NO_EVIDENCE, ""
    try:
        sidecar = read_sidecar(path)
        with SlideReader.open(path, mpp=sidecar.mpp) as slide:
            return evidence_in(path, slide.properties, sidecar, settings, {}), ""
    except (TandemError, OSError) as err:
        return NO_EVIDENCE, f"By its name alone: {err}"
