"""Truth of single cells: it agrees with pixels and labels of the same seed."""

from __future__ import annotations

import numpy as np

from models.synthesis.tile_pairs import synthesize_tile_pair
from models.synthesis.truth import tile_cells

SEED = 950_000_017
"""First seed; tiles of every class follow, and one without tumor."""


def test_each_cell_lies_on_its_own_label() -> None:
    truth, pair = tile_cells(SEED), synthesize_tile_pair(SEED)
    x, y = np.floor(truth.xy_px).astype(int).T
    # A cell whose center a lumen took has no label.
    assert (pair.class_map[y, x] == truth.grade + 1).mean() > 0.95
    assert len(truth.grade) == len(truth.membrane) == len(truth.completeness) == len(truth.drawn)


def test_what_is_drawn_is_on_average_what_was_meant() -> None:
    parts = [tile_cells(seed) for seed in range(SEED, SEED + 6)]
    grade, meant, drawn = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("grade", "completeness", "drawn")
    )
    whole = np.isfinite(drawn)
    assert 0.5 < whole.mean() < 1
    assert ((drawn[whole] >= 0) & (drawn[whole] <= 1)).all()
    stained = whole & (grade > 0)
    assert abs(drawn[stained].mean() - meant[stained].mean()) < 0.1
    assert drawn[whole & (grade == 0)].mean() < 0.2


def test_a_tile_without_tumor_has_no_cells() -> None:
    seed = next(s for s in range(SEED, SEED + 50) if not synthesize_tile_pair(s).class_map.any())
    assert len(tile_cells(seed).grade) == 0
