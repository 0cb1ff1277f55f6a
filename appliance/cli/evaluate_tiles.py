"""``tandem evaluate tiles``: networks on images or generated tiles, parsed and called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.evaluate_result import HtmlOption, show
from appliance.cli.options import ConfigOption, JsonOption
from appliance.settings.settings_file import load_settings

FolderArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]",
        help="Class folders, images with masks, labels.csv, or a data set of tandem dataset.",
    ),
]
GeneratedOption = Annotated[
    int, typer.Option(min=0, help="Instead of DIR: so many generated tiles.")
]
WeightsOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder of weights; repeat it to compare several. Default: those that Tandem uses, as "
        "calibrated for this site."
    ),
]
SplitOption = Annotated[
    Literal["train", "validation", "test"], typer.Option(help="Split of a data set.")
]
MppOption = Annotated[
    float | None, typer.Option(help="µm per px of the images. Default: DIR/mpp, else 0.2793.")
]


def tiles(
    task: Annotated[str, typer.Option(help="tumor, intensity or segmentation.")],
    folder: FolderArgument = None,
    generated: GeneratedOption = 0,
    # Seeds below 0 are those of tiles that trained the networks.
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated tiles.")] = 0,
    weights: WeightsOption = None,
    split: SplitOption = "test",
    mpp: MppOption = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    config: ConfigOption = None,
) -> None:
    """Judge networks of one task on images with truth, and say what they make of each image.

    Several weights stand side by side, in the tables and figures of arXiv 2512.22335; --html has
    the plots:

    tandem evaluate tiles --task tumor DIR --weights SMALL --weights BASE --html report.html

    Layouts: DIR/CLASS/IMAGE; NAME.png + NAME_mask.png; images/ + masks/; labels.csv (file, label,
    patient, mpp); for intensity also the score in the file's name. Classes: tumor, other; 0, 1+,
    2+, 3+ or none, faint, weak, strong. Images of any size are cut into tiles.
    """
    if bool(generated) == (folder is not None):
        raise typer.BadParameter("name a folder, or a number to --generated", param_hint="DIR")
    settings = load_settings(config)
    from models.spec import MANIFEST_NAME, Task

    if task not in list(Task):
        raise typer.BadParameter(f"use {', '.join(Task)}", param_hint="--task")
    from appliance.evaluation.labeled_images import describe
    from appliance.evaluation.labeled_tiles import (
        evaluate_data_set,
        evaluate_folder,
        evaluate_generated,
    )
    from appliance.evaluation.tile_judge import TileJudge
    from appliance.readers.chosen_weights import chosen_weights

    chosen, site = weights or [], None
    if len({folder.resolve() for folder in chosen}) < len(chosen):
        raise typer.BadParameter("each folder once", param_hint="--weights")
    if not chosen:
        used, spec = chosen_weights(Task(task), settings)
        chosen, site = [used], spec.site
    judge = TileJudge(Task(task), chosen, settings.models.device, site)
    with ProgressBars(quiet=as_json) as progress:
        if folder is not None and (folder / MANIFEST_NAME).is_file():
            result = evaluate_data_set(folder, judge, split=split, progress=progress)
        elif folder is not None:
            result = evaluate_folder(folder, judge, mpp=mpp, progress=progress)
        else:
            result = evaluate_generated(judge, tiles=generated, seed=seed, progress=progress)
    if not as_json:
        for line in describe(result.get("predictions", []), result["sides"]):
            typer.echo(line)
        _tell(result)
    show(result, as_json=as_json, html=html)


def _tell(result: dict[str, Any]) -> None:
    """Tell, beside the figures, what was assumed and what is left out of them."""
    if result.get("mpp_assumed"):
        typer.echo("no mpp was given: 0.2793 µm/px is assumed", err=True)
    if left := result.get("tiles_not_judged"):
        typer.echo(f"tiles that are not judged, by their masks: {left}", err=True)
