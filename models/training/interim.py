"""Training of the interim reader: its weights, their figures on other patients, their card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from models.errors import DataSetError
from models.interim.compare import Judged, figures
from models.interim.fitted import FittedInterim, load_interim
from models.interim.manifest import INTERIM, VERSION
from models.interim.pairs import PairFiles, check_encoder, divided, load_partners, load_tiles
from models.interim.shape import InterimShape
from models.interim.train import InterimTraining, Pair, Say, fit
from models.mil.bag import Bag, load_bag
from models.slide_level.manifest import SlideSpec, add_figures
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask
from models.spec import CARD_NAME
from models.training.replacing import replaced, require_writable


def train_interim(
    files: Sequence[PairFiles],
    out: Path,
    training: InterimTraining,
    *,
    prompts: int,
    mask_ratio: float,
    data: str,
    say: Say,
) -> SlideSpec:
    """Train with 70 % of the patients and judge once with 30 %; return the spec with its figures.

    `data` says what the slides are, for the card. The training's seed divides the patients, too.
    Weights, manifest and card come into `out` together: after an error it is as it was.

    Raises
    ------
    DataSetError
        If the pairs lack patients or a class, or a bag is unusable or of another encoder,
        or `out` cannot be written; before the training as far as it can be known.
    ValueError
        If a number is out of its range.
    """
    train, held = divided(files, training.seed)
    first = load_bag(files[0].he)
    classes = SLIDE_CLASSES[SlideTask.FOUR_WAY]
    shape = InterimShape(
        features=first.vectors.shape[1],
        prompts=prompts,
        mask_ratio=mask_ratio,
        classes=len(classes),
    )
    judging = [_bag(each.he, first.encoder) for each in held]
    pairs = [_pair(each, first.encoder, shape.features) for each in train]
    if training.part_weight > 0:
        _require_parts(pairs, prompts)
    require_writable(out)
    spec = SlideSpec(
        name="interim-4way",
        version=VERSION,
        system=INTERIM,
        task=SlideTask.FOUR_WAY,
        classes=classes,
        input={"encoder": first.encoder, "dimension": shape.features},
        config=asdict(shape),
        trained={**asdict(training), "cases": len(train)},
    )
    fitted = FittedInterim(spec, fit(pairs, shape, training, say))
    with replaced(out) as part:
        fitted.save(part)
        stored = load_interim(part)  # the weights that are used are rounded
        judged = Judged(
            np.array([each.label for each in held], dtype=np.int64),
            np.stack([stored.answer(bag).probabilities for bag in judging]),
        )
        found = {name: round(v, 4) for name, v in figures(judged).items() if not math.isnan(v)}
        spec = add_figures(part, {"data": data, "judged_cases": len(held), **found})
        (part / CARD_NAME).write_text(_card(spec))
    return spec


def _require_parts(pairs: Sequence[Pair], prompts: int) -> None:
    """Raise DataSetError where IHC cannot name parts of slides."""
    if prompts == 0:
        raise DataSetError(
            "Without prompts IHC teaches nothing, so that it names no part of a slide. Train with "
            "--prompts 256, or with --part-weight 0."
        )
    if all(pair.partners is None for pair in pairs):
        raise DataSetError(
            "No case that trains has a table of partners, so that IHC can name no part of a slide. "
            "Make the pairs by tandem dataset interim, or train with --part-weight 0."
        )


def _bag(path: Path, encoder: str) -> Bag:
    bag = load_bag(path)
    check_encoder(bag, encoder, str(path))
    return bag


def _pair(files: PairFiles, encoder: str, features: int) -> Pair:
    he = load_tiles(files.he, encoder)
    ihc = None if files.ihc is None else load_tiles(files.ihc, encoder)
    for tiles in (he, ihc):
        if tiles is not None and tiles.features.shape[1] != features:
            raise DataSetError(
                f"{files.case}: vectors of {tiles.features.shape[1]} numbers, others of {features}."
            )
    if files.partners is None or ihc is None:
        return Pair(he, ihc, files.label)
    return Pair(he, ihc, files.label, load_partners(files.partners, he, ihc))


def _card(spec: SlideSpec) -> str:
    shown = {k: v for k, v in spec.figures.items() if k not in ("data", "judged_cases")}
    table = "\n".join(f"| {name} | {value} |" for name, value in shown.items())
    trained = "; ".join(f"{name} {value}" for name, value in spec.trained.items())
    return f"""# {spec.name} {spec.version}

Predicts the HER2 score of a block ({", ".join(spec.classes)}) from its H&E slide, before the IHC
slide is there: an interim hint.

**Intended use: research only.** Not for diagnostic use. It is a hint for planning, and never a
score. A site uses weights that it trained and validated on its own pairs.

**Network.** PAMA with IHC prompts (IPCA); input {spec.input}; numbers in `manifest.json`.

**Data.** {spec.figures["data"]}

**Training.** {trained}. To make it again: `tandem train interim --pairs DIR --out DIR
--seed {spec.trained["seed"]}` with the pairs named above.

**Figures** on {spec.figures["judged_cases"]} cases of patients that did not train it:

| figure | value |
|---|---|
{table}

**Calibration.** None: a probability is what the network gives.

**Limits.** Morphology tells HER2 in part only: published work on H&E alone reaches an AUC of 0.69
to 0.86. Weights of drawn pairs (synthetic) say nothing of real tissue.
"""
