"""Attributes that results must have, and that headers of scanners may lack: filled, or told.

Objects made from a slide repeat patient and specimen of its header (PS3.3 C.7.1.1, C.7.6.22).
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.datadict import dictionary_description

from dicom.uids import deterministic_uid

_OF_CONTAINER = ("IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence")
_OF_SPECIMEN = ("IssuerOfTheSpecimenIdentifierSequence", "SpecimenPreparationSequence")
"""Sequences of type 2: there, though they may be empty."""
_OF_LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")


def fill_required(header: Dataset) -> None:
    """Fill in place what follows from a header that `make_legal` corrected, and make nothing up.

    Sequences of type 2 become empty ones. A specimen without UID gets one of study, container and
    its own identifier. Other IDs of the patient without an ID are left out.
    """
    container = str(header.get("ContainerIdentifier") or "")
    for keyword in _OF_CONTAINER:
        if keyword not in header:
            setattr(header, keyword, [])
    for specimen in header.get("SpecimenDescriptionSequence") or []:
        names = container, str(specimen.get("SpecimenIdentifier") or "")
        if not specimen.get("SpecimenUID") and any(names):
            of_study = str(header.StudyInstanceUID)
            specimen.SpecimenUID = deterministic_uid("specimen", of_study, *names)
        for keyword in _OF_SPECIMEN:
            if keyword not in specimen:
                setattr(specimen, keyword, [])
    if others := header.get("OtherPatientIDsSequence"):
        header.OtherPatientIDsSequence = [each for each in others if each.get("PatientID")]
        if not header.OtherPatientIDsSequence:
            del header.OtherPatientIDsSequence


def told_lacking(header: Dataset) -> Iterator[str]:
    """Yield a sentence on what results lack, as the header does, though DICOM requires it."""
    lacking = [
        keyword
        for keyword in ("ContainerIdentifier", "SpecimenDescriptionSequence")
        if not header.get(keyword)
    ]
    specimens = header.get("SpecimenDescriptionSequence") or []
    if not all(each.get("SpecimenIdentifier") for each in specimens):
        lacking.append("SpecimenIdentifier")
    if header.get("LossyImageCompression") == "01":
        lacking += (keyword for keyword in _OF_LOSSY if not header.get(keyword))
    if lacking:
        yield (
            f"The header lacks {', '.join(map(dictionary_description, lacking))}: results lack "
            "that, too, and an archive may refuse them. Complete it in the scanner's DICOM export."
        )
