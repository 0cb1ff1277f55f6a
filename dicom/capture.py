"""Report page as Secondary Capture (PS3.3 A.8.1), for viewers that show only images."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom.characters import CHARACTER_SET
from dicom.derived import DEVICE_NAME, MANUFACTURER, SERIAL, stamp
from dicom.encapsulated import page_title
from dicom.errors import ObjectError
from dicom.uids import deterministic_uid, named_by_bytes

SERIES_NUMBER = 202


def build_capture(
    pixels: NDArray[np.uint8],
    *,
    assay: str = "HER2",
    ihc_image: Dataset,
    created: datetime,
    uid_seed: str,
    software: str,
) -> Dataset:
    """Build an uncompressed image from RGB uint8 (rows, columns, 3); equal arguments, equal bytes.

    It belongs to the study and the specimen of the IHC slide.

    Raises
    ------
    ObjectError
        If `pixels` is no such array.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ObjectError(f"{pixels.dtype} {pixels.shape} is no RGB uint8 (rows, columns, 3)")
    import highdicom as hd

    dataset = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=ihc_image,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="SLIDE",
        series_instance_uid=deterministic_uid(uid_seed, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=deterministic_uid(uid_seed, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=DEVICE_NAME,
        device_serial_number=SERIAL,
        software_versions=software,
        series_description=page_title(assay),
        container_identifier=ihc_image.get("ContainerIdentifier", ""),
        specimen_descriptions=ihc_image.get("SpecimenDescriptionSequence", []),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=CHARACTER_SET,
    )
    dataset.copy_patient_and_study_information(ihc_image)
    dataset.PatientOrientation = None
    dataset.BurnedInAnnotation = "YES"
    stamp(dataset, ihc_image, created)
    dataset.DateOfSecondaryCapture = dataset.ContentDate
    dataset.TimeOfSecondaryCapture = dataset.ContentTime
    return named_by_bytes(dataset, uid_seed)
