"""Texts and tables of the report page of a nuclear receptor."""

from __future__ import annotations

from appliance.assays.assay import PageWords, Rows
from appliance.assays.nuclear.coding import digits_of, shares_of
from appliance.assays.nuclear.guideline import load_guideline
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.nuclear.scores import allred, average_intensity, h_score, positive_percent
from appliance.findings.classes import NUCLEAR_CLASSES
from appliance.findings.findings import Findings
from appliance.findings.measured import ControlFacts

ESTIMATE = "Estimated: size and shape tell which nuclei are tumor, color deconvolution their stain."


def page_of(receptor: Receptor) -> PageWords:
    """Words and tables of a receptor's page."""
    return PageWords(
        score_label=f"{receptor.title} IHC",
        target_caption=f"{receptor.title} IHC: stain of the tumor nuclei",
        scheme=lambda findings: load_guideline(findings.guideline).title,
        estimate=ESTIMATE,
        class_rows=class_rows,
        measure_rows=measure_rows,
        share_of="tumor nuclei",
    )


def class_rows(findings: Findings) -> Rows:
    """Rows of the share of tumor nuclei per class."""
    told, digits = _has_numbers(findings), digits_of(findings, 1)
    shares = zip(NUCLEAR_CLASSES, shares_of(findings), strict=True)
    return [
        ("Nuclei", "Share"),
        *((name, f"{share:.{digits}f} %" if told else "–") for name, share in shares),
    ]


def measure_rows(findings: Findings) -> Rows:
    """Rows of the measurements of the whole case."""
    percent, cells = shares_of(findings), findings.cells
    score, mean = allred(percent, as_before=findings.as_before), average_intensity(percent)
    told, digits = _has_numbers(findings), digits_of(findings, 1)
    parts = f"{score.total} (proportion {score.proportion}, intensity {score.intensity})"
    return [
        ("Measured", ""),
        ("Positive tumor nuclei", f"{positive_percent(percent):.{digits}f} %" if told else "–"),
        ("Average intensity (1-3)", f"{mean:.1f}" if told and mean is not None else "–"),
        ("Allred score (0-8)", parts if told else "–"),
        ("H-score (0-300)", f"{h_score(percent):.0f}" if told else "–"),
        ("Tumor nuclei counted", "0" if cells is None else f"{cells.counted}"),
        ("Tiles scored", f"{len(findings.tiles)}, {findings.tumor_area_mm2:.2f} mm²"),
        ("Tumor on H&E alone, not scored", f"{findings.unscored_tumor_area_mm2:.2f} mm²"),
        ("Control tissue", _control(findings.control)),
        ("Registration error", f"{findings.alignment.error_um:.0f} µm"),
    ]


def _has_numbers(findings: Findings) -> bool:
    """Return whether the numbers of nuclei are told, as in the report."""
    return findings.as_before or (findings.score is not None and findings.has_numbers)


def _control(control: ControlFacts | None) -> str:
    if control is None:
        return "none found"
    works = "works" if control.works else "FAILED"
    return f"{works}: {control.strongest}, {control.area_mm2:.2f} mm²"
