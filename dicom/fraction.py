"""Probabilities as DICOM Segmentation of type FRACTIONAL (PS3.3 A.51)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom.derived import finish
from dicom.placement import px_per_value, spacing_mm
from dicom.segmentation import SegmentFacts, made_by_highdicom


def write_fraction(
    path: Path,
    *,
    source_images: Sequence[Dataset],
    probability: NDArray[np.float32],
    mpp: float,
    read_mpp: float | None = None,
    segment: SegmentFacts,
    series_description: str,
    content_description: str,
    uid_seed: str,
    created: datetime,
    software: str,
) -> None:
    """Write a FRACTIONAL Segmentation: `probability` 0-1 (rows, columns), NaN as 0, in 255 steps.

    `mpp` is µm per px of the map, `read_mpp` that of the slide as `slide_mpp` takes it. For coarse
    maps: it is built in memory. Viewers show a mask of one color with varying opacity.

    Raises
    ------
    ObjectError
        If `mpp` is no multiple of the slide's, or the map does not lie on the slide.
    """
    base = source_images[0]
    factor = px_per_value(base, probability.shape, mpp, read_mpp)
    pixels = np.nan_to_num(probability).astype(np.float32)
    digest = hashlib.sha256(pixels.tobytes()).digest()
    seed: list[str | bytes] = [uid_seed, str(base.SOPInstanceUID), digest, repr(mpp)]
    seed += [str(pixels.shape), created.isoformat(), software]
    spacing = [factor * value for value in spacing_mm(base)]
    facts = (base, [segment], seed, 1, spacing, content_description, software)
    dataset = made_by_highdicom(*facts, pixels=pixels, form=None)
    finish(dataset, source_images[0], series_description, created)
    dataset.save_as(path, enforce_file_format=True)
