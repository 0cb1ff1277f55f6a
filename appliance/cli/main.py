"""The command ``tandem``: parse, load settings, call. Loads torch only where a command needs it."""

from __future__ import annotations

import logging
import os
from importlib.metadata import entry_points, version
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from appliance.cli import dataset, evaluate, identify, train, weights
from appliance.cli.calibrate import calibrate
from appliance.cli.case_commands import confirm, correct, export, rerun, retry, stat, status
from appliance.cli.init_command import init
from appliance.cli.interim_commands import interim_app
from appliance.cli.ledger_commands import ledger_app
from appliance.cli.line_commands import process, read_service, run
from appliance.cli.picture_command import picture
from appliance.cli.retain_command import retain
from appliance.cli.site_commands import alerts, config_app, dashboard, doctor, metrics
from appliance.cli.synth import synth
from appliance.cli.upgrade_command import upgrade
from appliance.cli.user_commands import users_app
from appliance.cli.worker_command import scheduler, worker
from appliance.errors import TandemError

app = typer.Typer(
    name="tandem",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "Tandem sits beside a slide scanner: it pairs the H&E and the HER2 slide of a tumor block, "
        "scores them, and delivers the overlay and the report to PACS. For research use only."
    ),
)
log = logging.getLogger(__name__)
err = Console(stderr=True, markup=False)  # texts hold names of files and of settings


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tandem {version('tandem-her2')}. For research use only.")
        raise typer.Exit


@app.callback()
def _tandem(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Say which edition this is; all work is done by commands."""


for command in (
    *(run, process, status, stat, retry, correct, confirm, rerun, picture, export),
    *(init, doctor, retain, upgrade, metrics, alerts, dashboard, synth, calibrate),
):
    app.command()(command)
app.command()(read_service)
app.command()(worker)
app.command()(scheduler)
for extra in entry_points(group="tandem.commands"):
    # Commands, such as ``tandem bench``, of packages that import the appliance.
    loaded = extra.load()
    if isinstance(loaded, typer.Typer):
        app.add_typer(loaded, name=extra.name)
    else:
        app.command(extra.name)(loaded)
app.add_typer(config_app, name="config")
app.add_typer(ledger_app, name="ledger")
app.add_typer(users_app, name="users")
app.add_typer(interim_app, name="interim")
app.add_typer(identify.app, name="identify")
app.add_typer(weights.app, name="weights")
app.add_typer(dataset.app, name="dataset")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(train.app, name="train")


def main() -> None:
    """Run ``tandem``: errors of Tandem and of the system become one line and exit status 1."""
    # Results name patients: what any command writes is its user's alone.
    os.umask(0o077)
    from dicom.errors import DicomError
    from models.errors import ModelError

    try:
        app()
    except (TandemError, DicomError, ModelError) as problem:
        _end(str(problem))
    except OSError as problem:
        log.debug("details", exc_info=problem)
        _end(_told(problem))


def _told(problem: OSError) -> str:
    """Return what the system says of a file, and what to do where the user has no right to it."""
    said = problem.strerror or str(problem) or type(problem).__name__
    named = said if problem.filename is None else f"{problem.filename}: {said}"
    if isinstance(problem, PermissionError):
        return f"{named}. Run this as the service's user: sudo -u tandem tandem …"
    return f"{named}."


def _end(said: str) -> NoReturn:
    err.print(Text.assemble(("error:", "red"), f" {said}"), soft_wrap=True)
    raise SystemExit(1) from None
