"""Texts and tables of the report page of a HER2 case."""

from __future__ import annotations

from appliance.assays.assay import PageWords, Rows
from appliance.assays.her2.coding import digits_of
from appliance.assays.her2.guideline import load_guideline
from appliance.assays.her2.second_reader import second_opinions
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import Findings, ReadOuts
from appliance.findings.measured import ControlFacts
from appliance.readers.multiple_instance import MultipleInstanceReader

ESTIMATE = (
    "Estimated: shares are of tumor area, not of cells, and complete membranes were not asked for."
)
BY_CLUSTERS = (
    "Estimated: the largest cluster of cells decides, by their class alone; complete membranes "
    "were not asked for."
)
_LOOKS_AT = {MultipleInstanceReader.name: "tiles of the whole slide"}


def class_rows(findings: Findings) -> Rows:
    """Rows of the shares per class, by area and, where cells were counted, by cells."""
    told, digits = findings.has_numbers, digits_of(findings, 1)
    cells = findings.cells if told else None
    rows: Rows = [
        ("Class", "Tumor area", "Cells", "Outline stained", "Complete", "Largest cluster")
    ]
    for name in CLASS_NAMES:
        row = [name, _percent(findings.percent.get(name) if told else None, digits)]
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
    """Rows of the measurements of the whole case."""
    told, read = findings.has_numbers, findings.read_outs
    wsi, of_slide = findings.wsi_percent, findings.wsi_percent_of_slide
    cells = findings.cells if told else None
    return [
        ("Measured", ""),
        ("H&E tissue tiles that are tumor", _percent(findings.tumor_percent, 1)),
        ("Tumor scored", f"{findings.tumor_area_mm2:.2f} mm²"),
        ("Tiles scored", _tiles(findings)),
        ("Tumor on H&E alone, not scored", f"{findings.unscored_tumor_area_mm2:.2f} mm²"),
        ("H-score by area (0-300)", f"{findings.h_score:.0f}" if told else "–"),
        ("H-score by cells", "–" if cells is None else f"{cells.h_score:.0f}"),
        ("Cells counted", "–" if cells is None else f"{cells.counted} ({cells.measured} whole)"),
        ("2+ and 3+ tiles of scored tiles", _percent(wsi if told else None, 1)),
        (
            "2+ and 3+ tiles of the slide",
            _percent(of_slide if told else None, 2),
        ),
        *_paper_rows(findings),
        ("2, 3 and 4 classes", "–" if read is None or findings.review else _read_outs(read)),
        *(
            (
                f"Second reader, {_LOOKS_AT.get(opinion.reader, 'whole slide')} "
                "(no part of the score)",
                opinion.words,
            )
            for opinion in second_opinions(findings)
        ),
        ("Control tissue", _control(findings.control)),
        ("Registration error", f"{findings.alignment.error_um:.0f} µm"),
    ]


def _paper_rows(findings: Findings) -> Rows:
    """Rows of what arXiv 2512.22335 computes; its status is left out as that of the score is."""
    told = findings.tells_paper
    fallback = " (fallback of Tandem)" if told and findings.paper_score_fallback else ""
    rows: Rows = [
        (f"arXiv 2512.22335, {reading}", score + fallback if told and score else "–")
        for reading, score in (
            ("highest class", findings.paper_score),
            ("largest count", findings.paper_score_by_count),
        )
    ]
    if fallback:
        rows.append(("No tile is 2+ or 3+", "the paper gives no score"))
    status = None if findings.review else findings.binary_by_pixels
    return [*rows, ("Status by px of 0 and 3+", status or "–")]


def _tiles(findings: Findings) -> str:
    others = len(findings.annotated)
    return f"{len(findings.tiles)}" + (f" ({others} more annotated)" if others else "")


def _percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f} %"


def _read_outs(read: ReadOuts) -> str:
    words = (read.binary, read.three_way, read.four_way)
    return " · ".join(word for word in words if word)


def _control(control: ControlFacts | None) -> str:
    if control is None:
        return "none found"
    works = "works" if control.works else "FAILED"
    return f"{works}: {control.strongest}, {control.area_mm2:.2f} mm²"


def _estimate(findings: Findings) -> str:
    by_clusters = load_guideline(findings.guideline).is_by_clusters(findings.cells)
    return BY_CLUSTERS if by_clusters else ESTIMATE


def _scheme(findings: Findings) -> str:
    return load_guideline(findings.guideline).title


PAGE = PageWords(
    score_label="HER2 IHC score",
    target_caption="HER2 IHC: stain of the scored tumor",
    scheme=_scheme,
    estimate=_estimate,
    class_rows=class_rows,
    measure_rows=measure_rows,
)
