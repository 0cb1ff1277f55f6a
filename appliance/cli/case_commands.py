"""Commands on slides and cases: ``status``, ``stat``, ``retry``, ``correct``, ``export``, …"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli.options import ConfigOption, JsonOption, settings_with_logging

out = Console(markup=False)  # texts hold names of files and of settings

SeenOption = Annotated[
    str,
    typer.Option(
        metavar="RESULT",
        help="The result that you looked at, from tandem status --json. Another one is refused.",
    ),
]

DEFAULT_LIMIT = 50
"""Rows of each table where nothing else is asked for."""


def status(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID", help="Case with the slides of its block, or a slide with its cases."
        ),
    ] = None,
    as_json: JsonOption = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Most cases and slides each. Default: 50; with --json all."),
    ] = None,
    alive: Annotated[
        bool, typer.Option("--alive", help="Say only whether the daemon lives; exit 1 if not.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Show slides and cases with their state, and what to do about trouble.

    With a limit, those in trouble or under way come first, and the newest change first.
    """
    settings = settings_with_logging(config, writes=False)
    from appliance.operations.scanner_folders import folder_lines
    from appliance.operations.status import life_of, status_of

    if alive:
        lives, sentence = life_of(settings)
        typer.echo(sentence)
        raise typer.Exit(0 if lives else 1)
    if as_json:
        typer.echo(json.dumps(status_of(settings, limit, ids or ()), ensure_ascii=False))
        return
    report = status_of(settings, limit or DEFAULT_LIMIT, ids or ())
    for title, columns, rows in (
        ("Cases", ("id", "accession", "block", "state", "score", "review", "remedy"), "cases"),
        ("Slides", ("id", "file", "stain", "state", "reason", "remedy"), "slides"),
    ):
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column)
        for row in report[rows]:
            table.add_row(*(_cell(row[column]) for column in columns))
        out.print(table)
        if more := report.get("more", {}).get(rows):
            out.print(f"and {more} more {rows}: --limit N shows more, tandem status ID one")
            trouble = report["more_in_trouble"][rows]
            if trouble:
                said = ", ".join(f"{n} {state}" for state, n in trouble.items())
                out.print(f"of them in trouble: {said}")
    appliance = report["appliance"]
    about = (appliance["sentence"], appliance["disk"]["sentence"])
    troubles = (appliance["backup_trouble"], appliance["retention_trouble"])
    for line in (*about, *troubles, *folder_lines(settings)):
        if line:
            out.print(line, highlight=False, soft_wrap=True)


def retry(
    subject: Annotated[str, typer.Argument(metavar="ID", help="slide-3 or case-1, see status.")],
    config: ConfigOption = None,
) -> None:
    """Try a quarantined slide, a failed or an undelivered case again."""
    settings = settings_with_logging(config)
    from appliance.operations.retry import retry_subject

    typer.echo(retry_subject(settings, subject))


def stat(
    subject: Annotated[str, typer.Argument(metavar="ID", help="slide-3 or case-1, see status.")],
    off: Annotated[bool, typer.Option("--off", help="Take the mark off.")] = False,
    by: Annotated[str, typer.Option(help="Who wants it, for the history.")] = "",
    config: ConfigOption = None,
) -> None:
    """Put a slide or case, and all of its block, first in every lane."""
    settings = settings_with_logging(config)
    from appliance.operations.urgent import mark_stat

    typer.echo(mark_stat(settings, subject, on=not off, by=by))


def correct(
    case: Annotated[str, typer.Argument(metavar="CASE", help="case-1, see status.")],
    score: Annotated[
        str,
        typer.Option(
            help="The right score, as the assay prints it: 2+. none: it cannot be scored."
        ),
    ],
    by: Annotated[str, typer.Option(help="Who says so, as DICOM writes names: Meyer^Anna.")],
    why: Annotated[str, typer.Option(help="The reason, for the report.")],
    seen: SeenOption = "",
    config: ConfigOption = None,
) -> None:
    """Replace a case's score by a person's: a new report that names the old one; both are kept.

    The new report is VERIFIED by the person who corrects, and goes to systems that wait for a
    sign-off, such as the LIS. Confirmations of the former score do not count for it.
    """
    settings = settings_with_logging(config)
    from appliance.operations.corrections import correct_score

    typer.echo(correct_score(settings, case, score, by=by, why=why, result=seen))


def confirm(
    case: Annotated[str, typer.Argument(metavar="CASE", help="case-1, see status.")],
    by: Annotated[str, typer.Option(help="Who says so, as DICOM writes names: Meyer^Anna.")],
    seen: SeenOption = "",
    config: ConfigOption = None,
) -> None:
    """Sign a case's result: a person found its score right, and stands for it.

    The objects are written and sent anew: a VERIFIED report that names the person, the time and the
    former report, without reasons for review. It goes to systems that wait for a sign-off, such as
    the LIS, as final. A second person's word adds a name; one of the same person changes nothing.
    The setting organization names the laboratory in the report. For research use only.

    tandem confirm case-3 --by Meyer^Anna
    """
    settings = settings_with_logging(config)
    from appliance.operations.corrections import confirm_score

    typer.echo(confirm_score(settings, case, by=by, result=seen))


def rerun(
    case: Annotated[str, typer.Argument(metavar="CASE", help="case-1, see status.")],
    by: Annotated[str, typer.Option(help="Who asks for it, for the history.")] = "",
    seen: SeenOption = "",
    config: ConfigOption = None,
) -> None:
    """Analyze a case with a result again, by today's weights and settings; old results are kept.

    The answer says so where a person had signed the result.
    """
    settings = settings_with_logging(config)
    from appliance.operations.corrections import rerun_case

    typer.echo(rerun_case(settings, case, by=by, result=seen))


def export(
    case: Annotated[str, typer.Argument(metavar="CASE", help="case-1, see status.")],
    geojson: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Areas for QuPath: tumor, classes, regions; slide px.",
        ),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Classes of all px, as OME-TIFF with pyramid."),
    ] = None,
    slide: Annotated[
        str, typer.Option(help="Stain of one slide: HE, HER2. Default of a FILE: the scored slide.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Write a case's result into files for other programs, which name neither case nor patient.

    A folder gets a file for each slide. For research use only.

    tandem export case-3 --geojson EXPORTS --label-map EXPORTS

    In QuPath: open the slide, drag the GeoJSON file onto it.
    """
    settings = settings_with_logging(config)
    from appliance.operations.export import export_case

    if geojson is None and label_map is None:
        raise typer.BadParameter("name --geojson or --label-map, and where to write")
    for path in export_case(settings, case, geojson=geojson, label_map=label_map, slide=slide):
        typer.echo(path)


def _cell(value: Any) -> str:
    return "; ".join(value) if isinstance(value, list) else str(value)
