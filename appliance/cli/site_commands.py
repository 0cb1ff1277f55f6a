"""Commands on the installation: ``doctor``, ``metrics``, ``alerts``, ``dashboard``, ``config``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.cli.options import ConfigOption, settings_with_logging

config_app = typer.Typer(no_args_is_help=True, help="Look at the settings.")
out = Console(markup=False)  # texts hold names of files and of settings


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
        checks = examine_destination(settings_with_logging(config, writes=False), pacs)
        for check in checks:
            mark = Text("taken", "green") if check.ok else Text("NOT TAKEN", "red")
            mark = Text("not asked", "yellow") if check.ok is None else mark
            table.add_row(check.title, mark, check.text)
        out.print(table)
        if any(check.ok is False for check in checks):
            raise typer.Exit(1)
        return
    findings = examine(config)
    for finding in findings:
        mark = Text("ok     ", "green") if finding.ok else Text("TROUBLE", "red")
        told = Text.assemble(mark, f" {finding.what}: {finding.text}")
        out.print(told, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def metrics(
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write to this file, whole or not at all: for node_exporter's textfile collector. "
            "Default: print.",
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Say whether work goes on, and exit with 0 or 1: readiness. Liveness, after which "
            "a container is started again: tandem status --alive.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Print figures for Prometheus: life, queue, trouble, deliveries, disk; no patient data."""
    from appliance.operations.metrics import health, metrics_text, write_metrics

    settings = settings_with_logging(config, writes=False)
    if probe:
        found = health(settings)
        typer.echo(found.sentence)
        raise typer.Exit(0 if found.ready else 1)
    if to is None:
        typer.echo(metrics_text(settings), nl=False)
    else:
        write_metrics(settings, to)


def alerts(
    test: Annotated[
        bool, typer.Option("--test", help="Send a test by each channel; exit 1 where one fails.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    r"""Show what people were told by e-mail and webhook, or try it; settings: \[alerts].

    The running daemon sends the alerts. A daemon that has stopped sends none: docs/monitoring.md.

    tandem alerts --test
    """
    from appliance.operations.alerts import alert_lines, send_test

    settings = settings_with_logging(config, writes=False)
    if not test:
        typer.echo("\n".join(alert_lines(settings)))
        return
    outcomes = send_test(settings)
    for name, why in outcomes.items():
        typer.echo(f"{name}: {why or 'sent'}")
    if not outcomes:
        typer.echo("alerts are off: the settings have no [alerts.mail] and no [alerts.webhook].")
    if not outcomes or any(outcomes.values()):
        raise typer.Exit(1)


def dashboard(
    port: Annotated[int, typer.Option(help="TCP port.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Address to listen on. Beyond this machine, people sign in.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name under which a proxy asks for it; may be repeated."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Open the dashboard (Streamlit) on http://ADDRESS:PORT; actions are those of the commands."""
    settings_with_logging(config)
    command = [sys.executable, "-m", "dashboard.serve", "--port", str(port), "--address", address]
    command += [word for each in name or () for word in ("--name", each)]
    if config is not None:
        command += ["--config", str(config)]
    # Replace this process, do not spawn: a signal to `tandem dashboard` must reach the server.
    os.execv(sys.executable, command)  # noqa: S606  our own interpreter and module


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Validate the settings and print them as Tandem will use them."""
    settings = settings_with_logging(config, writes=False)
    from appliance.assays.registry import check_assays, vocabulary
    from appliance.operations.start_checks import check_start, start_notes
    from appliance.settings.secrets import printable

    plain = printable(settings)
    check_assays(settings)
    check_start(settings)
    for note in start_notes(settings):
        typer.echo(note, err=True)
    # The words of the assays, and those of the settings in their place.
    plain["identify"]["stains"] = vocabulary(settings)
    typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
