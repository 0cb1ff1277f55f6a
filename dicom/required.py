"""Attributes that results must have, and that headers of scanners may lack: filled, or told.

Objects made from a slide repeat patient and specimen of its header (PS3.3 C.7.1.1, C.7.6.22).
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.datadict import dictionary_description

from dicom.derived import FIRST_SERIES_NUMBER
from dicom.uids import deterministic_uid

_OF_CONTAINER = ("IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence")
_OF_SPECIMEN = ("IssuerOfTheSpecimenIdentifierSequence", "SpecimenPreparationSequence")
"""Sequences of type 2: there, though they may be empty."""
_OF_LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
_LARGEST = 2**31 - 1
"""Largest number of the representation IS."""
_FIRST_SERIES, _LAST_SERIES = 1 - FIRST_SERIES_NUMBER, _LARGEST - FIRST_SERIES_NUMBER - 255
"""Series numbers of a slide by which each of its overlays gets a number that DICOM allows."""


def fill_required(header: Dataset, *, as_before: bool = False) -> str:
    """Fill in place what follows from a header that `make_legal` corrected, and make nothing up.

    Sequences of type 2 become empty ones. A specimen without UID gets one of study, container and
    its own identifier; of the slide, where one of these is missing, as the other may be that of the
    case; and of its place, where specimens of the slide have one identifier. Other IDs of the
    patient without an ID are left out. A series number by which overlays would have none is
    replaced by the next one. `as_before`: UIDs of specimens are those of an edition that took the
    place alone into them, where one of several had no identifier. Return what was changed, in words
    that enter UIDs; empty for nothing.
    """
    filled = [_empty(header, keyword) for keyword in _OF_CONTAINER]
    specimens = header.get("SpecimenDescriptionSequence") or []
    named = [_names(specimen, header) for specimen in specimens]
    for place, (specimen, names) in enumerate(zip(specimens, named, strict=True)):
        if not specimen.get("SpecimenUID") and any(names):
            is_alike = named.count(names) > 1
            if not all(names) and not as_before:
                names = *names, str(header.SeriesInstanceUID)
            if (not names[1] and len(specimens) > 1) if as_before else is_alike:
                names = *names, str(place)
            specimen.SpecimenUID = deterministic_uid(
                "specimen", str(header.StudyInstanceUID), *names
            )
            filled.append(f"SpecimenUID {specimen.SpecimenUID}")
        filled += (_empty(specimen, keyword) for keyword in _OF_SPECIMEN)
    if others := header.get("OtherPatientIDsSequence"):
        kept = [each for each in others if each.get("PatientID")]
        if len(kept) < len(others):
            filled.append(f"OtherPatientIDsSequence {len(kept)}")
            header.OtherPatientIDsSequence = kept
        if not kept:
            del header.OtherPatientIDsSequence
    number = int(header.get("SeriesNumber") or 1)
    if number != (near := min(max(number, _FIRST_SERIES), _LAST_SERIES)):
        header["SeriesNumber"].value = near
        filled.append(f"SeriesNumber {near}")
    return "|".join(filter(None, filled))


def lacks_specimen_uid(header: Dataset) -> bool:
    """Return whether a specimen has no UID, nor an identifier or container to make one of."""
    return not all(
        each.get("SpecimenUID") or any(_names(each, header))
        for each in header.get("SpecimenDescriptionSequence") or []
    )


def _names(specimen: Dataset, header: Dataset) -> tuple[str, ...]:
    found = header.get("ContainerIdentifier"), specimen.get("SpecimenIdentifier")
    return tuple(str(each or "") for each in found)


def _empty(dataset: Dataset, keyword: str) -> str:
    """Make a missing sequence an empty one; return its keyword where it was missing."""
    if keyword in dataset:
        return ""
    setattr(dataset, keyword, [])
    return keyword


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
    if lacks_specimen_uid(header):
        lacking.append("SpecimenUID")
    if header.get("LossyImageCompression") == "01":
        lacking += (keyword for keyword in _OF_LOSSY if not header.get(keyword))
    if lacking:
        yield (
            f"The header lacks {', '.join(map(dictionary_description, lacking))}: results lack "
            "that, too, and an archive may refuse them. Complete it in the scanner's DICOM export."
        )
