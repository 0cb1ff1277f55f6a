"""Commands on the ledger's file: ``tandem ledger verify``, ``backup``, ``restore``."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.options import ConfigOption, settings_with_logging

ledger_app = typer.Typer(
    no_args_is_help=True, help="Verify, back up and restore the ledger, the record of all cases."
)


@ledger_app.command()
def verify(config: ConfigOption = None) -> None:
    """Check the file, the chain of events, and each row against it; the daemon may run."""
    settings = settings_with_logging(config, writes=False)
    from appliance.operations.backup import verify_ledger

    found = verify_ledger(settings)
    for problem in found.problems:
        typer.echo(problem)
    if found.older:
        typer.echo("An earlier build made it; events and rows are checked when it is migrated.")
    typer.echo(f"{found.events} events; hash of the last: {found.head or '(none)'}")
    if found.problems:
        typer.echo("The ledger is NOT whole. See: tandem ledger restore --help")
        raise typer.Exit(1)
    typer.echo("The ledger is whole.")


@ledger_app.command()
def backup(config: ConfigOption = None) -> None:
    """Make a backup now; the daemon may run, and makes one each day by itself."""
    settings = settings_with_logging(config)
    from appliance.operations.backup import back_up

    made = back_up(settings)
    typer.echo(f"{made.name}: {made.cases} cases, {made.slides} slides, {made.event} events")
    typer.echo(f"hash of the last event: {made.head or '(none)'}")


@ledger_app.command()
def restore(
    name: Annotated[
        str, typer.Argument(help="A file of backups/. Default: the newest good one.")
    ] = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where its verification finds something.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Put a backup in the ledger's place; the daemon must be stopped. The old one is kept.

    Stop the dashboard, too: what people say in it at the end of a restore may be lost.
    """
    settings = settings_with_logging(config)
    from appliance.operations.backup import restore_ledger

    done = restore_ledger(settings, name, anyway=anyway)
    typer.echo(f"restored {done.backup.name} ({done.backup.made})")
    if done.kept is not None:
        typer.echo(f"the replaced ledger is kept in {done.kept}")
    if not done.found:
        typer.echo("There was no ledger here: what happened since the backup is not known here.")
        typer.echo("Is its state folder still there? Then: tandem ledger backup with its settings,")
        typer.echo("copy backups/ of it, and restore again.")
    elif done.lost is None:
        typer.echo("The replaced ledger could not be read: corrections since the backup are lost.")
        typer.echo("So is all else that people said of slides and cases. Ask who said something")
        typer.echo("since then, and repeat it: tandem correct, confirm, rerun, retry, identify.")
    for word in done.lost or ():
        typer.echo(f"MISSING word on {word}")
    if done.lost:
        typer.echo("The daemon goes on without these words: repeat them before you start it.")
        typer.echo("A slide that is not in the backup is taken in anew when the daemon runs, under")
        typer.echo(
            "another number: before, move the file of one that is wrongly named or left out."
        )
