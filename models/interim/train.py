"""Training of the interim reader on pairs of slides, and its answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.interim.batches import Placed, draw_masked, he_batch, ihc_batch, placed
from models.interim.ipca import HeBatch, InterimNetwork
from models.interim.places import TileFeatures, Whole
from models.interim.shape import InterimShape
from models.interim.teacher import Chances, class_of_part, fit_teacher

PART_TILES = 4
"""Most tiles of a part of a slide that its IHC names."""
LEAST_DEVIATION = 0.01
"""Least deviation of a feature by which it is divided, by the mean deviation of all."""
Say = Callable[[str], None]


class Pair(NamedTuple):
    """Case that trains: tiles of its H&E slide, of its IHC slide, and its class 0-3.

    `ihc` None: the case has no IHC slide; its H&E slide trains alone. `partners` int (N,): row of
    the tile of `ihc` that shows the same tissue as each tile of `he`, -1 where none does. None: no
    tile's partner is known, as in the paper.
    """

    he: TileFeatures
    ihc: TileFeatures | None
    label: int
    partners: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterimTraining:
    """Numbers of a training. Adam, rate, cosine and batch are the paper's; the rest is ours.

    `most_tiles`: tiles of a slide in a step, drawn anew each time. `with_ihc` False leaves the IHC
    branch out ("ours without proxy"). `part_weight` is the weight of what IHC says of parts of a
    slide (`_part_loss`), which needs `Pair.partners`; 0 leaves it out, as the paper does.
    """

    learning_rate: float = 1e-4
    batch_size: int = 16
    epochs: int = 40
    most_tiles: int = 512
    with_ihc: bool = True
    part_weight: float = 0.0
    seed: int = 0


def fit(
    pairs: Sequence[Pair], shape: InterimShape, given: InterimTraining, say: Say
) -> InterimNetwork:
    """Train a network; equal arguments give equal weights on one machine.

    The loss is the cross-entropy of both class tokens, and that of parts (`part_weight`). `say` is
    told the loss of each epoch. The features are standardized by mean and deviation of the training
    tiles; afterwards the first layers take them as they are (`absorb`).
    """
    torch.manual_seed(given.seed)
    network = InterimNetwork(shape).train()
    scales = _scales(pairs)
    optimizer = torch.optim.Adam(network.parameters(), lr=given.learning_rate)
    steps = given.epochs * math.ceil(len(pairs) / given.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = np.random.default_rng([given.seed, 0x1CA])
    masks = torch.Generator().manual_seed(given.seed)
    parts = _Draws.of(given.seed)
    named = _named(pairs, shape, given)
    # The anchors of a slide that no step thins out are the same in all epochs.
    whole = [
        placed(pair.he, shape) if len(pair.he.places) <= given.most_tiles else None
        for pair in pairs
    ]
    for epoch in range(given.epochs):
        total = 0.0
        order = draw.permutation(len(pairs))
        for first in range(0, len(order), given.batch_size):
            chosen = order[first : first + given.batch_size]
            some = [pairs[k] for k in chosen]
            slides = [
                whole[k] or placed(pairs[k].he.some(given.most_tiles, draw), shape) for k in chosen
            ]
            loss = _loss(network, some, slides, scales, given, draw, masks)
            if given.part_weight > 0:
                by_part = _part_loss(network, some, [named[k] for k in chosen], scales, parts)
                loss = loss + given.part_weight * by_part
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(some)
        say(f"epoch {epoch + 1} of {given.epochs}: loss {total / len(pairs):.3f}")
    absorb(network.he_entry, scales.he)
    if scales.ihc is not None:
        absorb(network.ihc_entry, scales.ihc)
    return network.eval()


class Scale(NamedTuple):
    """Mean and deviation of each number of the tiles' features, float32 (F,)."""

    mean: Tensor
    deviation: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """Return standardized features (..., F)."""
        return (features - self.mean) / self.deviation

    def on(self, he: HeBatch) -> HeBatch:
        """Return H&E slides with standardized features.

        A token of an anchor is a mean of features, and has their scale.
        """
        return he._replace(tokens=self.apply(he.tokens), patches=self.apply(he.patches))


class Scales(NamedTuple):
    """Scale of each stain; `ihc` is None where no case has an IHC slide."""

    he: Scale
    ihc: Scale | None


def absorb(layer: nn.Linear, scale: Scale) -> None:
    """Let a layer that learned of standardized features answer the same of the features."""
    with torch.no_grad():
        layer.weight.div_(scale.deviation)
        layer.bias.sub_(layer.weight @ scale.mean)


def _scales(pairs: Sequence[Pair]) -> Scales:
    ihc = [pair.ihc for pair in pairs if pair.ihc is not None]
    return Scales(_scale([pair.he for pair in pairs]), _scale(ihc) if ihc else None)


def _scale(slides: Sequence[TileFeatures]) -> Scale:
    count = sum(len(slide.features) for slide in slides)
    mean = sum(slide.features.sum(axis=0, dtype=np.float64) for slide in slides) / count
    square = sum(np.square(slide.features - mean).sum(axis=0) for slide in slides) / count
    deviation = np.sqrt(square)
    # A number that hardly changes must not become the largest.
    deviation = np.maximum(deviation, max(LEAST_DEVIATION * float(deviation.mean()), 1e-6))
    return Scale(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())


def _loss(
    network: InterimNetwork,
    pairs: Sequence[Pair],
    slides: Sequence[Placed],
    scales: Scales,
    given: InterimTraining,
    draw: np.random.Generator,
    masks: torch.Generator,
) -> torch.Tensor:
    """Return the loss of a step; `slides` are the H&E slides of `pairs`."""
    he = scales.he.on(he_batch(slides))
    labels = torch.tensor([pair.label for pair in pairs])
    logits = network(he, masked=draw_masked(he, network.shape.mask_ratio, masks)).he
    loss = functional.cross_entropy(logits, labels)
    if not given.with_ihc:
        return loss
    both = [pair for pair in pairs if pair.ihc is not None]
    if not both or scales.ihc is None:
        return loss
    ihc = ihc_batch([p.ihc.some(given.most_tiles, draw) for p in both if p.ihc is not None])
    ihc = ihc._replace(patches=scales.ihc.apply(ihc.patches))
    proxy = functional.cross_entropy(
        network.read_ihc(ihc), torch.tensor([pair.label for pair in both])
    )
    return loss + proxy


class _Draws(NamedTuple):
    """Draws of parts: of their own, so that all else is the same with and without them."""

    tiles: np.random.Generator
    masks: torch.Generator

    @classmethod
    def of(cls, seed: int) -> _Draws:
        return cls(np.random.default_rng([seed, 0x9A27]), torch.Generator().manual_seed(seed + 1))


def _named(
    pairs: Sequence[Pair], shape: InterimShape, given: InterimTraining
) -> list[Chances | None]:
    """Return the chances of each case's IHC tiles, which name parts of its H&E slide.

    Without IHC each tile has the class of the slide: the same steps, for comparison. None: no tile
    of the H&E slide has a partner.
    """
    known = [pair for pair in pairs if pair.ihc is not None and pair.partners is not None]
    if given.part_weight <= 0 or not known:
        return [None] * len(pairs)
    if given.with_ihc:
        slides = [pair.ihc for pair in known if pair.ihc is not None]
        labels = [pair.label for pair in known]
        teacher = fit_teacher(slides, labels, shape.classes, given.most_tiles, given.seed)
    found: list[Chances | None] = []
    for pair in pairs:
        if pair.ihc is None or pair.partners is None:
            found.append(None)
        elif given.with_ihc:
            found.append(teacher.chances(pair.ihc))
        else:
            reached = (np.arange(1, shape.classes) <= pair.label).astype(np.float32)
            found.append(np.tile(reached, (len(pair.ihc.places), 1)))
    return found


def _part_loss(
    network: InterimNetwork,
    pairs: Sequence[Pair],
    named: Sequence[Chances | None],
    scales: Scales,
    draws: _Draws,
) -> torch.Tensor:
    """Return the cross-entropy of H&E answers for parts of slides to the classes of these parts.

    A part is some tiles of a slide. The class of the slide does not hold for a part; the IHC tiles
    at the same places say which one does (`_named`): HER2 differs within a tumor. Ours; the paper
    teaches by whole slides.
    """
    parts, wanted = [], []
    for pair, chances in zip(pairs, named, strict=True):
        if chances is None or pair.partners is None:
            continue
        known = np.flatnonzero(pair.partners >= 0)
        if len(known) == 0:
            continue
        count = min(len(known), int(draws.tiles.integers(1, PART_TILES + 1)))
        rows = np.sort(draws.tiles.permutation(known)[:count])
        parts.append(placed(pair.he.take(rows), network.shape))
        wanted.append(class_of_part(chances[np.unique(pair.partners[rows])]))
    if not parts:
        return torch.zeros(())
    batch = scales.he.on(he_batch(parts))
    masked = draw_masked(batch, network.shape.mask_ratio, draws.masks)
    return functional.cross_entropy(
        network(batch, masked=masked).he, torch.from_numpy(np.stack(wanted))
    )


class InterimAnswer(NamedTuple):
    """`probabilities` float64 (classes,); `attention` float64 (N,): share of each tile, as the
    slide's tiles were given, sums to 1. A tile has its anchor's share in equal parts."""

    probabilities: NDArray[np.float64]
    attention: NDArray[np.float64]


def predict(network: InterimNetwork, tiles: TileFeatures) -> InterimAnswer:
    """Answer for one H&E slide; equal for any order of its tiles."""
    slide = placed(tiles, network.shape)
    with torch.inference_mode():
        batch = he_batch([slide])
        odds = functional.softmax(network(batch).he[0].double(), dim=0)
        weights = network.attention(batch)[0].double()
    return InterimAnswer(odds.numpy(), _by_tile(tiles, slide, weights.numpy()))


def _by_tile(
    tiles: TileFeatures, slide: Placed, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    cluster = slide.anchors.cluster
    each = weights[cluster] / np.bincount(cluster)[cluster]
    order = np.lexsort((tiles.places[:, 0], tiles.places[:, 1]))
    found = np.empty(len(order))
    found[order] = each
    return found
