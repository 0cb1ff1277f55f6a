"""``tandem synth``: a synthetic case with its ground truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from appliance.cli.bars import ProgressBars


def synth(
    seed: Annotated[int, typer.Option(help="Equal seeds make equal tissue.")],
    score: Annotated[str, typer.Option(help="HER2 score of the case: 0, 1+, 2+ or 3+.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the slides and the truth.")],
    width: Annotated[int, typer.Option(help="Slide width in px at 0.2793 µm/px.")] = 12288,
    height: Annotated[int, typer.Option(help="Slide height in px at 0.2793 µm.")] = 9216,
    mpp: Annotated[
        float | None,
        typer.Option(min=0.25, max=1, help="µm per px of the slides. Default: 0.2793."),
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="svs or tiff.")] = "svs",
    control: Annotated[
        Literal["works", "failed", "none"],
        typer.Option(help="Control tissue on the IHC slide; unstained where the run failed."),
    ] = "works",
    organ: Annotated[
        str, typer.Option(help="breast, gastric, colorectal or endometrial.")
    ] = "breast",
    scanner: Annotated[
        str | None, typer.Option(help="neutral, warm, cool or crisp. Default: drawn from the seed.")
    ] = None,
    rough: Annotated[
        bool, typer.Option("--rough", help="Uneven outlines and stain, nearer to real tissue.")
    ] = False,
) -> None:
    """Make a synthetic case: a matched pair of H&E and HER2 slides with its ground truth."""
    os.umask(0o022)  # made slides are dropped into a scanner's folder, and name no patient
    from models.synthesis.blocks import MPP
    from models.synthesis.slides import synthesize_case

    if file_format not in ("svs", "tiff"):
        raise typer.BadParameter("use svs or tiff", param_hint="--format")
    with ProgressBars() as progress:
        case = synthesize_case(
            out_dir,
            seed=seed,
            score=score,
            width_px=width,
            height_px=height,
            mpp=MPP if mpp is None else mpp,
            file_format="svs" if file_format == "svs" else "tiff",
            control=control,
            organ=organ,
            scanner=scanner,
            rough=rough,
            progress=lambda share: progress("slides", round(100 * share), 100),
        )
    for path in (case.he_path, case.ihc_path, case.truth_path):
        typer.echo(path)
