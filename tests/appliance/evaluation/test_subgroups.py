"""Figures by scanner, resolution, score and organ."""

from __future__ import annotations

from fixtures.judged_cases import TILES, a_judged_case

from appliance.evaluation.case import FailedCase
from appliance.evaluation.pair_figures import summarize
from appliance.evaluation.subgroups import LEAST_TILES, selective, subgroups
from appliance.settings.settings import Settings
from models.evaluation.report import html_report

CASES = [
    a_judged_case("a", score=2, found=2),
    a_judged_case("b", score=2, found=2, review=("borderline",), scanner="warm"),
    a_judged_case("c", score=0, found=3, wrong_tiles=TILES // 2, scanner="warm", mpp=0.5),
    a_judged_case("d", score=1, found=2, review=("borderline",), organ="gastric"),
    FailedCase(patient="e", score=3, problem="no tissue", facts={"scanner": "warm"}),
]


def test_rows_are_the_figures_of_their_cases() -> None:
    rows = {(row["by"], row["value"]): row for row in subgroups(CASES)}
    assert list(rows) == [
        ("scanner", "cool"),
        ("scanner", "warm"),
        ("mpp", 0.25),
        ("mpp", 0.5),
        ("mpp", None),
        ("score", "0"),
        ("score", "1+"),
        ("score", "2+"),
        ("score", "3+"),
        ("organ", "breast"),
        ("organ", "gastric"),
        ("organ", None),
    ]
    for by in ("scanner", "mpp", "score", "organ"):
        assert sum(row["n"] for key, row in rows.items() if key[0] == by) == len(CASES)
    warm = rows["scanner", "warm"]
    assert warm["n"] == 3
    assert (warm["exact"], warm["within_one"], warm["reviewed"]) == (1, 1, 1)
    assert warm["confidently_wrong"] == 1  # c; e has no score
    assert warm["tumor.accuracy"] == warm["intensity.accuracy"] == 0.75
    cool = rows["scanner", "cool"]
    assert (cool["exact"], cool["within_one"]) == (1, 2)
    assert cool["confidently_wrong"] == 0
    assert cool["tumor.accuracy"] == 1
    # 75 of 100 px of each class are found, the others are called background.
    assert rows["score", "2+"]["segmentation.mean_iou"] == round((0.75 + 0) / 2, 4)


def test_a_network_is_not_judged_on_few_tiles() -> None:
    assert TILES >= LEAST_TILES
    (failed,) = (row for row in subgroups(CASES) if row["by"] == "score" and row["value"] == "3+")
    assert failed["n"] == 1
    for figure in ("tumor.accuracy", "intensity.accuracy", "segmentation.mean_iou"):
        assert failed[figure] is None


def test_selective_figures() -> None:
    assert selective(CASES) == {"answered": 0.4, "right": 0.5}
    assert selective(CASES[3:]) == {"answered": 0.0, "right": None}


def test_the_result_and_the_report_hold_them() -> None:
    result = summarize(CASES, Settings(), {"data": "synthetic"})
    assert result["selective.answered"] == 0.4
    assert result["selective.right"] == 0.5
    assert result["subgroups"] == subgroups(CASES)
    assert [row.get("mpp") for row in result["cases"]] == [0.25, 0.25, 0.5, 0.25, None]
    page = html_report(result)
    assert "<h2>Subgroups</h2>" in page
    assert "<td>scanner warm</td><td>3</td><td>1</td><td>1</td><td>1</td><td>1</td>" in page
    assert "<td>selective.right</td><td>0.500</td>" in page
    assert "<td>organ unknown</td>" in page
