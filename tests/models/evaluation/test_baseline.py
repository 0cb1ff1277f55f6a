"""Baseline: fitted for the present generator, and better than chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.datasets.generated_tiles import GENERATOR_VERSION, Tiles, generated_tiles
from models.errors import ManifestError
from models.evaluation.baseline import FIRST_SEED, TILES, dab_statistics, fit, load_baseline
from models.evaluation.figures import auc
from models.spec import Task


def silent(_what: str, _done: int, _total: int) -> None:
    return None


def test_the_stored_thresholds_are_of_the_present_generator() -> None:
    baseline = load_baseline()
    assert baseline.generator_version == GENERATOR_VERSION, (
        "fit it anew: python -m models.evaluation.baseline"
    )
    assert (baseline.first_seed, baseline.tiles) == (FIRST_SEED, TILES)
    for ordered in (baseline.intensity, baseline.grade):
        assert list(ordered.thresholds) == sorted(ordered.thresholds)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    """Tiles that fitted nothing."""
    folder = tmp_path_factory.mktemp("tiles")
    return generated_tiles(folder, first_seed=905_000_000, count=16, progress=silent)


def test_it_answers_like_a_network_and_better_than_chance(tiles: Tiles) -> None:
    baseline = load_baseline()
    tumor = baseline.classify(Task.TUMOR, tiles.he)
    assert tumor.shape == (16, 2)
    assert auc(tiles.tumor == 1, tumor[:, 1].astype(np.float64)) > 0.6
    chosen = np.flatnonzero(tiles.tumor)
    grades = baseline.classify(Task.INTENSITY, tiles.ihc[chosen])
    np.testing.assert_allclose(grades.sum(axis=1), 1, atol=1e-5)
    assert (grades.argmax(axis=1) == tiles.intensity[chosen]).mean() > 0.5
    maps = baseline.segment(tiles.ihc[chosen])
    assert maps.shape == (len(chosen), 128, 128)
    assert (maps == tiles.classes[chosen]).mean() > 0.3


def test_a_fit_is_repeatable_and_orders_brown(tiles: Tiles) -> None:
    assert fit(tiles) == fit(tiles)
    pale, brown = (
        np.zeros((512, 512, 3), np.uint8) + np.array(color, np.uint8)
        for color in ((225, 215, 220), (140, 90, 60))
    )
    assert dab_statistics(pale)["p95"] < dab_statistics(brown)["p95"]
    glass = np.full((512, 512, 3), 255, np.uint8)
    assert np.isfinite(dab_statistics(glass)["p95"])


def test_a_damaged_file_says_how_to_mend_it(tmp_path: Path) -> None:
    (tmp_path / "baseline.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"python -m models\.evaluation\.baseline"):
        load_baseline(tmp_path / "baseline.json")
