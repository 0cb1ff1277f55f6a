"""Commands ``tandem interim``: what became of the hints of the interim reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer

from appliance.cli.options import ConfigOption, JsonOption, settings_with_logging

interim_app = typer.Typer(
    no_args_is_help=True,
    help="The interim reader: a hint on HER2 from the H&E slide alone. For research use only.",
)


@interim_app.callback()
def _group() -> None:
    """Keep the name of the only command."""


@interim_app.command()
def report(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Say how often the hints of this site were right, by the weights that gave them.

    A hint is right where its class is the score that the case has now. Intervals are Wilson's at
    95 %. Hints of drawn weights (synthetic) say nothing of real tissue. The daemon may run.

    tandem interim report
    """
    settings = settings_with_logging(config, writes=False)
    from appliance.operations.interim import interim_report

    found = interim_report(settings)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    if not found["weights"]:
        yield "no hint was given yet (docs/interim.md)"
    for each in found["weights"]:
        yield (
            f"{each['name']} {each['version']} ({each['fingerprint'][:12]}…): {each['hints']} "
            f"hints, {each['waiting']} of cases that wait"
        )
        for key, words in (("all", "with a score"), ("signed", "of them by a person's word")):
            yield f"  {words}: {_share(each[key])}"
        for said, counts in each["confusion"].items():
            became = ", ".join(f"{score}: {n}" for score, n in sorted(counts.items()))
            yield f"  said {said}, scored {became}"
    for why, n in sorted(found["without_opinion"].items()):
        yield f"no opinion, unusual {why}: {n}"
    yield found["notice"]


def _share(right: dict[str, Any]) -> str:
    if not right["scored"]:
        return "none"
    low, high = (100 * each for each in right["interval"])
    return (
        f"{right['right']} of {right['scored']} right, {100 * right['share']:.0f} % "
        f"({low:.0f} to {high:.0f} %)"
    )
