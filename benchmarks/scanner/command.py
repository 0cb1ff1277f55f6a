"""Command ``tandem simulate scanner``. Libraries are loaded when it runs."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from appliance.cli.bars import ProgressBars

PROFILE_NAMES = (
    "aperio-svs", "hamamatsu-ndpi", "generic-tiff", "philips-tiff", "mirax", "dicom",
)  # fmt: skip
FAULT_NAMES = (
    "stalls", "truncated", "renames", "deletions", "duplicates", "rescans", "series", "names",
    "zero", "garbage", "cut", "special", "dustbins", "conflicts",
)  # fmt: skip
NAMING_NAMES = ("underscores", "spaces", "points", "time", "level", "lower", "stain-first")

app = typer.Typer(no_args_is_help=True, help="Simulate the devices around the appliance.")
out = Console()


@app.callback()
def _simulate() -> None:
    """Simulate the devices around the appliance."""
    os.umask(0o022)  # as a scanner's share, which others read


@app.command()
def scanner(
    folder: Annotated[
        Path, typer.Option("--out", help="Folder that the slides are written into; empty or new.")
    ],
    profile: Annotated[
        str,
        typer.Option(
            help=f"Brands, with commas: {', '.join(PROFILE_NAMES)}, or all. Each of several writes "
            "into a subfolder."
        ),
    ] = "aperio-svs",
    slides: Annotated[
        int, typer.Option(min=1, help="Slides: two of each block, H&E and HER2.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Equal seeds write equal bytes.")] = 1,
    faults: Annotated[
        str, typer.Option(help=f"all, none, or some with commas: {', '.join(FAULT_NAMES)}.")
    ] = "all",
    fault_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the slides that have a fault.")
    ] = 0.3,
    naming: Annotated[
        str,
        typer.Option(
            help="How names are written: scanner, or conventions of laboratories in turn, with "
            f"commas: {', '.join(NAMING_NAMES)}, or all."
        ),
    ] = "scanner",
    truth: Annotated[
        Path | None,
        typer.Option(
            help="JSON file, outside the folder: for each slide its identity, when it was whole, "
            "and how it has to end."
        ),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            min=0,
            help="Times faster than the real scanner, which takes 44 to 183 s a slide. "
            "0: without waiting.",
        ),
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Write slides into a folder as a slide scanner does, with the faults of real sites.

    The slides are small, real, and of synthetic tissue: OpenSlide opens them, and the appliance
    scores them. A trial without a scanner: start `tandem run` with the folder as watch.folder, then

    tandem simulate scanner --profile dicom --speed 60 --out FOLDER
    """
    profiles = _chosen(profile, PROFILE_NAMES, "--profile")
    chosen = () if faults == "none" else _chosen(faults, FAULT_NAMES, "--faults")
    namings = () if naming == "scanner" else _chosen(naming, NAMING_NAMES, "--naming")
    if truth is not None and truth.resolve().is_relative_to(folder.resolve()):
        raise typer.BadParameter("keep the truth outside the scanner's folder", param_hint="truth")
    if folder.is_dir() and any(not f.name.startswith(".") for f in folder.iterdir()):
        raise typer.BadParameter("the folder is not empty: slides could be lost", param_hint="out")
    from benchmarks.scanner.play import Simulation, simulate

    wanted = Simulation(
        profiles=profiles,
        slides=slides,
        seed=seed,
        faults=chosen,
        fault_share=fault_share,
        speed=speed,
        namings=namings,
    )
    with ProgressBars(quiet=as_json) as progress:
        found = simulate(wanted, folder, progress)
    if truth is not None:
        truth.write_text(json.dumps(found, indent=1) + "\n")
    ends = Counter(entry["expected"] for entry in found["slides"])
    pairs = sum(len(case["read"]) == 2 for case in found["cases"])
    if as_json:
        typer.echo(json.dumps({"slides": len(found["slides"]), "pairs": pairs, "expected": ends}))
        return
    out.print(f"{len(found['slides'])} slides of {len(found['cases'])} blocks in {folder}")
    out.print(f"  {pairs} pairs have to be scored; slides by their end:")
    for end, count in ends.most_common():
        out.print(f"  {end:<10}{count:6}")


def _chosen(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Return the names of a list with commas; ``all`` is all that are known."""
    names = known if text == "all" else tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is unknown; use {', '.join(known)}", param_hint=option
        )
    return tuple(dict.fromkeys(names))
