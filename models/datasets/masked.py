"""Samples from images with masks: ``IMAGES/[PATIENT/]a.jpg`` and ``MASKS/[PATIENT/]a.png``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from models.datasets.build import Sample
from models.datasets.folders import Rgb, image_files
from models.datasets.glass import calibrated
from models.datasets.images import (
    label_tiles_of,
    read_mask,
    read_rgb,
    require_same_turn,
    tiles_of,
)
from models.datasets.patients import PatientOf
from models.datasets.progress import Progress
from models.datasets.rules import tile_label
from models.errors import DataSetError
from models.patch_counts.patches import OVERLAP
from models.spec import CLASSES, LABEL_STEP, Task

UNLABELED = 255
"""Label of px that are to be ignored."""


def masked_samples(
    images: Path,
    masks: Path,
    task: Task,
    patient_of: PatientOf,
    *,
    values: Mapping[int, int],
    mpp: float,
    white: Rgb,
    progress: Progress,
) -> Iterator[Sample]:
    """Yield every whole tile of every image, labeled from the mask of the same name and size.

    `values` maps mask values to class indices, or to `UNLABELED`. The label is the map for
    segmentation, the class by `rules.tile_label` of the labeled px for the classifiers. Tiles are
    left out that are labeled on less than 5 %, or for segmentation on 95 % or less.

    Raises
    ------
    DataSetError
        If an image has no mask or two, a mask no image, sizes differ, `values` lacks a value of a
        mask, a file is damaged, or a patient is unknown.
    """
    files = image_files(images)
    partners = _by_name(masks)
    for number, file in enumerate(files):
        name = file.relative_to(images)
        mask_path = partners.pop(name.with_suffix(""), None)
        if mask_path is None:
            raise DataSetError(f"{file}: no mask of this name in {masks}")
        origin = PurePosixPath(name.as_posix())
        patient, split = patient_of(origin)
        require_same_turn(file, mask_path)
        image = calibrated(read_rgb(file), white)
        labels = _labels(mask_path, values)
        if labels.shape != image.shape[:2]:
            raise DataSetError(
                f"{mask_path}: {labels.shape[1]} x {labels.shape[0]} px, but its image has "
                f"{image.shape[1]} x {image.shape[0]}"
            )
        pairs = zip(tiles_of(image, mpp), label_tiles_of(labels, mpp), strict=True)
        for k, (pixels, part) in enumerate(pairs):
            label = _label(task, part)
            if label is None:
                continue
            yield Sample(
                pixels=pixels,
                label=label,
                patient=patient,
                split=split,
                origin=f"{origin} #{k}",
            )
        progress("reading images", number + 1, len(files))
    if partners:
        raise DataSetError(f"{next(iter(partners.values()))}: no image of this name in {images}")


def _by_name(masks: Path) -> dict[Path, Path]:
    """Return the masks by their paths below `masks` without suffix."""
    found: dict[Path, Path] = {}
    for path in image_files(masks):
        other = found.setdefault(path.relative_to(masks).with_suffix(""), path)
        if other != path:
            raise DataSetError(f"{path}: {other.name} is a mask of the same image. Leave one.")
    return found


def thinned(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Label map (128, 128) from the labels (512, 512) of a tile: the px nearest to each center."""
    half = LABEL_STEP // 2
    return labels[half::LABEL_STEP, half::LABEL_STEP]


def _labels(path: Path, values: Mapping[int, int]) -> NDArray[np.uint8]:
    mask = read_mask(path)
    labels = np.zeros(mask.shape, dtype=np.uint8)
    for value in np.unique(mask).tolist():
        if value not in values:
            known = ", ".join(str(v) for v in sorted(values))
            raise DataSetError(
                f"{path}: label {value} is unknown; known are {known}. "
                f"Say what it is with --label {value}=CLASS."
            )
        labels[mask == value] = values[value]
    return labels


def _label(task: Task, labels: NDArray[np.uint8]) -> int | NDArray[np.uint8] | None:
    """Label of a tile; None for one of which too much is to be ignored to have one."""
    known = labels[labels != UNLABELED]
    if task is Task.SEGMENTATION:
        if labels.size - known.size >= OVERLAP * labels.size:
            return None
        return thinned(np.where(labels == UNLABELED, 0, labels).astype(np.uint8))
    if known.size < OVERLAP * labels.size:
        return None
    counts = np.bincount(known, minlength=len(CLASSES[task]))
    return tile_label(task, counts / known.size)
