"""Measurements of a case as markup: shares, regions, numbers, models."""

from __future__ import annotations

from html import escape

from appliance.domain import SlideFacts
from appliance.findings.findings import Findings
from appliance.findings.measured import CellFacts, ControlFacts
from appliance.findings.opinion import Opinion
from appliance.findings.overlay import RGB
from dashboard.assay_facts import (
    class_colors,
    has_classes,
    own_rows,
    share_of,
    slide_labels,
)
from dashboard.views import look
from dashboard.wording import TASK_WORDS

SHOWN_ROIS = 8
"""Most rows of the table of regions; all regions are in the findings."""


def key(color: RGB) -> str:
    """Markup of a colored square for legends."""
    return f'<span class="td-key" style="background: rgb{color}"></span>'


def percent(findings: Findings) -> str:
    """Markup of the share of each class in the scored tumor, as a bar and a table."""
    colors, counted = class_colors(findings), share_of(findings)
    told = findings.has_numbers
    bar = "".join(
        f'<div title="{name}: {findings.percent[name]:.1f} %" style="width: '
        f'{findings.percent[name]:.3f}%; background: rgb{color}"></div>'
        for name, color in (colors if told else {}).items()
    )
    rows = [
        (f"{key(color)}{name}", _percent(findings.percent[name] if told else None, 1))
        for name, color in colors.items()
    ]
    return (
        f'<div class="td-card"><h2>Share of the scored {counted}</h2>'
        f'<div class="td-bar" role="img" aria-label="Share per class">{bar}</div>'
        + look.table(("Class", f"{counted.capitalize()}>"), rows, "")
        + "</div>"
    )


def rois(findings: Findings) -> str:
    """Markup of the blocks of tiles that decided the score."""
    classes = tuple(findings.percent)
    rows = [
        (
            escape(roi.name),
            str(roi.tiles),
            f"{roi.tumor_area_mm2:.2f} mm²",
            *(f"{roi.percent[name]:.0f} %" for name in classes),
            " · ".join(str(roi.grades[name]) for name in classes),
            " · ".join(str(roi.intensities[name]) for name in classes),
        )
        for roi in findings.rois[:SHOWN_ROIS]
    ]
    columns = ("Region", "Tiles", "Tumor", *classes, "Tiles by M", "by L>")
    return (
        '<div class="td-card"><h2>Regions that decided the score</h2>'
        + look.table(columns, rows, "None.")
        + "</div>"
    )


def facts(findings: Findings) -> str:
    """Markup of areas, cells, control tissue, alignment and slides."""
    alignment, told = findings.alignment, findings.has_numbers
    wsi, of_slide = findings.wsi_percent, findings.wsi_percent_of_slide
    graded = [
        ("H-score by area (0-300)", f"{findings.h_score:.0f}" if told else "–"),
        ("2+ and 3+ tiles of scored tiles (WSI %)", _percent(wsi if told else None, 1)),
        ("2+ and 3+ tiles of the slide (WSI %)", _percent(of_slide if told else None, 2)),
    ]
    measured = [
        *(graded if has_classes(findings) else ()),
        ("H&amp;E tissue tiles that are tumor", _percent(findings.tumor_percent, 1)),
        ("Scored tumor area", f"{findings.tumor_area_mm2:.2f} mm²"),
        ("Tumor on H&amp;E only, not scored", f"{findings.unscored_tumor_area_mm2:.2f} mm²"),
        *_cell_rows(findings.cells if told else None),
        ("Control tissue", _control_words(findings.control)),
        ("Registration error", f"{alignment.error_um:.0f} µm"),
    ]
    own = [(escape(name), escape(value)) for name, value in own_rows(findings)]
    rows = [
        *(own or measured),
        ("H&amp;E structure found on IHC", f"{100 * alignment.agreement:.0f} %"),
        ("H&amp;E tissue on IHC tissue", f"{100 * alignment.overlap:.0f} %"),
    ]
    rows += [
        (escape(f"{label} slide"), escape(_slide_size(facts)))
        for label, facts in zip(
            slide_labels(findings.assay), (findings.he, findings.ihc), strict=True
        )
    ]
    return (
        '<div class="td-card td-facts"><h2>Measurements</h2>'
        + look.table(("", ">"), rows, "").replace("<thead>", '<thead style="display:none">')
        + "</div>"
    )


def _percent(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f} %"


def opinions(findings: Findings) -> str:
    """Markup of each reader's opinion, as classes with their shares.

    A reader that is not installed here is shown by its name.
    """
    rows = [
        (
            escape(TASK_WORDS.get(opinion.reader, opinion.reader)),
            escape(opinion.about),
            escape(_shares(opinion)),
            "–" if opinion.certainty is None else f"{100 * opinion.certainty:.0f} %",
        )
        for opinion in findings.opinions
    ]
    return (
        '<div class="td-card"><h2>Readers</h2>'
        + look.table(("Reader", "About", "Opinion", "Certainty>"), rows, "No reader was asked.")
        + "</div>"
    )


def _shares(opinion: Opinion) -> str:
    shares = [
        f"{name} {100 * share:.0f} %"
        for name, share in zip(opinion.classes, opinion.probabilities, strict=False)
    ]
    return ", ".join(shares) or "–"


def models(findings: Findings) -> str:
    """Markup of the weights that were used."""
    rows = [
        (
            escape(TASK_WORDS.get(model.task, model.task)),
            escape(model.name),
            escape(model.version),
            f'<code title="{escape(model.sha256)}">{escape(model.sha256[:12])}</code>',
            escape(model.real_words),
            escape(model.calibration_words),
        )
        for model in findings.models
    ]
    return (
        '<div class="td-card"><h2>Models</h2>'
        + look.table(
            ("Task", "Model", "Version", "SHA-256", "On real images", "Calibration"),
            rows,
            "No model was recorded.",
        )
        + "</div>"
    )


def _cell_rows(cells: CellFacts | None) -> list[tuple[str, str]]:
    if cells is None or not cells.counted:
        return []
    complete = [
        f"{name} {share:.0f} %"
        for name, share in cells.complete_percent.items()
        if name != "0" and share is not None
    ]
    return [
        ("Tumor cells counted", f"{cells.counted:,}"),
        ("H-score by cells (0-300)", f"{cells.h_score:.0f}"),
        ("Complete membranes", ", ".join(complete) or "no stained cell"),
    ]


def _control_words(control: ControlFacts | None) -> str:
    if control is None:
        return "none found"
    worked = "the run worked" if control.works else "the run may have failed"
    return f"{control.area_mm2:.2f} mm², {control.strongest} at most: {worked}"


def _slide_size(facts: SlideFacts) -> str:
    return f"{facts.format}, {facts.width_px} × {facts.height_px} px, {facts.mpp:.4g} µm/px"
