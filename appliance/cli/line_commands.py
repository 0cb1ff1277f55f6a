"""Commands of the line: ``tandem run`` and ``tandem process``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from appliance.cli.bars import ProgressBars
from appliance.cli.options import ConfigOption, JsonOption, settings_with_logging

out = Console(markup=False)  # texts hold names of files


def run(config: ConfigOption = None) -> None:
    """Run the daemon: watch the scanner's folder until stopped (SIGTERM or Ctrl-C)."""
    settings = settings_with_logging(config)
    from appliance.line.daemon import run_daemon

    run_daemon(settings)


def read_service(config: ConfigOption = None) -> None:
    r"""Answer POST /read on this machine: a slide in, its readers' opinions out (docs/readers.md).

    Off without a section \[read_service] in tandem.toml. No case, no ledger, no score.
    """
    settings = settings_with_logging(config)
    from appliance.line.read_service import run_read_service

    run_read_service(settings)


def process(
    he: Annotated[Path, typer.Argument(help="H&E slide.", exists=True)],
    ihc: Annotated[
        Path, typer.Argument(help="IHC slide of the assay, of the same block.", exists=True)
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    accession: Annotated[str, typer.Option(help="Default: from header or file name.")] = "",
    block: Annotated[str, typer.Option(help="Default: from header or file name.")] = "",
    assay: Annotated[
        str, typer.Option(help="What is scored. Default: the first of pair.expected_assays.")
    ] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Score one pair of slides: the daemon's steps on two files, no daemon, no database.

    Writes findings, the report page (report.pdf) and the DICOM objects to --out.
    """
    settings = settings_with_logging(config)
    from appliance.line.process import process_pair

    with ProgressBars(quiet=as_json) as progress:
        result = process_pair(
            he,
            ihc,
            out_dir,
            settings,
            accession=accession,
            block=block,
            assay_name=assay,
            progress=progress,
        )
    if as_json:
        steps = [asdict(step) for step in result.times]
        typer.echo(json.dumps(result.summary | {"steps": steps}, ensure_ascii=False))
        return
    summary = result.summary
    score = Text(summary["score"] or "none", style="bold")
    out.print(Text.assemble("score ", score, f" (estimated, {summary['guideline']})"))
    for line in _share_lines(summary):
        out.print(line)
    for reason in summary["review"]:
        out.print(f"  review: {reason['sentence']}")
    for step in result.times:
        out.print(f"  {step.step:<9}{step.seconds:7.1f} s")
    for note in result.notes:
        out.print(f"  note: {note}")
    out.print(f"{len(result.objects)} DICOM objects, findings.json and report.pdf in {out_dir}")
    out.print(summary["notice"])


def _share_lines(summary: dict[str, Any]) -> Iterator[str]:
    """Lines of the share of each class, lowest first; classes of no order as they are."""
    from appliance.assays.assay import SHARE_OF
    from appliance.assays.registry import find_assay

    assay, percent = find_assay(summary["assay"]), summary["percent"]
    counted = assay.objects.page.share_of
    area = f"{summary['tumor_area_mm2']:.2f} mm² tumor" if counted == SHARE_OF else counted
    names = [named.name for named in assay.classes if named.name in percent] or list(percent)
    width = max(2, *map(len, names))
    for name in names:
        yield f"  {name:>{width}} {percent[name]:5.1f} % of {area}"
