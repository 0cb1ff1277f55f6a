"""Every reason for review: at its limit, just beside it, and its sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.evidence import ALIGNED, sure
from fixtures.findings import some_findings, some_opinions

from appliance.assays.her2.guideline import load_guideline
from appliance.assays.her2.review import _votes, review_reasons
from appliance.domain import HE, HER2
from appliance.findings.measured import ControlFacts, StainFocus
from appliance.findings.reasons import Reason
from appliance.readers.cell_tally import CellTally
from appliance.settings.scoring import Review
from appliance.slides.appearance import Appearance
from appliance.slides.picture import PictureMatch

DOCS = Path(__file__).parents[4] / "docs" / "review.md"
CONTROL = ControlFacts(
    area_mm2=1.0,
    tiles=9,
    percent={"0": 100.0, "1+": 0.0, "2+": 0.0, "3+": 0.0},
    strongest="0",
    works=False,
)

FOCUS = StainFocus(area_mm2=0.42, x_um=3240.0, y_um=12_460.0, reader="plain")


def codes(settings: Review | None = None, **changes: Any) -> list[str]:
    guideline = load_guideline("breast-asco-cap-2018")
    found = review_reasons(settings or Review(), guideline, replace(sure(), **changes))
    assert all(reason.sentence.endswith((".", "?")) for reason in found)
    return [reason.code for reason in found]


def percent(zero: float, one: float, two: float, three: float) -> dict[str, float]:
    return {"0": zero, "1+": one, "2+": two, "3+": three}


def test_nothing_is_wrong_with_a_sure_case() -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("code", "fine", "wrong"),
    [
        (
            Reason.MISMATCH,
            {"alignment": replace(ALIGNED, agreement=0.25)},
            {"alignment": replace(ALIGNED, agreement=0.24)},
        ),
        (
            Reason.TISSUE_MISSING,
            {"alignment": replace(ALIGNED, overlap=0.6)},
            {"alignment": replace(ALIGNED, overlap=0.59)},
        ),
        (
            Reason.ALIGNMENT_ERROR,
            {"alignment": replace(ALIGNED, error_um=100.0)},
            {"alignment": replace(ALIGNED, error_um=100.1)},
        ),
        (Reason.MIRRORED, {}, {"alignment": replace(ALIGNED, mirrored=True)}),
        (
            Reason.CONTROL_FAILED,
            {"control": replace(CONTROL, works=True, strongest="3+")},
            {"control": CONTROL},
        ),
        (
            Reason.PICTURE_UNSURE,
            {"pictures": {HER2: PictureMatch(percent=90.0, looks_like="an H&E slide")}},
            {"pictures": {HER2: PictureMatch(percent=89.9, looks_like="an H&E slide")}},
        ),
        (
            Reason.PICTURE_UNSURE,
            {"pictures": {HE: PictureMatch(percent=80.0, looks_like="another stain")}},
            {"pictures": {HE: PictureMatch(percent=79.9, looks_like="another stain")}},
        ),
        (
            Reason.UNUSUAL,
            {"appearance": {HE: Appearance(tiles=100, stain=25)}},
            {"appearance": {HE: Appearance(tiles=100, stain=26)}},
        ),
        (
            Reason.OUT_OF_FOCUS,
            {"appearance": {HER2: Appearance(tiles=100, focus=25)}},
            {"appearance": {HER2: Appearance(tiles=100, focus=26)}},
        ),
        (
            Reason.MARKED,
            {"marked_percent": {HE: 10.0, HER2: 10.0}},
            {"marked_percent": {HE: 10.0, HER2: 10.1}},
        ),
        (
            Reason.STAIN_OUTSIDE_TUMOR,
            {"outside": replace(FOCUS, area_mm2=0.1)},
            {"outside": replace(FOCUS, area_mm2=0.101)},
        ),
        (Reason.NO_TUMOR, {}, {"score": None, "tumor_area_mm2": 0.0}),
        (Reason.LITTLE_TUMOR, {"tumor_area_mm2": 0.1}, {"tumor_area_mm2": 0.09}),
        (
            Reason.LITTLE_TUMOR,
            {"cells": CellTally(counted=(0, 0, 40, 60))},
            {"cells": CellTally(counted=(0, 0, 40, 59))},
        ),
        (
            Reason.TUMOR_NOT_SCORED,
            {"unscored_tumor_percent": 30.0},
            {"unscored_tumor_percent": 30.1},
        ),
        (  # 14.1 % of 71 % is more than a tenth, 14 % is not.
            Reason.TUMOR_NOT_SCORED,
            {"unscored_tumor_percent": 29.0, "percent": percent(0, 0, 85.9, 14.1)},
            {"unscored_tumor_percent": 29.0, "percent": percent(0, 0, 86, 14)},
        ),
        (
            Reason.TUMOR_DISAGREES,
            {"without_tumor_percent": 50.0},
            {"without_tumor_percent": 50.1},
        ),
        (Reason.TUMOR_NOT_FOUND, {"found_percent": 20.0}, {"found_percent": 19.9}),
        (Reason.READERS_DISAGREE, {"intensity_grade": 2.0}, {"intensity_grade": 1.9}),
        (Reason.READERS_DISAGREE, {"votes": {}}, {"votes": {"intensity": "2+"}}),
        (Reason.READERS_DISAGREE, {"votes": {"plain": "3+"}}, {"votes": {"plain": "2+"}}),
        (
            Reason.MEMBRANES_INCOMPLETE,
            {
                "cells": CellTally(
                    counted=(0, 0, 0, 250), measured=(0, 0, 0, 100), complete=(0, 0, 0, 11)
                )
            },
            {
                "cells": CellTally(
                    counted=(0, 0, 0, 250), measured=(0, 0, 0, 100), complete=(0, 0, 0, 10)
                )
            },
        ),
        (  # No cell is 3+: none has a complete intense membrane.
            Reason.MEMBRANES_INCOMPLETE,
            {"cells": CellTally()},
            {"cells": CellTally(counted=(20, 80, 400, 0), measured=(10, 40, 200, 0))},
        ),
        (  # No 3+ cell lies wholly on its tile: each may be complete.
            Reason.MEMBRANES_INCOMPLETE,
            {"cells": CellTally(counted=(0, 0, 445, 55), measured=(0, 0, 200, 0))},
            {"cells": CellTally(counted=(0, 0, 450, 50), measured=(0, 0, 200, 0))},
        ),
        (
            Reason.HETEROGENEOUS,
            {"percent": percent(20, 4.9, 0.1, 75)},
            {"percent": percent(20, 5, 0, 75)},
        ),
        (
            Reason.HETEROGENEOUS,
            {"percent": percent(20, 75.1, 0, 4.9), "intensity_grade": 1.0},
            {"percent": percent(20, 75, 0, 5), "intensity_grade": 1.0},
        ),
        (
            Reason.NEAR_THRESHOLD,
            {"percent": percent(0, 0, 86.9, 13.1), "intensity_grade": 2.0},
            {"percent": percent(0, 0, 87.1, 12.9), "intensity_grade": 2.0},
        ),
    ],
)
def test_a_reason_holds_from_its_limit_on(
    code: Reason, fine: dict[str, Any], wrong: dict[str, Any]
) -> None:
    assert code not in codes(**fine)
    assert code in codes(**wrong)


def test_a_reader_that_disagrees_is_named_with_its_score() -> None:
    guideline = load_guideline("breast-asco-cap-2018")
    evidence = replace(sure(), votes={"intensity": "2+", "plain": "1+"})
    (reason,) = review_reasons(Review(), guideline, evidence)
    assert reason.sentence == (
        "The readers disagree: the score is 3+, but 2+ by the tile classifier and 1+ by the plain "
        "reader of colors."
    )


COLON = "colorectal-heracles-2015"


@pytest.mark.parametrize(
    ("strong", "vote"), [(60.0, "3+ positive"), (5.0, "3+ negative"), (0.0, "0 negative")]
)
def test_votes_are_outcomes_and_not_scores_alone(strong: float, vote: str) -> None:
    names = ("0", "1+", "2+", "3+")
    plain, *_ = some_opinions({})
    shares = (1 - strong / 100, 0.0, 0.0, strong / 100)
    opinion = replace(plain, reader="plain", about="score", classes=names, probabilities=shares)
    findings = replace(some_findings(), opinions=(opinion,))
    assert _votes(findings, load_guideline(COLON)) == {"plain": vote}


def test_l_votes_by_the_scored_tiles_and_not_by_control_tissue() -> None:
    _, of_l, _ = some_opinions({})
    findings = some_findings()
    scored = tuple(replace(findings.tiles[0], intensity=0) for _ in range(88))
    # 12 more tiles hold control tissue of 3+.
    opinion = replace(of_l, probabilities=(0.88, 0.0, 0.0, 0.12))
    findings = replace(findings, opinions=(opinion,), tiles=scored)
    guideline = load_guideline("breast-asco-cap-2018")
    assert _votes(findings, guideline) == {"intensity": "0"}
    strong = (*scored[:79], *(replace(tile, intensity=3) for tile in scored[79:]))
    assert _votes(replace(findings, tiles=strong), guideline) == {"intensity": "3+"}
    assert _votes(replace(findings, tiles=()), guideline) == {}


def test_nobody_votes_where_clusters_decide_or_nothing_was_seen() -> None:
    names = ("0", "1+", "2+", "3+")
    plain, *_ = some_opinions({})
    seen = replace(plain, reader="plain", about="score", classes=names, probabilities=(0, 0, 0, 1))
    findings = replace(some_findings(), opinions=(seen,))
    assert _votes(findings, load_guideline("gastric-biopsy-2014")) == {}
    blank = replace(seen, probabilities=(0, 0, 0, 0))
    strange = replace(seen, reader="site", classes=("3+", "2+", "1+", "0"))
    for opinion in (blank, strange):
        found = replace(findings, opinions=(opinion,))
        assert _votes(found, load_guideline("breast-asco-cap-2018")) == {}


def test_unscored_tumor_that_may_change_the_score_is_told_with_the_score() -> None:
    faint = {"score": "0", "outcome": "0", "votes": {}, "percent": percent(96, 4, 0, 0)}
    of_zero = replace(sure(), **faint, intensity_grade=0.0, unscored_tumor_percent=10.1)
    guideline = load_guideline("breast-asco-cap-2018")
    (reason,) = review_reasons(Review(), guideline, of_zero)
    assert (reason.code, reason.sentence) == (
        Reason.TUMOR_NOT_SCORED,
        "10 % of the tumor on the H&E slide has no place on the HER2 slide and is not scored. If "
        "all of it were 3+, the result would be 3+.",
    )
    less = replace(of_zero, unscored_tumor_percent=10.0)
    assert review_reasons(Review(), guideline, less) == ()
    much = Review(max_unscored_deciding_percent=50)
    assert review_reasons(much, guideline, of_zero) == ()


def test_tiles_without_any_tumor_are_not_told_twice() -> None:
    assert codes(without_tumor_percent=60.0, found_percent=10.0) == [Reason.TUMOR_DISAGREES]


def test_control_tissue_is_missed_only_where_the_site_always_has_it() -> None:
    assert codes(control=None) == []
    assert codes(Review(control_required=True), control=None) == [Reason.CONTROL_MISSING]


def test_without_a_score_nothing_is_said_of_it() -> None:
    found = codes(score=None, percent=percent(0, 0, 0, 0), tumor_area_mm2=0.0)
    assert found == [Reason.NO_TUMOR]


@pytest.mark.parametrize(
    ("reader", "named"),
    [("plain", "the plain reader of colors"), ("segmentation", "the pixel segmentation")],
)
def test_strong_stain_outside_the_tumor_is_told_with_its_place(reader: str, named: str) -> None:
    evidence = replace(sure(), outside=replace(FOCUS, reader=reader))
    guideline = load_guideline("breast-asco-cap-2018")
    (reason,) = review_reasons(Review(), guideline, evidence)
    assert reason.sentence == (
        f"0.42 mm² outside the tumor are stained strongly, as {named} sees it, at 3.2 mm from the "
        "left and 12.5 mm from the top of the HER2 slide: tumor that was not found there is not "
        "scored."
    )
    json.dumps(reason.as_json())
    lax = Review(max_stain_outside_tumor_mm2=0.5)
    assert review_reasons(lax, guideline, evidence) == ()


def test_strong_stain_counts_most_where_no_tumor_was_found() -> None:
    found = codes(score=None, tumor_area_mm2=0.0, outside=FOCUS)
    assert found == [Reason.STAIN_OUTSIDE_TUMOR, Reason.NO_TUMOR]


def test_limits_come_from_the_settings() -> None:
    strict = Review(min_tumor_area_mm2=20, max_alignment_error_um=1)
    assert codes(strict) == [Reason.ALIGNMENT_ERROR, Reason.LITTLE_TUMOR]


def test_a_cluster_that_decides_is_always_looked_at() -> None:
    biopsy = load_guideline("gastric-biopsy-2014")
    (reason,) = review_reasons(Review(), biopsy, sure())
    assert reason.code == Reason.CLUSTERS_UNCONFIRMED and "99 of 3+" in reason.sentence
    unseen = replace(sure(), cells=CellTally())
    found = review_reasons(Review(), biopsy, unseen)
    assert [r.code for r in found] == [Reason.LITTLE_TUMOR, Reason.CLUSTERS_UNCONFIRMED]
    assert "no cell was found" in found[1].sentence


def test_the_most_serious_reason_comes_first() -> None:
    found = codes(
        alignment=replace(ALIGNED, agreement=0.1),
        control=CONTROL,
        score="2+",
        percent=percent(0, 0, 89, 11),
    )
    assert found[:2] == [Reason.MISMATCH, Reason.CONTROL_FAILED]
    assert found[-1] == Reason.NEAR_THRESHOLD


def test_every_reason_is_in_the_docs() -> None:
    text = DOCS.read_text()
    assert [code for code in Reason if f"`{code}`" not in text] == []
    assert [name for name in Review.model_fields if f"`{name}`" not in text] == []
