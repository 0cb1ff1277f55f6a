"""``tandem evaluate`` and ``tandem evaluate tiles``: parse and call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from appliance.cli.bars import ProgressBars
from appliance.settings.networks import ModelSettings
from appliance.settings.settings_file import load_settings

DEFAULT = "pairs"


class _PairsUnlessNamed(TyperGroup):
    """``tandem evaluate DIR`` and ``tandem evaluate --synthetic`` mean ``evaluate pairs …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `DEFAULT` before what names no command."""
        if args and args[0] not in (*self.commands, "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PairsUnlessNamed,
    no_args_is_help=True,
    help=(
        "Judge the appliance, or one network, where the truth is known. A plain "
        "colour-deconvolution baseline runs beside it, always. For research use only.\n\n"
        "The appliance on pairs made for it:  tandem evaluate --synthetic --seed 1 --pairs 40\n\n"
        "The appliance on pairs that tandem synth wrote:  tandem evaluate DIR\n\n"
        "Alignment of whole sections:  tandem evaluate --mapping --seed 1 --pairs 60\n\n"
        "Cases made to mislead:  tandem evaluate --traps --seed 1 --pairs 50\n\n"
        "One network on images with truth:  tandem evaluate tiles --task tumor DIR\n\n"
        "One network on generated tiles:  tandem evaluate tiles --task tumor --generated 200"
    ),
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write a report with plots: one file, no network.")
]


@app.command(DEFAULT)
def pairs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Pairs with truth, as tandem synth writes them, at any depth."
        ),
    ] = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Make the pairs first.")] = False,
    mapping: Annotated[
        bool,
        typer.Option(
            "--mapping",
            help="Judge alignment, mix-ups and control tissue alone, on made whole sections.",
        ),
    ] = False,
    traps: Annotated[
        bool,
        typer.Option(
            "--traps",
            help="Judge cases made to mislead: control tissue, failed runs, mixed tumors.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the made pairs.")] = 0,
    count: Annotated[int, typer.Option("--pairs", min=1, help="How many to make.")] = 40,
    width: Annotated[int, typer.Option(help="Width of made slides, px at 0.2793 µm.")] = 6144,
    height: Annotated[int, typer.Option(help="Height of made slides in px.")] = 4608,
    weights_root: Annotated[
        Path | None,
        typer.Option(help="Folder with tumor, intensity and segmentation weights in it."),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Keep slides and results here.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Pairs at once. Default: one per core.", min=1)
    ] = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings file.")] = None,
) -> None:
    """Run the whole appliance on pairs of slides and compare with their truth.

    Made pairs have scores in balance and come from all scanners; about a minute each
    and core. Quoted: C, L and M on tiles, the slides' scores, calibration; each for the baseline
    too. Definitions: docs/evaluation.md.
    """
    if synthetic + mapping + traps + (folder is not None) != 1:
        raise typer.BadParameter(
            "name a folder of pairs, or ask for --synthetic, --mapping or --traps",
            param_hint="DIR",
        )
    if (mapping or traps) and (html is not None or out_dir is not None):
        raise typer.BadParameter("--mapping and --traps print; they write no report and no slides")
    settings = load_settings(config)
    if mapping:
        from appliance.evaluation.mapping import evaluate_mapping

        with ProgressBars(quiet=as_json) as progress:
            _show(
                evaluate_mapping(seed, count, settings, workers=workers, progress=progress),
                as_json=as_json,
                html=None,
            )
        return
    if weights_root is not None:
        tasks = {name: weights_root / name for name in ("tumor", "intensity", "segmentation")}
        models = ModelSettings(**settings.models.model_dump() | tasks)
        settings = settings.model_copy(update={"models": models})
    if traps:
        from appliance.evaluation.traps import evaluate_traps

        with ProgressBars(quiet=as_json) as progress:
            found = evaluate_traps(
                seed, count, settings, size_px=(width, height), workers=workers, progress=progress
            )
        _show(found, as_json=as_json, html=None)
        return
    from appliance.evaluation.pairs import evaluate_pairs, evaluate_synthetic

    with ProgressBars(quiet=as_json) as progress:
        if folder is not None:
            result = evaluate_pairs(
                folder, settings, out_dir=out_dir, workers=workers, progress=progress
            )
        else:
            result = evaluate_synthetic(
                seed,
                count,
                settings,
                size_px=(width, height),
                out_dir=out_dir,
                workers=workers,
                progress=progress,
            )
    _show(result, as_json=as_json, html=html)


@app.command()
def tiles(
    task: Annotated[str, typer.Option(help="tumor, intensity or segmentation.")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="Class folders, images with masks, labels.csv, or a data set of tandem dataset.",
        ),
    ] = None,
    generated: Annotated[
        int, typer.Option(min=0, help="Instead of DIR: so many generated tiles.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the generated tiles.")] = 0,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of weights. Default: those that Tandem uses.")
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Of a data set.")
    ] = "test",
    mpp: Annotated[
        float | None,
        typer.Option(help="µm per px of the images. Default: DIR/mpp, else 0.2793."),
    ] = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings file.")] = None,
) -> None:
    """Judge one network on images with truth, and say what it makes of each image.

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
    from appliance.evaluation.labeled_tiles import (
        TileJudge,
        describe,
        evaluate_data_set,
        evaluate_folder,
        evaluate_generated,
    )
    from appliance.readers.chosen_weights import chosen_weights

    chosen = weights or chosen_weights(Task(task), settings)[0]
    judge = TileJudge(Task(task), chosen, settings.models.device)
    with ProgressBars(quiet=as_json) as progress:
        if folder is not None and (folder / MANIFEST_NAME).is_file():
            result = evaluate_data_set(folder, judge, split=split, progress=progress)
        elif folder is not None:
            result = evaluate_folder(folder, judge, mpp=mpp, progress=progress)
        else:
            result = evaluate_generated(judge, tiles=generated, seed=seed, progress=progress)
    if not as_json:
        for line in describe(result.get("predictions", [])):
            typer.echo(line)
        if result.get("mpp_assumed"):
            typer.echo("no mpp was given: 0.2793 µm/px is assumed", err=True)
    _show(result, as_json=as_json, html=html)


def _show(result: dict[str, Any], *, as_json: bool, html: Path | None) -> None:
    """JSON, or a table of the quoted figures with the baseline's; and the report, if wanted."""
    if html is not None:
        from models.evaluation.report import write_report

        write_report(result, html)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    table = Table(title="synthetic figures" if result["data"] == "synthetic" else None)
    sides = ("", "baseline.") if any(key.startswith("baseline.") for key in result) else ("",)
    for column in ("figure", "Tandem", "baseline")[: 1 + len(sides)]:
        table.add_column(column)
    for name in (key for key in result if "." in key and not key.startswith("baseline.")):
        table.add_row(name, *(_cell(result[f"{side}{name}"]) for side in sides))
    out = Console()
    out.print(table)
    if html is not None:
        out.print(f"report: {html}", soft_wrap=True)
    out.print(result["notice"])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
