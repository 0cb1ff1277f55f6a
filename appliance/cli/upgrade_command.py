"""The command ``tandem upgrade``: take a state folder of an earlier edition over, or look first."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from appliance.cli.options import ConfigOption, JsonOption, settings_with_logging

WOULD_MIGRATE = 3
"""Exit status where an upgrade has something to do, and can."""


def upgrade(
    check: Annotated[
        bool, typer.Option("--check", help="Say what would be done; change nothing.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Take a state folder of an earlier edition over, as the daemon does at its start.

    A backup of the ledger is made first. The daemon must be stopped; with --check it may run. Exit
    status of --check: 0 nothing is to be done, 3 an upgrade would migrate the ledger, 1 this
    edition cannot take the folder over, or there is no room for it.

    tandem upgrade --check
    """
    settings = settings_with_logging(config, writes=not check)
    from appliance.operations.upgrade import check_upgrade, sentences_of, upgrade_now

    found = check_upgrade(settings)
    ends = check or bool(found.trouble)
    if not ends and found.is_older:
        upgrade_now(settings)
    told = found if ends else check_upgrade(settings)
    for line in [json.dumps(asdict(told))] if as_json else sentences_of(told):
        typer.echo(line)
    if ends:
        raise typer.Exit(1 if found.trouble else WOULD_MIGRATE if found.is_older else 0)
