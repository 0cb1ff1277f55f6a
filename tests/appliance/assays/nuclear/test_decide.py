"""Results of ER and PR from counted nuclei, their reasons for review, codes and page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.receptors import nuclear_outputs, register_receptors

from appliance.assays.assay import Assay, Declared, StepOutputs
from appliance.assays.registry import check_assays, find_assay, pairings, vocabulary
from appliance.domain import ER, HE, PR
from appliance.findings.codec import load_findings, save_findings
from appliance.findings.findings import MARGIN, SCORED, Correction, Findings
from appliance.findings.reasons import ReviewReason
from appliance.geometry import TileIndex
from appliance.settings.nuclear import Nuclear
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings
from dicom import codes

CPU = Settings()
UNSCORED = "tumor-not-scored"


@pytest.fixture
def er(monkeypatch: pytest.MonkeyPatch) -> Assay:
    return register_receptors(monkeypatch)[0]


@pytest.fixture
def pr(monkeypatch: pytest.MonkeyPatch) -> Assay:
    return register_receptors(monkeypatch)[1]


def reviewed(assay: Assay, outputs: StepOutputs, settings: Settings = CPU) -> Findings:
    findings = assay.decide(outputs, settings)
    return replace(findings, review=assay.review(outputs, findings, settings))


def codes_of(findings: Findings) -> list[str]:
    return [reason.code for reason in findings.review]


def test_counted_nuclei_give_percentage_and_result(er: Assay, tmp_path: Path) -> None:
    found = reviewed(er, nuclear_outputs(tmp_path, (200, 100, 60, 40)))
    assert (found.score, found.rule) == (
        "positive",
        "more than 10 % of tumor nuclei immunoreactive",
    )
    assert found.percent == {"negative": 50, "weak": 25, "moderate": 15, "strong": 10}
    assert found.h_score == 25 + 2 * 15 + 3 * 10
    assert found.cells is not None and found.cells.counted == 400
    assert found.read_outs is not None and found.read_outs.binary == "positive"
    assert [(tile.column, tile.he_column, tile.label) for tile in found.tiles] == [
        (0, 0, "moderate"),
        (1, 1, "moderate"),
    ]
    assert codes_of(found) == []


@pytest.mark.parametrize(
    ("positive", "score", "reasons"),
    [
        (0, "negative", []),
        (5, "negative", ["near-threshold"]),  # 0.5 %
        (10, "low positive", ["near-threshold"]),  # 1 %
        (30, "low positive", []),
        (100, "low positive", ["near-threshold"]),  # 10 %
        (101, "positive", ["near-threshold"]),
        (160, "positive", []),
    ],
)
def test_er_near_its_limits_goes_to_review(
    er: Assay, tmp_path: Path, positive: int, score: str, reasons: list[str]
) -> None:
    found = reviewed(er, nuclear_outputs(tmp_path, (1000 - positive, positive, 0, 0)))
    assert (found.score, codes_of(found)) == (score, reasons)


def test_pr_has_no_limit_at_ten_percent(pr: Assay, tmp_path: Path) -> None:
    outputs = nuclear_outputs(tmp_path, (900, 100, 0, 0), stain=PR)
    found = reviewed(pr, outputs)
    assert (found.score, codes_of(found)) == ("positive", [])
    assert pr.scores == ("negative", "positive")


@pytest.mark.parametrize(
    ("nuclei", "of_er", "of_pr"),
    [
        ((105, 0, 0, 0), ["near-threshold"], ["near-threshold"]),  # 2 % has 0 of 105 one time in 8
        ((103, 2, 0, 0), ["near-threshold"], ["near-threshold"]),
        ((100, 5, 0, 0), ["near-threshold"], []),  # up to 10.7 %
        ((100, 30, 0, 0), [], []),
        ((990, 0, 0, 0), [], []),
    ],
)
def test_a_limit_that_so_few_nuclei_cannot_exclude_goes_to_review(
    er: Assay,
    pr: Assay,
    tmp_path: Path,
    nuclei: tuple[int, ...],
    of_er: list[str],
    of_pr: list[str],
) -> None:
    assert codes_of(reviewed(er, nuclear_outputs(tmp_path, nuclei))) == of_er
    assert codes_of(reviewed(pr, nuclear_outputs(tmp_path / "pr", nuclei, stain=PR))) == of_pr


def test_tiles_without_blue_nuclei_go_to_review(er: Assay, tmp_path: Path) -> None:
    """The brown ones of their nuclei alone are counted, so that the percentage is too high."""
    found = reviewed(er, nuclear_outputs(tmp_path, (200, 100, 60, 40), unseen=(True, False)))
    assert codes_of(found) == ["nuclei-unseen"] and "On 50 %" in found.review[0].sentence


@pytest.mark.parametrize(
    ("positive", "pigment", "of_er", "of_pr"),
    [
        (44, 36, "negative", "negative"),
        (44, 22, "negative", "negative"),  # half look like it: all may be
        (44, 20, None, None),  # 2.4 % are left
        (160, 70, "low positive", None),
        (400, 40, None, None),
        (400, 250, "negative", "negative"),
    ],
)
def test_a_result_that_hangs_on_pigment_goes_to_review(
    er: Assay,
    pr: Assay,
    tmp_path: Path,
    positive: int,
    pigment: int,
    of_er: str | None,
    of_pr: str | None,
) -> None:
    nuclei = (1000 - positive, positive, 0, 0)
    for assay, stain, without in ((er, ER, of_er), (pr, PR, of_pr)):
        outputs = nuclear_outputs(tmp_path / stain, nuclei, stain=stain, pigment=(pigment, 0, 0))
        found = reviewed(assay, outputs)
        assert codes_of(found) == ([] if without is None else ["pigment"])
        if without is not None:
            said = found.review[0].sentence
            assert said.startswith(f"{pigment} of {positive} stained nuclei")
            assert said.endswith(f"the result may be {without}.")


def test_a_slide_out_of_focus_goes_to_review(er: Assay, tmp_path: Path) -> None:
    outputs = nuclear_outputs(tmp_path, (700, 300, 0, 0), blurred=(True, False))
    found = reviewed(er, outputs)
    assert codes_of(found) == ["out-of-focus"]
    assert found.review[0].sentence.startswith("50 % of the tumor's tiles of the ER slide are out")
    lenient = Settings(review=Review(max_unusual_tiles_percent=50))
    assert codes_of(reviewed(er, outputs, lenient)) == []


@pytest.mark.parametrize(
    ("nuclei", "words"),
    [
        ((1000, 0, 0, 0), "If all of it were strong, the result would be positive."),
        ((970, 30, 0, 0), "If all of it were strong, the result would be positive."),
        ((870, 130, 0, 0), "If all of it were negative, the result would be low positive."),
        ((500, 500, 0, 0), None),
    ],
)
def test_unscored_tumor_that_may_change_the_result_is_told_with_it(
    er: Assay, tmp_path: Path, nuclei: tuple[int, ...], words: str | None
) -> None:
    """One of three tumor tiles has no place on the slide."""
    outputs = nuclear_outputs(tmp_path, nuclei)
    outputs = replace(outputs, plan=replace(outputs.plan, unscored_he=(TileIndex(2, 0),)))
    deciding = Review(max_unscored_tumor_percent=100)
    told = [
        r for r in reviewed(er, outputs, Settings(review=deciding)).review if r.code == UNSCORED
    ]
    assert [reason.sentence for reason in told] == (
        []
        if words is None
        else [
            "33 % of the tumor on the H&E slide has no place on the ER slide and is not scored. "
            + words
        ]
    )
    quiet = Review(max_unscored_tumor_percent=100, max_unscored_deciding_percent=40)
    assert UNSCORED not in codes_of(reviewed(er, outputs, Settings(review=quiet)))


def test_the_sentence_of_a_stain_not_of_nuclei_names_what_else_looks_so(
    er: Assay, tmp_path: Path
) -> None:
    """A report of an earlier version keeps its words: others would be another UID."""
    outputs = nuclear_outputs(tmp_path, (500, 200, 100, 100), brown=(40_000, 15_000))
    (now,) = reviewed(er, outputs).review
    assert "pale stain" in now.sentence and "black level" in now.sentence
    before = replace(now, params={"percent": now.params["percent"]})
    assert before.sentence == (
        "Only 38 % of the brown has the width of nuclei: it lies on membranes or fibers, and is "
        "not scored."
    )


def test_the_guideline_is_of_the_breast(er: Assay, tmp_path: Path) -> None:
    outputs = nuclear_outputs(tmp_path, (200, 100, 60, 40), organ="endometrial")
    found = reviewed(er, outputs)
    assert codes_of(found) == ["organ-unknown"]
    assert "'endometrial' (they know breast): the case was scored as breast" in str(
        found.review[0].sentence
    )
    breast = nuclear_outputs(tmp_path / "breast", (200, 100, 60, 40), organ="Breast ")
    assert codes_of(reviewed(er, breast)) == []
    # Another word in the sidecar makes the findings anew.
    assert er.depends_on(CPU, outputs.declared) != er.depends_on(CPU, breast.declared)


def test_the_organ_of_the_settings_counts_where_no_sidecar_names_one(
    er: Assay, tmp_path: Path
) -> None:
    site = Settings(scoring={"organ": "endometrial"})
    outputs = nuclear_outputs(tmp_path, (200, 100, 60, 40))
    found = reviewed(er, outputs, site)
    assert codes_of(found) == ["organ-unknown"]
    assert found.review[0].sentence.startswith("The settings name the organ 'endometrial'")
    assert "sidecar" not in found.review[0].sentence
    named = nuclear_outputs(tmp_path / "breast", (200, 100, 60, 40), organ="breast")
    assert codes_of(reviewed(er, named, site)) == []
    # Another setting makes the findings anew.
    none = outputs.declared
    assert er.depends_on(CPU, none) != er.depends_on(site, none)
    assert er.depends_on(CPU, named.declared) == er.depends_on(site, named.declared)


def test_no_reason_of_a_receptor_speaks_of_another_stain(
    er: Assay, pr: Assay, tmp_path: Path
) -> None:
    both = Declared(organ=("breast", "gastric"))
    for assay in (er, pr):
        outputs = nuclear_outputs(
            tmp_path / assay.name,
            (990, 5, 5, 10),
            stain=assay.target.code,
            on_control=(False, True),
        )
        found = reviewed(assay, replace(outputs, declared=both))
        assert {"organ-contradicted", "tumor-not-scored"} <= set(codes_of(found))
        said = " ".join(reason.sentence for reason in found.review)
        assert said.count(f"the {assay.target.code} slide") == 2 and "HER2" not in said


def test_what_the_page_withholds_is_not_in_the_report(er: Assay, tmp_path: Path) -> None:
    outputs = nuclear_outputs(tmp_path, (970, 30, 0, 0))
    sure = reviewed(er, outputs)
    comments = [
        text for name, text in er.objects.report(sure).texts if name == codes.RESULT_COMMENT
    ]
    assert codes_of(sure) == [] and "endocrine therapy" in comments[0]
    doubted = replace(
        sure, review=reviewed(er, nuclear_outputs(tmp_path / "few", (98, 2, 0, 0))).review
    )
    assert doubted.review
    assert codes.RESULT_COMMENT not in [name for name, _ in er.objects.report(doubted).texts]


def test_few_nuclei_go_to_review_and_none_is_no_result(er: Assay, tmp_path: Path) -> None:
    assert codes_of(reviewed(er, nuclear_outputs(tmp_path, (50, 0, 0, 49)))) == ["little-tumor"]
    none = reviewed(er, nuclear_outputs(tmp_path, (0, 0, 0, 0)))
    assert (none.score, none.cells, codes_of(none)) == (None, None, ["no-tumor"])


def test_a_negative_result_needs_an_internal_control(er: Assay, tmp_path: Path) -> None:
    bare = {"outside": (300, 2, 0, 0), "control": [[0, 0, 10, 50, 40]]}
    found = reviewed(er, nuclear_outputs(tmp_path, (990, 0, 0, 0), **bare))  # type: ignore[arg-type]
    assert (found.score, codes_of(found)) == ("negative", ["internal-control-missing"])
    assert found.control is not None and (found.control.strongest, found.control.works) == (
        "strong",
        True,
    )
    assert "of 302 nuclei outside the tumor 2 are stained" in found.review[0].sentence
    clear = reviewed(er, nuclear_outputs(tmp_path, (300, 0, 0, 300), **bare))  # type: ignore[arg-type]
    assert codes_of(clear) == []
    told = reviewed(er, nuclear_outputs(tmp_path, (990, 0, 0, 0)))
    assert "internal control: 60 of 260 nuclei are stained" in told.comment


@pytest.mark.parametrize(
    ("positive", "outside", "reasons"),
    [
        (0, (400, 200, 1500, 2500), ["stain-outside-tumor"]),
        (0, (49, 51, 0, 0), ["stain-outside-tumor"]),
        (0, (50, 50, 0, 0), []),
        (0, (40, 0, 0, 59), []),  # too few for a percentage
        (0, (200, 20, 20, 20), []),  # normal ducts
        (50, (400, 200, 1500, 2500), ["stain-outside-tumor"]),  # 5 %
        (160, (400, 200, 1500, 2500), []),  # 16 %
    ],
)
def test_a_result_of_at_most_ten_percent_beside_positive_nuclei_goes_to_review(
    er: Assay, tmp_path: Path, positive: int, outside: tuple[int, ...], reasons: list[str]
) -> None:
    nuclei = (1000 - positive, positive, 0, 0)
    found = reviewed(er, nuclear_outputs(tmp_path, nuclei, outside=outside))
    assert codes_of(found) == reasons
    if outside[0] == 400 and reasons:
        words = f"outside the tumor are stained, and {positive / 10:.0f} % of those in it: "
        assert found.review[0].sentence.startswith(f"91 % of 4600 nuclei {words}")


def test_a_tile_that_holds_control_tissue_is_not_scored(er: Assay, tmp_path: Path) -> None:
    """Its nuclei may be those of the control, which are stained."""
    outputs = nuclear_outputs(
        tmp_path, (990, 5, 5, 10), on_control=(False, True), unseen=(False, True)
    )
    found = reviewed(er, outputs)
    assert [tile.column for tile in found.tiles] == [0]
    assert [tile.column for tile in found.annotated] == [1]
    assert found.rasters.ihc_read.tolist() == [[SCORED, MARGIN, MARGIN]]  # as objects draw them
    assert found.cells is not None and found.cells.counted == 495 + 2 + 2 + 5
    assert found.unscored_tumor_area_mm2 == pytest.approx(found.tumor_area_mm2)
    assert "nuclei-unseen" not in codes_of(found) and "tumor-not-scored" in codes_of(found)


def test_nothing_that_shows_the_stain_is_no_result(er: Assay, tmp_path: Path) -> None:
    """An H&E-blue slide may be a HER2 slide of 0, or a run that failed."""
    outputs = nuclear_outputs(tmp_path, (990, 2, 0, 0), outside=(300, 1, 0, 0), brown=(0, 0))
    found = reviewed(er, outputs)
    assert (found.score, codes_of(found)) == (None, ["stain-not-proven"])
    failed = nuclear_outputs(
        tmp_path, (990, 0, 0, 0), outside=(300, 0, 0, 0), control=[[0, 90, 0, 0, 0]]
    )
    assert codes_of(reviewed(er, failed)) == ["control-failed", "stain-not-proven"]


def test_a_large_negative_tumor_beside_stained_nuclei_is_negative(
    er: Assay, tmp_path: Path
) -> None:
    """The 100 of 1,000 nuclei outside are 0.02 % of all nuclei that were counted."""
    large = (500_000, 0, 0, 0)
    found = reviewed(er, nuclear_outputs(tmp_path, large, outside=(900, 20, 40, 40)))
    assert (found.score, codes_of(found)) == ("negative", [])
    assert "internal control: 100 of 1000 nuclei are stained" in found.comment
    few = reviewed(er, nuclear_outputs(tmp_path / "few", large, outside=(900, 4, 0, 0)))
    assert (few.score, codes_of(few)) == (None, ["stain-not-proven"])
    assert few.review[0].sentence.startswith("Too few stained nuclei were found")


def test_a_report_of_an_earlier_version_keeps_the_words_of_its_reason(
    er: Assay, tmp_path: Path
) -> None:
    """Other words are other bytes, and so another UID than that of the report in the archive."""
    found = reviewed(er, nuclear_outputs(tmp_path, (990, 2, 0, 0), outside=(300, 1, 0, 0)))
    former = replace(found, review=(ReviewReason(code="stain-not-proven"),))
    said = [dict(er.objects.report(each).texts)[codes.REVIEW] for each in (found, former)]
    assert said[0].startswith("Too few stained nuclei were found, in the tumor, beside it")
    assert said[1] == (
        "No stained nucleus was found, in the tumor, beside it or on control tissue: nothing shows "
        "that this slide was stained for nuclei, and it is not scored."
    )


def test_brown_that_is_no_nucleus_is_no_result(er: Assay, tmp_path: Path) -> None:
    outputs = nuclear_outputs(tmp_path, (500, 200, 100, 100), brown=(40_000, 15_000))
    found = reviewed(er, outputs)
    assert (found.score, codes_of(found)) == (None, ["stain-not-nuclear"])
    content = er.objects.report(found)
    assert content.score == codes.INDETERMINATE
    assert codes.ER_CELLS not in [name for name, *_ in content.measurements]


@pytest.mark.parametrize(
    ("nuclei", "brown"), [((500, 200, 100, 100), (40_000, 15_000)), ((0, 0, 0, 0), (0, 0))]
)
def test_numbers_of_a_case_without_a_result_are_withheld(
    er: Assay, tmp_path: Path, nuclei: tuple[int, ...], brown: tuple[int, int]
) -> None:
    """They are no result after a person has given one, either."""
    found = reviewed(er, nuclear_outputs(tmp_path, nuclei, brown=brown))
    person = Correction(by="Muster^Anna", why="by eye", was=found.score, corrects="k")
    given = replace(er.corrected(found, "negative"), correction=person)
    numbers = {codes.ER_CELLS, codes.ALLRED, codes.H_SCORE, *codes.NUCLEI_SHARE.values()}
    for each in (found, given):
        assert {value for _, value in er.objects.page.class_rows(each)[1:]} == {"–"}
        rows = dict(er.objects.page.measure_rows(each))
        assert rows["Positive tumor nuclei"] == rows["Allred score (0-8)"] == "–"
        assert rows["H-score (0-300)"] == rows["Average intensity (1-3)"] == "–"
        told = {name for name, *_ in er.objects.report(each).measurements}
        assert not numbers & told and codes.TUMOR_AREA in told
    assert er.objects.report(given).score == codes.STATUSES["negative"]
    # Objects of a former edition, which told them, are written again as they were.
    told = {name for name, *_ in er.objects.report(replace(given, as_before=True)).measurements}
    assert numbers <= told


@pytest.mark.parametrize(
    ("negative", "weak", "score", "page", "report"),
    [
        (8996, 1004, "positive", "10.04 %", 10.04),
        (89_996, 10_004, "positive", "10.004 %", 10.004),
        (9004, 996, "low positive", "10.0 %", 9.96),
        (9904, 96, "negative", "0.96 %", 0.96),
        (99_004, 996, "negative", "0.996 %", 0.996),
        (9000, 1000, "low positive", "10.0 %", 10.0),
        (840, 160, "positive", "16.0 %", 16.0),
    ],
)
def test_a_percentage_is_not_rounded_past_the_limit_that_decided(
    er: Assay, tmp_path: Path, negative: int, weak: int, score: str, page: str, report: float
) -> None:
    found = reviewed(er, nuclear_outputs(tmp_path, (negative, weak, 0, 0)))
    assert found.score == score
    told = {name: value for name, value, _ in er.objects.report(found).measurements}
    assert told[codes.ER_CELLS] == told[codes.NUCLEI_SHARE["weak"]] == report
    assert dict(er.objects.page.measure_rows(found))["Positive tumor nuclei"] == page
    assert dict(er.objects.page.class_rows(found))["weak"] == page
    before = er.objects.report(replace(found, as_before=True)).measurements
    assert before[0][1] == round(report, 2)


def test_the_report_codes_status_and_percentage(er: Assay, pr: Assay, tmp_path: Path) -> None:
    low = reviewed(er, nuclear_outputs(tmp_path, (950, 25, 0, 25)))
    content = er.objects.report(low)
    assert (content.score_name.value, content.score_name.scheme_designator) == ("85337-4", "LN")
    assert content.score == codes.STATUSES["positive"]
    assert list(content.evaluations) == [(codes.RECEPTOR_CLASS, codes.LOW_POSITIVE)]
    measured = {name.value: value for name, value, _ in content.measurements}
    assert measured["85329-1"] == 5.0
    assert (measured["allred"], measured["allred-share"], measured["allred-intensity"]) == (4, 2, 2)
    assert measured["h-score"] == 10.0 and measured["mean-intensity"] == 2.0
    assert [text for code, text in content.texts if code == codes.RESULT_COMMENT] == [low.comment]
    decided = er.objects.report(replace(low, guideline_version="of 2010"))
    (scheme,) = (text for code, text in decided.texts if code == codes.GUIDELINE)
    assert scheme.endswith(", of 2010")
    negative = pr.objects.report(reviewed(pr, nuclear_outputs(tmp_path, (990, 0, 0, 0), stain=PR)))
    assert (negative.score_name.value, negative.score) == ("85339-0", codes.STATUSES["negative"])
    assert negative.measurements[0][0] == codes.PR_CELLS


def test_a_persons_result_takes_the_place_of_the_appliances(er: Assay, tmp_path: Path) -> None:
    found = reviewed(er, nuclear_outputs(tmp_path, (995, 5, 0, 0)))
    given = er.corrected(found, "low positive")
    assert (given.score, given.review, given.rule, given.estimated) == (
        "low positive",
        (),
        "",
        False,
    )
    assert given.read_outs is not None and given.read_outs.binary == "positive"
    assert "benefit" in given.comment


def test_findings_keep_their_classes_in_order_on_disk(er: Assay, tmp_path: Path) -> None:
    """JSON sorts the classes by name; tables and colors go by the assay's order."""
    found = reviewed(er, nuclear_outputs(tmp_path, (200, 100, 60, 40)))
    folder = tmp_path / "findings"
    folder.mkdir()
    picture = np.zeros((8, 8, 3), np.uint8)
    save_findings(found, folder, he_thumbnail=picture, ihc_thumbnail=picture)
    loaded = load_findings(folder)
    assert loaded.tiles == found.tiles and loaded.cells == found.cells
    assert er.objects.page.class_rows(loaded) == [
        ("Nuclei", "Share"),
        ("negative", "50.0 %"),
        ("weak", "25.0 %"),
        ("moderate", "15.0 %"),
        ("strong", "10.0 %"),
    ]
    rows = dict(er.objects.page.measure_rows(loaded))
    assert rows["Allred score (0-8)"] == "6 (proportion 4, intensity 2)"
    assert rows["Positive tumor nuclei"] == "50.0 %"


def test_off_until_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = vocabulary(Settings())
    assert not {ER, PR} & set(before)
    er, pr = register_receptors(monkeypatch)
    check_assays(Settings())
    assert find_assay("er") is er and find_assay("pr") is pr
    pairs = {pair.assay: pair for pair in pairings(Settings())}
    assert (pairs["er"].stains, pairs["pr"].stains) == ((HE, ER), (HE, PR))
    assert not pairs["er"].expected
    assert {
        name: words for name, words in vocabulary(Settings()).items() if name in before
    } == before


def test_limits_of_stain_rise() -> None:
    with pytest.raises(ValueError, match="weak_od < moderate_od < strong_od"):
        Nuclear(weak_od=0.6)
