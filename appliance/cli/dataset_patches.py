"""Command ``tandem dataset patches``: slides as patches labeled by partial annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.dataset_options import ClassOption, pairs_of, tell_names


def patches(
    table: Annotated[
        Path, typer.Argument(help="CSV table: slide, and annotations (may be empty).")
    ],
    resolution: Annotated[
        Literal["low", "moderate", "high"],
        typer.Option(help="8.99, 3.26 or 0.64 µm per px; a patch has 224 px."),
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the files of patches.")],
    classes: ClassOption = None,
) -> None:
    """Cut IHC slides into patches for readers that count them: a file per slide.

    A patch has the class (0, 1+, 2+, 3+) of the annotation of which 5 % of the patch or more are
    covered (arXiv 2503.22069); all patches with tissue are kept, since slides are read whole.
    Annotations are QuPath's: Export objects as GeoJSON. Paths in the table are relative to it.
    Files have the slides' names, for the column patches_RESOLUTION of a cohort's table. White and
    black patches are excluded, and contrast is equalized, when a reader learns or answers. For
    research use only.

    tandem dataset patches slides.csv --resolution low --out cohort/patches/low
    """
    from appliance.cli.annotated_slides import open_as_the_daemon
    from models.datasets.slide_patches import cut_patches, slides_to_cut
    from models.patch_counts.patches import SUFFIX, UNLABELED, save_patches

    names = pairs_of(classes, "--class")
    slides = slides_to_cut(table)
    tell_names(out_dir)
    with ProgressBars() as progress:
        for number, (path, annotations) in enumerate(slides, 1):
            with open_as_the_daemon(path) as slide:
                found = cut_patches(path.stem, slide, annotations, resolution, names)
            file = out_dir / f"{path.stem}{SUFFIX}"
            save_patches(found, file)
            labeled = int((found.labels != UNLABELED).sum())
            typer.echo(f"{file}: {len(found)} patches, {labeled} annotated")
            progress("cutting patches", number, len(slides))
