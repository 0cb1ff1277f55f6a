"""Patches as a classifier sees them: usable ones, equalized, at the size of its input."""

from __future__ import annotations

from collections.abc import Sequence
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
"""Slides whose prepared patches are kept in memory."""


def prepared(patches: PatchSet, px: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the usable patches, uint8 (n, px, px, 3), and their numbers in the set, (n,).

    White and black patches are excluded, the others equalized by CLAHE: in training and whenever a
    slide is read.

    Raises
    ------
    DataSetError
        If a patch cannot be decoded.
    """
    seen, numbers = [], []
    for number in range(len(patches)):
        pixels = patches.pixels(number)
        if usable(pixels):
            seen.append(cv2.resize(clahe(pixels), (px, px), interpolation=cv2.INTER_AREA))
            numbers.append(number)
    if not seen:
        return np.zeros((0, px, px, 3), np.uint8), np.zeros(0, np.int64)
    return np.stack(seen), np.array(numbers, dtype=np.int64)


@lru_cache(maxsize=_KEPT)
def _prepared_file(
    path: Path, resolution: str, px: int, _changed_ns: int
) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.int8] | None]:
    """Pixels, labels and own labels of the usable patches of a file."""
    patches = load_patches(path)
    if patches.resolution != resolution:
        raise DataSetError(
            f"{path}: patches of {patches.resolution} resolution in the column "
            f"patches_{resolution}. Name the file of that resolution."
        )
    pixels, numbers = prepared(patches, px)
    own = None if patches.truth is None else patches.own_labels()[numbers]
    return pixels, patches.labels[numbers], own


def read_patches(slide: CohortSlide, resolution: str, px: int) -> NDArray[np.uint8]:
    """Return the usable patches of a slide, uint8 (n, px, px, 3); n may be 0.

    Raises
    ------
    DataSetError
        If the slide has no patches of this resolution, or its file cannot be used.
    """
    return _of(slide, resolution, px)[0]


def labeled_patches(
    slides: Sequence[CohortSlide], resolution: str, px: int, *, labels: Labels, most: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return labeled patches, uint8 (n, px, px, 3), and classes (n,); at most `most` of a slide.

    Raises
    ------
    DataSetError
        If none is labeled, or own labels are asked for and not known.
    """
    parts, classes = [], []
    for number, slide in enumerate(slides):
        pixels, inherited, own = _of(slide, resolution, px)
        known = inherited if labels == "inherited" else own
        if known is None:
            raise DataSetError(f"{slide.slide}: the truth of its patches is not known.")
        chosen = np.flatnonzero(known != UNLABELED)
        if len(chosen) > most:
            rng = np.random.default_rng([seed, number, 0x9A7C])
            chosen = np.sort(rng.choice(chosen, most, replace=False))
        parts.append(pixels[chosen])
        classes.append(known[chosen])
    if not sum(map(len, classes)):
        raise DataSetError(
            f"no usable patch of {resolution} resolution is annotated in a part of {len(slides)} "
            "slides: annotate more slides, or use fewer folds."
        )
    return np.concatenate(parts), np.concatenate(classes).astype(np.int64)


def _of(
    slide: CohortSlide, resolution: str, px: int
) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.int8] | None]:
    path = dict(slide.patches).get(resolution)
    if path is None:
        raise DataSetError(
            f"{slide.slide}: no patches of {resolution} resolution. Cut the cohort's slides by "
            f"`tandem dataset patches` and name them in the column patches_{resolution}."
        )
    return _prepared_file(path, resolution, px, path.stat().st_mtime_ns if path.exists() else 0)
