"""Layout of the findings on one A4 page; no value is computed here.

Equal arguments give equal bytes. Text that does not fit is made smaller, then cut with a note. The
pictures take the height that the text leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from appliance.assays.assay import Assay
from appliance.delivery.page_tables import (
    MAX_ROIS,
    calibration_lines,
    model_rows,
    opinion_rows,
    real_lines,
    roi_rows,
)
from appliance.delivery.sheet import (
    HAIR,
    INK,
    QUIET,
    RGB,
    ROW,
    WHITE,
    Block,
    Sheet,
    clipped,
    paragraph,
    round_length,
    text_width,
)
from appliance.findings.findings import RESEARCH_USE, Findings, SignOff
from appliance.findings.measured import Roi
from appliance.findings.overlay import (
    OUTLINE,
    PROBABILITY_COLORS,
    Picture,
    blend,
    stain_layer,
    tumor_layer,
)

LEFT, WIDTH, BOTTOM = 14.0, 182.0, 280.0
"""Left edge, width and lower edge of the printed area, in mm of the page."""
GAP = 4.0
HALF = (WIDTH - GAP) / 2
"""Width of a picture in mm."""
CAPTION, LEGEND = 4.5, 6.0
LEAST_PICTURES = 50.0
"""Least height in mm that the reasons for review but the first leave to the pictures, caption and
legend."""
REASON_GAP = 0.6
SCORE_WIDTH = 46.0
BASIS_LINE = 36.0
"""Most height in mm of a text beside the score, as of a person's reason; ten lines."""
IN_REPORT = "(all of it: see the structured report)"
OVERLAY_OPACITY = 0.5
REASON_SIZES = (8.0, 7.5, 7.0, 6.5)
"""Type sizes in points that are tried for the reasons before some are left out."""

PRODUCT = "Tandem HER2"
PICTURES = "Pictures of tiles and slides: on the dashboard, or by tandem picture"
FOOTER = 122.0
"""Width in mm that the notice of research use leaves in the footer."""
CLASS_COLUMNS = (11, 19, 15, 24, 16, 23)
"""Widths in mm of the columns of the class table."""

NOTICE: RGB = (150, 20, 30)
ALERT: RGB = (168, 84, 0)
ALERT_FILL: RGB = (255, 246, 230)
PLAIN_FILL: RGB = (244, 247, 250)


def build_page(
    findings: Findings,
    assay: Assay,
    *,
    he_thumbnail: NDArray[np.uint8],
    ihc_thumbnail: NDArray[np.uint8],
    created: datetime,
    software: str,
) -> bytes:
    """Build the page as PDF.

    `created` is in UTC; the thumbnails are uint8 RGB (rows, columns, 3) of whole slides.

    Raises
    ------
    SettingsError
        If the guideline of the findings does not exist.
    """
    sheet = Sheet(
        title=f"{assay.title} IHC report (research use only)",
        author=f"{PRODUCT} {software}",
        subject=RESEARCH_USE,
        made=created,
    )
    y = _header(sheet, findings, created)
    y = _score(sheet, y, findings, assay) + GAP
    room = BOTTOM - _tables_height(findings, assay) - GAP - y
    below = _review(sheet, y, findings, room - LEAST_PICTURES - GAP) + GAP
    he = Picture(he_thumbnail, tumor_layer(findings.rasters, findings.he, he_thumbnail.shape[:2]))
    ihc = Picture(
        ihc_thumbnail,
        stain_layer(
            findings.rasters,
            findings.ihc,
            ihc_thumbnail.shape[:2],
            [named.color for named in assay.classes],
        ),
    )
    y = _pictures(sheet, below, room - (below - y), findings, assay, he, ihc) + GAP
    _tables(sheet, y, findings, assay)
    _footer(sheet, created, software)
    return sheet.pdf()


def page_pixels(pdf: bytes, dpi: int = 150) -> NDArray[np.uint8]:
    """Render the page of `build_page`: RGB uint8 (rows, columns, 3)."""
    import pypdfium2

    with pypdfium2.PdfDocument(pdf) as document:
        bitmap = document[0].render(scale=dpi / 72)
        return np.array(bitmap.to_pil().convert("RGB"))


def _header(sheet: Sheet, findings: Findings, created: datetime) -> float:
    sheet.text(LEFT, 18, PRODUCT, 16, bold=True)
    sheet.text(LEFT + WIDTH, 18, RESEARCH_USE, 9.5, bold=True, color=NOTICE, align="right")
    sheet.box(LEFT, 21, WIDTH, 0, edge=INK, line=1.2)
    for x, width, label, words in (
        (LEFT, 108.0, "Accession", findings.accession),
        (LEFT + 110, 34.0, "Block", findings.block),
        (LEFT + 146, 36.0, "Made", f"{created:%Y-%m-%d %H:%M} UTC"),
    ):
        sheet.text(x, 25.5, label, 6.5, color=QUIET)
        sheet.text(x, 30, words, 10.5, width=width, bold=True)
    return 34.0


def _score(sheet: Sheet, y: float, findings: Findings, assay: Assay) -> float:
    """Draw the score and its basis; return the y (mm) of the lower edge.

    A score that goes to review is drawn dashed and hollow, so that it does not look certain.
    """
    unsure = bool(findings.review)
    x = LEFT + SCORE_WIDTH + GAP
    blocks = [
        clipped(
            words,
            WIDTH - SCORE_WIDTH - GAP,
            size,
            most=BASIS_LINE,
            note=IN_REPORT,
            bold=bold,
            color=color,
        )
        for words, size, bold, color in _basis(findings, assay)
    ]
    height = max(32.0, sum(block.height + 1.2 for block in blocks))
    color = ALERT if unsure else INK
    sheet.box(
        LEFT,
        y,
        SCORE_WIDTH,
        height,
        fill=ALERT_FILL if unsure else PLAIN_FILL,
        edge=color,
        line=1.0,
        dashed=unsure,
    )
    center = LEFT + SCORE_WIDTH / 2
    inner = SCORE_WIDTH - 4
    label = assay.objects.page.score_label + (", to be reviewed" if unsure else "")
    sheet.text(center, y + 5.5, label, 8.5, width=inner, bold=True, color=color, align="center")
    score = findings.score or "not scored"
    sheet.text(
        center,
        y + 20.5,
        score,
        44 if findings.score else 20,
        width=inner,
        bold=True,
        color=color,
        align="center",
        hollow=unsure and findings.score is not None,
    )
    sheet.text(center, y + 27.5, _meaning(findings), 9, width=inner, color=color, align="center")
    for block in blocks:
        y = sheet.put(block, x, y) + 1.2
    return y - sum(block.height + 1.2 for block in blocks) + height


def _meaning(findings: Findings) -> str:
    """Words below the score: the guideline's result where it is not the score itself, or the
    interpretation of a score that does not wait for a person."""
    if findings.category is not None:
        return findings.category
    if findings.review or findings.read_outs is None:
        return ""
    binary = findings.read_outs.binary
    return "" if binary == findings.score else binary


def _basis(findings: Findings, assay: Assay) -> list[tuple[str, float, bool, RGB]]:
    """Lines beside the score: text, type size in points, bold, color."""
    page = assay.objects.page
    lines = [(page.scheme(findings), 10.0, True, INK)]
    lines.append((f"Version: {findings.guideline_version}", 8.0, False, INK))
    if findings.rule:
        lines.append((f"Rule that decided: {findings.rule}", 8.0, False, INK))
    if findings.comment and not findings.review:
        lines.append((f"Comment: {findings.comment}", 8.0, False, INK))
    if findings.correction is not None:
        was = "no score" if findings.correction.was is None else findings.correction.was
        who = "a person" if findings.corrector is None else _said_by(findings.corrector)
        lines.append((f"Corrected by {who}; the appliance had said {was}.", 8.0, True, INK))
        lines.append((f"Why: {findings.correction.why}", 8.0, False, INK))
    if findings.confirmations:
        people = "; ".join(_said_by(each) for each in findings.confirmations)
        lines.append((f"Confirmed by {people}.", 8.0, True, INK))
    if findings.estimated and findings.score is not None:
        said = page.estimate if isinstance(page.estimate, str) else page.estimate(findings)
        lines.append((said, 8.0, True, INK))
    return lines


def _said_by(person: SignOff) -> str:
    return f"{person.by}, on {person.when}"


def _review(sheet: Sheet, y: float, findings: Findings, room: float) -> float:
    """Draw the reasons in a box at most `room` mm high, or one line that there are none.

    Return the y (mm) of the lower edge.
    """
    count = len(findings.review)
    if not count:
        looked = findings.correction is not None or findings.sign_offs
        words = "A person has looked." if looked else "No reason for review was found."
        sheet.text(LEFT, y + 3, words, 8, color=QUIET)
        return y + 4
    head = 7.0
    blocks, height = _reasons([f"{r.sentence} [{r.code}]" for r in findings.review], room - head)
    sheet.box(LEFT, y, WIDTH, height + head, fill=ALERT_FILL, edge=ALERT, line=1.0)
    sheet.box(LEFT, y, 2, height + head, fill=ALERT)
    title = f"REVIEW: a person has to look, {count} {'reason' if count == 1 else 'reasons'}"
    sheet.text(LEFT + 5, y + 5, title, 10, bold=True, color=ALERT)
    y += head
    for block in blocks:
        y = sheet.put(block, LEFT + 5, y) + REASON_GAP
    return y - REASON_GAP + 2


def _reasons(sentences: Sequence[str], room: float) -> tuple[list[Block], float]:
    """Set the sentences in the largest type that fits into `room` mm of height.

    The last ones are left out, with a note, where even the smallest type does not fit. The first
    one, the most serious, stays in any room: the pictures leave it. Return the blocks and their
    height in mm.
    """
    for size in REASON_SIZES:
        blocks = [paragraph(f"• {sentence}", WIDTH - 9, size) for sentence in sentences]
        if _height(blocks) <= room:
            return blocks, _height(blocks)
    note: list[Block] = []
    # `blocks` holds the smallest type size here.
    while len(blocks) > 1 and _height([*blocks, *note]) > room:
        blocks.pop()
        words = f"… and {len(sentences) - len(blocks)} more: see the structured report."
        note = [paragraph(words, WIDTH - 9, REASON_SIZES[-1], bold=True)]
    return [*blocks, *note], _height([*blocks, *note])


def _height(blocks: Sequence[Block]) -> float:
    return sum(block.height + REASON_GAP for block in blocks) - REASON_GAP + 2


def _pictures(
    sheet: Sheet,
    y: float,
    room: float,
    findings: Findings,
    assay: Assay,
    he: Picture,
    ihc: Picture,
) -> float:
    """Draw both slides side by side, at most `room` mm high with caption and legend.

    Return the y (mm) of the lower edge.
    """
    bottom = y
    for x, picture, slide, name in (
        (LEFT, he, findings.he, "H&E: tumor"),
        (LEFT + HALF + GAP, ihc, findings.ihc, assay.objects.page.target_caption),
    ):
        size_mm = np.array([slide.width_px, slide.height_px]) * slide.mpp / 1000
        sheet.text(x, y + 3, name, 8, width=HALF - 34, bold=True)
        scale = min(HALF / size_mm[0], max(room - CAPTION - LEGEND, 1.0) / size_mm[1])
        width, height = (size_mm * scale).tolist()
        top = y + CAPTION
        sheet.picture(blend(picture, OVERLAY_OPACITY), x, top, width, height)
        sheet.box(x, top, width, height, edge=HAIR, line=0.5)
        if slide is findings.ihc:
            _rois(sheet, x, top, scale, findings.rois[:MAX_ROIS])
        _scale_bar(sheet, x + HALF, y + 3, float(size_mm[0]), scale)
        bottom = max(bottom, top + height)
    _legends(sheet, bottom + 1.5, assay, bool(findings.rois))
    return bottom + LEGEND


def _rois(sheet: Sheet, x: float, y: float, scale: float, rois: Sequence[Roi]) -> None:
    for roi in rois:
        points = np.array(roi.outline_um) / 1000 * scale + [x, y]
        sheet.polygon(points, edge=WHITE, line=2.2)
        sheet.polygon(points, edge=INK, line=1.0)
    for roi in rois:
        left, top = min(roi.outline_um, key=lambda point: (point[1], point[0]))
        left, top = x + left / 1000 * scale, y + top / 1000 * scale
        sheet.box(left, top - 3.2, 4.6, 3.2, fill=WHITE, edge=INK, line=0.4)
        sheet.text(left + 2.3, top - 0.8, roi.name, 6.5, width=4.2, bold=True, align="center")


def _scale_bar(sheet: Sheet, right: float, y: float, slide_mm: float, scale: float) -> None:
    """Draw a scale bar: the longest round length of at most a quarter of the slide's width."""
    length = round_length(slide_mm / 4)
    width = length * scale
    sheet.box(right - width, y - 1.2, width, 0.8, fill=INK)
    sheet.text(right - width - 1.5, y, f"{length:g} mm", 7, align="right")


def _legends(sheet: Sheet, y: float, assay: Assay, rois: bool) -> None:
    x = LEFT
    sheet.text(x, y + 2.5, "0", 7)
    stops = [stop for stop, _ in PROBABILITY_COLORS]
    for step in range(20):
        red, green, blue = (
            round(float(np.interp(step / 19, stops, channel)))
            for channel in zip(*(color for _, color in PROBABILITY_COLORS), strict=True)
        )
        sheet.box(x + 2.5 + step, y, 1.02, 3, fill=(red, green, blue))
    sheet.text(x + 24, y + 2.5, "1  probability of tumor", 7)
    sheet.box(x + 58, y, 4, 3, edge=OUTLINE, line=1.2)
    sheet.text(x + 63.5, y + 2.5, "rim of the tumor", 7)
    x = LEFT + HALF + GAP
    for named in assay.classes:
        sheet.box(x, y, 4, 3, fill=named.color)
        sheet.text(x + 5, y + 2.5, named.name, 7)
        x += max(12.0, text_width(named.name, 7) + 8)
    if rois:
        sheet.box(x, y, 4, 3, edge=INK, line=1.0)
        sheet.text(x + 5.5, y + 2.5, "region that decided", 7)


def _tables_height(findings: Findings, assay: Assay) -> float:
    """Height in mm of the tables that `_tables` draws."""
    page = assay.objects.page
    rois = roi_rows(findings)
    opinions = opinion_rows(findings)
    left = (page.class_rows(findings), opinions, model_rows(findings), _model_lines(findings))
    beside = max(
        len(page.measure_rows(findings)) * ROW,
        sum(len(rows) for rows in left) * ROW + GAP + (GAP if opinions else 0),
    )
    return beside + (GAP + len(rois) * ROW if rois else 0)


def _tables(sheet: Sheet, y: float, findings: Findings, assay: Assay) -> None:
    page = assay.objects.page
    rows = page.class_rows(findings)
    left = sheet.table(LEFT, y, rows, CLASS_COLUMNS[: len(rows[0])])
    if opinions := opinion_rows(findings):
        left = sheet.table(LEFT, left + GAP, opinions, (36, 50, 22))
    left = sheet.table(LEFT, left + GAP, model_rows(findings), (26, 36, 16, 30))
    for line in _model_lines(findings):
        sheet.text(LEFT, left + ROW * 0.72, line, 7, width=108)
        left += ROW
    right = sheet.table(LEFT + 114, y, page.measure_rows(findings), (36, 32))
    if rois := roi_rows(findings):
        sheet.table(LEFT, max(left, right) + GAP, rois, (42, 20, 12, 13, 13, 13, 13, 36, 20))


def _model_lines(findings: Findings) -> list[str]:
    return [*real_lines(findings), *calibration_lines(findings)]


def _footer(sheet: Sheet, created: datetime, software: str) -> None:
    sheet.box(LEFT, BOTTOM + 2, WIDTH, 0, edge=HAIR, line=0.5)
    words = f"{PRODUCT} {software}, made {created:%Y-%m-%d %H:%M} UTC. {PICTURES}"
    sheet.text(LEFT, BOTTOM + 6, words, 7, width=FOOTER, color=QUIET)
    sheet.text(LEFT + WIDTH, BOTTOM + 6, RESEARCH_USE, 7, bold=True, color=NOTICE, align="right")
