"""``tandem evaluate reader``: slide-level systems by cross-validation, parsed and called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli.bars import ProgressBars
from appliance.cli.evaluate_result import HtmlOption
from appliance.cli.options import JsonOption
from appliance.cli.reader_options import (
    AugmentOption,
    BeginOption,
    CohortOption,
    EpochsOption,
    LossOption,
    SyntheticOption,
    chosen_system,
    fed_systems,
    slides_to_use,
    usable_systems,
)
from models.slide_level.tasks import SlideTask

if TYPE_CHECKING:
    from models.slide_level.cohort import CohortSlide
    from models.synthesis.slide_cohort import SlideDraw

SHIFTED_SHARE = 5
"""Patients of the main cohort for one of the shifted cohort."""
DRAWN, SHIFTED = "cohort", "shifted"


SystemsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--system",
        help="System to judge; repeat it. Default: reference-224. The plain systems always run "
        "beside it. All of which the cohort has the files: --system all.",
    ),
]
TasksOption = Annotated[
    list[SlideTask] | None, typer.Option("--task", help="Task; repeat it. Default: 3way.")
]
ShiftedOption = Annotated[
    bool, typer.Option("--shifted", help="Judge on drawn slides of another scanner and run, too.")
]
ShuffledOption = Annotated[
    bool, typer.Option("--shuffled", help="Shuffle labels: what is above chance then is a leak.")
]
FoldsOption = Annotated[
    int,
    typer.Option(
        min=3,
        help="Folds, patient-wise and stratified. A cohort with a column fold has its own number.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for drawn slides and folds; a stopped run goes on there."),
]


def reader(
    systems: SystemsOption = None,
    tasks: TasksOption = None,
    cohort: CohortOption = None,
    synthetic: SyntheticOption = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of cohort, folds and weights.")] = 0,
    folds: FoldsOption = 10,
    shifted: ShiftedOption = False,
    shuffled: ShuffledOption = False,
    loss: LossOption = None,
    augment: AugmentOption = True,
    begin: BeginOption = True,
    epochs: EpochsOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
) -> None:
    """Cross-validate systems that read a whole IHC slide, as in arXiv 2503.22069.

    tandem evaluate reader --synthetic 500 --seed 1 --system reference-224 --task 3way --out RUNS

    tandem evaluate reader --cohort DIR --system all --html report.html --out RUNS

    Each of ten folds, which a cohort's own replace, tests with a tenth of the patients, stops and
    calibrates with another and trains with the rest. Of drawn slides the ceiling is printed: what
    one who knows each slide's truth reaches against the labels, which are a reader's and err.
    """
    if bool(synthetic) == (cohort is not None):
        raise typer.BadParameter("name a folder, or a number to --synthetic", param_hint="--cohort")
    if shifted and cohort is not None:
        raise typer.BadParameter("only drawn slides can be shifted", param_hint="--shifted")
    from models.evaluation.readers import Plan, evaluate_systems, shuffled_labels

    wanted = list(tasks or [SlideTask.THREE_WAY])
    names = _names(systems, wanted, synthetic)
    asked: dict[str, Any] = {"loss": loss, "augment": augment, "begin": begin, "epochs": epochs}
    chosen = {name: chosen_system(name, **asked) for name in dict.fromkeys(names)}
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(TemporaryDirectory()))
        bars = stack.enter_context(ProgressBars(quiet=as_json))
        slides, draws = slides_to_use(cohort, synthetic, seed, folder / DRAWN, wanted, names, bars)
        elsewhere: list[CohortSlide] = []
        if shifted:
            count = max(10, synthetic // SHIFTED_SHARE)
            given = (None, count, seed + 1, folder / SHIFTED, wanted, names, bars)
            elsewhere, _ = slides_to_use(*given, shifted=True)
        plan = Plan(
            slides=shuffled_labels(slides, seed) if shuffled else slides,
            systems=fed_systems(chosen, slides, _say) if systems == ["all"] else chosen,
            tasks=wanted,
            folds=folds,
            seed=seed,
            shifted=elsewhere,
            settings=asked,
        )
        result = evaluate_systems(plan, folder, _say)
    result |= {"data": "synthetic" if draws else "given", "shuffled": shuffled}
    if draws and not shuffled:
        _add_ceilings(result, draws)
    _show(result, as_json=as_json, html=html)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _names(systems: list[str] | None, tasks: Sequence[SlideTask], synthetic: int) -> list[str]:
    """Systems that were asked for, and the plain ones."""
    from models.evaluation.readers import plain_names

    names = list(systems or ["reference-224"])
    return (usable_systems(tasks, synthetic) if names == ["all"] else names) + plain_names()


def _add_ceilings(result: dict[str, Any], draws: Sequence[SlideDraw]) -> None:
    from models.evaluation.slide_ceiling import ceiling

    for name, found in result["tasks"].items():
        found["ceiling"] = ceiling(draws, SlideTask(name))


def _show(result: dict[str, Any], *, as_json: bool, html: Path | None) -> None:
    """Write the report; print JSON, or a table for each task and what each system confused."""
    from models.evaluation.html import write_page
    from models.evaluation.reader_report import COLUMNS, published_rows, reader_report, table_rows

    if html is not None:
        write_page(reader_report(result), html)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    out = Console(markup=False)
    for task, found in result["tasks"].items():
        synthetic = " (synthetic)" if result["data"] == "synthetic" else ""
        table = Table(
            task, title=f"{task}: {found['folds']} folds{synthetic}", title_justify="left"
        )
        for head in COLUMNS:
            table.add_column(head, justify="right")
        for row in (*table_rows(task, found), *published_rows(task)):
            table.add_row(*row)
        out.print(table)
        for name, system in found["systems"].items():
            figures = system["details"]
            classes = " ".join(f"{k} {figures['per_class'][k]['f1']:.2f}" for k in found["classes"])
            out.print(f"{name}: F1 by class {classes}; calibration error {figures['ece']:.3f}")
            for label, row in zip(found["classes"], figures["confusion"], strict=True):
                out.print(f"  {label:>8} read as {' '.join(f'{n:4d}' for n in row)}")
    out.print(result["notice"])
