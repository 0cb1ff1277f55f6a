"""Teacher of parts: it learns the classes of tiles of those of slides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.interim.places import TileFeatures
from models.interim.teacher import class_of_part, fit_teacher, highest

CLASSES, TILES = 4, 20


def slide(seed: int) -> tuple[TileFeatures, np.ndarray, int]:
    """Return IHC tiles, the class of each, and the highest that 10 % of them have."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 1 + rng.integers(0, CLASSES), TILES)
    features = rng.normal(0, 1, (TILES, 6)).astype(np.float32)
    features[:, 0] += 8 * classes
    places = np.stack(np.divmod(np.arange(TILES), 5)[::-1], axis=1)
    label = int(np.sort(classes)[-TILES // 10])
    return TileFeatures(places=places, features=features), classes, label


def test_tiles_have_their_own_class_though_only_slides_are_named() -> None:
    train = [slide(seed) for seed in range(120)]
    teacher = fit_teacher([s for s, _, _ in train], [y for *_, y in train], CLASSES, TILES, seed=0)
    right, by_slide = [], []
    for seed in range(1000, 1040):
        tiles, classes, label = slide(seed)
        found = (teacher.chances(tiles) > 0.5).sum(axis=1)
        right += list(found == classes)
        by_slide += list(classes == label)
    assert np.mean(right) > 0.75 > 0.5 > np.mean(by_slide)


def test_equal_seeds_give_equal_names_and_leave_other_draws_as_they_are() -> None:
    train = [slide(seed) for seed in range(8)]
    slides, labels = [s for s, _, _ in train], [y for *_, y in train]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (
        fit_teacher(slides, labels, CLASSES, 10, seed).chances(slides[0]) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(3), expected)
    assert (one == same).all() and (one != other).any()
    assert (np.diff(one, axis=1) <= 0).all(), "3+ is never likelier than 2+ or more"


def test_a_class_that_no_slide_has_gives_no_negative_chance() -> None:
    train = [each for each in map(slide, range(40)) if each[2] in (0, 3)]
    teacher = fit_teacher([s for s, _, _ in train], [y for *_, y in train], CLASSES, TILES, seed=0)
    with torch.no_grad():
        teacher.cuts.copy_(teacher.cuts.flip(0))
    chances = teacher.chances(train[0][0])
    assert (np.diff(chances, axis=1) <= 0).all() and (class_of_part(chances) >= 0).all()


def test_the_rule_of_a_slide_holds_for_a_part() -> None:
    tiles = np.array([[1.0, 0.9, 0.2]] + [[0.5, 0.1, 0.0]] * 10, dtype=np.float32)
    # One of eleven tiles is less than 10 % of them, and one of ten is not.
    assert class_of_part(tiles) == pytest.approx([0.5, 0.4, 0.1, 0.0])
    assert class_of_part(tiles[:10]) == pytest.approx([0.0, 0.1, 0.7, 0.2])
    assert float(highest(torch.arange(20.0))) == 18.0
