"""Systems of approach 2 of arXiv 2503.22069: the whole slide at 224 or 512 px, end to end.

Section 2.3 of the paper: Adam, 25 to 100 epochs, early stopping by the validation loss; flips,
rotations, affine changes; cross-entropy, class weights or focal loss. Learning rates, batches and
patience are not printed: those here are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.errors import ManifestError
from models.slide_level.beginning import Begun, begin, without_heads
from models.slide_level.cohort import CohortSlide
from models.slide_level.folds import require_classes
from models.slide_level.foreground import read_section
from models.slide_level.manifest import SlideSpec, load_slide_weights, save_slide_weights
from models.slide_level.networks import NETWORKS, SlideNetwork, density_of
from models.slide_level.overview_augmentation import augmented
from models.slide_level.system import Say
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.slide_level.temperature import calibrated, fit_temperature

Loss = Literal["cross-entropy", "class-weights", "focal"]
FOCUS = 2.0
"""Exponent of the focal loss (Lin et al., arXiv 1708.02002)."""
PREDICTED_AT_ONCE = 32
TINY = 1e-12
"""Added to a probability, whose logarithm is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of a training. `patience`: epochs without a lower validation loss until it ends.

    `begin`: with the weights that ship, where they are of the same network.
    """

    network: str
    px: int = 224
    epochs: int = 60
    patience: int = 12
    batch: int = 16
    rate: float = 1e-3
    loss: Loss = "cross-entropy"
    augment: bool = True
    begin: bool = True


_NUMBERS: dict[str, dict[str, Any]] = {
    "reference": {"rate": 3e-4, "batch": 8, "epochs": 15, "patience": 5},  # it begins with weights
    "small-convnext": {"rate": 1e-3, "batch": 8, "epochs": 100},
}
FROM_SCRATCH: dict[str, Any] = {"rate": 1e-3, "epochs": 100, "patience": 12}
"""Numbers of the small network without weights that ship."""
RECIPES: dict[str, Recipe] = {
    f"{network}-{px}": Recipe(
        network=network, px=px, **_NUMBERS.get(network, {"rate": 1e-4, "epochs": 100})
    )
    for network in NETWORKS
    for px in (224, 512)
}
"""Recipes by the name of the system."""


@dataclass(frozen=True, slots=True)
class LowResolution:
    """System before training; `config` are the numbers of its network."""

    name: str
    recipe: Recipe
    config: dict[str, Any]

    def fit(
        self,
        train: Sequence[CohortSlide],
        validation: Sequence[CohortSlide],
        task: SlideTask,
        *,
        seed: int,
        say: Say,
    ) -> FittedLowResolution:
        """Train on the pictures of `train`, stop and calibrate by `validation`.

        Raises
        ------
        DataSetError
            If a picture cannot be read, or a class has no slide in `train`.
        """
        require_classes(self.name, [class_of(s.label, task) for s in train], task)
        px = self.recipe.px
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = SlideNetwork(self.config, len(SLIDE_CLASSES[task]), px)
            begun = begin(network, self.config, task, px) if self.recipe.begin else Begun()
            known = Examples.of(validation, task, px)
            learnt = Examples.of(train, task, px)
            epochs = train_network(
                network, self.recipe, learnt, known, seed, say, keep=begun.is_reader
            )
        temperature = fit_temperature(slide_logits(network, known.pictures), known.truth)
        spec = SlideSpec(
            name=f"{self.name}-{task}",
            version="1.0",
            system=self.name,
            task=task,
            classes=SLIDE_CLASSES[task],
            input={"px": px, "pixels": "optical-density"},
            config=self.config,
            temperature=temperature,
            trained=asdict(self.recipe)
            | epochs
            | {"seed": seed, "slides": len(train), "begun_with": begun.sha256},
        )
        return FittedLowResolution(spec, network)


@dataclass(frozen=True, slots=True)
class FittedLowResolution:
    """Trained system. Its pictures are those of `models.slide_level.foreground`."""

    spec: SlideSpec
    network: SlideNetwork

    def predict(self, slides: Sequence[CohortSlide]) -> NDArray[np.float64]:
        """Return probabilities (n, classes) of slides, from their overviews."""
        return self.answer(_pictures(slides, int(self.spec.input["px"])))

    def answer(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return probabilities (n, classes) of pictures uint8 (n, px, px, 3) of sections."""
        return calibrated(slide_logits(self.network, pictures), self.spec.temperature)

    def explain(self, picture: NDArray[np.uint8], number: int) -> NDArray[np.float32]:
        """Return what speaks for a class on one picture, float32 (rows, columns), >= 0.

        Raises
        ------
        ManifestError
            If the network is no convolutional one.
        """
        density = density_of(torch.from_numpy(np.array(picture[None])))
        found: NDArray[np.float32] = self.network.eval().explained(density, number)[0].numpy()
        return found

    def save(self, folder: Path) -> None:
        """Write weights and manifest."""
        state = {name: t.detach().cpu().numpy() for name, t in self.network.state_dict().items()}
        save_slide_weights(folder, self.spec, state)


def system(name: str) -> LowResolution:
    """Return the system of a recipe."""
    recipe = RECIPES[name]
    return LowResolution(name, recipe, dict(NETWORKS[recipe.network]))


def changed(given: LowResolution, **numbers: Any) -> LowResolution:
    """Return a system with other numbers of its recipe, for ablations.

    What is not named of a network that is not to begin with weights becomes `FROM_SCRATCH`.
    """
    if given.recipe.network == "reference" and numbers.get("begin") is False:
        numbers = FROM_SCRATCH | numbers
    return replace(given, recipe=replace(given.recipe, **numbers))


def load(folder: Path, spec: SlideSpec) -> FittedLowResolution:
    """Return the system of a verified folder.

    Raises
    ------
    ManifestError
        If the weights do not fit the manifest.
    """
    tensors = {name: torch.from_numpy(t) for name, t in load_slide_weights(folder).items()}
    try:
        network = SlideNetwork(spec.config, len(spec.classes), int(spec.input["px"]))
        network.load_state_dict(without_heads(tensors))
    except (KeyError, RuntimeError, TypeError, ValueError) as err:
        raise ManifestError(f"{folder}: the weights do not fit the manifest: {err}") from err
    return FittedLowResolution(spec, network.eval())


@dataclass(frozen=True, slots=True)
class Examples:
    """Pictures uint8 (n, px, px, 3) and their classes (n,)."""

    pictures: NDArray[np.uint8]
    truth: NDArray[np.int64]

    @classmethod
    def of(cls, slides: Sequence[CohortSlide], task: SlideTask, px: int) -> Examples:
        truth = [class_of(slide.label, task) for slide in slides]
        return cls(_pictures(slides, px), np.array([k for k in truth if k is not None]))


def _pictures(slides: Sequence[CohortSlide], px: int) -> NDArray[np.uint8]:
    return np.stack([read_section(slide.overview, px) for slide in slides])


def train_network(
    network: SlideNetwork,
    recipe: Recipe,
    train: Examples,
    validation: Examples,
    seed: int,
    say: Say,
    outside: Literal["zeros", "reflection"] = "zeros",
    keep: bool = False,
) -> dict[str, Any]:
    """Train in place to the weights of least validation loss; return what happened.

    `outside` says what augmentation brings in at the edges of a picture. With `keep` the weights of
    before stay, as epoch 0, unless the calibrated validation loss of the best epoch is less by more
    than a standard error of the difference: of many epochs one is better by chance (rule of one
    standard error, Breiman et al. 1984).
    """
    given, before = _copied(network), _calibrated_losses(network, validation)
    facts = _learn(network, recipe, train, validation, seed, say, outside)
    if keep and not is_less(_calibrated_losses(network, validation), before):
        network.load_state_dict(given)
        facts |= {"best_epoch": 0, "validation_loss": round(float(before.mean()), 4)}
        say(f"the weights that it began with stay, validation {before.mean():.3f}")
    network.eval()
    return facts


def _learn(
    network: SlideNetwork,
    recipe: Recipe,
    train: Examples,
    validation: Examples,
    seed: int,
    say: Say,
    outside: Literal["zeros", "reflection"],
) -> dict[str, Any]:
    """Train to the epoch of least validation loss."""
    rng = np.random.default_rng([seed, 0x10E5])
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.rate)
    weights = _class_weights(train.truth, network.head.out_features, recipe.loss)
    best, best_epoch, best_state = np.inf, 0, _copied(network)
    epoch = 0
    for epoch in range(1, recipe.epochs + 1):
        for group in optimizer.param_groups:  # cosine decay; the paper names a schedule, not which
            group["lr"] = recipe.rate * 0.5 * (1 + np.cos(np.pi * (epoch - 1) / recipe.epochs))
        network.train()
        order = rng.permutation(len(train.truth))
        losses = []
        for start in range(0, len(order), recipe.batch):
            some = order[start : start + recipe.batch]
            density = density_of(torch.from_numpy(train.pictures[some]))
            if recipe.augment:
                density = augmented(density, rng, outside)
            truth = torch.from_numpy(train.truth[some])
            loss = loss_of(network(density).logits, truth, recipe.loss, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        logits = torch.from_numpy(slide_logits(network, validation.pictures))
        now = float(functional.cross_entropy(logits, torch.from_numpy(validation.truth)))
        say(f"epoch {epoch}: loss {np.mean(losses):.3f}, validation {now:.3f}")
        if now < best:
            best, best_epoch, best_state = now, epoch, _copied(network)
        if epoch - best_epoch >= recipe.patience:
            break
    network.load_state_dict(best_state)
    return {"epochs_run": epoch, "best_epoch": best_epoch, "validation_loss": round(best, 4)}


def is_less(losses: NDArray[np.float64], before: NDArray[np.float64]) -> bool:
    """Return whether losses (n,) of examples are less on average than those `before`, by more than
    a standard error of the difference."""
    gain = before - losses
    return len(gain) > 1 and bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def _calibrated_losses(network: SlideNetwork, examples: Examples) -> NDArray[np.float64]:
    """Return the cross-entropy of each example, (n,), at the temperature that fits all best."""
    logits, truth = slide_logits(network, examples.pictures), examples.truth
    chances = calibrated(logits, fit_temperature(logits, truth))
    losses: NDArray[np.float64] = -np.log(chances[np.arange(len(truth)), truth] + TINY)
    return losses


def _copied(network: SlideNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def loss_of(logits: Tensor, truth: Tensor, kind: Loss, weights: Tensor | None) -> Tensor:
    """Return a loss of `logits` (N, classes) and classes `truth` (N,): a number."""
    if kind != "focal":
        return functional.cross_entropy(logits, truth, weight=weights)
    each = functional.cross_entropy(logits, truth, reduction="none")
    return ((1 - torch.exp(-each)) ** FOCUS * each).mean()


def _class_weights(truth: NDArray[np.int64], classes: int, kind: Loss) -> Tensor | None:
    """Inverse frequency of each class in the training slides, mean 1 over them."""
    if kind != "class-weights":
        return None
    counts = np.bincount(truth, minlength=classes)
    return torch.from_numpy((len(truth) / (classes * np.maximum(counts, 1))).astype(np.float32))


def slide_logits(network: SlideNetwork, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return logits (n, classes) of pictures uint8 (n, px, px, 3)."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pictures), PREDICTED_AT_ONCE):
            some = torch.from_numpy(pictures[start : start + PREDICTED_AT_ONCE])
            parts.append(network(density_of(some)).logits.double())
    logits: NDArray[np.float64] = torch.cat(parts).numpy()
    return logits
