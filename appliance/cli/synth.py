"""``tandem synth``: a synthetic case with its ground truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from appliance.cli.bars import ProgressBars

AssayOption = Annotated[
    Literal["her2", "er", "pr"],
    typer.Option(help="What the IHC slide shows. The H&E slide of a seed is the same for all."),
]
PositiveOption = Annotated[
    float | None,
    typer.Option(min=0, max=100, help="Positive tumor nuclei of an ER or PR case in percent."),
]


def synth(
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal tissue.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the slides and the truth.")],
    score: Annotated[
        str | None, typer.Option(help="HER2 score of the case: 0, 1+, 2+ or 3+.")
    ] = None,
    assay: AssayOption = "her2",
    positive: PositiveOption = None,
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
    """Make a synthetic case: a matched pair of H&E and IHC slides with its ground truth."""
    os.umask(0o022)  # made slides are dropped into a scanner's folder, and name no patient
    from models.synthesis.blocks import MPP
    from models.synthesis.receptors import RECEPTORS, synthesize_receptor_case
    from models.synthesis.slides import synthesize_case

    if file_format not in ("svs", "tiff"):
        raise typer.BadParameter("use svs or tiff", param_hint="--format")
    _check_wish(assay, score, positive, rough)
    with ProgressBars() as progress:
        wishes: dict[str, Any] = {
            "seed": seed,
            "width_px": width,
            "height_px": height,
            "mpp": MPP if mpp is None else mpp,
            "file_format": file_format,
            "control": control,
            "organ": organ,
            "scanner": scanner,
            "progress": lambda share: progress("slides", round(100 * share), 100),
        }
        if assay == "her2":
            case = synthesize_case(out_dir, score=str(score), rough=rough, **wishes)
        else:
            receptor = next(name for name in RECEPTORS if name.lower() == assay)
            case = synthesize_receptor_case(
                out_dir, receptor=receptor, positive_percent=float(positive or 0), **wishes
            )
    for path in (case.he_path, case.ihc_path, case.truth_path):
        typer.echo(path)


def _check_wish(assay: str, score: str | None, positive: float | None, rough: bool) -> None:
    """Check that a case has what its assay asks for, and nothing of another one."""
    her2 = assay == "her2"
    for hint, wanted, given in (
        ("--score", her2, score is not None),
        ("--positive", not her2, positive is not None),
    ):
        if wanted != given:
            say = "name it" if wanted else "it does not apply"
            raise typer.BadParameter(f"{say} with --assay {assay}", param_hint=hint)
    if rough and not her2:
        raise typer.BadParameter("only HER2 slides are drawn so", param_hint="--rough")
