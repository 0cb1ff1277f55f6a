"""Structured report of a case: valid, and its findings in the words of a viewer."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
from fixtures.findings import some_findings
from fixtures.judges import dicom_errors, require_judge
from fixtures.slide_objects import ALGORITHM, MPP, identity, write_svs
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.assays.her2.paper import (
    binary_by_pixels,
    paper_score,
    tile_grade,
    wsi_percent,
    wsi_percent_of_slide,
)
from appliance.delivery.context import ObjectContext
from appliance.delivery.page import build_page
from appliance.delivery.page_tables import MAX_ROIS
from appliance.delivery.structured_report import structured_report
from appliance.domain import HE, HER2, Stain
from appliance.findings.codec import save_findings, summary
from appliance.findings.findings import Correction, ReadOuts, SignOff
from appliance.geometry import TILE_UM
from appliance.settings.objects import ObjectSettings
from dicom import codes, sr_tree
from dicom.source import convert_slide, read_headers


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[Stain, list[Dataset]]:
    """Headers of two converted slides."""
    found = {}
    for number, stain in enumerate((HE, HER2)):
        folder = tmp_path_factory.mktemp(stain)
        slide = write_svs(folder / "slide.svs", seed=number)
        done = convert_slide(slide, folder / "wsm", identity(stain), mpp=MPP)
        found[stain] = read_headers(done.paths)
    return found


Made = tuple[Dataset, str]


@pytest.fixture
def made(sources: dict[Stain, list[Dataset]], tmp_path: Path) -> Callable[..., Made]:
    """Report of changed findings as it lies on disk, without errors, and as dcmtk shows it."""

    def make(predecessors: list[Dataset] | None = None, **changes: Any) -> Made:
        context = ObjectContext(
            findings=replace(some_findings(), **changes),
            assay=HER2_ASSAY,
            sources=sources,
            algorithms={"segmentation": ALGORITHM},
            settings=ObjectSettings(),
            created=datetime(2026, 3, 4, tzinfo=UTC),
            seed="seed",
            software="0.1.0",
        )
        report = structured_report(context, [], [], predecessors or [])
        path = tmp_path / f"{report.SOPInstanceUID}.dcm"
        report.save_as(path, enforce_file_format=True)
        assert dicom_errors(path) == []
        command = [require_judge("dsrdump"), "+Pl", "+U8", str(path)]
        shown = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        return dcmread(path), shown

    return make


@pytest.mark.parametrize("score", ["0", "1+", "2+", "3+"])
def test_the_score_is_coded_and_readable(score: str, made: Callable[..., Made]) -> None:
    dataset, shown = made(score=score)
    assert f"HER2 IHC score: {score}" in shown
    assert f'{codes.SCORES[score].value},LN,"{score}"' in shown
    assert dataset.SeriesDescription == f"HER2 {score} (research use only)"


def test_people_are_told_what_they_need(made: Callable[..., Made]) -> None:
    category, comment = "positive after retest and ISH", "HER2-low if ISH is negative."
    _, shown = made(category=category, rule="weak staining in > 10 % of tumor cells")
    for words in (
        "For research use only",
        "2018, affirmed 2023",
        some_findings().review[0].sentence,
        "estimated from areas",
        "weak staining in > 10 % of tumor cells",
        category,
        ALGORITHM.weights_sha256,
        "not calibrated for this site",
        "PRELIMINARY",
        "UNVERIFIED",
    ):
        assert words in shown, words
    assert comment not in shown  # an interpretation, and the case waits for a person
    assert comment in made(category=category, review=())[1]


def test_of_an_interim_opinion_it_says_only_that_there_was_one(made: Callable[..., Made]) -> None:
    interim = replace(some_findings().opinions[2], reader="interim", about="interim")
    weights = replace(some_findings().opinions[2].weights, task="interim", name="of-he-alone")
    interim = replace(interim, weights=weights, probabilities=(0.017, 0.0, 0.0, 0.983))
    shown = made(interim=interim)[1]
    assert "98.3" not in shown and "of-he-alone" not in shown
    assert [line.strip() for line in shown.splitlines() if "interim" in line.lower()] == [
        f'<contains TEXT:(,,"{codes.INTERIM.meaning}")="An interim opinion on the anatomy slide '
        'alone existed before this score. It is superseded and no part of this result.">'
    ]


def test_a_correction_names_who_and_why_and_its_predecessor(made: Callable[..., Made]) -> None:
    first, _ = made()
    second, shown = made(
        [first],
        score="1+",
        correction=Correction(
            by="Müller^Jörg", why="Cytoplasmic staining only.", was="2+", corrects="findings/0"
        ),
    )
    for words in (
        "corrected by a person; the appliance had said 2+",
        "Cytoplasmic staining only.",
        "Müller^Jörg",
        "UNVERIFIED",
    ):
        assert words in shown, words
    (study,) = second.PredecessorDocumentsSequence
    (instance,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID


def test_a_confirmation_verifies_the_report_and_is_told(made: Callable[..., Made]) -> None:
    person = SignOff(by="Ito^Bert", organization="Lab", at=1_772_600_767, signs="findings/0")
    dataset, shown = made(review=(), sign_offs=(person,))
    assert "estimated from areas, not from cells; confirmed by a person" in shown
    assert (dataset.PreliminaryFlag, dataset.VerificationFlag) == ("FINAL", "VERIFIED")
    (observer,) = dataset.VerifyingObserverSequence
    assert observer.VerifyingObserverName == "Ito^Bert"
    text = page_words(review=(), sign_offs=(person,))
    assert "Confirmed by Ito^Bert, on 2026-03-04 05:06 UTC." in text
    assert "A person has looked." in text and "Estimated: shares are of tumor area" in text


def test_a_case_without_score_is_indeterminate(made: Callable[..., Made]) -> None:
    dataset, shown = made(score=None, paper_score=None, read_outs=None, rois=(), percent={})
    assert "HER2 IHC score: not scored" in shown
    assert '82334004,SCT,"Indeterminate"' in shown
    assert dataset.SeriesDescription == "HER2 not scored (research use only)"


@pytest.mark.parametrize(
    ("organ", "guideline"),
    [("gastric", "gastric-resection-2014"), ("colorectal", "colorectal-heracles-2015")],
)
def test_other_organs_are_not_called_breast(
    organ: str, guideline: str, made: Callable[..., Made]
) -> None:
    _, shown = made(organ=organ, guideline=guideline)
    assert codes.HER2_SCORE.value not in shown
    assert codes.HER2_IN_TISSUE.value in shown


SAID_TWICE = {
    "highest class": codes.PAPER_SCORE,
    "largest count": codes.PAPER_COUNT,
    "H&E tissue tiles that are tumor": codes.TUMOR_PERCENT,
    "2+ and 3+ tiles of scored tiles": codes.WSI_PERCENT,
    "2+ and 3+ tiles of the slide": codes.WSI_OF_SLIDE,
    "Status by px of 0 and 3+": codes.PIXEL_STATUS,
    "2, 3 and 4 classes": codes.IHC_STATUS,
}
"""Row of the page, and name in the report, of one fact."""
IN_FINDINGS = (
    *("paper_score", "paper_score_by_count", "tumor_percent", "wsi_percent"),
    *("wsi_percent_of_slide", "binary_by_pixels", "read_outs"),
)
"""Keys in ``findings.json`` of the same facts."""


def said_everywhere(facts: dict[str, Any], text: str, shown: str) -> dict[str, str]:
    """Values of the facts in `IN_FINDINGS`, equal on the page and in the report.

    `facts` are ``findings.json``, `text` the words of the page, `shown` dsrdump's lines.
    """
    found = {}
    for key, (row, name) in zip(IN_FINDINGS, SAID_TWICE.items(), strict=True):
        fact = facts[key]["binary"] if key == "read_outs" else facts[key]
        value, word = in_report(name, shown), on_page(row, text)
        assert value is not None, key
        if isinstance(fact, float):
            digits = len(word.partition(".")[2])
            assert word == f"{fact:.{digits}f}", key
            assert float(value) == pytest.approx(fact, abs=5e-4), key
        else:
            assert fact == word == value.lower(), key
        found[key] = word
    return found


def page_words(**changes: Any) -> str:
    """Text of the page of changed findings."""
    white = np.full((90, 120, 3), 255, np.uint8)
    pdf = build_page(
        replace(some_findings(), **changes),
        HER2_ASSAY,
        he_thumbnail=white,
        ihc_thumbnail=white,
        created=datetime(2026, 3, 4, tzinfo=UTC),
        software="0.1.0",
    )
    with pypdfium2.PdfDocument(pdf) as document:
        return re.sub(r"\s+", " ", document[0].get_textpage().get_text_bounded())


def on_page(row: str, text: str) -> str:
    """First word or number after a row's label."""
    found = re.search(re.escape(row) + r" (\S+)", text)
    assert found is not None, row
    return found[1]


def in_report(name: Code, shown: str) -> str | None:
    """Value of a concept in dsrdump's lines: a number, or the meaning of a code."""
    meaning = re.escape(name.meaning)
    found = re.search(rf'<[^>]*"{meaning}"\)=(?:"([^"]*)"|\([^"]*"([^"]*)"\))', shown)
    return None if found is None else found[1] or found[2]


@pytest.mark.parametrize("binary", ["negative", "equivocal", "positive"])
def test_the_page_says_what_the_report_says(binary: str, made: Callable[..., Made]) -> None:
    changes = {
        "review": (),
        "read_outs": ReadOuts(binary=binary, three_way=None, four_way="2+"),
    }
    _, shown = made(**changes)
    facts = summary(replace(some_findings(), **changes))
    said_everywhere(facts, page_words(**changes), shown)
    assert in_report(codes.IHC_STATUS, shown) == binary.capitalize()
    assert f'{codes.STATUSES[binary].value},SCT,"{binary.capitalize()}"' in shown


def test_findings_page_and_report_say_the_same_of_each_reader(
    made: Callable[..., Made], sources: dict[Stain, list[Dataset]]
) -> None:
    silent = replace(
        some_findings().opinions[1],
        reader="plain",
        weights=None,
        probabilities=(0.0,) * 4,
        certainty=None,
    )
    opinions = (*some_findings().opinions, silent)
    dataset, _ = made(opinions=opinions)
    text = page_words(opinions=opinions)
    groups = [
        group
        for group in sr_tree.Content("1", dataset).walk()
        if group.concept == "125007" and values_of(group, codes.OPINION)
    ]
    assert len(groups) == len(opinions)
    for group, opinion, slide in zip(groups, opinions, (HE, HER2, HER2, HER2), strict=True):
        facts = opinion.as_json()
        said = (
            codes.opinion_class(opinion.said, opinion.about)
            if opinion.said
            else codes.INDETERMINATE
        )
        assert values_of(group, codes.OPINION) == [said.meaning]
        shares = values_of(group, codes.OPINION_SHARE)
        assert shares == [f"{100 * p:.2f}" for p in facts["probabilities"] if opinion.said]
        assert f"{opinion.words} " in text
        if opinion.weights is None:
            network = "Tandem reader: plain"
        else:
            network = f"Tandem {opinion.weights.task}: {opinion.weights.name}"
        assert [c.item.TextValue for c in group.named("111001")] == [network]
        (source,) = group.named("121112")
        (reference,) = source.item.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == sources[slide][0].SOPInstanceUID
    assert "nothing to judge –" in text


def values_of(group: sr_tree.Content, name: Code) -> list[str]:
    """Values of a private concept in a group: meanings of codes, numbers with two digits."""
    found = []
    for child in group.children:
        if sr_tree.code_of(child.item, "ConceptNameCodeSequence") == name.value:
            if child.item.ValueType == "NUM":
                (measured,) = child.item.MeasuredValueSequence
                found.append(f"{measured.NumericValue:.2f}")
            else:
                found.append(str(child.item.ConceptCodeSequence[0].CodeMeaning))
    return found


def test_readings_that_differ_are_told_alike_in_findings_page_and_report(
    made: Callable[..., Made], tmp_path: Path
) -> None:
    """Tiles F, G, H and I of docs/scoring.md: the highest class is 3+, the largest count 2+."""
    shares = ((5, 20, 55, 0), (10, 10, 5, 30), (90, 5, 0, 0), (0, 0, 0, 0))
    some = some_findings()
    tiles = tuple(
        replace(
            some.tiles[0],
            column=number,
            row=0,
            percent=tuple(map(float, percent)),
            grade=tile_grade(np.array([0, *percent])),
        )
        for number, percent in enumerate(shares)
    )
    paper = paper_score(tiles)
    assert paper is not None
    changes = {
        "review": (),
        "tiles": tiles,
        "paper_score": paper.highest_class.value,
        "paper_score_by_count": paper.largest_count.value,
        "paper_score_fallback": paper.fallback,
        "wsi_percent": wsi_percent(tiles),
        "wsi_percent_of_slide": wsi_percent_of_slide(tiles, (6 * TILE_UM, 5 * TILE_UM)),
        "binary_by_pixels": binary_by_pixels(np.array([0, *np.sum(shares, axis=0)])),
    }
    blank = np.full((8, 8, 3), 255, np.uint8)
    findings = replace(some, **changes)
    save_findings(findings, tmp_path, he_thumbnail=blank, ihc_thumbnail=blank)
    facts = json.loads((tmp_path / "findings.json").read_text())
    _, shown = made(**changes)
    assert said_everywhere(facts, page_words(**changes), shown) == {
        "paper_score": "3+",
        "paper_score_by_count": "2+",
        "tumor_percent": "31.2",
        "wsi_percent": "66.7",
        "wsi_percent_of_slide": "6.67",
        "binary_by_pixels": "negative",
        "read_outs": "equivocal",
    }


def test_neither_says_a_status_while_the_case_waits_for_a_person(
    made: Callable[..., Made],
) -> None:
    _, shown = made()
    text = page_words()
    for row, name in SAID_TWICE.items():
        status = name in (codes.PIXEL_STATUS, codes.IHC_STATUS)
        assert (in_report(name, shown) is None) is status, name
        assert (on_page(row, text) == "–") is status, row


def test_both_name_the_fallback_where_no_tile_is_2_plus_or_3_plus(
    made: Callable[..., Made],
) -> None:
    changes: dict[str, Any] = {
        "score": "1+",
        "paper_score": "1+",
        "paper_score_by_count": "0",
        "paper_score_fallback": True,
        "wsi_percent": 0.0,
        "wsi_percent_of_slide": 0.0,
    }
    _, shown = made(**changes)
    text = page_words(**changes)
    assert in_report(codes.FALLBACK_SCORE, shown) == "1+"
    assert in_report(codes.FALLBACK_COUNT, shown) == "0"
    assert in_report(codes.PAPER_SCORE, shown) is in_report(codes.PAPER_COUNT, shown) is None
    assert "highest class 1+ (fallback of Tandem)" in text
    assert "largest count 0 (fallback of Tandem)" in text


def test_only_the_largest_regions_are_listed(made: Callable[..., Made]) -> None:
    (roi,) = some_findings().rois
    _, shown = made(rois=(MAX_ROIS + 3) * (roi,))
    assert f'"ROI {MAX_ROIS}"' in shown
    assert f'"ROI {MAX_ROIS + 1}"' not in shown
