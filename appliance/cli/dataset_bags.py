"""Command ``tandem dataset bags``: slides as bags of encoded tiles."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.dataset_options import tell_names
from appliance.cli.options import ConfigOption, settings_with_logging
from appliance.errors import ArtifactDamagedError, SlideError, SourceChangedError
from models.errors import DataSetError


def bags(
    slides: Annotated[list[Path], typer.Argument(help="Files of slides.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the bags.")],
    encoder: Annotated[
        Path | None,
        typer.Option(help="Folder of the encoder. Default: the small one that ships."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Encode the tissue tiles of slides, for multiple-instance learning: a file per slide.

    Slides of which no bag can be made are told, and the command ends with 1. Files have the slides'
    names: SLIDE.safetensors, for the column bag of a cohort's table. What
    was encoded before by the same encoder is not encoded again. A laboratory's own encoder (a
    vision transformer in transformers' format) is described once by
    `python -m models.encoders.describe FOLDER`. For research use only.

    tandem dataset bags scans/*.svs --out cohort/bags
    """
    names = Counter(slide.stem for slide in slides)
    if twice := [name for name, count in names.items() if count > 1]:
        raise typer.BadParameter(f"several slides are named {twice[0]}", param_hint="SLIDES")
    settings = settings_with_logging(config)
    from appliance.line.slide_bags import bag_of_slide
    from models.mil.bag import SUFFIX, save_bag

    out_dir.mkdir(parents=True, exist_ok=True)
    tell_names(out_dir)
    without = 0
    with ProgressBars() as progress:
        for slide in slides:
            path = out_dir / f"{slide.stem}{SUFFIX}"
            try:
                bag = bag_of_slide(slide, settings, progress, encoder=encoder)
            except (SlideError, SourceChangedError, ArtifactDamagedError, DataSetError) as err:
                older = _older(path) if _is_of_the_slide(err) and path.exists() else ""
                typer.echo(f"{slide}: {err}{older}", err=True)
                without += 1
                continue
            save_bag(bag, path)
            typer.echo(f"{path}: {len(bag)} tiles")
    if without:
        raise DataSetError(f"{without} of {len(slides)} slides got no bag: see above.")


def _is_of_the_slide(err: Exception) -> bool:
    """Return whether a slide has no bag for what it is: a file that is away, or is being written,
    says nothing of the bag that an earlier run made."""
    damaged = isinstance(err, SlideError) and err.reason.value == "damaged"
    return damaged or isinstance(err, DataSetError)


def _older(path: Path) -> str:
    return f" {path} was made by an earlier run; use it only if the slide did not change."
