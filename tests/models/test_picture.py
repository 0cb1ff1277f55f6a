"""The classifier of pictures: drawn slides that trained nothing, odd tiles, damaged weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from appliance.slides.picture import is_contradiction
from models.errors import ManifestError
from models.picture.features import TILE_PX, measure_tile, slide_features
from models.picture.kinds import HE, KINDS, MEMBRANE, WEIGHTS_PATH, load_classifier
from models.training.picture import draw_material, fit

FIRST_SEED = 55_000_000
"""Far from the seeds of training."""


@pytest.fixture(scope="module")
def chances() -> dict[str, list[dict[str, float]]]:
    """Return the probabilities of drawn slides, by stain."""
    material = draw_material(range(FIRST_SEED, FIRST_SEED + 6), wild=0.5)
    found: dict[str, list[dict[str, float]]] = {}
    rows = load_classifier().probabilities(material.features)
    for stain, row in zip(material.stains, rows, strict=True):
        found.setdefault(str(stain), []).append(dict(zip(KINDS, row.tolist(), strict=True)))
    return found


def test_right_slides_are_not_doubted(chances: dict[str, list[dict[str, float]]]) -> None:
    assert not any(is_contradiction(each, (HE,)) for each in chances["he"])
    assert not any(is_contradiction(each, (MEMBRANE,)) for each in chances["her2"])


def test_no_ihc_is_taken_for_he(chances: dict[str, list[dict[str, float]]]) -> None:
    for stain in ("her2", "receptor", "keratin", "lymphocytes", "fibers", "none"):
        assert all(is_contradiction(each, (HE,)) for each in chances[stain]), stain


def test_no_he_and_no_nuclear_stain_is_taken_for_her2(
    chances: dict[str, list[dict[str, float]]],
) -> None:
    for stain in ("he", "receptor", "none"):
        assert all(is_contradiction(each, (MEMBRANE,)) for each in chances[stain]), stain


@pytest.mark.parametrize("gray", [0, 128, 254])
def test_odd_tiles_give_finite_features(gray: int) -> None:
    tile = np.full((TILE_PX, TILE_PX, 3), gray, dtype=np.uint8)
    tile[:20] = 250
    measured = measure_tile(tile, (255, 255, 255))
    if gray == 254:
        assert measured is None  # glass
        return
    assert measured is not None
    features = slide_features([measured])
    assert np.isfinite(features).all()
    assert load_classifier().probabilities(features).sum() == pytest.approx(1.0)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    facts = json.loads(WEIGHTS_PATH.read_text())
    facts["center"][0] += 0.001
    changed = tmp_path / "weights.json"
    changed.write_text(json.dumps(facts))
    with pytest.raises(ManifestError):
        load_classifier(changed)
    with pytest.raises(ManifestError):
        load_classifier(tmp_path / "missing.json")


def test_training_separates_what_it_saw() -> None:
    material = draw_material(range(2), wild=0.0)
    facts = fit(material, seed=3)
    assert facts["trained"]["fields"] == len(material.kinds)
    assert facts == fit(material, seed=3)
