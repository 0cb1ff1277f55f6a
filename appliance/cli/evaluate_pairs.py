"""``tandem evaluate``: the whole appliance on pairs of slides, parsed and called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.evaluate_result import HtmlOption, show
from appliance.cli.options import ConfigOption, JsonOption
from appliance.settings.networks import ModelSettings
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings

FolderArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", help="Pairs with truth, as tandem synth writes them, at any depth."
    ),
]
SyntheticOption = Annotated[bool, typer.Option("--synthetic", help="Make the pairs first.")]
MappingOption = Annotated[
    bool,
    typer.Option(
        "--mapping",
        help="Judge alignment, mix-ups and control tissue alone, on made whole sections.",
    ),
]
TrapsOption = Annotated[
    bool,
    typer.Option(
        "--traps",
        help="Judge cases made to mislead: control tissue, failed runs, mixed tumors.",
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the made pairs.")]
CountOption = Annotated[int, typer.Option("--pairs", min=1, help="How many to make.")]
WidthOption = Annotated[int, typer.Option(help="Width of made slides, px at 0.2793 µm.")]
HeightOption = Annotated[int, typer.Option(help="Height of made slides in px.")]
WeightsRootOption = Annotated[
    Path | None,
    typer.Option(help="Folder with tumor, intensity and segmentation weights in it."),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Keep slides and results here.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Pairs at once. Default: one per core.", min=1)
]


def pairs(
    folder: FolderArgument = None,
    synthetic: SyntheticOption = False,
    mapping: MappingOption = False,
    traps: TrapsOption = False,
    seed: SeedOption = 0,
    count: CountOption = 40,
    width: WidthOption = 6144,
    height: HeightOption = 4608,
    weights_root: WeightsRootOption = None,
    out_dir: OutOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    config: ConfigOption = None,
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
    if weights_root is not None and not mapping:
        settings = _with_weights(settings, weights_root)
    size_px = (width, height)
    with ProgressBars(quiet=as_json) as progress:
        if mapping:
            from appliance.evaluation.mapping import evaluate_mapping

            result = evaluate_mapping(seed, count, settings, workers=workers, progress=progress)
        elif traps:
            from appliance.evaluation.traps import evaluate_traps

            result = evaluate_traps(
                seed, count, settings, size_px=size_px, workers=workers, progress=progress
            )
        else:
            result = _on_pairs(
                folder, seed, count, settings, size_px, out_dir, workers, progress=progress
            )
    show(result, as_json=as_json, html=html)


def _on_pairs(
    folder: Path | None,
    seed: int,
    count: int,
    settings: Settings,
    size_px: tuple[int, int],
    out_dir: Path | None,
    workers: int | None,
    *,
    progress: ProgressBars,
) -> dict[str, Any]:
    """Judge the pairs in `folder`; without it `count` made pairs."""
    from appliance.evaluation.pairs import evaluate_pairs, evaluate_synthetic

    if folder is not None:
        return evaluate_pairs(folder, settings, out_dir=out_dir, workers=workers, progress=progress)
    return evaluate_synthetic(
        seed,
        count,
        settings,
        size_px=size_px,
        out_dir=out_dir,
        workers=workers,
        progress=progress,
    )


def _with_weights(settings: Settings, root: Path) -> Settings:
    """The settings with the folder of each network's weights in `root`."""
    tasks = {name: root / name for name in ("tumor", "intensity", "segmentation")}
    models = ModelSettings(**settings.models.model_dump() | tasks)
    return settings.model_copy(update={"models": models})
