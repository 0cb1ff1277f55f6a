"""The numbers of the page as rows of words; the first row of each table is its head."""

from __future__ import annotations

from appliance.assays.her2.readouts import ReadOuts
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import ControlFacts, Findings

MAX_ROIS = 5
"""So many of the largest blocks of tiles that decided the score are shown on the page and outlined
in the structured report."""
CHECKSUM_DIGITS = 12

Rows = list[tuple[str, ...]]

_TASKS = {"tumor": "C: tumor", "intensity": "L: intensity", "segmentation": "M: segmentation"}


def class_rows(findings: Findings) -> Rows:
    """Shares per class: by area, and by cells where cells were counted."""
    cells = findings.cells
    rows: Rows = [
        ("Class", "Tumor area", "Cells", "Outline stained", "Complete", "Largest cluster")
    ]
    for name in CLASS_NAMES:
        row = [name, _percent(findings.percent.get(name), 1)]
        if cells is None:
            row += ["–"] * 4
        else:
            stained = cells.completeness[name]
            row += [
                _percent(cells.percent[name], 1),
                _percent(None if stained is None else 100 * stained),
                _percent(cells.complete_percent[name]),
                str(cells.largest_cluster[name]),
            ]
        rows.append(tuple(row))
    return rows


def measure_rows(findings: Findings) -> Rows:
    """What is said of the case as a whole."""
    cells, read = findings.cells, findings.read_outs
    score = findings.paper_score
    return [
        ("Measured", ""),
        ("Tumor scored", f"{findings.tumor_area_mm2:.2f} mm²"),
        ("Tiles scored", str(len(findings.tiles))),
        ("Tumor on H&E alone, not scored", f"{findings.unscored_tumor_area_mm2:.2f} mm²"),
        ("H-score by area (0-300)", f"{findings.h_score:.0f}"),
        ("H-score by cells", "–" if cells is None else f"{cells.h_score:.0f}"),
        ("Cells counted", "–" if cells is None else f"{cells.counted} ({cells.measured} whole)"),
        ("Tiles scored 2+ or 3+", _percent(findings.wsi_percent, 1)),
        ("Algorithm 1 of arXiv 2512.22335", "–" if score is None else score.value),
        ("2, 3 and 4 classes", "–" if read is None else _read_outs(read)),
        ("Control tissue", _control(findings.control)),
        ("Registration error", f"{findings.alignment.error_um:.0f} µm"),
    ]


def roi_rows(findings: Findings) -> Rows:
    """The largest `MAX_ROIS` blocks that decided the score; no row where there are none."""
    if not findings.rois:
        return []
    shown = findings.rois[:MAX_ROIS]
    more = len(findings.rois) - len(shown)
    title = f"Regions that decided{f' (the largest of {len(findings.rois)})' if more else ''}"
    rows: Rows = [(title, "Tumor", "Tiles", *CLASS_NAMES, "Tiles by class: M", "L")]
    for roi in shown:
        rows.append(
            (
                roi.name,
                f"{roi.tumor_area_mm2:.3f} mm²",
                str(roi.tiles),
                *(_percent(roi.percent[name]) for name in CLASS_NAMES),
                " · ".join(str(roi.grades[name]) for name in CLASS_NAMES),
                " · ".join(str(roi.intensities[name]) for name in CLASS_NAMES),
            )
        )
    return rows


def model_rows(findings: Findings) -> Rows:
    """The networks whose weights ran."""
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


def _percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f} %"


def _read_outs(read: ReadOuts) -> str:
    words = (read.binary, read.three_way, read.four_way.value)
    return " · ".join(word for word in words if word)


def _control(control: ControlFacts | None) -> str:
    if control is None:
        return "none found"
    works = "works" if control.works else "FAILED"
    return f"{works}: {control.strongest}, {control.area_mm2:.2f} mm²"
