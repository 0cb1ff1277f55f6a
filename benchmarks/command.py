"""Command ``tandem bench``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from appliance.cli.bars import ProgressBars
from appliance.settings.settings_file import load_settings

out = Console()


def bench(
    slide: Annotated[
        Path | None, typer.Option(help="Any slide. Default: a synthetic one.", exists=True)
    ] = None,
    read: Annotated[
        Literal["tumor", "stain"],
        typer.Option(help="What is read: tumor is C on H&E, stain is L and M together on IHC."),
    ] = "tumor",
    tiles: Annotated[int, typer.Option(min=1, help="At most so many tiles.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, help="Medians are over so many.")] = 3,
    peers: Annotated[
        Path | None,
        typer.Option(help="Folder of other tools to compare with: docs/performance.md."),
    ] = None,
    untrained: Annotated[
        str | None,
        typer.Option(
            help="Random weights of this configuration in place of those in use, as rates do not "
            "depend on them. paper: ViT-S, ViT-B and SegFormer-B0, the shapes of the papers."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings file.")] = None,
) -> None:
    """Measure how fast a slide is read, and whether codec or network is the limit."""
    if peers is not None and read != "tumor":
        raise typer.BadParameter("--peers do what C does: --read tumor")
    settings = load_settings(config)
    from benchmarks.bench import bench as measure
    from benchmarks.peer_tools import read_commands
    from models.synthesis.slides import synthesize_case

    commands = None if peers is None else read_commands(peers)
    with tempfile.TemporaryDirectory() as folder, ProgressBars(quiet=as_json) as progress:
        if slide is None:
            case = synthesize_case(
                Path(folder),
                seed=1,
                score="2+",
                width_px=9216,
                height_px=9216,
                progress=lambda share: progress("slides", round(100 * share), 100),
            )
            slide = case.he_path if read == "tumor" else case.ihc_path
        found = measure(
            slide,
            read,
            settings,
            most_tiles=tiles,
            repeats=repeats,
            progress=progress,
            peers=commands,
            untrained=untrained,
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    _show(found, commands or ())


def _show(found: dict[str, Any], peers: Iterable[str]) -> None:
    from appliance.geometry import TILE_PX

    out.print(f"{found['tiles']} tiles, {found['device']}, batches of {found['batch_size']}")
    for name, what in (
        ("decode", "decoding alone"),
        ("openslide", "OpenSlide's read_region alone"),
        ("model", "networks alone"),
        ("end_to_end", "file to label map"),
    ):
        out.print(f"  {what:<32}{found[f'{name}_tiles_per_s']:9.1f} tiles/s")
    for name in peers:
        out.print(f"  {name:<32}{found[f'peers.{name}.tiles_per_s']:9.1f} tiles/s")
    out.print(
        f"  decoding to {found['decoded_px']} px is {found['decode_over_openslide']:.1f} times "
        f"OpenSlide's rate to {TILE_PX} px"
    )
    out.print(f"  {100 * found['efficiency']:.0f} % of the slower of decoding and networks")
    out.print(f"  memory {found['rss_before_mib']} MiB before, {found['peak_rss_mib']} MiB at most")
