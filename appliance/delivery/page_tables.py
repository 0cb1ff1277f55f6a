"""Numbers of the page as rows of text; the first row of each table is its head."""

from __future__ import annotations

from appliance.assays.assay import Rows
from appliance.findings.findings import Findings
from appliance.findings.opinion import NOT_CALIBRATED

MAX_ROIS = 5
"""Most blocks of tiles that decided the score, largest first, shown on the page and outlined in the
structured report."""
CHECKSUM_DIGITS = 12

_TASKS = {
    "tumor": "C: tumor",
    "intensity": "L: intensity",
    "segmentation": "M: segmentation",
    "low_resolution": "whole slide",
    "multiple_instance": "tiles of the whole slide",
}


def roi_rows(findings: Findings) -> Rows:
    """Rows of the largest `MAX_ROIS` blocks that decided the score; empty where there are none."""
    if not findings.rois:
        return []
    shown = findings.rois[:MAX_ROIS]
    more = len(findings.rois) - len(shown)
    names = tuple(findings.percent)
    title = f"Regions that decided{f' (the largest of {len(findings.rois)})' if more else ''}"
    rows: Rows = [(title, "Tumor", "Tiles", *names, "Tiles by class: M", "L")]
    for roi in shown:
        rows.append(
            (
                roi.name,
                f"{roi.tumor_area_mm2:.3f} mm²",
                str(roi.tiles),
                *(_percent(roi.percent[name]) for name in names),
                " · ".join(str(roi.grades[name]) for name in names),
                " · ".join(str(roi.intensities[name]) for name in names),
            )
        )
    return rows


def model_rows(findings: Findings) -> Rows:
    """Rows of the networks that ran, with their weights."""
    rows: Rows = [("Network", "Weights", "Version", "SHA-256 of the weights")]
    rows += [
        (
            _TASKS.get(model.task, model.task),
            model.name,
            model.version,
            f"{model.sha256[:CHECKSUM_DIGITS]}…",
        )
        for model in findings.models
    ]
    return rows


def opinion_rows(findings: Findings) -> Rows:
    """Rows of the readers' opinions, as the structured report codes them."""
    rows: Rows = [("Reader", "Largest share or probability", "Certainty")]
    rows += [
        (
            _TASKS.get(opinion.reader, opinion.reader.replace("_", " ")),
            opinion.words,
            _percent(None if opinion.certainty is None else 100 * opinion.certainty),
        )
        for opinion in findings.opinions
    ]
    return rows if findings.opinions else []


def calibration_lines(findings: Findings) -> list[str]:
    """Return whether each network was calibrated for this site; one line where none was."""
    models = findings.models
    if all(model.calibration is None for model in models):
        return [f"The networks are {NOT_CALIBRATED}."] if models else []
    return [f"{_TASKS.get(model.task, model.task)}: {model.calibration_words}" for model in models]


def real_lines(findings: Findings) -> list[str]:
    """Return what each network did on real images, beside its figures on drawn ones."""
    return [
        f"{_TASKS.get(model.task, model.task)}, on real images: {model.real_words}."
        for model in findings.models
    ]


def _percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f} %"
