"""Appearance: tiles like those of training pass, blurred and discolored ones do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.weights import tiles_of, tiny_weights
from numpy.typing import NDArray

from models.appearance import differs, measure, with_statistics
from models.datasets.generated_tiles import FIRST_HELD_OUT_SEED
from models.errors import DataSetError
from models.spec import MANIFEST_NAME, Task, read_manifest

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module", params=["he", "ihc"])
def statistics_and_tiles(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, held_out_tiles: Path
) -> tuple[dict[str, Any], Pixels, Pixels]:
    """Statistics of 64 tiles, those tiles, and 24 others."""
    folder = tmp_path_factory.mktemp("weights")
    known = getattr(tiles_of(held_out_tiles, FIRST_HELD_OUT_SEED + 5_000_000, 64), request.param)
    other = getattr(tiles_of(held_out_tiles, FIRST_HELD_OUT_SEED + 6_000_000, 24), request.param)
    spec = with_statistics(tiny_weights(folder), known)
    assert spec.appearance is not None
    return spec.appearance, known, other


def unusual(statistics: dict[str, Any], tiles: Pixels, change: Callable[[Pixels], Pixels]) -> str:
    """Group in which most of the changed tiles differ; empty if most do not."""
    found = [differs(statistics, m) for t in tiles if (m := measure(change(t))) is not None]
    assert len(found) > 0.7 * len(tiles)
    return max({"stain", "focus", None}, key=found.count) or ""


def test_training_tiles_lie_inside(
    statistics_and_tiles: tuple[dict[str, Any], Pixels, Pixels],
) -> None:
    statistics, known, other = statistics_and_tiles
    stored = json.loads(json.dumps(statistics))
    outside = [differs(stored, m) for t in known if (m := measure(t)) is not None]
    assert sum(d is not None for d in outside) <= 0.01 * len(outside)
    assert unusual(statistics, other, lambda tile: tile) == ""


def blurred(tile: Pixels) -> Pixels:
    result: Pixels = cv2.GaussianBlur(tile, (0, 0), 8)
    return result


def green(tile: Pixels) -> Pixels:
    """The hue turned by half a circle, as no stain of a section looks."""
    hsv = cv2.cvtColor(tile, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 90) % 180
    result: Pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return result


@pytest.mark.parametrize(("change", "differs_in"), [(blurred, "focus"), (green, "stain")])
def test_what_was_never_seen_lies_outside(
    statistics_and_tiles: tuple[dict[str, Any], Pixels, Pixels],
    change: Callable[[Pixels], Pixels],
    differs_in: str,
) -> None:
    statistics, _, other = statistics_and_tiles
    assert unusual(statistics, other, change) == differs_in


def test_glass_is_not_judged() -> None:
    assert measure(np.full((512, 512, 3), 253, dtype=np.uint8)) is None
    assert measure(np.zeros((512, 512, 3), dtype=np.uint8)) is not None


def test_nothing_to_describe_is_said(tmp_path: Path) -> None:
    spec = tiny_weights(tmp_path)
    with pytest.raises(DataSetError, match="holds tissue"):
        with_statistics(spec, np.full((2, 512, 512, 3), 255, dtype=np.uint8))


def test_manifests_without_statistics_still_load(tmp_path: Path) -> None:
    tiny_weights(tmp_path, task=Task.INTENSITY)
    path = tmp_path / MANIFEST_NAME
    raw = json.loads(path.read_text())
    del raw["appearance"]
    path.write_text(json.dumps(raw))
    assert read_manifest(tmp_path).appearance is None
