"""Training of an aggregator on bags of different length: Adam, one bag a step, early stopping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.errors import DataSetError
from models.mil.bag import Bag
from models.mil.losses import loss_of
from models.slide_level.system import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of a training.

    CLAM is published with a rate of 2e-4, weight decay 1e-5, 50 to 200 epochs and a patience of 20.
    The defaults here end a fold on one core within a minute. `tiles_per_step` are drawn from a bag
    at each step; an answer is always given on all tiles.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    epochs: int = 25
    fewest_epochs: int = 6
    patience: int = 4
    tiles_per_step: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Labeled:
    """Bags and the class of each, int64 (n,)."""

    bags: Sequence[Bag]
    labels: NDArray[np.int64]


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return a weight per class, inverse to its number of slides; their mean over slides is 1.

    Raises
    ------
    DataSetError
        If a class has no slide.
    """
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise DataSetError("a class has no slide in the training part: take more patients.")
    weights: NDArray[np.float64] = len(labels) / (classes * counts)
    return weights


def fit_aggregator(
    network: nn.Module,
    train: Labeled,
    validation: Labeled,
    recipe: Recipe,
    *,
    classes: int,
    seed: int,
    say: Say,
) -> dict[str, float]:
    """Train a network in place and keep the epoch of least validation loss; return its facts.

    Weights of classes come from the training bags alone. Equal seeds and bags give equal weights on
    one machine. At the end weights are rounded to float16, as they are stored.
    """
    weights = torch.from_numpy(class_weights(train.labels, classes)).float()
    given = [torch.from_numpy(bag.vectors) for bag in train.bags]
    optimizer = torch.optim.Adam(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    best, kept, state = math.inf, -1, _copied(network)
    epoch = 0
    for epoch in range(recipe.epochs):
        torch.manual_seed(seed * 10_000 + epoch)
        rng = np.random.default_rng([seed, epoch, 0x3117])
        network.train()
        for number in rng.permutation(len(given)).tolist():
            vectors = _some(given[number], recipe.tiles_per_step, rng)
            loss = loss_of(network, vectors, int(train.labels[number]), weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        judged = validation_loss(logits_of(network, validation.bags), validation.labels, weights)
        say(f"epoch {epoch}: validation loss {judged:.4f}")
        if judged < best:
            best, kept, state = judged, epoch, _copied(network)
        elif epoch + 1 >= recipe.fewest_epochs and epoch - kept >= recipe.patience:
            break
    network.load_state_dict({name: t.half().float() for name, t in state.items()})
    network.eval()
    return {"kept_epoch": kept, "epochs": epoch + 1, "validation_loss": round(best, 4)}


def logits_of(network: nn.Module, bags: Sequence[Bag]) -> Tensor:
    """Return logits, float32 (n, classes), of whole bags."""
    network.eval()
    with torch.inference_mode():
        return torch.stack([network(torch.from_numpy(b.vectors).float()).logits for b in bags])


def validation_loss(logits: Tensor, labels: NDArray[np.int64], weights: Tensor) -> float:
    """Return the weighted cross-entropy of whole bags."""
    return float(functional.cross_entropy(logits, torch.from_numpy(labels), weight=weights))


def _some(vectors: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """Return at most `most` tiles of a bag as float32, in the bag's order."""
    if len(vectors) > most:
        chosen = np.sort(rng.choice(len(vectors), most, replace=False))
        vectors = vectors[torch.from_numpy(chosen)]
    return vectors.float()


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in network.state_dict().items()}
