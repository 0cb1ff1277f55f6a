"""Classifier of patches: a network of `models.slide_level.networks`, trained on annotated patches.

Counts that an aggregator learns from are of patches that the classifier did not learn from: it is
trained several times, each time without a part of the patients, whose slides it then counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.patch_counts.examples import Labels, labeled_patches, read_patches
from models.patch_counts.patches import CLASSES
from models.slide_level.beginning import Begun, begin
from models.slide_level.cohort import CohortSlide
from models.slide_level.folds import drawn_parts
from models.slide_level.low_resolution import Examples, Recipe, slide_logits, train_network
from models.slide_level.networks import NETWORKS, SlideNetwork
from models.slide_level.system import Say
from models.slide_level.tasks import SlideTask

_KEPT = 12
"""Trainings that are kept: the folds of a task, for each aggregator after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRecipe:
    """Numbers of a training on patches.

    `training` are those of the network, whose `px` is the edge to which patches are shrunk. At most
    `most` patches of a slide teach, always the same ones. `parts` is the number of parts of the
    patients; each part is counted by a network that did not learn from it.
    """

    resolution: str
    training: Recipe
    most: int = 40
    parts: int = 3
    labels: Labels = "inherited"
    config: tuple[tuple[str, Any], ...] = field(default=())

    def network(self) -> SlideNetwork:
        """Return the network before training."""
        return SlideNetwork(self.numbers(), CLASSES, self.training.px)

    def numbers(self) -> dict[str, Any]:
        """Return the network's own numbers: `config`, else those of its name."""
        return dict(self.config) or dict(NETWORKS[self.training.network])


@dataclass(frozen=True, slots=True)
class Counted:
    """Trained network; `counts` int64 (n, 4) of the training slides by networks that did not see
    them; `facts` of the training."""

    network: SlideNetwork
    counts: NDArray[np.int64]
    facts: dict[str, Any]


@lru_cache(maxsize=_KEPT)
def train_and_count(
    train: tuple[CohortSlide, ...],
    validation: tuple[CohortSlide, ...],
    recipe: PatchRecipe,
    seed: int,
    say: Say,
) -> Counted:
    """Train on the annotated patches of `train`; count each of its slides out of fold.

    The patches of `validation` stop each training. The result is kept for the next aggregator.

    Raises
    ------
    DataSetError
        If slides lack patches, a part has no annotated one, or there are fewer patients than parts.
    """
    parts = drawn_parts(train, SlideTask.FOUR_WAY, recipe.parts, seed)
    counts = np.zeros((len(train), CLASSES), dtype=np.int64)
    for part in range(recipe.parts):
        inside = [slide for slide in train if parts[slide.patient] != part]
        network, _ = _trained(inside, validation, recipe, seed + 1000 * (part + 1), say)
        for number, slide in enumerate(train):
            if parts[slide.patient] == part:
                counts[number] = count_patches(network, slide, recipe)
        say(f"patches of part {part + 1} of {recipe.parts} are counted")
    network, facts = _trained(list(train), validation, recipe, seed, say)
    return Counted(network, counts, facts)


def count_patches(
    network: SlideNetwork, slide: CohortSlide, recipe: PatchRecipe
) -> NDArray[np.int64]:
    """Return the number of usable patches of a slide by class, (4,)."""
    return np.bincount(patch_classes(network, slide, recipe), minlength=CLASSES)


def patch_classes(
    network: SlideNetwork, slide: CohortSlide, recipe: PatchRecipe
) -> NDArray[np.int64]:
    """Return the class of each usable patch of a slide, (n,); n may be 0."""
    pixels = read_patches(slide, recipe.resolution, recipe.training.px)
    if not len(pixels):
        return np.zeros(0, dtype=np.int64)
    found: NDArray[np.int64] = slide_logits(network, pixels).argmax(axis=1)
    return found


def _trained(
    train: Sequence[CohortSlide],
    validation: Sequence[CohortSlide],
    recipe: PatchRecipe,
    seed: int,
    say: Say,
) -> tuple[SlideNetwork, dict[str, Any]]:
    px, most = recipe.training.px, recipe.most

    def examples(slides: Sequence[CohortSlide]) -> Examples:
        return Examples(
            *labeled_patches(slides, recipe.resolution, px, labels=recipe.labels, most=most)
        )

    learnt, judged = examples(train), examples(validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = recipe.network()
        begun = Begun()
        if recipe.training.begin:
            begun = begin(network, recipe.numbers(), SlideTask.FOUR_WAY, px)
        facts = train_network(
            network, recipe.training, learnt, judged, seed, say, outside="reflection"
        )
    return network, facts | {"patches": len(learnt.truth), "begun_with": begun.sha256}
