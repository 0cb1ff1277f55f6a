"""Tile and slide scores from pixel counts: Eq. 5-9 and Algorithm 1 of arXiv 2512.22335.

The reported score is that of a guideline: `appliance.assays.her2.guideline`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.domain import Her2Score
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.measured import TileFinding

INTENSITY_LETTERS = ("N", "F", "W", "S")
"""Letters of the paper's tile label: none, faint, weak, strong."""
SEEN_PERCENT = 5.0
"""Least share (0-100) of a tile's tumor pixels at which a class counts as seen on it."""


def tile_grade(counts: NDArray[np.int64]) -> int:
    """Grade (0-3) whose class covers most tumor pixels of the tile: max(N{1..4}) of Eq. 7.

    A tie goes to the higher grade. A tile without tumor pixels has grade 0 and is not scored.
    """
    tumor = counts[1:5]
    return int(3 - np.argmax(tumor[::-1])) if tumor.sum() > 0 else 0


def tile_label(counts: NDArray[np.int64], intensity: int) -> str:
    """Tile label of the paper: intensities seen, in order N, F, W, S, and the score: ``NF/1+``.

    `intensity` (0-3) is the class of network L, which counts as seen too. A tile without tumor
    pixels is annotated and not scored: ``N``, whatever L says.
    """
    tumor = counts[1:5]
    total = int(tumor.sum())
    if total == 0:
        # L always names one of its classes; without tumor it has seen the stain of something else.
        return INTENSITY_LETTERS[0]
    seen = [100.0 * n / total >= SEEN_PERCENT for n in tumor]
    seen[intensity] = True
    letters = "".join(
        letter for letter, there in zip(INTENSITY_LETTERS, seen, strict=True) if there
    )
    return f"{letters}/{CLASS_NAMES[tile_grade(counts)]}"


def paper_score(tiles: Sequence[TileFinding]) -> Her2Score | None:
    """Slide score by Eq. 8, Algorithm 1 exactly as printed: the maximum of T over scored tiles.

    Tiles of 2+ or 3+ (k in {3, 4}) decide where there are any, else all tiles; both give the
    maximum. One stray tile makes a slide 3+, so a guideline decides the reported score instead. The
    score is None without scored tiles.
    """
    grades = [tile.grade for tile in _scored(tiles)]
    return Her2Score.from_grade(max(grades)) if grades else None


def wsi_percent(tiles: Sequence[TileFinding]) -> float:
    """WSI % of Eq. 9: 100 · (area scored 2+ or 3+) / (tumor area), in scored tiles; 0 if none."""
    grades = [tile.grade for tile in _scored(tiles)]
    return 100.0 * sum(grade >= 2 for grade in grades) / len(grades) if grades else 0.0


def _scored(tiles: Sequence[TileFinding]) -> list[TileFinding]:
    """Tiles on which network M finds tumor; the others are annotated and not scored."""
    return [tile for tile in tiles if sum(tile.percent) > 0]
