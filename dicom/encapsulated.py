"""Report page as Encapsulated PDF (PS3.3 A.45.1), which any PACS viewer can open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from dicom import codes
from dicom.characters import CHARACTER_SET
from dicom.derived import DEVICE_NAME, MANUFACTURER, SERIAL, stamp
from dicom.errors import ObjectError
from dicom.uids import deterministic_uid, named_by_bytes

SERIES_NUMBER = 201


def page_title(assay: str) -> str:
    """Title of the report page of an assay, such as ``HER2``; LO, at most 64 characters."""
    return f"{assay} report page (research use only)"


PDF_MARK = b"%PDF-"


def build_encapsulated_pdf(
    pdf: bytes,
    *,
    assay: str = "HER2",
    ihc_image: Dataset,
    sources: Sequence[Dataset],
    created: datetime,
    uid_seed: str,
    software: str,
    verified: bool = False,
) -> Dataset:
    """Build the document in the IHC slide's study; equal arguments give equal bytes.

    `verified` says whether a person stands for it (PS3.3 C.24.2). `sources` are the objects that it
    was made from: slides and structured report. The element has an even number of bytes;
    EncapsulatedDocumentLength is the length of the document itself.

    Raises
    ------
    ObjectError
        If `pdf` is no PDF.
    """
    if not pdf.startswith(PDF_MARK):
        raise ObjectError("the document is no PDF")
    import highdicom as hd

    dataset: Any = hd.base.SOPClass(
        study_instance_uid=ihc_image.StudyInstanceUID,
        series_instance_uid=deterministic_uid(uid_seed, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=deterministic_uid(uid_seed, "instance"),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        manufacturer=MANUFACTURER,
        manufacturer_model_name=DEVICE_NAME,
        device_serial_number=SERIAL,
        software_versions=software,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=page_title(assay),
        specific_character_set=CHARACTER_SET,
    )
    dataset.copy_patient_and_study_information(ihc_image)
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = None
    dataset.BurnedInAnnotation = "YES"
    dataset.DocumentTitle = page_title(assay)
    dataset.ConceptNameCodeSequence = [hd.sr.CodedConcept.from_code(codes.PATHOLOGY_STUDY)]
    dataset.VerificationFlag = "VERIFIED" if verified else "UNVERIFIED"
    dataset.SourceInstanceSequence = [_reference(source) for source in sources]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    stamp(dataset, ihc_image, created)
    return named_by_bytes(dataset, uid_seed)


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item
