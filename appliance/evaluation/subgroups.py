"""Figures of judged pairs by scanner, resolution, score and organ, and of the answered pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from appliance.evaluation.case import FailedCase, JudgedCase
from appliance.evaluation.judged_tiles import judged_tiles
from appliance.findings.classes import CLASS_NAMES
from models.evaluation.confusion import segmentation_figures
from models.evaluation.judged import Judged
from models.spec import CLASSES, Task

LEAST_TILES = 20
"""Least number of tiles of a subgroup on which a network is judged."""

Case = JudgedCase | FailedCase


def selective(cases: Sequence[Case]) -> dict[str, float | None]:
    """`answered`: share of the cases with a score and without a reason for review. `right`: share
    of these with the right score; None where there are none."""
    answered = [case for case in cases if _is_answered(case)]
    return {
        "answered": _share(len(answered), len(cases)),
        "right": _share(sum(_distance(case) == 0 for case in answered), len(answered)),
    }


def subgroups(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Figures of each value of scanner, mpp, score and organ; numbers are numbers of pairs.

    C, L and M are judged on the tiles of the quoted figures; None under `LEAST_TILES` of them. A
    value is None where the truth does not tell it.
    """
    ways: dict[str, Callable[[Case], Any]] = {
        "scanner": lambda case: case.facts.get("scanner"),
        "mpp": lambda case: case.facts.get("mpp"),
        "score": lambda case: CLASS_NAMES[case.score],
        "organ": lambda case: case.facts.get("organ"),
    }
    rows = []
    for by, value_of in ways.items():
        values = {value_of(case) for case in cases}
        for value in sorted(values, key=lambda v: (v is None, v)):
            some = [case for case in cases if value_of(case) == value]
            rows.append({"by": by, "value": value, **_figures(some)})
    return rows


def _figures(cases: Sequence[Case]) -> dict[str, Any]:
    distances = [_distance(case) for case in cases]
    tiles = judged_tiles([case for case in cases if isinstance(case, JudgedCase)], "model")
    matrices = tiles.segmentation.matrices
    iou = segmentation_figures(matrices.sum(axis=0), CLASSES[Task.SEGMENTATION])["mean_iou"]
    return {
        "n": len(cases),
        "exact": sum(distance == 0 for distance in distances),
        "within_one": sum(distance is not None and distance <= 1 for distance in distances),
        "reviewed": sum(isinstance(case, JudgedCase) and bool(case.review) for case in cases),
        "confidently_wrong": sum(_is_answered(case) and _distance(case) != 0 for case in cases),
        "tumor.accuracy": _accuracy(tiles.tumor),
        "intensity.accuracy": _accuracy(tiles.intensity),
        "segmentation.mean_iou": iou if len(matrices) >= LEAST_TILES else None,
    }


def _distance(case: Case) -> int | None:
    """Number of classes between the score and the truth; None without a score."""
    found = case.found["model"] if isinstance(case, JudgedCase) else -1
    return None if found < 0 else abs(found - case.score)


def _is_answered(case: Case) -> bool:
    """Return whether a case has a score that nobody is asked to look at."""
    return isinstance(case, JudgedCase) and _distance(case) is not None and not case.review


def _accuracy(judged: Judged) -> float | None:
    right = int((judged.found == judged.truth).sum())
    return _share(right, len(judged)) if len(judged) >= LEAST_TILES else None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
