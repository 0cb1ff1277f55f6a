"""``tandem evaluate``: the appliance or networks, where the truth or a person's score is known."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from appliance.cli.evaluate_pairs import pairs
from appliance.cli.evaluate_people import people
from appliance.cli.evaluate_tiles import tiles

DEFAULT = "pairs"


class _PairsUnlessNamed(TyperGroup):
    """Group in which ``tandem evaluate DIR`` means ``tandem evaluate pairs DIR``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `DEFAULT` before arguments that name no command."""
        if args and args[0] not in (*self.commands, "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PairsUnlessNamed,
    no_args_is_help=True,
    help=(
        "Judge the appliance, or one network, where the truth is known. A plain "
        "color-deconvolution baseline always runs beside it. For research use only.\n\n"
        "The appliance on pairs made for it:  tandem evaluate --synthetic --seed 1 --pairs 40\n\n"
        "The appliance on pairs that tandem synth wrote:  tandem evaluate DIR\n\n"
        "Alignment of whole sections:  tandem evaluate --mapping --seed 1 --pairs 60\n\n"
        "Cases made to mislead:  tandem evaluate --traps --seed 1 --pairs 50\n\n"
        "One network on images with truth:  tandem evaluate tiles --task tumor DIR\n\n"
        "One network on generated tiles:  tandem evaluate tiles --task tumor --generated 200\n\n"
        "Several side by side:  tandem evaluate tiles --task tumor DIR --weights A --weights B\n\n"
        "Scores of this installation beside people's:  tandem evaluate people"
    ),
)
app.command(DEFAULT)(pairs)
app.command()(tiles)
app.command()(people)
