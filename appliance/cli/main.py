"""The command ``tandem``: parse, load settings, call. Torch-free until a command needs it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli import dataset, evaluate, weights
from appliance.cli.bars import ProgressBars
from appliance.cli.train import train
from appliance.domain import Her2Score
from appliance.errors import TandemError
from appliance.logs import configure_logging
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings
from appliance.words.say import tell_error

app = typer.Typer(
    name="tandem",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "Tandem sits beside a slide scanner: it pairs the H&E and the HER2 slide of a tumor block, "
        "scores them, and delivers the overlay and the report to PACS. For research use only."
    ),
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the settings.")
app.add_typer(config_app, name="config")
app.add_typer(weights.app, name="weights")
app.add_typer(dataset.app, name="dataset")
app.add_typer(evaluate.app, name="evaluate")

out = Console()
err = Console(stderr=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Settings file. Default: $TANDEM_CONFIG, ./tandem.toml, /etc/tandem/tandem.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def run(config: ConfigOption = None) -> None:
    """Run the daemon: watch the scanner's folder until stopped (SIGTERM or Ctrl-C)."""
    settings = _settings(config)
    from appliance.line.daemon import run_daemon

    run_daemon(settings)


@app.command()
def process(
    he: Annotated[Path, typer.Argument(help="H&E slide.", exists=True)],
    ihc: Annotated[Path, typer.Argument(help="HER2 IHC slide of the same block.", exists=True)],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    accession: Annotated[str, typer.Option(help="Default: from header or file name.")] = "",
    block: Annotated[str, typer.Option(help="Default: from header or file name.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Score one pair of slides: the daemon's steps on two files, no daemon, no database.

    Writes findings, the report page (report.pdf) and the DICOM objects to --out.
    """
    settings = _settings(config)
    from appliance.line.process import process_pair

    with ProgressBars(quiet=as_json) as progress:
        result = process_pair(
            he, ihc, out_dir, settings, accession=accession, block=block, progress=progress
        )
    if as_json:
        steps = [asdict(step) for step in result.times]
        typer.echo(json.dumps(result.summary | {"steps": steps}, ensure_ascii=False))
        return
    summary = result.summary
    out.print(f"score [bold]{summary['score'] or 'none'}[/] (estimated, {summary['guideline']})")
    for name, share in summary["percent"].items():
        out.print(f"  {name:>2} {share:5.1f} % of {summary['tumor_area_mm2']:.2f} mm² tumor")
    for reason in summary["review"]:
        out.print(f"  review: {reason['sentence']}")
    for step in result.times:
        out.print(f"  {step.step:<9}{step.seconds:7.1f} s")
    for note in result.notes:
        out.print(f"  note: {note}")
    out.print(f"{len(result.objects)} DICOM objects, findings.json and report.pdf in {out_dir}")
    out.print(summary["notice"])


@app.command()
def status(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show every slide and case with its state, and what to do about trouble."""
    settings = _settings(config)
    from appliance.operations.status import status_of

    report = status_of(settings)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
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


@app.command()
def retry(
    subject: Annotated[str, typer.Argument(metavar="ID", help="slide-3 or case-1, see status.")],
    config: ConfigOption = None,
) -> None:
    """Try a quarantined slide, a failed or an undelivered case again."""
    settings = _settings(config)
    from appliance.operations.status import retry_subject

    typer.echo(retry_subject(settings, subject))


@app.command()
def correct(
    case: Annotated[str, typer.Argument(metavar="CASE", help="case-1, see status.")],
    score: Annotated[Her2Score, typer.Option(help="The right score.")],
    by: Annotated[str, typer.Option(help="Who says so, as DICOM writes names: Meyer^Anna.")],
    why: Annotated[str, typer.Option(help="The reason, for the report.")],
    config: ConfigOption = None,
) -> None:
    """Replace a case's score by a person's: a new report that names the old one; both are kept."""
    settings = _settings(config)
    from appliance.operations.corrections import correct_score

    typer.echo(correct_score(settings, case, score, by=by, why=why))


@app.command()
def rerun(
    case: Annotated[str, typer.Argument(metavar="CASE", help="case-1, see status.")],
    config: ConfigOption = None,
) -> None:
    """Analyse a case with a result again, by today's weights and settings; old results are kept."""
    settings = _settings(config)
    from appliance.operations.corrections import rerun_case

    typer.echo(rerun_case(settings, case))


@app.command()
def doctor(
    pacs: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A destination: show which objects it takes."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Check settings, disk, GPU, weights, PACS and folder rights; exit 1 on trouble."""
    from appliance.operations.doctor import examine, examine_destination

    if pacs is not None:
        table = Table(title=f"What '{pacs}' takes", title_justify="left")
        for column in ("object", "", "remedy"):
            table.add_column(column, overflow="fold")
        checks = examine_destination(_settings(config), pacs)
        for check in checks:
            mark = "[green]taken[/]" if check.ok else "[red]NOT TAKEN[/]"
            table.add_row(check.title, mark, check.text)
        out.print(table)
        if not all(check.ok for check in checks):
            raise typer.Exit(1)
        return
    findings = examine(config)
    for finding in findings:
        mark = "[green]ok     [/]" if finding.ok else "[red]TROUBLE[/]"
        out.print(f"{mark} {finding.what}: {finding.text}", highlight=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(help="TCP port.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    config: ConfigOption = None,
) -> None:
    """Open the dashboard (Streamlit) on http://ADDRESS:PORT; reads the ledger, changes nothing."""
    _settings(config)
    command = [sys.executable, "-m", "dashboard.serve", "--port", str(port), "--address", address]
    if config is not None:
        command += ["--config", str(config)]
    # Replaced, not spawned: a signal to `tandem dashboard` is a signal to the server.
    os.execv(sys.executable, command)  # noqa: S606  our own interpreter and module


@app.command()
def synth(
    seed: Annotated[int, typer.Option(help="Equal seeds make equal tissue.")],
    score: Annotated[str, typer.Option(help="HER2 score of the case: 0, 1+, 2+ or 3+.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the slides and the truth.")],
    width: Annotated[int, typer.Option(help="Slide width in px at 0.2793 µm/px.")] = 12288,
    height: Annotated[int, typer.Option(help="Slide height in px.")] = 9216,
    file_format: Annotated[str, typer.Option("--format", help="svs or tiff.")] = "svs",
    control: Annotated[
        Literal["works", "failed", "none"],
        typer.Option(help="Control tissue on the IHC slide; of a run that failed it is unstained."),
    ] = "works",
    organ: Annotated[
        str, typer.Option(help="breast, gastric, colorectal or endometrial.")
    ] = "breast",
    scanner: Annotated[
        str | None, typer.Option(help="neutral, warm, cool or crisp; none: drawn from the seed.")
    ] = None,
) -> None:
    """Make a synthetic case: a matched pair of H&E and HER2 slides with its ground truth."""
    from models.synthesis.slides import synthesize_case

    if file_format not in ("svs", "tiff"):
        raise typer.BadParameter("use svs or tiff", param_hint="--format")
    with ProgressBars() as progress:
        case = synthesize_case(
            out_dir,
            seed=seed,
            score=score,
            width_px=width,
            height_px=height,
            file_format="svs" if file_format == "svs" else "tiff",
            control=control,
            organ=organ,
            scanner=scanner,
            progress=lambda share: progress("slides", round(100 * share), 100),
        )
    for path in (case.he_path, case.ihc_path, case.truth_path):
        typer.echo(path)


app.command()(train)
for extra in entry_points(group="tandem.commands"):
    # Such as ``tandem bench``: commands of packages that know the appliance and that it does not.
    app.command(extra.name)(extra.load())


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Validate the settings and print them as Tandem will use them."""
    settings = _settings(config)
    typer.echo(json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False))


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logging(settings.log_level)
    return settings


def _cell(value: Any) -> str:
    return "; ".join(value) if isinstance(value, list) else str(value)


def main() -> None:
    """Entry point: errors that Tandem knows become one line and exit status 1."""
    from dicom.errors import DicomError
    from models.errors import ModelError

    try:
        app()
    except (TandemError, DicomError, ModelError) as problem:
        err.print(f"[red]error:[/] {tell_error(problem)}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
