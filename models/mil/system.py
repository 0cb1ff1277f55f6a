"""Aggregators as systems of slide-level readers (`models.slide_level.system`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import DataSetError, ManifestError
from models.mil.bag import Bag, load_bag
from models.mil.fitting import Labeled, Recipe, fit_aggregator, logits_of
from models.mil.gate import TumorAlone, TumorGate, fit_gate
from models.mil.networks import build_aggregator
from models.slide_level.cohort import CohortSlide
from models.slide_level.manifest import SlideSpec, load_slide_weights, save_slide_weights
from models.slide_level.system import Say
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.slide_level.temperature import calibrated, fit_temperature

VERSION = "1.1"
ALL_TILES, TUMOR_TILES = "all", "tumor"
"""Tiles that an aggregator sees, as its manifest names them; none named: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideAnswer:
    """Answer on one slide: `probabilities` float64 (classes,), `attention` float64 (n,).

    The attention sums to 1 over the bag's tiles, in the bag's order.
    """

    probabilities: NDArray[np.float64]
    attention: NDArray[np.float64]


class FittedMil:
    """Aggregator that has learned a task."""

    def __init__(self, spec: SlideSpec, network: nn.Module) -> None:
        self.spec = spec
        self._network = network.eval()

    def predict(self, slides: Sequence[CohortSlide]) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, classes) of slides with bags."""
        return np.stack([self.answer(_bag(slide)).probabilities for slide in slides])

    def answer(self, bag: Bag) -> SlideAnswer:
        """Return probabilities and attention of a bag.

        Raises
        ------
        DataSetError
            If the bag is of another encoder than those of the training.
        """
        _check_encoder(bag, self.spec.input["encoder"])
        with torch.inference_mode():
            found = self._network(torch.from_numpy(bag.vectors).float())
        logits = found.logits.double().numpy()
        attention = found.attention.double()
        return SlideAnswer(
            probabilities=calibrated(logits[None], self.spec.temperature)[0],
            attention=(attention / attention.sum()).numpy(),
        )

    def save(self, folder: Path) -> None:
        """Write weights and manifest."""
        tensors = {name: t.detach().numpy() for name, t in self._network.state_dict().items()}
        self.spec = save_slide_weights(folder, self.spec, tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class MilSystem:
    """Aggregator before training. `config` holds numbers of its shape that differ from ours.

    `gated`: where the truth of the training's tiles is known, it sees tumor alone
    (`models.mil.gate`).
    """

    name: str
    recipe: Recipe = field(default_factory=Recipe)
    config: dict[str, Any] = field(default_factory=dict)
    gated: bool = True

    def fit(
        self,
        train: Sequence[CohortSlide],
        validation: Sequence[CohortSlide],
        task: SlideTask,
        *,
        seed: int,
        say: Say,
    ) -> FittedMil:
        """Learn a task from the bags of slides; `validation` stops and calibrates.

        Raises
        ------
        DataSetError
            If a slide has no bag, bags are of several encoders, or a class has no slide.
        """
        learnt, judged = _labeled(train, task), _labeled(validation, task)
        encoder = learnt.bags[0].encoder
        for bag in (*learnt.bags, *judged.bags):
            _check_encoder(bag, encoder)
        dimension, classes = learnt.bags[0].vectors.shape[1], SLIDE_CLASSES[task]
        gate = fit_gate(learnt.bags, seed) if self.gated else None
        torch.manual_seed(seed)
        aggregator = build_aggregator(self.name, dimension, len(classes), self.config)
        facts = fit_aggregator(
            aggregator,
            _through(gate, learnt),
            _through(gate, judged),
            self.recipe,
            classes=len(classes),
            seed=seed,
            say=say,
        )
        network = aggregator if gate is None else TumorAlone(gate, aggregator).eval()
        spec = SlideSpec(
            name=f"{self.name}-{task}",
            version=VERSION,
            system=self.name,
            task=task,
            classes=classes,
            input={
                "encoder": encoder,
                "dimension": dimension,
                "tiles": ALL_TILES if gate is None else TUMOR_TILES,
            },
            config=self.config,
            temperature=fit_temperature(
                logits_of(network, judged.bags).double().numpy(), judged.labels
            ),
            trained={**asdict(self.recipe), **facts, "seed": seed, "slides": len(train)},
        )
        return FittedMil(spec, network)


def system(name: str) -> MilSystem:
    """Return the system of an aggregator's name."""
    return MilSystem(name=name)


def load(folder: Path, spec: SlideSpec) -> FittedMil:
    """Return the aggregator whose verified weights lie in a folder.

    Raises
    ------
    ManifestError
        If the weights do not fit the manifest.
    """
    tensors: dict[str, Tensor] = {
        name: torch.from_numpy(values) for name, values in load_slide_weights(folder).items()
    }
    try:
        dimension = int(spec.input["dimension"])
        network = build_aggregator(spec.system, dimension, len(spec.classes), spec.config)
        if spec.input.get("tiles", ALL_TILES) == TUMOR_TILES:
            network = TumorAlone(TumorGate(dimension), network)
        network.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError) as err:
        said = " ".join(str(err).split())[:300]
        raise ManifestError(f"{folder}: the weights do not fit the manifest: {said}") from err
    return FittedMil(replace(spec), network)


def _labeled(slides: Sequence[CohortSlide], task: SlideTask) -> Labeled:
    if not slides:
        raise DataSetError("no slides to learn from or to validate on: take more patients.")
    labels = [class_of(slide.label, task) for slide in slides]
    if None in labels:
        raise DataSetError(f"{slides[labels.index(None)].slide}: no class in the task {task}.")
    return Labeled(bags=[_bag(slide) for slide in slides], labels=np.array(labels, dtype=np.int64))


def _through(gate: TumorGate | None, labeled: Labeled) -> Labeled:
    """Return the bags as the aggregator sees them."""
    if gate is None:
        return labeled
    bags = [bag.only(gate.chosen(torch.from_numpy(bag.vectors)).numpy()) for bag in labeled.bags]
    return replace(labeled, bags=bags)


def _bag(slide: CohortSlide) -> Bag:
    if slide.bag is None:
        raise DataSetError(
            f"{slide.slide}: no bag of tiles. Encode the cohort's slides and name them in the "
            "column bag."
        )
    return load_bag(slide.bag)


def _check_encoder(bag: Bag, encoder: str) -> None:
    if bag.encoder != encoder:
        raise DataSetError(
            f"{bag.slide}: its tiles were encoded by {bag.encoder[:12]}…, the weights need "
            f"{encoder[:12]}…. Encode the slide with that encoder."
        )
