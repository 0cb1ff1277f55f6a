"""``tandem train``: train a network on tiles, or a reader of whole slides on a cohort."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.groups import unless_named
from appliance.cli.train_interim import interim
from appliance.cli.train_reader import reader
from models.errors import DataSetError
from models.spec import Task

Init = Annotated[
    Path | None,
    typer.Option(
        "--init",
        help="Folder to start from: weights, or a checkpoint in transformers' format "
        "(config.json, model.safetensors). Default: from chance.",
    ),
]
HeldOut = Annotated[
    int | None,
    typer.Option(
        min=8,
        help="Number of generated tiles that choose the epoch, and of others for the figures, "
        "without --data. Default: as the configuration says.",
    ),
]


DEFAULT = "network"


def network(
    task: Annotated[Task, typer.Argument(help="Task of the network.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for weights and manifest.")],
    config_name: Annotated[
        str,
        typer.Option(
            "--config",
            help="reference (small, for a CPU), paper (for a GPU), another name, or a TOML file.",
        ),
    ] = "reference",
    data_set: Annotated[
        Path | None,
        typer.Option("--data", help="Data set made by `tandem dataset`. Default: generated tiles."),
    ] = None,
    init: Init = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal weights.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Replaces the number in the configuration.")
    ] = None,
    tiles: Annotated[
        int | None, typer.Option(min=1, help="Number of generated tiles, without --data.")
    ] = None,
    held_out: HeldOut = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
) -> None:
    """Train a network; a killed run that is started again resumes after its last whole epoch.

    Writes model.safetensors, manifest.json and MODEL_CARD.md to --out, and training.csv with the
    loss of each epoch and its figure on the validation tiles, which is also told as it comes. The
    best epoch by that figure is kept. The printed figures are on tiles that neither trained nor
    chose the network: the test split of the data set, or held-out generated tiles.

    tandem train tumor --data DATASET --config reference --out WEIGHTS

    tandem train segmentation --config paper-maskformer --init CHECKPOINT --out WEIGHTS
    """
    from appliance.readers.inference import pick_device
    from models.training.configuration import load_configuration
    from models.training.train import train

    _check_options(data_set, tiles, held_out, init, out_dir)
    config = load_configuration(config_name, task)
    if epochs is not None:
        config = replace(config, epochs=epochs)
    with ProgressBars() as progress:
        spec = train(
            task,
            config,
            out_dir,
            seed=seed,
            tiles=tiles,
            device=pick_device(device),
            progress=progress,
            tell=lambda line: typer.echo(line, err=True),
            held_out=held_out,
            data_set=data_set,
            init=init,
        )
    typer.echo(json.dumps(spec.figures, indent=2))


def _check_options(
    data_set: Path | None, tiles: int | None, held_out: int | None, init: Path | None, out: Path
) -> None:
    """Raise DataSetError for options that exclude each other."""
    if data_set is not None and tiles is not None:
        raise DataSetError("--tiles counts generated tiles; --data has its own. Leave one out.")
    if data_set is not None and held_out is not None:
        raise DataSetError("--held-out counts generated tiles; --data has its own splits.")
    if init is not None and init.resolve() == out.resolve():
        raise DataSetError(f"{init}: these weights would be overwritten. Name another --out.")


app = typer.Typer(
    cls=unless_named(DEFAULT),
    no_args_is_help=True,
    help=(
        "Train networks. For research use only.\n\n"
        "A network of tiles:  tandem train tumor --data DATASET --out WEIGHTS\n\n"
        "A reader of whole slides:  tandem train reader reference-224 --task 3way --cohort DIR "
        "--out WEIGHTS\n\n"
        "The interim reader, HER2 from H&E alone:  tandem train interim --pairs DIR --out WEIGHTS"
    ),
)
app.command(DEFAULT)(network)
app.command()(reader)
app.command()(interim)
