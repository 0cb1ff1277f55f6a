"""The report page: states the findings, marks uncertain scores, and is a single page."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from fixtures.findings import HEIGHT_PX, MPP, WIDTH_PX, calibrated_opinions, some_findings

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.delivery.page import build_page, page_pixels
from appliance.findings.findings import Correction, Findings, SignOff
from appliance.findings.measured import AnnotatedTile, Roi
from appliance.findings.reasons import Reason, ReviewReason

LOW_RESOLUTION, MULTIPLE_INSTANCE = "low_resolution", "multiple_instance"
MADE = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SOME = some_findings()
WHITE = np.full((90, 120, 3), 255, np.uint8)


def page(findings: Findings) -> bytes:
    return build_page(
        findings,
        HER2_ASSAY,
        he_thumbnail=WHITE,
        ihc_thumbnail=WHITE,
        created=MADE,
        software="0.1.0",
    )


def words(pdf: bytes) -> str:
    """Return the text of the only page, as a person copies it out."""
    with pypdfium2.PdfDocument(pdf) as document:
        assert len(document) == 1
        return re.sub(r"\s+", " ", document[0].get_textpage().get_text_bounded())


def longest() -> Findings:
    """Return findings with every reason, twelve regions and the longest names."""
    some = some_findings(
        accession="Ü26-ß" + 59 * "W",
        review=tuple(
            ReviewReason(
                code=code,
                params={
                    # A reason of earlier findings is a sentence: as long as any, with any sign.
                    "sentence": f"{n} % of the tiles of the HER2 slide look unlike those that its "
                    "networks know (by their stain), ≥ 3 µm & < 5 mm²: what they say may be wrong."
                },
            )
            for n, code in enumerate(Reason)
        ),
    )
    return replace(
        some,
        block=64 * "B",
        rois=12 * some.rois,
        rule=3 * "weak to moderate complete membrane staining in <= 10 % of tumor cells; ",
        category="positive after retest and ISH",
        opinions=tuple(
            replace(
                opinion,
                weights=opinion.weights
                and replace(opinion.weights, name=64 * "m", version=32 * "9"),
            )
            for opinion in some.opinions
        ),
    )


def all_readers(findings: Findings) -> Findings:
    """Return findings of all readers, each calibrated for the site, with five regions."""
    opinions = list(calibrated_opinions(findings))
    calibration = opinions[0].weights and opinions[0].weights.calibration
    opinions += [replace(opinions[1], reader=name) for name in (LOW_RESOLUTION, MULTIPLE_INSTANCE)]
    made = [
        replace(
            opinion,
            weights=opinion.weights
            and replace(
                opinion.weights, task=opinion.reader, sha256=f"{n}" * 64, calibration=calibration
            ),
        )
        for n, opinion in enumerate(opinions)
    ]
    return replace(findings, opinions=tuple(made), rois=5 * findings.rois)


def test_page_says_what_the_findings_say() -> None:
    findings = replace(SOME, rule="weak staining in > 10 % of tumor cells")
    text = words(page(findings))
    for said in (
        "For research use only. Not for diagnostic use.",
        "S26-0000101",
        "2026-03-04 05:06 UTC",
        "HER2 IHC, breast, ASCO/CAP 2018",
        "2018, affirmed 2023",
        "weak staining in > 10 % of tumor cells",
        "Estimated",
        "REVIEW: a person has to look, 1 reason",
        "A class lies within 3 points of a limit of the guideline: the neighboring result is "
        "almost as likely. [near-threshold]",
        "4.31 mm²",
        "21 µm",
        "works: 3+, 1.21 mm²",
        "2345 (2000 whole)",
        "88 %",
        f"{findings.percent['2+']:.1f} %",
        "H&E tissue tiles that are tumor 31.2 %",
        f"2+ and 3+ tiles of scored tiles {findings.wsi_percent:.1f} %",
        "2+ and 3+ tiles of the slide 0.68 %",
        "arXiv 2512.22335, highest class 3+",
        "arXiv 2512.22335, largest count 2+",
        "R1 0.020 mm² 1 20 % 20 % 50 % 10 %",
        "segformer-b0-stain 1.0.0 cccccccccccc…",
        "Tandem HER2 0.1.0",
    ):
        assert said in text, said


def test_page_counts_the_tiles_that_are_annotated_and_not_scored() -> None:
    tile = AnnotatedTile(
        column=1,
        row=1,
        intensity=0,
        intensity_probability=0.5,
        percent=(0.0, 0.0, 0.0, 0.0),
        grade=0,
        label="N",
    )
    assert "Tiles scored 1 (2 more annotated)" in words(page(replace(SOME, annotated=(tile,) * 2)))
    assert "annotated" not in words(page(SOME))


def test_page_says_whether_the_networks_were_calibrated_for_the_site() -> None:
    text = words(page(SOME))
    assert text.count("not calibrated for this site") == 1
    text = words(page(replace(SOME, opinions=calibrated_opinions(SOME))))
    assert "C: tumor: calibrated for this site by 40 tiles of 6 patients (dddddddddddd…)" in text
    assert "L: intensity: not calibrated for this site" in text
    assert "M: segmentation: not calibrated for this site" in text


def test_page_says_what_the_networks_did_on_real_images() -> None:
    text = words(page(SOME))
    assert "C: tumor, on real images: 86 % of 155 tiles right." in text
    assert "M: segmentation, on real images: not judged." in text


def test_a_score_that_goes_to_review_does_not_look_sure() -> None:
    text = words(page(SOME))
    assert "HER2 IHC score, to be reviewed 2+" in text
    assert "2+ equivocal" not in text
    assert "HER2-low" not in text
    assert "pending ISH" not in text
    assert "Status by px of 0 and 3+ –" in text
    sure = words(page(some_findings(review=())))
    assert "HER2 IHC score 2+ equivocal" in sure
    assert "HER2-low if ISH is negative." in sure
    assert "equivocal · pending ISH · 2+" in sure
    assert "Status by px of 0 and 3+ positive" in sure
    assert "No reason for review" in sure
    assert "REVIEW" not in sure


def test_a_score_that_the_paper_does_not_give_is_named_as_a_fallback() -> None:
    made = replace(SOME, paper_score="1+", paper_score_by_count="0", paper_score_fallback=True)
    text = words(page(made))
    assert "highest class 1+ (fallback of Tandem)" in text
    assert "largest count 0 (fallback of Tandem)" in text
    assert "No tile is 2+ or 3+ the paper gives no score" in text
    assert "fallback" not in words(page(SOME))


def test_a_category_is_said_and_not_the_binary_read_out() -> None:
    negative = replace(SOME, score="3+", category="negative", organ="colorectal")
    assert "to be reviewed 3+ negative" in words(page(negative))


def test_a_case_without_score_has_its_page() -> None:
    nothing = replace(
        SOME,
        score=None,
        paper_score=None,
        paper_score_by_count=None,
        paper_score_fallback=None,
        wsi_percent_of_slide=None,
        binary_by_pixels=None,
        tumor_percent=None,
        read_outs=None,
        cells=None,
        control=None,
        rois=(),
        comment="",
    )
    text = words(page(nothing))
    assert "not scored" in text
    assert "Control tissue none found" in text
    assert "Regions that decided" not in text


def test_equal_findings_make_equal_bytes() -> None:
    assert page(SOME) == page(SOME)
    assert page(SOME) != page(replace(SOME, h_score=3.0))


@pytest.mark.parametrize(
    "findings",
    [SOME, longest(), all_readers(SOME), all_readers(longest())],
    ids=["usual", "longest", "all readers", "longest of all readers"],
)
def test_nothing_leaves_the_page_and_no_words_lie_on_others(findings: Findings) -> None:
    with pypdfium2.PdfDocument(page(findings)) as document:
        assert len(document) == 1
        width, height = document[0].get_size()
        text = document[0].get_textpage()
        boxes = np.array([text.get_rect(n) for n in range(text.count_rects())])
    margin = 10 / 25.4 * 72
    assert boxes[:, :2].min() > margin
    assert boxes[:, 2].max() < width - margin
    assert boxes[:, 3].max() < height - margin
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    shared = np.minimum(high, high.swapaxes(0, 1)) - np.maximum(low, low.swapaxes(0, 1))
    over = (shared > 0.5).all(axis=-1)
    np.fill_diagonal(over, False)
    assert not over.any()


def test_what_does_not_fit_is_cut_with_a_note() -> None:
    text = words(page(longest()))
    assert re.search(r"… and \d+ more: see the structured report\.", text)
    assert "0 % of the tiles of the HER2 slide" in text  # the most serious one
    assert "(the largest of 12)" in text
    assert "≥ 3 µm & < 5 mm²" in text
    assert "Ü26-ßWWW" in text


def test_the_most_serious_reason_is_on_the_fullest_page() -> None:
    some = all_readers(SOME)
    text = words(page(some))
    assert "REVIEW: a person has to look, 1 reason" in text
    assert "neighboring result is almost as likely. [near-threshold]" in text
    assert "more: see" not in text
    failed = ReviewReason(code=Reason.CONTROL_FAILED, params={"sentence": "Stain it again."})
    pdf = page(replace(some, review=(failed, *some.review, *some.review)))
    text = words(pdf)
    assert "REVIEW: a person has to look, 3 reasons" in text
    assert "Stain it again. [control-failed]" in text
    assert "… and 2 more: see the structured report." in text
    assert min(picture_heights_mm(pdf)) > 20


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("why", ["Only cytoplasm. " * 1000, 20_000 * "W"])
def test_a_long_reason_of_a_person_is_cut_and_leaves_the_pictures_their_room(
    full: bool, why: str
) -> None:
    signed = SignOff(by="Ito^Bert", organization="", at=1_772_600_767, signs="x")
    corrected = replace(
        all_readers(SOME) if full else SOME,
        review=(),
        rois=(),
        correction=Correction(by="Ito^Bert", why=why, was="1+", corrects="x"),
        sign_offs=(signed,),
    )
    pdf = page(corrected)
    text = words(pdf)
    assert f"Why: {why[:20]}" in text and len(text) < 4000
    assert "… (all of it: see the structured report)" in text
    assert "Corrected by Ito^Bert, on " in text and "Estimated" in text
    assert min(picture_heights_mm(pdf)) > 25
    short = replace(corrected, correction=Correction(by="I", why="pale", was="1+", corrects="x"))
    assert "see the structured report" not in words(page(short))


def picture_heights_mm(pdf: bytes) -> list[float]:
    with pypdfium2.PdfDocument(pdf) as document:
        images = document[0].get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE])
        bounds = [image.get_bounds() for image in images]
    return [(top - bottom) / 72 * 25.4 for _, bottom, _, top in bounds]


def test_regions_are_drawn_where_they_lie() -> None:
    square = ((1000.0, 1500.0), (3000.0, 1500.0), (3000.0, 3500.0), (1000.0, 3500.0))
    roi: Roi = replace(SOME.rois[0], outline_um=square)
    pdf = page(replace(SOME, rois=(roi,)))
    dpi = 144
    with pypdfium2.PdfDocument(pdf) as document:
        height = document[0].get_height()
        images = document[0].get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE])
        left, bottom, right, top = max(image.get_bounds() for image in images)  # the right one
    pixels = page_pixels(pdf, dpi)
    assert pixels.shape == (1684, 1191, 3)
    for x_um, y_um, on in ((2000, 3500, True), (3000, 2500, True), (2000, 3700, False)):
        x = left + (right - left) * x_um / (WIDTH_PX * MPP)
        y = height - top + (top - bottom) * y_um / (HEIGHT_PX * MPP)
        around = pixels[round(y * 2) - 1 : round(y * 2) + 2, round(x * 2) - 1 : round(x * 2) + 2]
        assert (around.max(axis=-1).min() < 90) == on
