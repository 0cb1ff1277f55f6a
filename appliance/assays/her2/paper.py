"""Scores of arXiv 2512.22335 from pixel counts: Eq. 5-9 and Algorithm 1, and what section 3.3 adds.

They are reported beside the score of the guideline (`appliance.assays.her2.guideline`) and decide
nothing. Where the print can be read in two ways, both are computed; `docs/scoring.md` has the lines
of the paper beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.domain import Binary, Her2Score
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.measured import TileFinding
from appliance.geometry import TILE_UM

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperScore:
    """Slide score of Eq. 8 in both readings.

    `highest_class` is the maximum of the class over the tiles of 2+ and 3+ (k in {3, 4}), as Eq. 8
    prints it. `largest_count` is the class of the tile among them whose winning count is largest:
    in Eq. 7 the maximum runs over pixel counts. `fallback`: no tile is 2+ or 3+, which leaves the
    printed set empty, and all scored tiles are taken. That is Tandem's addition, not the paper's.
    """

    highest_class: Her2Score
    largest_count: Her2Score
    fallback: bool


def paper_score(tiles: Sequence[TileFinding]) -> PaperScore | None:
    """Slide score by Eq. 8, Algorithm 1; None without scored tiles.

    A count is compared as its share (0-100) of the tile's pixels (Eq. 6): all tiles have the same
    H·W. A tie goes to the higher class.
    """
    scored = _scored(tiles)
    if not scored:
        return None
    printed = _stained(scored)
    chosen = printed or scored
    _, largest = max((tile.percent[tile.grade], tile.grade) for tile in chosen)
    return PaperScore(
        highest_class=Her2Score.from_grade(max(tile.grade for tile in chosen)),
        largest_count=Her2Score.from_grade(largest),
        fallback=not printed,
    )


def wsi_percent(tiles: Sequence[TileFinding]) -> float:
    """WSI % of Eq. 9 over the scored tumor: 100 · (tiles of 2+ or 3+) / (scored tiles); 0 if none.

    The paper divides by H·W of the slide (`wsi_percent_of_slide`). Over the tumor it is the share
    that a clinician asks for.
    """
    scored = _scored(tiles)
    return 100.0 * len(_stained(scored)) / len(scored) if scored else 0.0


def wsi_percent_of_slide(tiles: Sequence[TileFinding], size_um: tuple[float, float]) -> float:
    """WSI % of Eq. 9 as printed, over H·W: 100 · (area of tiles of 2+ or 3+) / (area of the slide).

    `size_um` is width and height of the target slide, glass included. Of a tile at the right or
    lower edge only the part on the slide counts: the rest is padding (Eq. 1-2).
    """
    width_um, height_um = size_um
    covered_um2 = sum(
        min(TILE_UM, width_um - tile.column * TILE_UM)
        * min(TILE_UM, height_um - tile.row * TILE_UM)
        for tile in _stained(_scored(tiles))
    )
    return 100.0 * covered_um2 / (width_um * height_um)


def binary_by_pixels(counts: NDArray[np.int64]) -> Binary | None:
    """Binary status by pixels: Eq. 6 with x in {1, 4}, as section 3.3 constrains it.

    `counts` (5,) are px per class of the label map over the scored tiles. Only class 1 (score 0,
    negative) and class 4 (3+, positive) are counted, and the larger count decides. The paper does
    not name a tie; it is equivocal here. None without a px of either class.
    """
    negative, positive = int(counts[1]), int(counts[4])
    if negative == positive:
        return "equivocal" if negative else None
    return "positive" if positive > negative else "negative"


def _scored(tiles: Sequence[TileFinding]) -> list[TileFinding]:
    """Tiles on which network M finds tumor; the others are annotated and not scored."""
    return [tile for tile in tiles if sum(tile.percent) > 0]


def _stained(scored: Sequence[TileFinding]) -> list[TileFinding]:
    """Scored tiles of 2+ or 3+: k in {3, 4} of Eq. 8-9."""
    return [tile for tile in scored if tile.grade >= 2]
