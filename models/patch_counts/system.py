"""Systems of approach 3: patch classes, counted, and an aggregator of the counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import DataSetError, ManifestError
from models.patch_counts.aggregators import (
    AGGREGATORS,
    Aggregator,
    aggregator_logits,
    check_arrays,
    features,
    fit_aggregator,
)
from models.patch_counts.classifier import PatchRecipe, count_patches, train_and_count
from models.patch_counts.patches import OVERLAP
from models.patch_counts.quality import quality_rules
from models.patch_counts.resolutions import PATCH_PX, RESOLUTIONS
from models.slide_level.cohort import CohortSlide
from models.slide_level.low_resolution import Recipe
from models.slide_level.manifest import SlideSpec, load_slide_weights, save_slide_weights
from models.slide_level.networks import SlideNetwork
from models.slide_level.system import Say
from models.slide_level.tasks import HER2_SCORES, SLIDE_CLASSES, SlideTask, class_of
from models.slide_level.temperature import calibrated, fit_temperature

_TREE = "aggregator."
"""Prefix of the aggregator's arrays in the file of weights."""
_TRAININGS = {
    "reference": Recipe(network="reference", px=64, epochs=12, patience=3, batch=32),
    "convnext-s": Recipe(network="convnext-s", px=224, epochs=25, patience=5, rate=1e-4),
}
"""Trainings by network. Numbers are ours: the paper prints none for patches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCounts:
    """System before training."""

    name: str
    aggregator: Aggregator
    recipe: PatchRecipe

    def fit(
        self,
        train: Sequence[CohortSlide],
        validation: Sequence[CohortSlide],
        task: SlideTask,
        *,
        seed: int,
        say: Say,
    ) -> FittedPatchCounts:
        """Learn the classes of annotated patches, and the task from counts out of fold.

        `validation` stops the network and gives the temperature.

        Raises
        ------
        DataSetError
            If slides lack patches or annotated ones, a class has no slide, or the task is ER or PR.
        """
        if task in (SlideTask.ER, SlideTask.PR):
            raise DataSetError(f"{self.name}: classes of patches are HER2 scores, not of {task}.")
        counted = train_and_count(tuple(train), tuple(validation), self.recipe, seed, say)
        classes = SLIDE_CLASSES[task]
        arrays = fit_aggregator(
            self.aggregator, features(counted.counts), _truth(train, task), len(classes), seed
        )
        spec = SlideSpec(
            name=f"{self.name}-{task}",
            version="1.0",
            system=self.name,
            task=task,
            classes=classes,
            input=_input(self.recipe),
            config={"network": self.recipe.numbers(), "patch_classes": list(HER2_SCORES)},
            trained=_numbers(self.recipe) | counted.facts | {"seed": seed, "slides": len(train)},
        )
        raw = FittedPatchCounts(spec, counted.network, arrays, self.aggregator, self.recipe)
        temperature = fit_temperature(raw.logits(validation), _truth(validation, task))
        return replace(raw, spec=replace(spec, temperature=temperature))


@dataclass(frozen=True, slots=True)
class FittedPatchCounts:
    """Trained system: a network for patches and the arrays of an aggregator."""

    spec: SlideSpec
    network: SlideNetwork
    arrays: dict[str, NDArray[Any]]
    aggregator: Aggregator
    recipe: PatchRecipe

    def counts(self, slides: Sequence[CohortSlide]) -> NDArray[np.int64]:
        """Return the usable patches of each slide by class, (n, 4).

        Raises
        ------
        DataSetError
            If a slide has no patches of this resolution.
        """
        return np.stack([count_patches(self.network, slide, self.recipe) for slide in slides])

    def logits(self, slides: Sequence[CohortSlide]) -> NDArray[np.float64]:
        """Return logits (n, classes)."""
        given = features(self.counts(slides))
        return aggregator_logits(self.aggregator, self.arrays, given, self.spec.task)

    def predict(self, slides: Sequence[CohortSlide]) -> NDArray[np.float64]:
        """Return probabilities (n, classes) of slides, from their patches."""
        return calibrated(self.logits(slides), self.spec.temperature)

    def save(self, folder: Path) -> None:
        """Write weights and manifest; the aggregator's arrays keep their type."""
        state = {name: t.detach().cpu().numpy() for name, t in self.network.state_dict().items()}
        exact = {f"{_TREE}{name}": values for name, values in self.arrays.items()}
        save_slide_weights(folder, self.spec, state, exact)


def system(name: str) -> PatchCounts:
    """Return the system of a name: ``patch-RESOLUTION[-convnext-s]-AGGREGATOR``.

    Raises
    ------
    DataSetError
        If the name has another form.
    """
    for resolution in RESOLUTIONS:
        for network, training in _TRAININGS.items():
            for aggregator in AGGREGATORS:
                middle = "" if network == "reference" else f"-{network}"
                if name == f"patch-{resolution}{middle}-{aggregator}":
                    recipe = PatchRecipe(resolution=resolution, training=training)
                    return PatchCounts(name=name, aggregator=aggregator, recipe=recipe)
    raise DataSetError(f"no system {name!r} of patch counts")


def changed(given: PatchCounts, **numbers: Any) -> PatchCounts:
    """Return a system with other numbers of its network's training."""
    training = replace(given.recipe.training, **numbers)
    return replace(given, recipe=replace(given.recipe, training=training))


def load(folder: Path, spec: SlideSpec) -> FittedPatchCounts:
    """Return the system of a verified folder.

    Raises
    ------
    ManifestError
        If the weights do not fit the manifest, or patches were prepared by other rules.
    """
    stored = load_slide_weights(folder)
    arrays = {n.removeprefix(_TREE): t for n, t in stored.items() if n.startswith(_TREE)}
    try:
        listed = system(spec.system)
        config = tuple(spec.config["network"].items())
        training = replace(listed.recipe.training, px=int(spec.input["px"]))
        recipe = replace(listed.recipe, config=config, training=training)
        if _input(recipe) != spec.input:
            raise ManifestError(f"{folder}: patches were prepared by other rules. Train it again.")
        network = recipe.network()
        network.load_state_dict(
            {n: torch.from_numpy(t) for n, t in stored.items() if not n.startswith(_TREE)}
        )
    except (AttributeError, DataSetError, KeyError, RuntimeError, TypeError, ValueError) as err:
        raise ManifestError(f"{folder}: the weights do not fit the manifest: {err}") from err
    check_arrays(listed.aggregator, arrays, len(spec.classes))
    return FittedPatchCounts(spec, network.eval(), arrays, listed.aggregator, recipe)


def _input(recipe: PatchRecipe) -> dict[str, Any]:
    """Facts of what a slide is brought to: patches, rules of exclusion, CLAHE, the edge in px."""
    return {
        "resolution": recipe.resolution,
        "mpp": RESOLUTIONS[recipe.resolution],
        "patch_px": PATCH_PX,
        "px": recipe.training.px,
        "overlap": OVERLAP,
        "pixels": "optical-density",
        **quality_rules(),
    }


def _numbers(recipe: PatchRecipe) -> dict[str, Any]:
    facts = {"most_per_slide": recipe.most, "parts": recipe.parts, "labels": recipe.labels}
    return asdict(recipe.training) | facts


def _truth(slides: Sequence[CohortSlide], task: SlideTask) -> NDArray[np.int64]:
    return np.array([class_of(slide.label, task) for slide in slides], dtype=np.int64)
