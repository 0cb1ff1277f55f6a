"""DICOM codes of a HER2 result: what of the findings the report holds, and under which names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from fixtures.findings import some_findings
from pydicom.sr.coding import Code

from appliance.assays.assay import ReportContent
from appliance.assays.her2.coding import report
from appliance.assays.her2.decide import corrected
from appliance.assays.her2.guideline import load_guideline
from appliance.assays.her2.page import class_rows, measure_rows
from appliance.delivery.standing import corrected as unscored
from appliance.errors import SettingsError
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import RESEARCH_USE, Correction, ReadOuts
from dicom import codes
from dicom.errors import ObjectError

LOW = load_guideline("breast-asco-cap-2018").comments


READ = ReadOuts(binary="negative", three_way="low", four_way="1+")


def content(**changes: Any) -> ReportContent:
    return report(replace(some_findings(), **changes))


def texts(made: ReportContent, name: Code) -> list[str]:
    return [text for code, text in made.texts if code == name]


def values(made: ReportContent) -> dict[str, float]:
    """Measurements by the value of their code."""
    found = {name.value: value for name, value, _ in made.measurements}
    assert len(found) == len(made.measurements)
    return found


@pytest.mark.parametrize("score", ["0", "1+", "2+", "3+"])
def test_the_score_is_coded_and_said(score: str) -> None:
    made = content(score=score)
    assert (made.score_name, made.score) == (codes.HER2_SCORE, codes.SCORES[score])
    (said,) = texts(made, codes.COMMENT)
    assert said == f"HER2 IHC score: {score} (estimated from areas, not from cells)"


def test_people_are_told_what_they_need() -> None:
    made = content()
    assert texts(made, codes.RESEARCH_NOTICE) == [RESEARCH_USE]
    assert texts(made, codes.GUIDELINE) == ["HER2 IHC, breast, ASCO/CAP 2018, 2018, affirmed 2023"]
    assert texts(made, codes.REVIEW) == [r.sentence for r in some_findings().review]
    assert (codes.PAPER_SCORE, codes.SCORES["3+"]) in made.evaluations
    assert (codes.PAPER_COUNT, codes.SCORES["2+"]) in made.evaluations
    found = values(made)
    percent = some_findings().percent
    for name, share in percent.items():
        assert found[codes.TUMOR_SHARE[name].value] == round(share, 2)
    assert found[codes.H_SCORE.value] == pytest.approx(some_findings().h_score, abs=1e-3)
    assert found[codes.TUMOR_AREA.value] == 4.31
    assert found[codes.UNSCORED_AREA.value] == 0.22
    assert found[codes.WSI_PERCENT.value] == round(percent["2+"] + percent["3+"], 3)
    assert found[codes.WSI_OF_SLIDE.value] == 0.678
    assert found[codes.TUMOR_PERCENT.value] == 31.25
    assert found[codes.REGISTRATION_ERROR.value] == 21.4


def test_a_rule_and_a_category_stand_beside_the_score() -> None:
    category = "positive after retest and ISH"
    rule = "3+ in > 10 % and < 50 % of tumor cells is positive after retest and ISH"
    made = content(score="3+", category=category, rule=rule)
    assert texts(made, codes.CATEGORY) == [category]
    assert texts(made, codes.RULE) == [rule]
    assert texts(content(), codes.CATEGORY) == texts(content(), codes.RULE) == []


def test_a_low_class_is_coded_beside_the_score() -> None:
    assert LOW is not None
    for score, comment, low in (
        ("1+", LOW.low, "HER2-low"),
        ("0", LOW.ultralow, "HER2-ultralow"),
    ):
        made = content(score=score, comment=comment, review=())
        assert (codes.LOW_CLASS, codes.LOW_CLASSES[low]) in made.evaluations
        assert made.score == codes.SCORES[score]
        assert texts(made, codes.LOW_COMMENT) == [comment]
        waiting = content(score=score, comment=comment)
        assert texts(waiting, codes.REVIEW) and not texts(waiting, codes.LOW_COMMENT)
        assert codes.LOW_CLASS not in [name for name, _ in waiting.evaluations]
    for comment in (LOW.null, LOW.low_if_ish_negative, ""):
        names = [name for name, _ in content(comment=comment, review=()).evaluations]
        assert codes.LOW_CLASS not in names
    # Other organs have no such class, whatever stands beside the score.
    elsewhere = content(
        comment=LOW.low, guideline="gastric-resection-2014", organ="gastric", review=()
    )
    assert codes.LOW_CLASS not in [name for name, _ in elsewhere.evaluations]


def test_a_result_names_the_version_of_the_guideline_that_decided() -> None:
    """The guideline was updated since, and words its comments otherwise."""
    told = {"guideline_version": "2018", "review": ()}
    made = content(score="1+", comment="HER2 low, as it was worded in 2018", **told)
    assert texts(made, codes.GUIDELINE) == ["HER2 IHC, breast, ASCO/CAP 2018, 2018"]
    assert (codes.LOW_CLASS, codes.LOW_CLASSES["HER2-low"]) in made.evaluations
    for stained, low in ((9.0, [codes.LOW_CLASSES["HER2-ultralow"]]), (0.5, [])):
        percent = {"0": 100 - stained, "1+": stained, "2+": 0.0, "3+": 0.0}
        made = content(score="0", comment="as it was worded", percent=percent, **told)
        assert [value for name, value in made.evaluations if name == codes.LOW_CLASS] == low


def test_numbers_of_a_case_without_a_score_are_withheld() -> None:
    """Shares of 0 % are none where nothing was scored, also where a person gives a score."""
    none = replace(
        some_findings(), score=None, percent=dict.fromkeys(CLASS_NAMES, 0.0), h_score=0.0,
        wsi_percent=0.0, wsi_percent_of_slide=0.0, cells=None, rois=(), read_outs=None, rule="",
        paper_score=None, paper_score_by_count=None, binary_by_pixels=None, comment="",
    )  # fmt: skip
    person = Correction(by="Muster^Anna", why="by eye", was=None, corrects="k")
    given = replace(corrected(none, "0"), correction=person)
    numbers = {codes.H_SCORE, codes.WSI_PERCENT, codes.WSI_OF_SLIDE, *codes.TUMOR_SHARE.values()}
    for each in (none, given):
        told = {name for name, *_ in report(each).measurements}
        assert not numbers & told and codes.TUMOR_AREA in told
        assert {cell for _, *cells in class_rows(each)[1:] for cell in cells} == {"–"}
        rows = dict(measure_rows(each))
        assert rows["H-score by area (0-300)"] == rows["2+ and 3+ tiles of the slide"] == "–"
    assert texts(report(none), codes.COMMENT) == ["HER2 IHC score: not scored"]
    # Objects of a former edition, which told them, are written again as they were.
    again = report(replace(none, as_before=True))
    assert numbers <= {name for name, *_ in again.measurements}


@pytest.mark.parametrize("edition", [4, 3, 2])
def test_algorithm_1_of_a_case_without_a_score_is_told_by_former_editions_alone(
    edition: int,
) -> None:
    """Their reports are in archives under UIDs that hang on what they tell."""
    none = replace(
        some_findings(), score=None, paper_score="3+", paper_score_by_count="2+",
        paper_score_fallback=False, binary_by_pixels=None, review=(), read_outs=None, comment="",
        as_before=edition < 3, unscored_as_before=edition < 4,
    )  # fmt: skip
    person = Correction(by="Muster^Anna", why="by eye", was=None, corrects="k")
    for each in (none, replace(none, score="0", correction=person)):
        told = {name: value for name, value in report(each).evaluations}
        rows = dict(measure_rows(each))
        scores = [rows[row] for row in rows if row.startswith("arXiv 2512.22335")]
        if edition < 4:
            assert told[codes.PAPER_SCORE] == codes.SCORES["3+"]
            assert told[codes.PAPER_COUNT] == codes.SCORES["2+"] and scores == ["3+", "2+"]
        else:
            assert not told and scores == ["–", "–"]


@pytest.mark.parametrize("edition", [4, 3, 2])
def test_a_case_that_a_person_called_unscorable_has_no_numbers(edition: int) -> None:
    """A coded 3+ or a share of 24 % would stand as final for a section that is torn."""
    person = Correction(by="Muster^Anna", why="torn", was="2+", corrects="k")
    none = unscored(some_findings(), None, person, ())
    none = replace(none, as_before=edition < 3, unscored_as_before=edition < 4)
    made, rows = report(none), dict(measure_rows(none))
    told = {name for name, *_ in made.measurements}
    numbers = {codes.H_SCORE, codes.WSI_PERCENT, codes.WSI_OF_SLIDE, *codes.TUMOR_SHARE.values()}
    numbers |= set(codes.COMPLETENESS.values()) & told
    scores = {row for row in rows if row.startswith("arXiv 2512.22335") or "H-score" in row}
    assert made.score == codes.INDETERMINATE and codes.TUMOR_AREA in told and len(scores) == 4
    if edition < 4:  # objects that are there are written again as they were
        assert numbers <= told and len(made.evaluations) == 2
        assert "–" not in {rows[name] for name in scores}
    else:
        assert not numbers & told and made.evaluations == []
        assert {rows[name] for name in scores} == {"–"}
        assert {cell for _, *cells in class_rows(none)[1:] for cell in cells} == {"–"}


@pytest.mark.parametrize(
    ("strong", "page", "told"), [(10.04, "10.04 %", 10.04), (10.004, "10.004 %", 10.004)]
)
def test_shares_are_not_rounded_past_the_limit_that_decided(
    strong: float, page: str, told: float
) -> None:
    """More than 10 % is 3+, and 10.0 % is not."""
    percent = {"0": 100 - strong, "1+": 0.0, "2+": 0.0, "3+": strong}
    found = replace(some_findings(), percent=percent)
    assert values(report(found))[codes.TUMOR_SHARE["3+"].value] == told
    assert {row[0]: row[1] for row in class_rows(found)}["3+"] == page
    before = values(report(replace(found, as_before=True)))
    assert before[codes.TUMOR_SHARE["3+"].value] == round(strong, 2)


@pytest.mark.parametrize("status", ["negative", "equivocal", "positive"])
def test_the_binary_status_is_coded_unless_the_case_waits_for_a_person(status: str) -> None:
    read = replace(READ, binary=status)
    by_score = (codes.IHC_STATUS, codes.STATUSES[status])
    by_pixels = (codes.PIXEL_STATUS, codes.STATUSES["positive"])
    evaluations = content(read_outs=read, review=()).evaluations
    assert by_score in evaluations and by_pixels in evaluations
    names = [name for name, _ in content(read_outs=read).evaluations]
    assert codes.IHC_STATUS not in names and codes.PIXEL_STATUS not in names
    # The scores of the paper are no interpretation, and stay.
    assert codes.PAPER_SCORE in names and codes.PAPER_COUNT in names


def test_statuses_that_the_findings_lack_are_not_coded() -> None:
    made = content(read_outs=None, binary_by_pixels=None, review=())
    names = [name for name, _ in made.evaluations]
    assert codes.IHC_STATUS not in names and codes.PIXEL_STATUS not in names


def test_the_fallback_has_names_of_its_own() -> None:
    made = content(paper_score="1+", paper_score_by_count="0", paper_score_fallback=True)
    assert made.evaluations == [
        (codes.FALLBACK_SCORE, codes.SCORES["1+"]),
        (codes.FALLBACK_COUNT, codes.SCORES["0"]),
    ]


def test_what_earlier_findings_lack_is_not_written() -> None:
    made = content(
        paper_score_by_count=None,
        paper_score_fallback=None,
        wsi_percent_of_slide=None,
        tumor_percent=None,
    )
    assert made.evaluations == [(codes.PAPER_SCORE, codes.SCORES["3+"])]
    assert not {codes.WSI_OF_SLIDE.value, codes.TUMOR_PERCENT.value} & values(made).keys()


def test_membranes_are_measured() -> None:
    cells = some_findings().cells
    assert cells is not None
    measured = replace(
        cells,
        percent={"0": 60.0, "1+": 20.0, "2+": 12.0, "3+": 8.0},
        completeness={"0": None, "1+": None, "2+": 0.71, "3+": 0.935},
        complete_percent={"0": None, "1+": None, "2+": 50.0, "3+": 40.0},
    )
    found = values(content(cells=measured))
    shares = {name: found.get(code.value) for name, code in codes.COMPLETENESS.items()}
    assert shares == {"0": None, "1+": None, "2+": 71.0, "3+": 93.5}
    assert found[codes.COMPLETE_INTENSE_SHARE.value] == 3.2
    # The LOINC term is one of breast cancer.
    gastric = content(cells=measured, guideline="gastric-resection-2014", organ="gastric")
    assert codes.COMPLETE_INTENSE_SHARE.value not in values(gastric)


@pytest.mark.parametrize(("strong", "known"), [(0.0, 0.0), (8.0, None)])
def test_complete_membranes_of_no_whole_cell(strong: float, known: float | None) -> None:
    """Where no cell of 3+ lies wholly on its tile, the share is known only if there is none."""
    cells = some_findings().cells
    assert cells is not None and cells.complete_percent["3+"] is None
    found = values(content(cells=replace(cells, percent=cells.percent | {"3+": strong})))
    assert found.get(codes.COMPLETE_INTENSE_SHARE.value) == known
    assert codes.COMPLETENESS["3+"].value not in found


def test_a_correction_says_that_and_why() -> None:
    correction = Correction(
        by="Müller^Jörg", why="Cytoplasmic staining only.", was="2+", corrects="findings/0"
    )
    made = content(score="1+", estimated=False, correction=correction)
    (said,) = texts(made, codes.COMMENT)
    assert said == "HER2 IHC score: 1+ (corrected by a person; the appliance had said 2+)"
    assert texts(made, codes.CORRECTION) == ["Cytoplasmic staining only."]
    nothing = content(score="1+", correction=replace(correction, was=None))
    assert "the appliance had said -)" in texts(nothing, codes.COMMENT)[0]


def test_an_unscored_case_is_indeterminate() -> None:
    made = content(
        score=None,
        paper_score=None,
        paper_score_by_count=None,
        paper_score_fallback=None,
        rois=(),
        percent={},
        estimated=False,
    )
    assert made.score == codes.INDETERMINATE
    assert texts(made, codes.COMMENT) == ["HER2 IHC score: not scored"]
    assert not made.evaluations


@pytest.mark.parametrize(
    ("organ", "guideline"),
    [("gastric", "gastric-resection-2014"), ("colorectal", "colorectal-heracles-2015")],
)
def test_other_organs_are_not_called_breast(organ: str, guideline: str) -> None:
    made = content(organ=organ, guideline=guideline)
    assert (made.score_name, made.score) == (codes.HER2_IN_TISSUE, codes.SCORES["2+"])
    assert texts(made, codes.GUIDELINE)[0].startswith(load_guideline(guideline).title)


def test_regions_have_the_shares_of_their_own() -> None:
    made = content()
    assert [(name, value) for name, value, _ in made.roi_measurements(0)] == [
        *(
            (codes.TUMOR_SHARE[name], value)
            for name, value in (("0", 20.0), ("1+", 20.0), ("2+", 50.0), ("3+", 10.0))
        ),
        (codes.STAIN_INTENSITY, 1.5),  # 1 x 20 % + 2 x 50 % + 3 x 10 %
    ]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [({"score": "4+"}, "4+"), ({"paper_score": "low"}, "low"), ({"percent": {"2": 5.0}}, "2")],
)
def test_what_is_no_her2_score_is_never_coded(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ObjectError, match=re.escape(f"'{wrong}' is no HER2 score")):
        content(**changes)


def test_a_guideline_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="no guideline 'gone'"):
        content(guideline="gone")
