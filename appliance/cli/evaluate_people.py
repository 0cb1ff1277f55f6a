"""``tandem evaluate people``: the appliance's scores beside those of people, parsed and called."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli.options import ConfigOption, JsonOption, settings_with_logging


def people(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Compare the scores of this installation with what people said of them.

    Counted are the cases that a person corrected (tandem correct) or confirmed (tandem confirm):
    confusion, agreement, and kappa with quadratic weights, each with its 95 % interval. People saw
    the appliance's score first, and chose the cases: this is agreement, not accuracy.
    """
    settings = settings_with_logging(config, writes=False)
    from appliance.operations.agreement import compare_with_people

    result = compare_with_people(settings)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    if not result["assays"]:
        typer.echo("No case has a result yet.")
    for figures in result["assays"].values():
        _show(figures)
    typer.echo(result["notice"])


def _show(figures: dict[str, Any]) -> None:
    out = Console(markup=False)
    title, n, unscored = figures["title"], figures["n"], figures["unscored"]
    spoken = n + unscored + figures["other_scores"]
    said = f"{title}: people spoke on {spoken} of {spoken + figures['silent']} cases with a result"
    if unscored:
        said += f", and said on {unscored} that it cannot be scored"
    if figures["other_scores"]:
        said += f", and on {figures['other_scores']} a score that the assay does not have"
    out.print(said, highlight=False, soft_wrap=True)
    if not n and spoken:
        return
    if not n:
        out.print("Say what is right: tandem confirm CASE, or tandem correct CASE.")
        return
    table = Table("person \\ Tandem", title_justify="left", box=None)
    for column in (*figures["scores"], "none"):
        table.add_column(column, justify="right")
    for score, row in zip(figures["scores"], figures["confusion"], strict=True):
        table.add_row(score, *map(str, row))
    out.print(table)
    for name, key in (
        (f"agreement ({figures['exact']} of {n})", "agreement"),
        (f"within one class ({figures['within_one']} of {n})", "within_one_share"),
        ("kappa, quadratic weights", "kappa_quadratic"),
    ):
        out.print(f"{name}: {_with_interval(figures, key)}", highlight=False)
    for person in figures["people"]:
        out.print(f"{person['by']}: {person['exact']} of {person['n']}", highlight=False)
    out.print(
        "People saw the score before they spoke, and chose the cases: agreement, not accuracy.",
        soft_wrap=True,
    )


def _with_interval(figures: dict[str, Any], key: str) -> str:
    if figures[key] is None:
        return "undefined: it takes cases of two scores"
    if key not in figures["interval"]:
        return f"{figures[key]:.3f} (no interval: it takes several accessions)"
    low, high = figures["interval"][key]
    return f"{figures[key]:.3f} (95 % {low:.3f} to {high:.3f})"
