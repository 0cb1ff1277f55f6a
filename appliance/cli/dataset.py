"""``tandem dataset``: data sets from the generator, annotated slides, folders and masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli.bars import ProgressBars
from appliance.cli.dataset_bags import bags
from appliance.cli.dataset_interim import interim
from appliance.cli.dataset_options import (
    DEFAULT_SPLITS,
    ClassOption,
    MppOption,
    OutOption,
    PatientsOption,
    PatternOption,
    SeedOption,
    SplitsOption,
    TaskOption,
    WhiteOption,
    class_index,
    pairs_of,
    patient_of,
    rgb_of,
    three_numbers,
    whole_number,
)
from appliance.cli.dataset_patches import patches
from appliance.cli.dataset_propose import propose
from models.spec import CLASSES, MANIFEST_NAME, Task, file_sha256

if TYPE_CHECKING:
    from models.datasets.build import Sample
    from models.datasets.store import Manifest

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Make and check data sets to train and judge networks with. A data set is a folder of "
        "512 px tiles (143 µm), split by patient into train, validation and test. It is written "
        "whole or not at all, and manifest.json has the checksum of every file."
    ),
)


@app.command()
def generated(
    task: TaskOption,
    out_dir: OutOption,
    tiles: Annotated[int, typer.Option(min=1, help="How many.")] = 6000,
    seed: SeedOption = 0,
    splits: SplitsOption = DEFAULT_SPLITS,
) -> None:
    """Make a data set by the tissue generator: synthetic tiles with exact truth, each a patient."""
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
        Path, typer.Argument(help="CSV table: slide, annotations, patient, and optionally split.")
    ],
    task: TaskOption,
    out_dir: OutOption,
    classes: ClassOption = None,
    rest: Annotated[
        str | None,
        typer.Option(help="Class of unannotated tissue, if all tumor is annotated: --rest other."),
    ] = None,
    clahe: Annotated[
        bool,
        typer.Option("--clahe", help="Equalize contrast. The appliance does not: for study only."),
    ] = False,
    seed: SeedOption = 0,
    splits: SplitsOption = DEFAULT_SPLITS,
) -> None:
    """Make a data set of slides annotated in QuPath: Export objects as GeoJSON, a file per slide.

    A tile is used when 5 % of it are annotated, unless more than 70 % are white or more than 20 %
    black (arXiv 2503.22069). Classes: tumor, other on H&E; 0, 1+, 2+, 3+ on IHC. Paths in the table
    are relative to it; patient is a pseudonym of your choice.

    tandem dataset annotations slides.csv --task tumor --out DATASET
    """
    from appliance.cli.annotated_slides import open_as_the_daemon
    from models.datasets.annotated import Rules, annotated_samples

    names = pairs_of(classes, "--class")
    rules = Rules(names=names, rest=rest, equalise=clahe)
    with ProgressBars() as progress:
        samples = annotated_samples(table, task, open_as_the_daemon, rules, progress)
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
    """Make a data set of images in class folders: FOLDER/CLASS/PATIENT/tile.png.

    Images are resampled to 0.2793 µm/px and cut into whole tiles. Smaller images are mirrored at
    their edges.

    tandem dataset folders TILES --task intensity --mpp 0.25 --out DATASET
    """
    from models.datasets.folders import folder_samples

    names = pairs_of(classes, "--class")
    with ProgressBars() as progress:
        samples = folder_samples(
            folder,
            task,
            patient_of(pattern, patients, depth=1),
            names=names,
            mpp=mpp,
            white=rgb_of(white),
            progress=progress,
        )
        source = {"kind": "folders", "classes": names, "mpp": mpp, "white": white}
        manifest = _build(out_dir, samples, task, source, splits, seed)
    _print(out_dir, manifest)


@app.command()
def masks(
    images: Annotated[
        Path, typer.Argument(help="Folder of images, optionally a folder per patient.")
    ],
    mask_dir: Annotated[
        Path, typer.Argument(metavar="MASKS", help="Masks (PNG) of the same names and sizes.")
    ],
    task: TaskOption,
    out_dir: OutOption,
    mpp: MppOption = 0.2793,
    white: WhiteOption = "255,255,255",
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="VALUE=CLASS of the masks. Default, but for intensity: 0 is the first class, …",
        ),
    ] = None,
    pattern: PatternOption = "",
    patients: PatientsOption = None,
    seed: SeedOption = 0,
    splits: SplitsOption = DEFAULT_SPLITS,
) -> None:
    """Make a data set of images with label masks: IMAGES/PATIENT/a.jpg and MASKS/PATIENT/a.png.

    For segmentation the mask is the label. For tumor and intensity the mask gives the tile's class:
    tumor from 5 % on, the intensity with the largest area. VALUE=ignore leaves px out, for
    intensity VALUE=background, too.

    tandem dataset masks IMAGES MASKS --task tumor --label 0=other --label 255=tumor --out DATASET
    """
    from models.datasets.masked import masked_samples

    named = pairs_of(labels, "--label")
    if not named and task is Task.INTENSITY:
        # Masks of four grades are as often numbered from 1, with 0 for what is no tumor.
        raise typer.BadParameter("say what each value is: --label 0=background --label 1=none …")
    values = {whole_number(value): class_index(task, name) for value, name in named.items()}
    with ProgressBars() as progress:
        samples = masked_samples(
            images,
            mask_dir,
            task,
            patient_of(pattern, patients, depth=0),
            values=values or {k: k for k in range(len(CLASSES[task]))},
            mpp=mpp,
            white=rgb_of(white),
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


app.command()(bags)
app.command()(interim)
app.command()(patches)
app.command()(propose)


def _build(
    out_dir: Path,
    samples: Iterator[Sample],
    task: Task,
    source: dict[str, Any],
    splits: str,
    seed: int,
) -> Manifest:
    from models.datasets.build import build_data_set

    train, validation, test = three_numbers(splits, "--splits", float)
    shares = (train, validation, test)
    return build_data_set(out_dir, samples, task=task, source=source, shares=shares, seed=seed)


def _print(folder: Path, manifest: Manifest) -> None:
    names = manifest.classes
    table = Table("split", "tiles", "patients", *names, title_justify="left")
    for split, counts in manifest.counts.items():
        cells = (counts.tiles, counts.patients, *(counts.classes[name] for name in names))
        table.add_row(split, *(str(cell) for cell in cells))
    Console(markup=False).print(table)
    typer.echo(f"{folder}: {manifest.task}, SHA-256 {file_sha256(folder / MANIFEST_NAME)}")
