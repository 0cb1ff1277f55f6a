"""``tandem identify``: whose slide a file is, by each source."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from appliance.cli.options import ConfigOption, JsonOption
from appliance.cli.word_commands import exclude, keep, pair, retry, set_, unpair
from appliance.settings.settings_file import load_settings

DEFAULT = "files"
out = Console(markup=False)  # texts hold names of files and of settings


class _FilesUnlessNamed(TyperGroup):
    """Group in which ``tandem identify PATH`` means ``tandem identify files PATH``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `DEFAULT` before arguments that name no command."""
        if args and args[0] not in (*self.commands, "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_FilesUnlessNamed,
    no_args_is_help=True,
    help=(
        "Whose slide is it? What each source (header, barcode, file name, folder, sidecar) makes "
        "of each file, and what follows.\n\n"
        "Try it on the names of your laboratory; the files need not exist:\n\n"
        "  tandem identify 'S26-00031_A1_HER2.svs' /scans/2026-11"
    ),
)

app.command("set")(set_)
for command in (pair, unpair, exclude, keep, retry):
    app.command()(command)


@app.command(DEFAULT)
def files(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, folders, or names of files.")
    ],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show what is known of each file: identified, other, conflict or unidentified."""
    settings = load_settings(config)
    from appliance.operations.identify import identify_paths

    found = list(identify_paths(_each(paths), settings))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for entry in found:
        parts = [entry[key] for key in ("outcome", "accession", "block", "stain") if entry[key]]
        out.print(f"{Path(entry['path']).name}: {' '.join(parts)}", highlight=False, soft_wrap=True)
        if entry["outcome"] != "identified":
            for line in (*(_told(source) for source in entry["sources"]), entry["sentence"]):
                out.print(f"    {line}", highlight=False, soft_wrap=True)
    counts = {
        outcome: sum(entry["outcome"] == outcome for entry in found)
        for outcome in ("identified", "other", "conflict", "unidentified")
    }
    out.print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))


def _told(source: dict[str, Any]) -> str:
    said = " ".join(source[key] for key in ("accession", "block", "stain") if source[key])
    doubts = "; ".join(source["doubts"])
    return f"{source['source']}: {said or 'nothing'}{f' ({doubts})' if doubts else ''}"


def _each(paths: list[Path]) -> list[Path]:
    """Files of folders in the order of their names; any other path as it is."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            found += [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
    return found
