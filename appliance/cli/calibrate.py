"""``tandem calibrate``: fit a network's thresholds to this site on tiles of its own slides."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli.bars import ProgressBars
from appliance.cli.dataset_options import (
    ClassOption,
    PatientsOption,
    PatternOption,
    pairs_of,
    patient_of,
)
from appliance.cli.options import ConfigOption, JsonOption, refuse_root
from appliance.settings.settings_file import load_settings
from models.spec import ModelSpec, Task

if TYPE_CHECKING:
    from appliance.evaluation.site_labels import SiteLabels
    from appliance.settings.settings import Settings
    from models.site_calibration import SiteCalibration
    from models.training.site_fit import Fitted

LabelsArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="LABELS",
        help="Folder of slides with QuPath's GeoJSON beside them, a CSV table of them (slide, "
        "annotations, patient), or class folders of images.",
    ),
]
RestOption = Annotated[
    str | None,
    typer.Option(help="Class of unannotated tissue, if all tumor is annotated: --rest other."),
]
MppOption = Annotated[
    float | None,
    typer.Option(
        help="µm per px of images. Default: a column mpp of labels.csv, or LABELS/mpp; images of "
        "which neither says it are refused."
    ),
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show before and after; store nothing.")]
RemoveOption = Annotated[
    bool, typer.Option("--remove", help="Take the calibration of the weights in use out again.")
]


def calibrate(
    task: Annotated[Task, typer.Option("--task", help="Task of the network.")],
    labels: LabelsArgument = None,
    classes: ClassOption = None,
    rest: RestOption = None,
    mpp: MppOption = None,
    pattern: PatternOption = "",
    patients: PatientsOption = None,
    dry_run: DryOption = False,
    remove: RemoveOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Calibrate a network for this site on 20 to 200 labeled tiles of its own slides.

    A network often ranks tiles well where its threshold is wrong: another scanner or stain moves
    all its answers. Annotate areas of about 300 µm on some slides of 5 patients or more in QuPath,
    40 tiles (143 µm) or more, all classes about as often, and export them as GeoJSON beside the
    slides, in a folder per patient. A scale and an offset per class are fitted and judged on
    patients that the fit did not see. Where that does not surely help nothing is stored, and the
    exit status is 1.

    A running daemon uses the calibration from its next step on. Reports name it; without one they
    say "not calibrated for this site".

    tandem calibrate --task tumor ANNOTATED

    tandem calibrate --task tumor --remove
    """
    if remove == (labels is not None):
        raise typer.BadParameter("name LABELS, or --remove", param_hint="LABELS")
    if remove and dry_run:
        raise typer.BadParameter("--remove has no dry run", param_hint="--dry-run")
    settings = load_settings(config)
    refuse_root(settings)
    if labels is None:
        _remove(task, settings)
        return
    from appliance.cli.annotated_slides import open_as_the_daemon
    from appliance.evaluation.site_labels import SiteLabels
    from models.datasets.annotated import Rules

    given = SiteLabels(
        path=labels,
        rules=Rules(names=pairs_of(classes, "--class"), rest=rest),
        mpp=mpp,
        patient_of=patient_of(pattern, patients, depth=0) if pattern or patients else None,
        open_slide=open_as_the_daemon,
        say=_say,
    )
    _fit(given, task, settings, dry_run=dry_run, as_json=as_json)


def _fit(
    labels: SiteLabels, task: Task, settings: Settings, *, dry_run: bool, as_json: bool
) -> None:
    """Fit, show, and store unless it is refused: then exit 1."""
    from appliance.evaluation.site_labels import labeled_logits
    from appliance.operations.site_calibration import store_calibration, threshold_trouble
    from appliance.readers.chosen_weights import uncalibrated_weights
    from appliance.readers.inference import Network
    from models.errors import CalibrationError
    from models.training.site_fit import fit_site, site_calibration

    if trouble := threshold_trouble(task, settings):
        raise CalibrationError(trouble)
    folder, spec = uncalibrated_weights(task, settings)
    if kind := _learned_from(spec):
        _say(
            f"{task}: these weights learned from a data set of {kind}: label other patients than "
            "those of the train split."
        )
    in_use = _in_use(spec, settings)
    network = Network(folder, settings.models.device, settings.models.runtime)
    with ProgressBars(quiet=as_json) as progress:
        labeled = labeled_logits(labels, network, progress)
        fitted = fit_site(labeled, task, in_use=in_use, progress=progress)
    _show(fitted, spec, as_json=as_json, dry_run=dry_run)
    try:
        made = datetime.now(UTC).isoformat(timespec="seconds")
        site = site_calibration(fitted, task, spec.weights_fingerprint, labeled, made)
    except CalibrationError:
        if as_json:  # the JSON has the reason
            raise typer.Exit(1) from None
        raise
    stored = None if dry_run else store_calibration(site, spec, settings)
    if as_json:
        return
    fingerprint = f"fingerprint {site.fingerprint[:12]}…"
    if in_use is not None and in_use.fingerprint != site.fingerprint:
        fingerprint += f", in place of {in_use.fingerprint[:12]}… of {in_use.made[:10]}"
    if stored is None:
        typer.echo(f"{task}: would be calibrated ({fingerprint}); nothing is stored.")
    else:
        typer.echo(f"{task}: calibrated for this site from now on ({fingerprint}): {stored}")


def _in_use(spec: ModelSpec, settings: Settings) -> SiteCalibration | None:
    """The calibration of these weights; None where there is none, or a damaged one.

    Raises
    ------
    WeightsError
        If the folder of calibrations, or the file, cannot be read: what is in use is unknown.
    """
    from appliance.errors import WeightsError
    from appliance.readers.site_calibrations import with_site_calibration
    from models.errors import CalibrationError

    try:
        return with_site_calibration(spec, settings).site
    except WeightsError as err:
        if isinstance(err.__cause__, (CalibrationError, UnicodeDecodeError)):
            return None
        raise


def _say(text: str) -> None:
    """Print beside the figures, which may be JSON."""
    typer.echo(text, err=True)


def _learned_from(spec: ModelSpec) -> str:
    """Kind of the data set that taught weights; empty where none did, or the generator made it."""
    made: Any = spec.trained.get("data_set")
    source = made.get("source") if isinstance(made, dict) else None
    kind = str(source.get("kind", "")) if isinstance(source, dict) else ""
    return "" if kind == "generated" else kind


def _remove(task: Task, settings: Settings) -> None:
    from appliance.operations.site_calibration import remove_calibration
    from appliance.readers.chosen_weights import uncalibrated_weights

    _, spec = uncalibrated_weights(task, settings)
    was = remove_calibration(spec, settings)
    typer.echo(
        f"{spec.task}: not calibrated for this site from now on."
        if was
        else f"{spec.task}: there is no calibration of {spec.name} {spec.version} to take out."
    )


def _show(fitted: Fitted, spec: ModelSpec, *, as_json: bool, dry_run: bool) -> None:
    """Print figures before and after, as JSON or as a table."""
    figures = fitted.figures
    if as_json:
        plain = {
            "task": spec.task.value,
            "weights": {"name": spec.name, "version": spec.version, "sha256": spec.sha256},
            "scale": fitted.scale,
            "offsets": dict(zip(spec.classes, fitted.offsets, strict=True)),
            "figures": figures,
            "refused": fitted.refusal,
            "stored": not (fitted.refusal or dry_run),
        }
        typer.echo(json.dumps(plain, ensure_ascii=False))
        return
    table = Table("figure", "before", "after", "change", title_justify="left")
    for name in figures["before"]:
        table.add_row(
            name.replace("_", " "),
            *(_cell(figures[part][name], part == "gain") for part in ("before", "after", "gain")),
        )
    out = Console(markup=False)
    out.print(table)
    if "in_use" in figures:
        words = (f"{n.replace('_', ' ')} {v:.3f}" for n, v in figures["in_use"].items())
        out.print(f"The calibration in use, on the same tiles: {', '.join(words)}.", soft_wrap=True)
    held, by = figures["held_out"], figures["intervals_by"]
    out.print(
        f"{figures['tiles']} tiles of {figures['patients']} patients; judged on {held}s that the "
        f"fit did not see; intervals (95 %) over {by}s.",
        soft_wrap=True,
    )


def _cell(figure: dict[str, Any], signed: bool) -> str:
    sign = "+" if signed else ""
    text = f"{figure['value']:{sign}.3f}"
    if figure["interval"] is None:
        return text
    low, high = figure["interval"]
    return f"{text} ({low:{sign}.3f} to {high:{sign}.3f})"
