"""A drawn site with other colors and another tone curve: what 40 labeled tiles change there.

All tiles are synthetic. That the accuracy comes back to within 3 points is not tested, because it
does not: docs/calibration.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fixtures.weights import tiles_of
from numpy.typing import NDArray

from appliance.readers.inference import Network
from models.datasets.generated_tiles import FIRST_HELD_OUT_SEED, Tiles
from models.spec import CLASSES, Task, reference_folder
from models.training.site_fit import LabeledLogits, calibrated, fit_site

FIRST_SEED, COUNT = FIRST_HELD_OUT_SEED + 6_000_000, 240
LABELED, OTHERS = 40, 60
DRAWS = 12
"""Choices of the 40 labeled tiles. A bound is for their mean; a refusal changes nothing."""


@dataclass(frozen=True)
class Shift:
    """Scanner of a site: gains of the optical density per channel RGB, then a tone curve.

    The curve adds ``-contrast * sin(2 pi v) / (2 pi)`` to each value v in 0-1: black, mid gray and
    glass stay, contrast rises (> 0) or falls (< 0).
    """

    gains: tuple[float, float, float]
    contrast: float

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The tile as this scanner gives it, uint8 RGB, glass at 255."""
        value = (np.maximum(pixels, 1).astype(np.float32) / 255) ** np.array(self.gains, np.float32)
        value -= self.contrast * np.sin(2 * np.pi * value) / (2 * np.pi)
        return np.clip(value * 255 + 0.5, 0, 255).astype(np.uint8)


SHIFTS = {
    Task.TUMOR: Shift((1.1, 1.0, 0.9), -0.6),
    Task.INTENSITY: Shift((0.95, 1.0, 1.1), 0.4),
}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    cache: Path = tmp_path_factory.mktemp("site")
    return tiles_of(cache, FIRST_SEED, COUNT)


def logits_of(
    network: Network, pixels: NDArray[np.uint8], shift: Shift | None
) -> NDArray[np.float64]:
    parts = []
    for start in range(0, len(pixels), 8):
        some = np.array(pixels[start : start + 8])
        parts.append(network.logits(some if shift is None else shift.of(some)))
    return np.concatenate(parts).astype(np.float64)[:, None]


def balanced_accuracy(logits: NDArray[np.float64], truth: NDArray[np.uint8]) -> float:
    said = logits[:, 0].argmax(axis=1)
    return float(np.mean([(said[truth == k] == k).mean() for k in np.unique(truth)]))


@pytest.mark.slow
@pytest.mark.parametrize("task", [Task.TUMOR, Task.INTENSITY])
def test_forty_tiles_of_a_shifted_site_never_harm_and_the_fit_of_c_helps(
    task: Task, tiles: Tiles
) -> None:
    network = Network(reference_folder(task), "cpu")
    chosen = np.flatnonzero(tiles.tumor) if task is Task.INTENSITY else np.arange(COUNT // 2)
    pixels = (tiles.ihc if task is Task.INTENSITY else tiles.he)[chosen]
    truth = (tiles.intensity if task is Task.INTENSITY else tiles.tumor)[chosen]
    usual = logits_of(network, pixels, None)
    moved = logits_of(network, pixels, SHIFTS[task])
    classes = len(CLASSES[task])
    results = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        labeled = np.zeros(len(truth), dtype=bool)
        for k in range(classes):
            labeled[rng.permutation(np.flatnonzero(truth == k))[: LABELED // classes]] = True
        assert (labeled.sum(), (~labeled).sum() >= OTHERS) == (LABELED, True)
        given = LabeledLogits(
            logits=moved[labeled],
            truth=np.array(truth[labeled])[:, None],
            patient=np.arange(LABELED).astype(np.str_),
        )
        fitted = fit_site(given, task)
        back = calibrated(moved[~labeled], fitted.scale, np.array(fitted.offsets))
        results.append(
            (
                balanced_accuracy(usual[~labeled], truth[~labeled]),
                balanced_accuracy(moved[~labeled], truth[~labeled]),
                balanced_accuracy(moved[~labeled] if fitted.refusal else back, truth[~labeled]),
                balanced_accuracy(back, truth[~labeled]),
                not fitted.refusal,
            )
        )
    unshifted, before, result, fit, accepted = np.mean(results, axis=0)
    print(f"{task}: {unshifted:.3f} {before:.3f} {fit:.3f} {result:.3f} {accepted:.2f}")
    assert before < unshifted - 0.02
    assert result > before - 0.005
    if task is Task.TUMOR:
        assert fit > before + 0.01
