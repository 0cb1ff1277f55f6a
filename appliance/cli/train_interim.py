"""``tandem train interim``: train the interim reader on pairs of slides, parsed and called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def interim(
    pairs: Annotated[
        Path,
        typer.Option(
            help="Folder with pairs.csv: columns case, patient, her2 (0, 1+, 2+, 3+), he and ihc "
            "(bags of both slides by one encoder, `tandem dataset bags`); ihc may be empty. Also "
            "partners, where tiles of both show the same tissue (`tandem dataset interim`)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights, manifest and card.")],
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal weights.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the cases.")] = 40,
    rate: Annotated[float, typer.Option(min=1e-7, max=1, help="Learning rate of Adam.")] = 1e-4,
    prompts: Annotated[
        int, typer.Option(min=0, help="Prompts that IHC teaches (n_k); 0: PAMA, without.")
    ] = 256,
    mask_ratio: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of anchors hidden in a training step (r).")
    ] = 0.75,
    part_weight: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="Weight of what IHC says of parts of slides; needs partners. 0: the paper's form.",
        ),
    ] = 0.0,
    data: Annotated[
        str, typer.Option(help="What the slides are, for the card.")
    ] = "pairs of the site",
) -> None:
    """Train the interim reader, HER2 from H&E alone: 70 % of the patients train, 30 % judge once.

    tandem train interim --pairs DIR --out WEIGHTS

    Writes model.safetensors, manifest.json and MODEL_CARD.md to --out; name that folder in
    models.interim (docs/interim.md). The printed figures are those of the patients that judge:
    accuracy, macro and weighted AUC and F1. For research use only.
    """
    from models.interim.pairs import read_pairs
    from models.interim.train import InterimTraining
    from models.training.interim import train_interim

    files = read_pairs(pairs)
    spec = train_interim(
        files,
        out,
        InterimTraining(
            learning_rate=rate,
            epochs=epochs,
            seed=seed,
            with_ihc=prompts > 0,
            part_weight=part_weight,
        ),
        prompts=prompts,
        mask_ratio=mask_ratio,
        data=f"{data}, {len(files)} cases",
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(json.dumps(spec.figures, indent=2))
