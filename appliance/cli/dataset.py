"""``tandem dataset``: from the generator, from annotated slides, from folders, from masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli.bars import ProgressBars
from models.spec import CLASSES, MANIFEST_NAME, Task, file_sha256

if TYPE_CHECKING:
    from models.datasets.build import Sample
    from models.datasets.patients import PatientOf
    from models.datasets.store import Manifest

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Make and check data sets to train and judge networks with. A data set is a folder of "
        "512 px tiles (143 µm), split by patient into train, validation and test; it is written "
        "whole or not at all, and every file has its checksum in manifest.json."
    ),
)

TaskOption = Annotated[Task, typer.Option("--task", help="What a network is to learn from it.")]
OutOption = Annotated[Path, typer.Option("--out", help="New folder for the data set.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Equal seeds make equal splits.")]
SplitsOption = Annotated[
    str, typer.Option("--splits", help="Shares of the patients: train, validation, test.")
]
ClassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class", help="NAME=CLASS: what a name stands for; NAME=ignore passes it over. Repeat it."
    ),
]
PatternOption = Annotated[
    str,
    typer.Option(
        "--patient-pattern",
        help="Regular expression; its first (group), found in the file's path, is the patient.",
    ),
]
PatientsOption = Annotated[
    Path | None,
    typer.Option("--patients", help="CSV table: file, patient, and maybe split."),
]
MppOption = Annotated[float, typer.Option(min=0.05, max=5, help="Resolution of all images, µm/px.")]
WhiteOption = Annotated[
    str, typer.Option("--white", help="Colour of the empty glass in all images: R,G,B.")
]
DEFAULT_SPLITS = "0.7,0.15,0.15"


@app.command()
def generated(
    task: TaskOption,
    out_dir: OutOption,
    tiles: Annotated[int, typer.Option(min=1, help="How many.")] = 6000,
    seed: SeedOption = 0,
    splits: SplitsOption = DEFAULT_SPLITS,
) -> None:
    """From the tissue generator: synthetic tiles with exact truth, each a patient of its own."""
    from models.datasets.generated import generated_samples
    from models.datasets.generated_tiles import GENERATOR_VERSION

    with ProgressBars() as progress:
        samples = generated_samples(task, count=tiles, seed=seed, progress=progress)
        source = {"kind": "generated", "generator_version": GENERATOR_VERSION, "seed": seed}
        manifest = _build(out_dir, samples, task, source, splits, seed)
    _print(out_dir, manifest)


@app.command("annotations")
def from_annotations(
    table: Annotated[
        Path, typer.Argument(help="CSV table: slide, annotations, patient, and maybe split.")
    ],
    task: TaskOption,
    out_dir: OutOption,
    classes: ClassOption = None,
    rest: Annotated[
        str | None,
        typer.Option(help="Class of what nobody annotated, if all tumor is: --rest other."),
    ] = None,
    clahe: Annotated[
        bool,
        typer.Option("--clahe", help="Equalise contrast. The appliance does not: for study only."),
    ] = False,
    seed: SeedOption = 0,
    splits: SplitsOption = DEFAULT_SPLITS,
) -> None:
    """From slides annotated in QuPath: File, Export objects as GeoJSON, one file per slide.

    A tile counts when 5 % of it are annotated, unless more than 70 % are white or more than 20 %
    black (arXiv 2503.22069). Classes: tumor, other on H&E; 0, 1+, 2+, 3+ on IHC. Paths in the table
    are relative to it; patient is a pseudonym of your choice.

    tandem dataset annotations slides.csv --task tumor --out DATASET
    """
    from appliance.slides.annotated import open_calibrated
    from models.datasets.annotated import Rules, annotated_samples

    names = _pairs(classes, "--class")
    rules = Rules(names=names, rest=rest, equalise=clahe)
    with ProgressBars() as progress:
        samples = annotated_samples(table, task, open_calibrated, rules, progress)
        source = {"kind": "annotations", "classes": names, "rest": rest, "clahe": clahe}
        manifest = _build(out_dir, samples, task, source, splits, seed)
    _print(out_dir, manifest)


@app.command()
def folders(
    folder: Annotated[Path, typer.Argument(help="Holds a folder per class.")],
    task: TaskOption,
    out_dir: OutOption,
    mpp: MppOption = 0.2793,
    white: WhiteOption = "255,255,255",
    classes: ClassOption = None,
    pattern: PatternOption = "",
    patients: PatientsOption = None,
    seed: SeedOption = 0,
    splits: SplitsOption = DEFAULT_SPLITS,
) -> None:
    """From images in class folders: FOLDER/CLASS/PATIENT/tile.png.

    Images are brought to 0.2793 µm/px and cut into whole tiles; smaller ones are mirrored at their
    edges.

    tandem dataset folders TILES --task intensity --mpp 0.25 --out DATASET
    """
    from models.datasets.folders import folder_samples

    names = _pairs(classes, "--class")
    with ProgressBars() as progress:
        samples = folder_samples(
            folder,
            task,
            _patient_of(pattern, patients, depth=1),
            names=names,
            mpp=mpp,
            white=_rgb(white),
            progress=progress,
        )
        source = {"kind": "folders", "classes": names, "mpp": mpp, "white": white}
        manifest = _build(out_dir, samples, task, source, splits, seed)
    _print(out_dir, manifest)


@app.command()
def masks(
    images: Annotated[Path, typer.Argument(help="Folder of images, maybe a folder per patient.")],
    mask_dir: Annotated[
        Path, typer.Argument(metavar="MASKS", help="Masks (PNG) of the same names and sizes.")
    ],
    task: TaskOption,
    out_dir: OutOption,
    mpp: MppOption = 0.2793,
    white: WhiteOption = "255,255,255",
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="VALUE=CLASS of the masks. Default: 0 is the first class, …"),
    ] = None,
    pattern: PatternOption = "",
    patients: PatientsOption = None,
    seed: SeedOption = 0,
    splits: SplitsOption = DEFAULT_SPLITS,
) -> None:
    """From images with a label mask each: IMAGES/PATIENT/a.jpg and MASKS/PATIENT/a.png.

    For segmentation the mask is the label; for tumor and intensity the tile's class follows from
    it (tumor from 5 % on; the widest intensity).

    tandem dataset masks IMAGES MASKS --task tumor --label 0=other --label 255=tumor --out DATASET
    """
    from models.datasets.masked import masked_samples

    named = _pairs(labels, "--label")
    values = {_number(value): _index(task, name) for value, name in named.items()}
    with ProgressBars() as progress:
        samples = masked_samples(
            images,
            mask_dir,
            task,
            _patient_of(pattern, patients, depth=0),
            values=values or {k: k for k in range(len(CLASSES[task]))},
            mpp=mpp,
            white=_rgb(white),
            progress=progress,
        )
        source = {"kind": "masks", "labels": named, "mpp": mpp, "white": white}
        manifest = _build(out_dir, samples, task, source, splits, seed)
    _print(out_dir, manifest)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A data set.")],
) -> None:
    """Read every file of a data set: checksums, labels, and that no patient is in two splits."""
    from models.datasets.store import check_data_set

    with ProgressBars() as progress:
        manifest = check_data_set(folder, progress)
    _print(folder, manifest)


def _build(
    out_dir: Path,
    samples: Iterator[Sample],
    task: Task,
    source: dict[str, Any],
    splits: str,
    seed: int,
) -> Manifest:
    from models.datasets.build import build_data_set

    train, validation, test = _numbers(splits, "--splits", float)
    shares = (train, validation, test)
    return build_data_set(out_dir, samples, task=task, source=source, shares=shares, seed=seed)


def _print(folder: Path, manifest: Manifest) -> None:
    names = manifest.classes
    table = Table("split", "tiles", "patients", *names, title_justify="left")
    for split, counts in manifest.counts.items():
        cells = (counts.tiles, counts.patients, *(counts.classes[name] for name in names))
        table.add_row(split, *(str(cell) for cell in cells))
    Console().print(table)
    typer.echo(f"{folder}: {manifest.task}, SHA-256 {file_sha256(folder / MANIFEST_NAME)}")


def _patient_of(pattern: str, patients: Path | None, *, depth: int) -> PatientOf:
    from models.datasets.patients import from_folder, from_pattern, from_table

    if pattern and patients is not None:
        raise typer.BadParameter("use one of --patients and --patient-pattern")
    if patients is not None:
        return from_table(patients)
    return from_pattern(pattern) if pattern else from_folder(depth)


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        # The last one: QuPath's own names may hold a "=".
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} is not of the form A=B", param_hint=option)
        pairs[name] = value
    return pairs


def _numbers(text: str, option: str, kind: type[float] | type[int]) -> tuple[Any, Any, Any]:
    try:
        first, second, third = (kind(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not three numbers", param_hint=option) from None
    return first, second, third


def _rgb(text: str) -> tuple[int, int, int]:
    rgb: tuple[int, int, int] = _numbers(text, "--white", int)
    if not all(1 <= value <= 255 for value in rgb):
        raise typer.BadParameter(f"{text!r}: each from 1 to 255", param_hint="--white")
    return rgb


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number", param_hint="--label") from None


def _index(task: Task, name: str) -> int:
    if name not in CLASSES[task]:
        known = ", ".join(CLASSES[task])
        raise typer.BadParameter(f"{name!r} is none of {known}", param_hint="--label")
    return CLASSES[task].index(name)
