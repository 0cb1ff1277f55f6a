"""The group ``tandem identify``."""

from __future__ import annotations

import typer

from appliance.cli.word_commands import exclude, keep, pair, retry, set_, unpair

app = typer.Typer(no_args_is_help=True, help="Say whose slide it is, and which belong together.")
app.command("set")(set_)
for command in (pair, unpair, exclude, keep, retry):
    app.command()(command)
