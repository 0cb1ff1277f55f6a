"""Secondary Capture: valid, in the slide's study, pixels unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures.judges import dicom_errors
from fixtures.slide_objects import SCANNED, STUDY_UID
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array

from dicom.capture import build_capture
from dicom.errors import ObjectError

Save = Callable[[Dataset], Path]
PIXELS = np.random.default_rng(1).integers(0, 256, (71, 53, 3), dtype=np.uint8)


def capture(images: list[Dataset], pixels: NDArray[np.uint8] = PIXELS) -> Dataset:
    return build_capture(
        pixels, ihc_image=images[0], created=SCANNED, uid_seed="seed", software="0.1.0"
    )


def test_capture_is_valid_and_gives_the_pixels_back(ihc_images: list[Dataset], save: Save) -> None:
    path = save(capture(ihc_images))
    assert dicom_errors(path) == []
    dataset = dcmread(path)
    assert np.array_equal(pixel_array(path), PIXELS)
    assert dataset.StudyInstanceUID == STUDY_UID
    assert dataset.ContainerIdentifier == ihc_images[0].ContainerIdentifier
    assert dataset.BurnedInAnnotation == "YES"
    assert "research use only" in dataset.SeriesDescription


def test_equal_pixels_are_equal_bytes_and_others_have_another_uid(
    ihc_images: list[Dataset], save: Save
) -> None:
    first = capture(ihc_images)
    content = save(first).read_bytes()
    assert save(capture(ihc_images)).read_bytes() == content
    assert capture(ihc_images, 255 - PIXELS).SOPInstanceUID != first.SOPInstanceUID


def test_what_is_no_picture_is_refused(ihc_images: list[Dataset]) -> None:
    with pytest.raises(ObjectError):
        capture(ihc_images, PIXELS[..., 0])
