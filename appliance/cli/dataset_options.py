"""Options of ``tandem dataset``, and the parsing of their texts.

Parsers raise typer.BadParameter, which names the option.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.spec import CLASSES, Task

if TYPE_CHECKING:
    from models.datasets.patients import PatientOf

TaskOption = Annotated[Task, typer.Option("--task", help="What a network is to learn from it.")]
OutOption = Annotated[Path, typer.Option("--out", help="New folder for the data set.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Equal seeds make equal splits.")]
SplitsOption = Annotated[
    str, typer.Option("--splits", help="Shares of the patients: train, validation, test.")
]
ClassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class", help="NAME=CLASS: the class of a name; NAME=ignore skips it. Repeat it."
    ),
]
PatternOption = Annotated[
    str,
    typer.Option(
        "--patient-pattern",
        help="Regular expression on the file's path; its first (group) is the patient.",
    ),
]
PatientsOption = Annotated[
    Path | None,
    typer.Option("--patients", help="CSV table: file, patient, and optionally split."),
]
MppOption = Annotated[float, typer.Option(min=0.05, max=5, help="Resolution of all images, µm/px.")]
WhiteOption = Annotated[
    str, typer.Option("--white", help="Color of the empty glass in all images: R,G,B.")
]
DEFAULT_SPLITS = "0.7,0.15,0.15"


def tell_names(out_dir: Path) -> None:
    """Tell, beside what the command prints, that its files are named as the slides are."""
    typer.echo(
        f"{out_dir}: files have the names of the slides, which may hold accession and block. "
        "Rename both before they leave the house.",
        err=True,
    )


def patient_of(pattern: str, patients: Path | None, *, depth: int) -> PatientOf:
    """Function from an image's path to its patient: by table, by pattern, else by the folder at
    `depth`."""
    from models.datasets.patients import from_folder, from_pattern, from_table

    if pattern and patients is not None:
        raise typer.BadParameter("use one of --patients and --patient-pattern")
    if patients is not None:
        return from_table(patients)
    return from_pattern(pattern) if pattern else from_folder(depth)


def pairs_of(texts: list[str] | None, option: str) -> dict[str, str]:
    """Parse texts of the form A=B."""
    pairs = {}
    for text in texts or []:
        # Split at the last "=": QuPath's own names may contain one.
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} is not of the form A=B", param_hint=option)
        pairs[name] = value
    return pairs


def three_numbers(text: str, option: str, kind: type[float] | type[int]) -> tuple[Any, Any, Any]:
    """Parse three numbers of a kind, separated by commas."""
    try:
        first, second, third = (kind(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not three numbers", param_hint=option) from None
    return first, second, third


def rgb_of(text: str) -> tuple[int, int, int]:
    """Parse the color of the glass, R,G,B from 1 to 255."""
    rgb: tuple[int, int, int] = three_numbers(text, "--white", int)
    if not all(1 <= value <= 255 for value in rgb):
        raise typer.BadParameter(f"{text!r}: each from 1 to 255", param_hint="--white")
    return rgb


def whole_number(text: str) -> int:
    """Parse a whole number, the value of a label."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number", param_hint="--label") from None


def class_index(task: Task, name: str) -> int:
    """Index of a class of `task` by its name, or the label of what is to be ignored."""
    from models.datasets.masked import UNLABELED
    from models.datasets.rules import IGNORE, class_of
    from models.errors import DataSetError

    try:
        found = class_of(task, name, {})
    except DataSetError:
        known = ", ".join((*CLASSES[task], IGNORE))
        raise typer.BadParameter(f"{name!r} is none of {known}", param_hint="--label") from None
    return UNLABELED if found is None else found
