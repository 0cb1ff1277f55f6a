"""Training of the overview's network that ships: shares of tumor by score on drawn HER2 slides.

``python -m models.training.overview --out DIR [--seed 1] [--slides 6000] [--epochs 20]``

The generator knows of each place of a slide which share of it is tumor scored 0, 1+, 2+ and 3+, and
what a reader said of the slide. The network learns both; on what it then counts a head is fitted
for each task of HER2. Systems of low resolution and of patches that have this network begin with
it, as those of arXiv 2503.22069 begin with weights of ImageNet.
All is synthetic: patients and staining runs are none of a cohort of `models.synthesis.slide_cohort`
for evaluation. A run that was stopped keeps what it has drawn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.evaluation.figures import auc
from models.slide_level.beginning import HEADS
from models.slide_level.foreground import foreground, on_section, section_picture
from models.slide_level.manifest import SlideSpec, save_slide_weights
from models.slide_level.networks import NETWORKS, SlideNetwork, density_of
from models.slide_level.shares import GRADES, PLACE_PX, Shares
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.slide_level.temperature import calibrated, fit_temperature
from models.spec import CARD_NAME
from models.synthesis.slide_cohort import SlideDraw, draw_slides
from models.synthesis.slide_files import GENERATOR_VERSION, as_stored
from models.synthesis.slide_overview import draw_slide

PX = 224
BLOCK = 100
"""Slides of a file."""
COHORT = 3000
"""Slides drawn as one cohort; further ones are a cohort of their own, so that more slides keep the
first ones."""
FIRST_RUN, RUNS = 1000, 400
"""Staining runs of the slides; those of cohorts have small numbers."""
COHORT_SEED = 770_000
"""Added to the seed: no cohort of a small seed has these patients."""
HELD_OUT = 0.1
"""Share of the slides, the last ones, that give temperature and figures."""
SLIDE_SHARE = 0.3
"""Weight of the slide's class beside the shares of its places."""
TASKS = (SlideTask.BINARY, SlideTask.THREE_WAY, SlideTask.FOUR_WAY)
LEAST_TISSUE = 0.1
"""Share of a place from which on its tumor is divided by its tissue; with less it counts little."""
RIDGE = 1e-3
"""Factor of the squared weights of a head, on features of mean 0 and deviation 1."""
STEADY = 0.01
"""Deviation below which a feature is as good as constant."""
AMOUNT = 0.03
"""Deviation of the factor by which the optical density of a slide is changed, on a log scale."""
VERSION = "1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Numbers that determine the weights."""

    seed: int = 1
    slides: int = 6000
    epochs: int = 20
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 1e-3


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures uint8 (n, P, P, 3); shares of tumor of each place float16 (n, P / 4, P / 4, 4);
    labels by task (n,)."""

    pictures: NDArray[np.uint8]
    shares: NDArray[np.float16]
    labels: Mapping[SlideTask, NDArray[np.int64]]

    def part(self, some: slice) -> Drawn:
        labels = {task: classes[some] for task, classes in self.labels.items()}
        return Drawn(self.pictures[some], self.shares[some], labels)


def draw(folder: Path, plan: Plan) -> Drawn:
    """Return the slides of a plan; blocks whose files are there are not drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = [
        each
        for first in range(0, plan.slides, COHORT)
        for each in _cohort(COHORT_SEED + plan.seed + first, min(COHORT, plan.slides - first))
    ]
    parts: list[tuple[NDArray[np.uint8], NDArray[np.float16]]] = []
    for first in range(0, plan.slides, BLOCK):
        block = draws[first : first + BLOCK]
        paths = [folder / f"{_digest(block)}-{n}.npy" for n in ("pictures", "shares")]
        if not paths[-1].is_file():
            began = time.monotonic()
            made = [_drawn(each) for each in block]
            for path, values in zip(paths, zip(*made, strict=True), strict=True):
                part = path.with_suffix(".part.npy")
                np.save(part, np.stack(values))
                part.rename(path)
            say(f"{first + len(made)} slides are drawn, {time.monotonic() - began:.0f} s")
        parts.append((np.load(paths[0]), np.load(paths[1])))
    labels = {task: [class_of(each.label, task) for each in draws] for task in TASKS}
    return Drawn(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        {task: np.array(classes, dtype=np.int64) for task, classes in labels.items()},
    )


def _cohort(seed: int, count: int) -> list[SlideDraw]:
    runs = np.random.default_rng([seed, 0x12A5]).integers(FIRST_RUN, FIRST_RUN + RUNS, count)
    drawn = zip(draw_slides(seed, count), runs, strict=True)
    return [replace(each, run=int(run)) for each, run in drawn]


def _digest(block: Sequence[SlideDraw]) -> str:
    """Return what the pictures of slides depend on, but the code of one version."""
    text = json.dumps([GENERATOR_VERSION, PX, [asdict(each) for each in block]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _drawn(slide: SlideDraw) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    drawn = draw_slide(slide)
    if drawn.cells is None:
        raise AssertionError("a slide of HER2 has its cells")
    overview = as_stored(drawn.pixels)
    mask = foreground(overview)
    shares = on_section(drawn.cells.astype(np.float32), mask, PX)
    places = cv2.resize(shares, (PX // PLACE_PX,) * 2, interpolation=cv2.INTER_AREA)
    return section_picture(overview, mask, PX), places.astype(np.float16)


def train(out: Path, plan: Plan) -> SlideSpec:
    """Draw, train, and write ``out/overview``; return its manifest."""
    drawn = draw(out / "slides", plan)
    kept = round(plan.slides * (1 - HELD_OUT))
    learnt, held_out = drawn.part(slice(kept)), drawn.part(slice(kept, None))
    torch.manual_seed(plan.seed)
    network = SlideNetwork(NETWORKS["reference"], GRADES, PX)
    _learn(network, learnt, plan)
    return finish(out / "overview", network, learnt, held_out, plan)


def finish(
    folder: Path, network: SlideNetwork, learnt: Drawn, held_out: Drawn, plan: Plan
) -> SlideSpec:
    """Fit the heads of a network that has learned to count, and write it; return its manifest."""
    rounded = {name: t.half().float() for name, t in network.state_dict().items()}  # as it is kept
    network.load_state_dict(rounded)
    network.eval()
    heads = fit_heads(slide_features(network, learnt.pictures), learnt.labels)
    network.head.load_state_dict(heads[SlideTask.FOUR_WAY])
    features = slide_features(network, held_out.pictures)
    logits = {task: functional.linear(features, **head).numpy() for task, head in heads.items()}
    scores, truth = logits[SlideTask.FOUR_WAY], held_out.labels[SlideTask.FOUR_WAY]
    spec = SlideSpec(
        name="reference-overview",
        version=VERSION,
        system=f"reference-{PX}",
        task=SlideTask.FOUR_WAY,
        classes=SLIDE_CLASSES[SlideTask.FOUR_WAY],
        input={"px": PX, "pixels": "optical-density"},
        config=dict(NETWORKS["reference"]),
        temperature=fit_temperature(scores, truth),
        trained={**asdict(plan), "data": "drawn overviews of HER2 slides (synthetic)"},
        figures={
            "held_out_slides": len(truth),
            "accuracy": round(float((scores.argmax(axis=1) == truth).mean()), 3),
            "auc": {task: _areas(task, found, held_out) for task, found in logits.items()},
        },
    )
    state = {name: t.detach().numpy() for name, t in network.state_dict().items()}
    for task in (SlideTask.BINARY, SlideTask.THREE_WAY):
        state |= {f"{HEADS}{task}.{name}": t.numpy() for name, t in heads[task].items()}
    spec = save_slide_weights(folder, spec, state)
    (folder / CARD_NAME).write_text(_card(spec))
    return spec


def _areas(task: SlideTask, logits: NDArray[np.float64], judged: Drawn) -> dict[str, float]:
    said, truth = calibrated(logits, 1.0), judged.labels[task]
    names = SLIDE_CLASSES[task]
    return {name: round(float(auc(truth == k, said[:, k])), 3) for k, name in enumerate(names)}


def slide_features(network: SlideNetwork, pictures: NDArray[np.uint8]) -> Tensor:
    """Return what the head sees of pictures uint8 (n, P, P, 3), float32 (n, D)."""
    some = range(0, len(pictures), BLOCK)
    with torch.no_grad():
        densities = (density_of(torch.from_numpy(pictures[k : k + BLOCK])) for k in some)
        return torch.cat([network.body(density) for density in densities])


def fit_heads(
    features: Tensor, labels: Mapping[SlideTask, NDArray[np.int64]]
) -> dict[SlideTask, dict[str, Tensor]]:
    """Return weight and bias of a linear head for each task, by features (n, D)."""
    mean, deviation = features.double().mean(0), features.double().std(0).clamp(min=STEADY)
    given = (features.double() - mean) / deviation
    heads = {}
    for task, classes in labels.items():
        truth = torch.from_numpy(classes)
        weight = torch.zeros(len(SLIDE_CLASSES[task]), given.shape[1], dtype=torch.float64)
        bias = torch.zeros(len(weight), dtype=torch.float64)
        _fit(given, truth, weight.requires_grad_(), bias.requires_grad_())
        own = weight.detach() / deviation
        heads[task] = {"weight": own.float(), "bias": (bias.detach() - own @ mean).float()}
    return heads


def _fit(features: Tensor, truth: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Fit a head in place by the least cross-entropy, with a ridge."""
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = functional.linear(features, weight, bias)
        found = functional.cross_entropy(logits, truth) + RIDGE * weight.square().sum()
        torch.autograd.backward(found)
        return found

    optimizer.step(loss)


def _learn(network: SlideNetwork, drawn: Drawn, plan: Plan) -> None:
    """Train by AdamW with a cosine, on sections turned, mirrored and a little paler or darker."""
    body = network.body
    if not isinstance(body, Shares):
        raise AssertionError("the reference network counts shares")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=plan.rate, weight_decay=plan.weight_decay
    )
    rng = np.random.default_rng([plan.seed, 0x0E11])
    count = len(drawn.pictures)
    batches = count // plan.batch
    network.train()
    for epoch in range(plan.epochs):
        began, told = time.monotonic(), []
        order = rng.permutation(count)[: batches * plan.batch]
        for number, some in enumerate(order.reshape(batches, plan.batch)):
            done = (epoch * batches + number) / (plan.epochs * batches)
            for group in optimizer.param_groups:
                warm = min(1.0, (epoch * batches + number + 1) / 100)
                group["lr"] = plan.rate * warm * 0.5 * (1 + math.cos(math.pi * done))
            losses = _losses(network, body, drawn, some, rng)
            optimizer.zero_grad(set_to_none=True)
            (losses[0] + SLIDE_SHARE * losses[1]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            told.append([float(loss.detach()) for loss in losses])
        places, slides = np.mean(told, axis=0)
        say(
            f"epoch {epoch + 1} of {plan.epochs}: loss of places {places:.3f}, of slides "
            f"{slides:.3f}, {time.monotonic() - began:.0f} s"
        )


def _losses(
    network: SlideNetwork,
    body: Shares,
    drawn: Drawn,
    some: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the shares of each place, by its tissue, and with the readers' labels."""
    density = density_of(torch.from_numpy(drawn.pictures[some]))
    shares = torch.from_numpy(drawn.shares[some]).permute(0, 3, 1, 2).float()
    quarters, mirrored = int(rng.integers(4)), rng.random() < 0.5
    density, shares = (torch.rot90(x, quarters, (2, 3)) for x in (density, shares))
    if mirrored:
        density, shares = density.flip(3), shares.flip(3)
    factor = np.exp(rng.normal(0, AMOUNT, (len(some), 1, 1, 1))).astype(np.float32)
    found = body.counted(density * torch.from_numpy(factor))
    shares = shares / found.tissue.clamp(min=LEAST_TISSUE)  # of its tissue, as the network says it
    shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
    wanted = torch.cat(((1 - shares.sum(1, keepdim=True)).clamp(min=0), shares), dim=1)
    each = -(wanted * found.logits.log_softmax(dim=1)).sum(1, keepdim=True)
    places = (each * found.tissue).sum() / found.tissue.sum().clamp(min=1)
    logits = network.head(body.pooled(body.laid(found)))
    labels = drawn.labels[SlideTask.FOUR_WAY]
    return places, functional.cross_entropy(logits, torch.from_numpy(labels[some]))


def _card(spec: SlideSpec) -> str:
    figures = spec.figures
    areas = "; ".join(
        f"{task} " + ", ".join(f"{name}: {value}" for name, value in found.items())
        for task, found in figures["auc"].items()
    )
    trained = spec.trained
    return f"""# {spec.name} {spec.version}

For research use only. Not for diagnostic use.

Looks at the overview of a HER2 slide at {PX} px and says its score; with two more heads whether it
is positive, and whether it is 0, low or high. Networks of low resolution and of patches begin with
it.

- Trained on {trained["slides"]} drawn overviews (synthetic), no real slide, by `python -m
  models.training.overview --seed {trained["seed"]} --slides {trained["slides"]} --epochs
  {trained["epochs"]}`.
- Held out: the last {figures["held_out_slides"]} of them, of the same staining runs. Accuracy
  against one reader's labels {figures["accuracy"]} (4-way). AUC: {areas}.
  Readers disagree (`docs/readers.md`).
- Of real slides nothing is known.
"""


def say(line: str) -> None:
    """Tell progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Train; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slides", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: a whole number from 0")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    plan = Plan(seed=options.seed, slides=options.slides, epochs=options.epochs)
    if plan.slides * (1 - HELD_OUT) < plan.batch:
        parser.error(f"--slides {plan.slides}: too few for a batch of {plan.batch}")
    say(f"weights {train(options.out, plan).sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
