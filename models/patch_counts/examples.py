"""Patches as a classifier sees them: usable ones, equalized, at the size of its input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import DataSetError
from models.patch_counts.patches import UNLABELED, PatchSet, load_patches
from models.patch_counts.quality import clahe, usable
from models.slide_level.cohort import CohortSlide

Labels = Literal["inherited", "own"]
"""Labels of training: those of the annotation, or of the drawn patch's own cells."""
_KEPT = 1200
"""Slides whose patches for training are kept in memory."""


def prepared(patches: PatchSet, px: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the usable patches, uint8 (n, px, px, 3), and their numbers in the set, (n,).

    White and black patches are excluded, the others equalized by CLAHE: in training and whenever a
    slide is read.

    Raises
    ------
    DataSetError
        If a patch cannot be decoded.
    """
    return _some(patches, range(len(patches)), px, len(patches))


def _some(
    patches: PatchSet, order: Iterable[int], px: int, most: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `most` usable patches in an order, in the order of the set."""
    found: dict[int, NDArray[np.uint8]] = {}
    for number in order:
        if len(found) == most:
            break
        pixels = patches.pixels(number)
        if usable(pixels):
            found[number] = cv2.resize(clahe(pixels), (px, px), interpolation=cv2.INTER_AREA)
    numbers = np.array(sorted(found), dtype=np.int64)
    if not found:
        return np.zeros((0, px, px, 3), np.uint8), numbers
    return np.stack([found[number] for number in numbers]), numbers


def read_patches(slide: CohortSlide, resolution: str, px: int) -> NDArray[np.uint8]:
    """Return the usable patches of a slide, uint8 (n, px, px, 3); n may be 0.

    Raises
    ------
    DataSetError
        If the slide has no patches of this resolution, or its file cannot be used.
    """
    return prepared(_load(_path_of(slide, resolution), resolution), px)[0]


def labeled_patches(
    slides: Sequence[CohortSlide], resolution: str, px: int, *, labels: Labels, most: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return labeled patches, uint8 (n, px, px, 3), and classes (n,).

    At most `most` of a slide are taken, always the same ones.

    Raises
    ------
    DataSetError
        If none is labeled, own labels are asked for and not known, or a file cannot be used.
    """
    parts, classes = [], []
    for slide in slides:
        path = _path_of(slide, resolution)
        changed_ns = path.stat().st_mtime_ns if path.exists() else 0
        pixels, known = _labeled_file(path, resolution, px, labels, most, changed_ns)
        parts.append(pixels)
        classes.append(known)
    if not sum(map(len, classes)):
        raise DataSetError(
            f"no usable patch of {resolution} resolution is annotated in a part of {len(slides)} "
            "slides: annotate more slides, or use fewer folds."
        )
    return np.concatenate(parts), np.concatenate(classes)


@lru_cache(maxsize=_KEPT)
def _labeled_file(
    path: Path, resolution: str, px: int, labels: Labels, most: int, _changed_ns: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    patches = _load(path, resolution)
    known = patches.labels if labels == "inherited" else patches.own_labels()
    seed = int.from_bytes(hashlib.sha256(patches.slide.encode()).digest()[:8])
    order = np.random.default_rng(seed).permutation(np.flatnonzero(known != UNLABELED))
    pixels, numbers = _some(patches, order.tolist(), px, most)
    return pixels, known[numbers].astype(np.int64)


def _path_of(slide: CohortSlide, resolution: str) -> Path:
    path = dict(slide.patches).get(resolution)
    if path is None:
        raise DataSetError(
            f"{slide.slide}: no patches of {resolution} resolution. Cut the cohort's slides by "
            f"`tandem dataset patches` and name them in the column patches_{resolution}."
        )
    return path


def _load(path: Path, resolution: str) -> PatchSet:
    patches = load_patches(path)
    if patches.resolution != resolution:
        raise DataSetError(
            f"{path}: patches of {patches.resolution} resolution in the column "
            f"patches_{resolution}. Name the file of that resolution."
        )
    return patches
