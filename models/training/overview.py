"""Training of the overview's network that ships: shares of tumor by score on drawn HER2 slides.

``python -m models.training.overview --out DIR [--seed 1] [--slides 3000] [--epochs 20]``

The generator knows of each place of a slide which share of it is tumor scored 0, 1+, 2+ and 3+, and
what a reader said of the slide. The network learns both. Systems of low resolution and of patches
that have this network begin with it, as those of arXiv 2503.22069 begin with weights of ImageNet.
All is synthetic: patients and staining runs are none of a cohort of `models.synthesis.slide_cohort`
for evaluation. A run that was stopped keeps what it has drawn.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.evaluation.figures import auc
from models.slide_level.foreground import foreground, on_section, section_picture
from models.slide_level.low_resolution import slide_logits
from models.slide_level.manifest import SlideSpec, save_slide_weights
from models.slide_level.networks import NETWORKS, SlideNetwork, density_of
from models.slide_level.shares import GRADES, PLACE_PX, Shares
from models.slide_level.tasks import HER2_SCORES, SLIDE_CLASSES, SlideTask, class_of
from models.slide_level.temperature import calibrated, fit_temperature
from models.spec import CARD_NAME
from models.synthesis.slide_cohort import SlideDraw, draw_slides
from models.synthesis.slide_files import as_stored
from models.synthesis.slide_overview import draw_slide

PX = 224
BLOCK = 100
"""Slides of a file."""
FIRST_RUN, RUNS = 1000, 400
"""Staining runs of the slides; those of cohorts have small numbers."""
COHORT_SEED = 770_000
"""Added to the seed: no cohort of a small seed has these patients."""
HELD_OUT = 0.1
"""Share of the slides, the last ones, that give temperature and figures."""
SLIDE_SHARE = 0.3
"""Weight of the slide's class beside the shares of its places."""
AMOUNT = 0.03
"""Deviation of the factor by which the optical density of a slide is changed, on a log scale."""
VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Numbers that determine the weights."""

    seed: int = 1
    slides: int = 3000
    epochs: int = 20
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 1e-3


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures uint8 (n, P, P, 3); shares of tumor of each place float16 (n, P / 4, P / 4, 4);
    labels (n,)."""

    pictures: NDArray[np.uint8]
    shares: NDArray[np.float16]
    labels: NDArray[np.int64]


def draw(folder: Path, plan: Plan) -> Drawn:
    """Return the slides of a plan; blocks whose files are there are not drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = COHORT_SEED + plan.seed
    runs = np.random.default_rng([seed, 0x12A5]).integers(FIRST_RUN, FIRST_RUN + RUNS, plan.slides)
    draws = [
        replace(each, run=int(run))
        for each, run in zip(draw_slides(seed, plan.slides), runs, strict=True)
    ]
    parts: list[tuple[NDArray[np.uint8], NDArray[np.float16]]] = []
    for first in range(0, plan.slides, BLOCK):
        paths = [folder / f"{seed}-{plan.slides}-{first}-{n}.npy" for n in ("pictures", "shares")]
        if not paths[-1].is_file():
            began = time.monotonic()
            made = [_drawn(each) for each in draws[first : first + BLOCK]]
            for path, values in zip(paths, zip(*made, strict=True), strict=True):
                part = path.with_suffix(".part.npy")
                np.save(part, np.stack(values))
                part.rename(path)
            say(f"{first + len(made)} slides are drawn, {time.monotonic() - began:.0f} s")
        parts.append((np.load(paths[0]), np.load(paths[1])))
    labels = [class_of(each.label, SlideTask.FOUR_WAY) for each in draws]
    return Drawn(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.array(labels, dtype=np.int64),
    )


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
    torch.manual_seed(plan.seed)
    config = dict(NETWORKS["reference"])
    network = SlideNetwork(config, GRADES, PX)
    _learn(network, Drawn(drawn.pictures[:kept], drawn.shares[:kept], drawn.labels[:kept]), plan)
    network.eval()
    logits, truth = slide_logits(network, drawn.pictures[kept:]), drawn.labels[kept:]
    said = calibrated(logits, 1.0)
    areas = [auc(truth == k, said[:, k]) for k in range(GRADES)]
    spec = SlideSpec(
        name="reference-overview",
        version=VERSION,
        system=f"reference-{PX}",
        task=SlideTask.FOUR_WAY,
        classes=SLIDE_CLASSES[SlideTask.FOUR_WAY],
        input={"px": PX, "pixels": "optical-density"},
        config=config,
        temperature=fit_temperature(logits, truth),
        trained={**asdict(plan), "data": "drawn overviews of HER2 slides (synthetic)"},
        figures={
            "held_out_slides": len(truth),
            "accuracy": round(float((logits.argmax(axis=1) == truth).mean()), 3),
            "auc": dict(zip(HER2_SCORES, (round(float(a), 3) for a in areas), strict=True)),
        },
    )
    state = {name: t.detach().numpy() for name, t in network.state_dict().items()}
    spec = save_slide_weights(out / "overview", spec, state)
    (out / "overview" / CARD_NAME).write_text(_card(spec))
    return spec


def _learn(network: SlideNetwork, drawn: Drawn, plan: Plan) -> None:
    """Train by AdamW with a cosine, on sections turned, mirrored and a little paler or darker."""
    body = network.body
    if not isinstance(body, Shares):
        raise AssertionError("the reference network counts shares")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=plan.rate, weight_decay=plan.weight_decay
    )
    rng = np.random.default_rng([plan.seed, 0x0E11])
    batches = len(drawn.labels) // plan.batch
    network.train()
    for epoch in range(plan.epochs):
        began, told = time.monotonic(), []
        order = rng.permutation(len(drawn.labels))[: batches * plan.batch]
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
    wanted = torch.cat(((1 - shares.sum(1, keepdim=True)).clamp(min=0), shares), dim=1)
    each = -(wanted * found.logits.log_softmax(dim=1)).sum(1, keepdim=True)
    places = (each * found.tissue).sum() / found.tissue.sum().clamp(min=1)
    logits = network.head(body.pooled(body.laid(found)))
    return places, functional.cross_entropy(logits, torch.from_numpy(drawn.labels[some]))


def _card(spec: SlideSpec) -> str:
    figures = spec.figures
    areas = ", ".join(f"{score}: {value}" for score, value in figures["auc"].items())
    trained = spec.trained
    return f"""# {spec.name} {spec.version}

For research use only. Not for diagnostic use.

Looks at the overview of a HER2 slide at {PX} px and says its score. Networks of low resolution
and of patches begin with it.

- Trained on {trained["slides"]} drawn overviews (synthetic), no real slide, by `python -m
  models.training.overview --seed {trained["seed"]} --slides {trained["slides"]} --epochs
  {trained["epochs"]}`.
- Held out: the last {figures["held_out_slides"]} of them, of the same staining runs. Accuracy
  against one reader's labels {figures["accuracy"]}, AUC {areas}.
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
    parser.add_argument("--slides", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    plan = Plan(seed=options.seed, slides=options.slides, epochs=options.epochs)
    say(f"weights {train(options.out, plan).sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
