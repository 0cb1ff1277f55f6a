"""``tandem dataset propose``: superpixels with a class each, for a person to correct in QuPath."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.dataset_options import tell_names
from models.errors import DataSetError
from models.spec import CLASSES, TILE_MPP, TILE_PX, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.slides.annotated import CalibratedSlide
    from models.datasets.geojson import Area

BACKGROUND_RGB = (160, 160, 160)

SlidesArgument = Annotated[list[Path], typer.Argument(metavar="SLIDE", help="HER2 slides.")]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder for SLIDE.geojson. What is there is never replaced.")
]
TilesOption = Annotated[int, typer.Option(min=1, help="Tiles of each slide, 143 µm wide.")]
SizeOption = Annotated[
    float, typer.Option("--size-um", min=4, max=70, help="Width of a superpixel, µm.")
]


def propose(
    slides: SlidesArgument, out_dir: OutOption, tiles: TilesOption = 12, size_um: SizeOption = 16
) -> None:
    """Propose labels on HER2 slides for a person to correct: superpixels, colored by stain class.

    Tiles are taken evenly from the palest to the brownest with tissue. Each is divided into
    superpixels (SLIC); plain color deconvolution, no network, proposes background, 0, 1+, 2+ or 3+
    for each. In QuPath: drag the GeoJSON onto its slide, select what is wrong, set its class, and
    export all objects as GeoJSON. Then:

    tandem dataset annotations slides.csv --task segmentation --out DATASET
    """
    from appliance.assays.registry import find_assay
    from appliance.cli.annotated_slides import open_as_the_daemon
    from models.datasets.geojson import write_annotations

    paths = {slide: out_dir / f"{slide.stem}.geojson" for slide in slides}
    if len(set(paths.values())) < len(slides):
        raise typer.BadParameter("two slides have one name", param_hint="SLIDE")
    for path in paths.values():
        if path.exists():
            raise DataSetError(f"{path}: is there already. Move it away, or choose another --out.")
    tell_names(out_dir)
    colors = {each.name: each.color for each in find_assay("her2").classes}
    colors[CLASSES[Task.SEGMENTATION][0]] = BACKGROUND_RGB
    with ProgressBars() as progress:
        for number, (slide, path) in enumerate(paths.items(), 1):
            with open_as_the_daemon(slide) as opened:
                areas, offset_px = list(_areas(opened, tiles, size_um)), opened.offset_px
            if not areas:
                raise DataSetError(f"{slide}: no whole tile with tissue. Name a HER2 slide.")
            write_annotations(path, areas, colors, offset_px)
            progress("slides", number, len(slides))
            typer.echo(f"{path}: {len(areas)} superpixels")


def _areas(slide: CalibratedSlide, tiles: int, size_um: float) -> Iterator[Area]:
    """Superpixels of some tiles of a slide, in level-0 px."""
    import numpy as np

    from models.datasets.geojson import Area
    from models.datasets.superpixels import superpixels
    from models.evaluation.baseline import load_baseline
    from models.patch_counts.quality import usable
    from models.spec import LABEL_STEP

    baseline, number = load_baseline(), 0
    ordered = slide.tiles_by_brown()
    limits = np.linspace(0, len(ordered), min(tiles, len(ordered)) + 1).astype(int)
    for first, last in pairwise(limits.tolist()):
        # The brownest tile of each part that the importer will not drop as glass or ink.
        read = ((place, slide.tile(*place)) for place in reversed(ordered[first:last]))
        found = next(((place, pixels) for place, pixels in read if usable(pixels)), None)
        if found is None:
            continue
        place, pixels = found
        corner = np.array(place) * TILE_PX
        for each in superpixels(pixels, baseline.segment(pixels[None])[0], size_um=size_um):
            number += 1
            yield Area(
                name=CLASSES[Task.SEGMENTATION][each.label],
                rings=tuple(
                    (ring * LABEL_STEP + corner) * (TILE_MPP / slide.mpp) for ring in each.rings
                ),
                number=number,
            )
