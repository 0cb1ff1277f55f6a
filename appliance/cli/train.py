"""``tandem train``: train a network on a data set or on generated tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from appliance.cli.bars import ProgressBars
from models.spec import Task


def train(
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
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Folder of weights to start from. Default: from chance."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal weights.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Replaces the number in the configuration.")
    ] = None,
    tiles: Annotated[
        int | None, typer.Option(min=1, help="Number of generated tiles, without --data.")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
) -> None:
    """Train a network; a killed run that is started again resumes after its last whole epoch.

    Writes model.safetensors, manifest.json and MODEL_CARD.md to --out, and training.csv with the
    loss of each epoch. The printed figures are on tiles that training never saw: the test split of
    the data set, or held-out generated tiles.

    tandem train tumor --data DATASET --config reference --out WEIGHTS
    """
    from appliance.readers.inference import pick_device
    from models.errors import DataSetError
    from models.training.configuration import load_configuration
    from models.training.train import train as train_network

    if data_set is not None and tiles is not None:
        raise DataSetError("--tiles counts generated tiles; --data has its own. Leave one out.")
    if init is not None and init.resolve() == out_dir.resolve():
        raise DataSetError(f"{init}: these weights would be overwritten. Name another --out.")
    config = load_configuration(config_name, task)
    if epochs is not None:
        config = config.model_copy(update={"epochs": epochs})
    with ProgressBars() as progress:
        spec = train_network(
            task,
            config,
            out_dir,
            seed=seed,
            tiles=tiles,
            device=pick_device(device),
            progress=progress,
            data_set=data_set,
            init=init,
        )
    typer.echo(json.dumps(spec.figures, indent=2))
