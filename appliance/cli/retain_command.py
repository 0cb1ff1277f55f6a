"""The command ``tandem retain``: remove working data of finished cases, or say what would go."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from appliance.cli.options import ConfigOption, JsonOption, settings_with_logging


def retain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and why; change nothing.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    r"""Remove working data of finished cases whose days are over, as the daemon does each night.

    Overviews, readings and converted slides go, where each object of the case is proven at its
    destination. Findings, results and headers stay: such a case can be corrected. The section
    \[retention] says when; docs/retention.md says what. The daemon may run.

    tandem retain --dry-run
    """
    settings = settings_with_logging(config)
    from appliance.operations.retention import retain as remove
    from appliance.operations.retention_plan import clock_ahead_s, plan_retention, report_of
    from appliance.operations.status import open_ledger

    now = time.time()
    if ahead_s := clock_ahead_s(settings, now):
        typer.echo(
            f"The clock of this machine is doubted: it may be {ahead_s / 86400:.1f} days ahead. "
            "Everything counts as so much younger.",
            err=True,
        )
    if dry_run:
        plan = plan_retention(settings, now - ahead_s)
    else:
        ledger = open_ledger(settings)
        try:
            if ahead_s:
                ledger.doubt_clock(ahead_s)
            plan = remove(settings, ledger)
        finally:
            ledger.close()
    report = report_of(plan)
    if as_json:
        typer.echo(json.dumps(report))
        return
    for line in _lines(report, "would go" if dry_run else "removed"):
        typer.echo(line)


def _lines(report: dict[str, Any], word: str) -> list[str]:
    lines = [
        f"{each['key']}  {each['bytes'] / 1e6:.1f} MB  {each['why']}  {', '.join(each['owners'])}"
        for each in report["removed"]
    ]
    lines.append(f"{word}: {len(lines)}, {report['removed_bytes'] / 1e6:.1f} MB")
    lines += [
        f"stays ({reason}): {kept['count']}, {kept['bytes'] / 1e6:.1f} MB"
        for reason, kept in sorted(report["stays"].items())
    ]
    return [*lines, f"free: {report['free_bytes'] / 2**30:.1f} GiB"]
