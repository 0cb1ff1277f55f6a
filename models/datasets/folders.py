"""Samples from one folder per class: ``DIR/CLASS/[PATIENT/]tile.png``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from models.datasets.build import Sample
from models.datasets.glass import calibrated
from models.datasets.images import SUFFIXES, read_rgb, tiles_of
from models.datasets.patients import PatientOf
from models.datasets.progress import Progress
from models.datasets.rules import class_of
from models.errors import DataSetError
from models.spec import CLASSES, Task

Rgb = tuple[int, int, int]


def folder_samples(
    root: Path,
    task: Task,
    patient_of: PatientOf,
    *,
    names: Mapping[str, str],
    mpp: float,
    white: Rgb,
    progress: Progress,
) -> Iterator[Sample]:
    """Yield every whole tile of every image; `mpp` (µm/px) and `white` (glass, RGB) hold for all.

    `names` translates folder names into classes.

    Raises
    ------
    DataSetError
        If a folder is no class, a class has no image, a file is damaged or no image, or a patient
        is unknown; for segmentation always, because it needs masks.
    """
    if task is Task.SEGMENTATION:
        raise DataSetError(f"{root}: class folders cannot teach segmentation; use dataset masks")
    images: list[tuple[Path, int]] = []
    filled = set()
    for folder in sorted(p for p in listed(root) if p.is_dir()):
        try:
            label = class_of(task, folder.name, names)
        except DataSetError as err:
            raise DataSetError(f"{folder}: {err}") from err
        if label is None:
            continue
        files = image_files(folder)
        if not files:
            raise DataSetError(f"{folder}: class {CLASSES[task][label]!r} is empty: no image in it")
        filled.add(label)
        images += [(file, label) for file in files]
    for label, name in enumerate(CLASSES[task]):
        if label not in filled:
            raise DataSetError(f"{root}: class {name!r} is empty: it has no folder")
    for number, (file, label) in enumerate(images):
        origin = PurePosixPath(file.relative_to(root).as_posix())
        patient, split = patient_of(origin)
        for k, tile in enumerate(tiles_of(calibrated(read_rgb(file), white), mpp)):
            yield Sample(
                pixels=tile, label=label, patient=patient, split=split, origin=f"{origin} #{k}"
            )
        progress("reading images", number + 1, len(images))


def listed(folder: Path) -> list[Path]:
    """Sorted entries of a folder without hidden files; raises DataSetError if it is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as err:
        raise DataSetError(f"{folder}: {err.strerror}") from err


def image_files(folder: Path) -> list[Path]:
    """Sorted files below a folder; raises DataSetError for a file without an image's suffix."""
    found = []
    for path in listed(folder):
        if path.is_dir():
            found += image_files(path)
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            kinds = ", ".join(sorted(SUFFIXES))
            raise DataSetError(f"{path}: not one of {kinds}. Move it elsewhere.")
    return found
