"""``tandem evaluate``: the whole appliance on pairs of slides, parsed and called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from appliance.cli.evaluate_result import HtmlOption, show
from appliance.cli.job_progress import JobProgress
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
HeightOption = Annotated[int, typer.Option(help="Their height in px at 0.2793 µm.")]
MppOption = Annotated[
    float | None,
    typer.Option(min=0.25, max=1, help="µm per px of the slides of --synthetic. Default: 0.2793."),
]
RoughOption = Annotated[
    bool,
    typer.Option(
        "--rough",
        help="Draw the pairs of --synthetic with uneven outlines and stain, nearer to real tissue.",
    ),
]
WeightsRootOption = Annotated[
    Path | None,
    typer.Option(help="Folder with tumor, intensity and segmentation weights in it."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Keep slides and results here. Each pair's result is written as it ends: a run that "
        "was stopped goes on with the same --out. Default: a temporary folder.",
    ),
]
Asked = Path | Literal["synthetic", "traps"]
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
    mpp: MppOption = None,
    rough: RoughOption = False,
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
    too. Then the figures by scanner, resolution, score and organ. Definitions: docs/evaluation.md.

    Standard error shows the progress: bars on a terminal, else a line for each pair that ends; so
    does a run with --json, whose standard output is the JSON alone.
    """
    if synthetic + mapping + traps + (folder is not None) != 1:
        raise typer.BadParameter(
            "name a folder of pairs, or ask for --synthetic, --mapping or --traps",
            param_hint="DIR",
        )
    if (mapping or traps) and (html is not None or out_dir is not None):
        raise typer.BadParameter("--mapping and --traps print; they write no report and no slides")
    for hint, chosen in (("--mpp", mpp is not None), ("--rough", rough)):
        if chosen and not synthetic:
            raise typer.BadParameter("only slides of --synthetic have a choice", param_hint=hint)
    settings = load_settings(config)
    if weights_root is not None and not mapping:
        settings = _with_weights(settings, weights_root)
    with JobProgress() as watch:
        if mapping:
            from appliance.evaluation.mapping import evaluate_mapping

            result = evaluate_mapping(seed, count, settings, workers=workers, watch=watch)
        else:
            asked: Asked = folder or ("traps" if traps else "synthetic")
            size_px = (width, height)
            result = _on_pairs(
                asked, seed, count, settings, size_px, mpp, rough, out_dir, workers, watch
            )
    show(result, as_json=as_json, html=html)


def _on_pairs(
    asked: Asked,
    seed: int,
    count: int,
    settings: Settings,
    size_px: tuple[int, int],
    mpp: float | None,
    rough: bool,
    out_dir: Path | None,
    workers: int | None,
    watch: JobProgress,
) -> dict[str, Any]:
    """Judge the pairs in a folder, or `count` made ones."""
    from appliance.evaluation.pairs import evaluate_pairs, evaluate_synthetic
    from appliance.evaluation.traps import evaluate_traps
    from models.synthesis.blocks import MPP

    if asked == "traps":
        return evaluate_traps(seed, count, settings, size_px=size_px, workers=workers, watch=watch)
    if isinstance(asked, Path):
        return evaluate_pairs(asked, settings, out_dir=out_dir, workers=workers, watch=watch)
    return evaluate_synthetic(
        seed,
        count,
        settings,
        size_px=size_px,
        mpp=MPP if mpp is None else mpp,
        rough=rough,
        out_dir=out_dir,
        workers=workers,
        watch=watch,
    )


def _with_weights(settings: Settings, root: Path) -> Settings:
    """The settings with the folder of each network's weights in `root`."""
    tasks = {name: root / name for name in ("tumor", "intensity", "segmentation")}
    models = ModelSettings(**settings.models.model_dump() | tasks)
    return settings.model_copy(update={"models": models})
