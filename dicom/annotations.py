"""Labels of tiles as Microscopy Bulk Simple Annotations (PS3.3 A.87)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom import codes
from dicom.characters import CHARACTER_SET
from dicom.derived import (
    CREATOR,
    DEVICE_NAME,
    MANUFACTURER,
    SERIAL,
    content_label,
    stamp,
)
from dicom.errors import ObjectError
from dicom.placement import to_frame_of_reference
from dicom.segmentation import AlgorithmFacts, algorithm_identification
from dicom.uids import deterministic_uid, named_by_bytes

SERIES_NUMBER = 203


def build_annotations(
    tiles_um: Mapping[str, NDArray[np.float64]],
    *,
    assay: str = "HER2",
    image: Dataset,
    read_mpp: float | None = None,
    algorithm: AlgorithmFacts,
    created: datetime,
    uid_seed: str,
    software: str,
) -> Dataset:
    """Build one group of rectangles per label; equal arguments give equal bytes.

    `tiles_um`: boxes (N, 4) per label, as left, top, right, bottom in µm of the slide from its top
    left corner, `read_mpp` its µm per px (see `slide_mpp`). Groups are numbered in the order of
    their labels. Coordinates are in mm of the frame of reference of `image`, level 0 of the slide.

    Raises
    ------
    ObjectError
        If there is no label, a label without tiles, or boxes of another shape.
    """
    if not tiles_um:
        raise ObjectError("there are no tiles to annotate")
    import highdicom as hd

    groups = [
        hd.ann.AnnotationGroup(
            number=number,
            uid=deterministic_uid(uid_seed, "group", label),
            label=label,
            annotated_property_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            annotated_property_type=codes.NEOPLASM,
            graphic_type="RECTANGLE",
            graphic_data=_corners(label, tiles_um[label], image, read_mpp),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm_identification(algorithm),
        )
        for number, label in enumerate(sorted(tiles_um), start=1)
    ]
    dataset: Any = hd.ann.MicroscopyBulkSimpleAnnotations(
        source_images=[image],
        annotation_coordinate_type="3D",
        annotation_groups=groups,
        series_instance_uid=deterministic_uid(uid_seed, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=deterministic_uid(uid_seed, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=DEVICE_NAME,
        software_versions=software,
        device_serial_number=SERIAL,
        content_label=f"{content_label(assay)}_TILES"[:16],
        content_description="Labels of the scored tiles. For research use only.",
        content_creator_name=CREATOR,
        series_description=f"{assay} tile labels (research use only)",
        specific_character_set=CHARACTER_SET,
    )
    stamp(dataset, image, created)
    return named_by_bytes(dataset, uid_seed)


def _corners(
    label: str, boxes_um: NDArray[np.float64], image: Dataset, read_mpp: float | None
) -> list[NDArray[np.float32]]:
    """Corners (4, 3) of each box in mm, clockwise from the top left corner (PS3.3 C.37.1.2)."""
    if boxes_um.ndim != 2 or boxes_um.shape[0] < 1 or boxes_um.shape[1] != 4:
        raise ObjectError(f"boxes of {label!r} have the shape {boxes_um.shape}, not (N >= 1, 4)")
    corners = boxes_um[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].reshape(-1, 2)
    # float32 resolves 4 nm over the 75 mm of a slide.
    points = to_frame_of_reference(corners, image, read_mpp).astype(np.float32)
    return list(points.reshape(-1, 4, 3))
