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

SUBGROUP_FIGURES = {
    "n": "pairs",
    "exact": "exact",
    "within_one": "within 1",
    "reviewed": "review",
    "confidently_wrong": "wrong",
    "tumor.accuracy": "C",
    "intensity.accuracy": "L",
    "segmentation.mean_iou": "M",
}
"""Columns of the table by subgroup, and their heads."""


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
        table.add_row(name, *(_cell(result.get(f"{side}{name}")) for side in sides))
    out = Console()
    out.print(table)
    if result.get("subgroups"):
        out.print(_subgroups(result["subgroups"]))
    if html is not None:
        out.print(f"report: {html}", soft_wrap=True)
    out.print(result["notice"])


def _subgroups(rows: list[dict[str, Any]]) -> Table:
    """Table of the figures by scanner, resolution, score and organ."""
    table = Table(title="by subgroup; C and L: accuracy, M: mean IoU", box=None, pad_edge=False)
    table.add_column("by")
    table.add_column("value")
    for head in SUBGROUP_FIGURES.values():
        table.add_column(head, justify="right")
    for row in rows:
        value = "unknown" if row["value"] is None else str(row["value"])
        table.add_row(row["by"], value, *(_cell(row[key]) for key in SUBGROUP_FIGURES))
    return table


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
