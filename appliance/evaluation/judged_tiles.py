"""Tiles of judged pairs by which a network is judged: those whose truth is clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.evaluation.case import JudgedCase
from models.evaluation.judged import Judged, JudgedPixels
from models.spec import TUMOR_SHARE

TUMOR_FROM, OTHER_UP_TO = 0.5, 0.05
"""Tumor share from which on a tile is tumor, and up to which it is not; tiles between them count
only in ``all``."""
MAJORITY = 0.5
"""Share of a tile's tumor px that its intensity class must exceed; else it has no single class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTiles:
    """Answers of one side on n H&E tiles and m scored IHC tiles of some cases.

    `is_clear` (n,): the tile is tumor, or is not. `is_single` (m,): one class holds the tile's
    tumor. `is_tumor` (m,): the tile holds tumor.
    """

    he: Judged
    is_clear: NDArray[np.bool_]
    ihc: Judged
    is_single: NDArray[np.bool_]
    is_tumor: NDArray[np.bool_]
    matrices: NDArray[np.int64]

    @property
    def tumor(self) -> Judged:
        """C on the tiles with a clear truth."""
        return self.he.where(self.is_clear)

    @property
    def intensity(self) -> Judged:
        """L on the tiles of a single class."""
        return self.ihc.where(self.is_single)

    @property
    def segmentation(self) -> JudgedPixels:
        """M on the tiles with tumor."""
        return self.pixels(self.is_tumor)

    def pixels(self, chosen: NDArray[np.bool_]) -> JudgedPixels:
        """M on the chosen tiles, a mask (m,)."""
        return JudgedPixels(matrices=self.matrices[chosen], patient=self.ihc.patient[chosen])


def judged_tiles(cases: Sequence[JudgedCase], side: str) -> JudgedTiles:
    """Tiles of some cases, with the answers of ``model`` or of ``baseline``."""
    share = _joined([c.he_share for c in cases], (0,))
    counts = _joined([c.ihc_counts for c in cases], (0, 5))
    tumor_px, tile_px = counts[:, 1:].sum(axis=1), np.maximum(counts.sum(axis=1), 1)
    leading = counts[:, 1:].max(axis=1) if len(counts) else np.zeros(0)
    grade = counts[:, 1:].argmax(axis=1) if len(counts) else np.zeros(0, np.int64)
    return JudgedTiles(
        he=_gathered(cases, [c.he_said[side] for c in cases], share >= TUMOR_SHARE, 2),
        is_clear=(share >= TUMOR_FROM) | (share <= OTHER_UP_TO),
        ihc=_gathered(cases, [c.ihc_said[side] for c in cases], grade, 4),
        is_single=(tumor_px >= TUMOR_FROM * tile_px) & (leading > MAJORITY * tumor_px),
        is_tumor=tumor_px >= TUMOR_SHARE * tile_px,
        matrices=_joined([c.matrices[side] for c in cases], (0, 5, 5)).astype(np.int64),
    )


def _gathered(
    cases: Sequence[JudgedCase],
    said: list[NDArray[np.float32]],
    truth: NDArray[Any],
    classes: int,
) -> Judged:
    patients = [np.repeat(c.patient, len(s)) for c, s in zip(cases, said, strict=True)]
    return Judged(
        truth=truth.astype(np.int64),
        probability=_joined(said, (0, classes)).astype(np.float64),
        patient=_joined(patients, (0,)).astype(np.str_),
    )


def _joined(parts: list[NDArray[Any]], empty: tuple[int, ...]) -> NDArray[Any]:
    """The parts as one array; zeros of shape `empty` without parts."""
    return np.concatenate(parts) if parts else np.zeros(empty)
