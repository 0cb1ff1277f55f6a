"""Output of ``tandem evaluate``: JSON, a table of figures, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write a report with plots: one file, no network.")
]


def show(result: dict[str, Any], *, as_json: bool, html: Path | None) -> None:
    """Print JSON, or a table of the quoted figures beside the baseline's; write the report."""
    if html is not None:
        from models.evaluation.report import write_report

        write_report(result, html)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    table = Table(title="synthetic figures" if result["data"] == "synthetic" else None)
    sides = ("", "baseline.") if any(key.startswith("baseline.") for key in result) else ("",)
    for column in ("figure", "Tandem", "baseline")[: 1 + len(sides)]:
        table.add_column(column)
    for name in (key for key in result if "." in key and not key.startswith("baseline.")):
        table.add_row(name, *(_cell(result[f"{side}{name}"]) for side in sides))
    out = Console()
    out.print(table)
    if html is not None:
        out.print(f"report: {html}", soft_wrap=True)
    out.print(result["notice"])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
