"""Command ``tandem picture``: the paper's figures of a case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from appliance.cli.bars import ProgressBars
from appliance.cli.options import ConfigOption, settings_with_logging


def picture(
    case: Annotated[
        str,
        typer.Argument(
            metavar="CASE", help="case-1, see status; or a folder that `tandem process` wrote."
        ),
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the PNG files.")],
    what: Annotated[
        Literal["he", "ihc"] | None, typer.Option(help="Slide that is shown. Default: both.")
    ] = None,
    level: Annotated[
        Literal["patch", "roi", "slide"] | None,
        typer.Option(help="One tile, 12 x 12 tiles, or the whole slide. Default: all three."),
    ] = None,
    attention: Annotated[
        bool,
        typer.Option(help="Heat maps within tiles. They need the weights that read the case."),
    ] = True,
    config: ConfigOption = None,
) -> None:
    """Write pictures of a case: original, overlay, labels (NF/1+) and attention, with scale bars.

    patch and roi open the slide's file; slide needs the stored result alone. File names hold the
    number of the case, no accession. Pictures of a case are offered on its page of the dashboard
    from then on. For research use only.

    tandem picture case-1 --what ihc --level patch --out pictures
    """
    settings = settings_with_logging(config)
    from appliance.operations.picture import LEVELS, WHATS, write_pictures

    with ProgressBars() as progress:
        files = write_pictures(
            settings,
            case,
            out_dir,
            WHATS if what is None else (what,),
            LEVELS if level is None else (level,),
            progress,
            attention=attention,
        )
    for file in files:
        typer.echo(file)
    if not files:
        typer.echo("Nothing to show: the case has no scored tile.", err=True)
