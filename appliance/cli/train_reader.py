"""``tandem train reader``: train a slide-level system on a cohort, parsed and called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.reader_options import (
    AugmentOption,
    BeginOption,
    CohortOption,
    EpochsOption,
    LossOption,
    SyntheticOption,
    chosen_system,
    slides_to_use,
)
from models.slide_level.tasks import SlideTask

DRAWN = "cohort"


def reader(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="reference-224, convnext-s-512, …")
    ],
    task: Annotated[SlideTask, typer.Option(help="Question that it learns.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, manifest and card.")],
    cohort: CohortOption = None,
    synthetic: SyntheticOption = 0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal weights.")] = 0,
    loss: LossOption = None,
    augment: AugmentOption = True,
    begin: BeginOption = True,
    epochs: EpochsOption = None,
) -> None:
    """Train a reader of whole slides: 80 % of the patients train, 10 % stop, 10 % judge.

    tandem train reader reference-224 --task 3way --cohort DIR --out WEIGHTS

    tandem train reader reference-224 --task 4way --synthetic 500 --seed 1 --out WEIGHTS

    Writes model.safetensors, manifest.json and MODEL_CARD.md to --out. Drawn slides lie in its
    folder "cohort". The printed figures are those of the patients that judge. A cohort's own
    folds replace the shares: its first fold judges, the second stops, the others train.
    """
    if bool(synthetic) == (cohort is not None):
        raise typer.BadParameter("name a folder, or a number to --synthetic", param_hint="--cohort")
    chosen = chosen_system(system, loss, augment, begin, epochs)
    from models.training.reader import train_reader

    with ProgressBars() as bars:
        slides, _ = slides_to_use(cohort, synthetic, seed, out / DRAWN, [task], [system], bars)
    data = (
        f"{synthetic} drawn patients, seed {seed} (synthetic)" if synthetic else "a site's cohort"
    )
    spec = train_reader(
        chosen,
        slides,
        task,
        out,
        seed=seed,
        data=f"{data}, {len(slides)} slides.",
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(json.dumps(spec.figures, indent=2))
