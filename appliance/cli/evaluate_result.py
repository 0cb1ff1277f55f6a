"""Output of ``tandem evaluate``: JSON, a table of figures, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from models.evaluation.published import SHOWN, published
from models.evaluation.sides import quoted, quoted_names, titles_of

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
    """Print JSON, or a table of the quoted figures of all sides; write the report."""
    if html is not None:
        from models.evaluation.report import write_report

        write_report(result, html)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    words = titles_of(result)
    table = Table("figure", title="synthetic figures" if result["data"] == "synthetic" else None)
    for word in words.values():
        table.add_column(word)
    for name in quoted_names(result):
        table.add_row(name, *(_cell(quoted(result, side, name)) for side in words))
    out = Console(markup=False)
    out.print(table)
    if "task" in result:
        for side, word in words.items():
            if "confusion" in result["details"][side]:
                out.print(_confusion(word, result["details"][side]))
        out.print(_published(result["task"]))
    if result.get("subgroups"):
        out.print(_subgroups(result["subgroups"]))
        out.print(_published("slide"))
    if html is not None:
        out.print(f"report: {html}", soft_wrap=True)
    out.print(result["notice"])


def _confusion(word: str, figures: dict[str, Any]) -> Table:
    """Confusion matrix of one side: rows truth, columns found."""
    table = Table("truth \\ found", title=f"confusion: {word}", box=None, title_justify="left")
    for name in figures["classes"]:
        table.add_column(name, justify="right")
    for name, row in zip(figures["classes"], figures["confusion"], strict=True):
        table.add_row(name, *map(str, row))
    return table


def _published(subject: str) -> Table:
    """Published figures of the same kind of work."""
    rows = published(subject)
    names = [name for name in SHOWN if any(name in row.figures for row in rows)]
    table = Table("published, on other tissue", "source", title_justify="left", box=None)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(row.model, row.source, *(_cell(row.figures.get(name)) for name in names))
    return table


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
