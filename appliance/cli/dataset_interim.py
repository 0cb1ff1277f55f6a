"""Command ``tandem dataset interim``: signed cases as pairs that train the interim reader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.options import ConfigOption, settings_with_logging


def interim(
    out_dir: Annotated[Path, typer.Option("--out", help="New folder for pairs.csv and the bags.")],
    encoder: Annotated[
        Path | None,
        typer.Option(help="Folder of the encoder. Default: the small one that ships."),
    ] = None,
    assay: Annotated[str, typer.Option(help="Assay of the cases.")] = "her2",
    config: ConfigOption = None,
) -> None:
    """Write the cases whose score a person confirmed or gave, for `tandem train interim`.

    The folder holds vectors of tiles, places and scores; cases and patients are numbered, and no
    accession, name or date is written. Slides are encoded once; their files must be there. For
    research use only.

    tandem dataset interim --out PAIRS
    """
    settings = settings_with_logging(config)
    from appliance.line.interim_pairs import write_signed_pairs

    with ProgressBars() as progress:
        written, left = write_signed_pairs(settings, assay, out_dir, progress, encoder=encoder)
    typer.echo(f"{out_dir}: {written} cases; {left} left out, because a slide could not be encoded")
