"""``tandem evaluate``: the appliance or networks, where the truth or a person's score is known."""

from __future__ import annotations

import typer

from appliance.cli.evaluate_pairs import pairs
from appliance.cli.evaluate_people import people
from appliance.cli.evaluate_reader import reader
from appliance.cli.evaluate_tiles import tiles
from appliance.cli.groups import unless_named

DEFAULT = "pairs"


app = typer.Typer(
    cls=unless_named(DEFAULT),
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
        "Readers of whole slides:  tandem evaluate reader --synthetic 500 --out DIR\n\n"
        "Scores of this installation beside people's:  tandem evaluate people"
    ),
)
app.command(DEFAULT)(pairs)
app.command()(tiles)
app.command()(people)
app.command()(reader)
