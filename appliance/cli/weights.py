"""``tandem weights``: list, verify, install and select sets of weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from appliance.cli.options import ConfigOption, JsonOption, refuse_root
from appliance.errors import WeightsError
from appliance.settings.settings_file import load_settings
from models.errors import ModelError
from models.spec import ModelSpec, Task

if TYPE_CHECKING:
    from appliance.operations.install_weights import KnownWeights

app = typer.Typer(
    no_args_is_help=True,
    help="Weights of the networks. To use your own: tandem weights use FOLDER.",
)
out = Console(markup=False)  # texts hold names of files and of settings

NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of the set. Default: name-version of its manifest."),
]


@app.command("list")
def list_(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show every set of weights of this installation, and which are in use."""
    from appliance.assays.registry import tasks
    from appliance.operations.install_weights import known_weights
    from appliance.readers.site_calibrations import calibration_words

    settings = load_settings(config)
    known = known_weights(settings, tasks())
    if as_json:
        typer.echo(json.dumps([_plain(each) for each in known], ensure_ascii=False))
        return
    table = Table("task", Column("name", overflow="fold"), "version", "sha256", "in use", "figures")
    for each in known:
        spec = each.spec
        table.add_row(
            each.task,
            each.name,
            spec.version if spec else "",
            spec.sha256[:12] if spec else "",
            "yes" if each.in_use else "",
            _figures(spec) if spec else each.problem,
        )
    out.print(table)
    for each in known:
        if each.spec is not None and (each.in_use or each.problem):
            # A calibration that is damaged or away is not one that is missing.
            words = each.problem or calibration_words(each.spec, settings)
            title = each.task if each.in_use else f"{each.task} {each.name}"
            out.print(f"{title}: {words}", soft_wrap=True, highlight=False)


@app.command()
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of weights. Default: all sets of this installation."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Recompute checksums and load the networks; exit 1 if one is unusable."""
    from appliance.operations.install_weights import check_weights, known_weights
    from appliance.readers.chosen_weights import chosen_weights

    settings = load_settings(config)
    if folder is not None:
        spec = check_weights(folder)
        typer.echo(f"ok      {folder}: {spec.task}, {spec.name} {spec.version}")
        return
    from appliance.assays.registry import tasks

    bad = False
    for each in known_weights(settings, tasks()):
        try:
            check_weights(each.folder, each.task)
            if each.in_use:
                chosen_weights(each.task, settings)
        except (ModelError, WeightsError) as err:
            bad = True
            typer.echo(f"TROUBLE {each.task} {each.name}: {err}")
        else:
            typer.echo(f"ok      {each.task} {each.name}")
    if bad:
        raise typer.Exit(1)


@app.command()
def install(
    folder: Annotated[Path, typer.Argument(help="manifest.json, model.safetensors, MODEL_CARD.md")],
    name: NameOption = None,
    config: ConfigOption = None,
) -> None:
    """Verify a folder of weights and copy it into the state folder; nothing is selected yet."""
    from appliance.operations.install_weights import install_weights

    settings = load_settings(config)
    refuse_root(settings)
    done = install_weights(folder, settings, name)
    typer.echo(
        f"installed {done.task} {done.name}. Next: tandem weights use {done.task} {done.name}"
    )


@app.command()
def use(
    what: Annotated[
        str, typer.Argument(metavar="TASK|FOLDER", help="A task, or a folder to install and use.")
    ],
    known: Annotated[
        str | None, typer.Argument(metavar="NAME", help="An installed set, or reference.")
    ] = None,
    name: NameOption = None,
    config: ConfigOption = None,
) -> None:
    """Use an installed set for a task, or your own folder; a running daemon follows."""
    from appliance.operations.install_weights import install_weights, select_weights

    settings = load_settings(config)
    refuse_root(settings)
    if known is None:
        installed = install_weights(Path(what), settings, name)
        task, known = installed.task, installed.name
    elif what in list(Task):
        task = Task(what)
    else:
        raise typer.BadParameter(f"use {', '.join(Task)}", param_hint="TASK")
    done = select_weights(task, known, settings)
    typer.echo(f"{task}: {done.name} from now on.")
    if not done.in_use:
        typer.echo(
            f"But the settings name a folder, which takes precedence: remove models.{task} there.",
            err=True,
        )


def _plain(each: KnownWeights) -> dict[str, Any]:
    raw = asdict(each) | {"folder": str(each.folder), "calibration": None}
    if each.spec is not None:
        raw["spec"] = asdict(each.spec) | {"fingerprint": each.spec.fingerprint}
        site = raw["spec"].pop("site")
        if each.spec.site is not None:
            raw["calibration"] = site | {"fingerprint": each.spec.site.fingerprint}
    return raw


def _figures(spec: ModelSpec) -> str:
    shown = [
        f"{title} {spec.figures[key]}"
        for key, title in (
            ("accuracy", "accuracy"),
            ("macro_f1", "macro F1"),
            ("mean_iou", "mean IoU"),
        )
        if key in spec.figures
    ]
    return f"{', '.join(shown)} ({spec.figures.get('data', 'unknown data')})" if shown else ""
