"""Headers of VL Whole Slide Microscopy: reading a slide's volume images and their facts."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import keyword_for_tag
from pydicom.errors import InvalidDicomError
from pydicom.sr.coding import Code

from dicom import codes
from dicom.characters import UNREADABLE, in_unicode
from dicom.errors import SourceError
from dicom.legal import REFUSED, make_legal, told
from dicom.required import told_lacking
from dicom.study import FURTHER, patient_of
from dicom.uids import is_uid

FRAME_OFFSET = "ConcatenationFrameOffsetNumber"
WSM_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
NEEDED = (
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixOriginSequence",
    "ImageOrientationSlide",
    "SharedFunctionalGroupsSequence",
)
"""Attributes that are needed to place a result on a slide (PS3.3 A.32.8)."""
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
"""UIDs of a slide that results refer to."""
MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Attributes of type 2; some exports omit them."""
HER2_WORDS = re.compile(r"her-?2|erbb-?2|c-?erb|4b5|hercep", re.IGNORECASE)
"""Names of HER2 immunostains; the clones have no codes in CID 8112."""


def read_volumes(paths: Sequence[Path]) -> list[Dataset]:
    """Read the headers (no pixels) of a slide's VOLUME images as they are, level 0 first.

    Raises
    ------
    SourceError
        If none of the files is a VL WSM volume image, or level 0 cannot bear results.
    OSError
        If the file system fails.
    """
    found = []
    with warnings.catch_warnings(), disable_value_validation():
        # Of character sets that pydicom does not know.
        warnings.simplefilter("ignore", UserWarning)
        for path in paths:
            header = _volume(path)
            if header is not None:
                found.append(header)
    if not found:
        raise SourceError("none of the files is a whole slide volume image; export the slide again")
    found.sort(key=_place)
    _require_placing(found[0])
    return found


def _require_placing(base: Dataset) -> None:
    """Raise SourceError where level 0 lacks a value by which results are placed (all type 1)."""
    try:
        origin = base.TotalPixelMatrixOriginSequence[0]
        keywords = [f"{axis}OffsetInSlideCoordinateSystem" for axis in "XY"]
        lacking = [keyword for keyword in keywords if origin.get(keyword) in (None, "")]
        measures = base.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
        spacing = measures[0].get("PixelSpacing") if measures else None
        if not spacing or len([float(value) for value in spacing]) != 2:
            lacking.append("PixelSpacing")
    except UNREADABLE as err:
        _raise_no_dicom(err)
    if lacking:
        raise SourceError(f"the slide lacks {', '.join(lacking)}; export it again")


def _has_place(header: Dataset) -> bool:
    """Return whether the place on the glass is stated in finite numbers (PS3.3 C.8.12.4.1.1)."""
    try:
        origin = header.TotalPixelMatrixOriginSequence[0]
        directions = [float(number) for number in header.ImageOrientationSlide]
        start = [float(origin.get(f"{axis}OffsetInSlideCoordinateSystem") or 0) for axis in "XYZ"]
    except UNREADABLE:  # the elements of an item are parsed when they are asked for
        return False
    return len(directions) == 6 and all(isfinite(number) for number in (*directions, *start))


def write_header(header: Dataset, path: Path) -> None:
    """Write a header as it was read; groups of messages and of files are taken out of it.

    Raises
    ------
    SourceError
        If a value is none that DICOM can hold, as a number with other signs in it.
    OSError
        If the file system fails.
    """
    del header[0x00000000:0x00030000]  # no data set may hold them
    with warnings.catch_warnings(), disable_value_validation():
        # Of character sets that pydicom does not know.
        warnings.simplefilter("ignore", UserWarning)
        try:
            header.save_as(path, enforce_file_format=True)
        except UNREADABLE as err:
            if isinstance(err, OSError) and err.errno is not None:
                raise
            wrong = ", ".join(_unwritable(header)) or "texts"
            raise SourceError(f"values cannot be repeated: {wrong}; export it again") from err


def _unwritable(header: Dataset) -> list[str]:
    """Return the keywords of the elements that cannot be written by themselves."""
    found = []
    for tag in list(header.keys()):
        alone = Dataset()
        try:
            alone.add(header[tag])
            alone.save_as(BytesIO(), implicit_vr=False, little_endian=True)
        except UNREADABLE:
            found.append(keyword_for_tag(tag) or str(tag))
    return found


def _place(header: Dataset) -> tuple[int, int]:
    """Return a key that puts the largest level first, and parts of a concatenation in order."""
    return -int(header.TotalPixelMatrixColumns), int(header.get(FRAME_OFFSET) or 0)


def _volume(path: Path) -> Dataset | None:
    """Read the header of a VOLUME image; None for any other object."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        if header.get("SOPClassUID") != WSM_STORAGE or "VOLUME" not in header.get("ImageType", []):
            return None
        missing = [keyword for keyword in NEEDED if not header.get(keyword)]
        int(header.get("TotalPixelMatrixColumns", 0))
        int(header.get(FRAME_OFFSET) or 0)
    except UNREADABLE as err:
        _raise_no_dicom(err)
    if missing:
        raise SourceError(f"the slide lacks {', '.join(missing)}; export it again")
    if not _has_place(header):
        raise SourceError(
            "TotalPixelMatrixOriginSequence or ImageOrientationSlide is not of numbers; export the "
            "slide again"
        )
    for keyword in MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, None)
    return header


def _raise_no_dicom(err: Exception) -> NoReturn:
    """Raise the error of a file that is no DICOM, or the file system's own, which blames none."""
    if isinstance(err, OSError) and err.errno is not None:
        raise err
    # File names may hold the accession (PHI).
    raise SourceError(
        f"a file of the slide is no readable DICOM ({type(err).__name__}); export it again"
    ) from err


def read_headers(paths: Sequence[Path]) -> list[Dataset]:
    """Read the headers of a slide's VOLUME images, level 0 first, as results may repeat them.

    Texts are in UTF-8 and values as DICOM allows them, whatever the scanner wrote.

    Raises
    ------
    SourceError
        If none of the files is a VL WSM volume image.
    """
    headers = read_volumes(paths)
    for header in headers:
        in_unicode(header)
        make_legal(header)
        for keyword in FURTHER:  # validators refuse sequences without items
            if keyword in header and not header[keyword].value:
                del header[keyword]
    return headers


@dataclass(frozen=True, slots=True)
class StatedFacts:
    """Statements of a slide's header, for comparison and for people; empty without a header.

    `patient` is that of `study.patient_of` (PHI). `problems` are sentences, each with a remedy,
    about what results carry otherwise or lack. `refused` names what no result can carry, such as a
    patient ID that is too long.
    """

    patient: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    refused: str = ""


def stated_facts(paths: Sequence[Path]) -> StatedFacts:
    """Return what the header of level 0 states, as it states it; `paths` may be empty.

    Raises
    ------
    SourceError
        If there are files, and none of them is a VL WSM volume image.
    """
    if not paths:
        return StatedFacts()
    header = read_volumes(paths)[0]
    characters = in_unicode(header)
    patient = patient_of(header)
    flaws = make_legal(header)
    refused = [flaw.name for flaw in flaws if flaw.done == REFUSED]
    return StatedFacts(
        patient=patient,
        problems=(*([characters] if characters else []), *told(flaws), *told_lacking(header)),
        refused=", ".join(refused),
    )


def read_instance_uid(path: Path) -> str:
    """Read the SOP Instance UID of a file as it is written there; empty without one.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    except (InvalidDicomError, EOFError, ValueError, struct.error):
        return ""
    return _raw_uid(header, "SOPInstanceUID") or ""


def wrong_uids(paths: Sequence[Path]) -> list[str]:
    """Return the keywords of UIDs that are no UIDs in at least one of the files of a slide.

    Raises
    ------
    SourceError
        If a file is no readable DICOM.
    """
    wrong: set[str] = set()
    for path in paths:
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=[*UIDS, "ImageType"])
            volume = "VOLUME" in (header.get("ImageType") or ())
        except UNREADABLE as err:
            _raise_no_dicom(err)
        for keyword in UIDS:
            uid = _raw_uid(header, keyword)
            # Photographs of the label need no frame of reference.
            needed = volume or keyword != "FrameOfReferenceUID"
            if (uid is None and needed) or (uid is not None and not is_uid(uid)):
                wrong.add(keyword)
    return sorted(wrong)


def _raw_uid(header: Dataset, keyword: str) -> str | None:
    """UID as it is written, without pydicom's warnings; None where the attribute is missing."""
    if keyword not in header:
        return None
    raw = header.get_item(keyword).value
    text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw or "")
    return text.removesuffix("\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSlideFacts:
    """Facts of a scanner's DICOM header; empty if not stated. PHI: never logged.

    `stain` is ``HE``, ``HER2`` or None (neither is stated); `stain_texts` are the substances as
    written (code meaning or text), `stain_codes` the coded ones. `mpp` in µm per level-0 px, width
    and height in level-0 px.
    """

    accession: str
    container_id: str
    stain: str | None
    stain_codes: tuple[Code, ...]
    stain_texts: tuple[str, ...]
    mpp: float
    width_px: int
    height_px: int
    study_uid: str
    series_uid: str


def slide_facts(headers: Sequence[Dataset]) -> DicomSlideFacts:
    """Extract the facts of a slide from its headers (`read_headers`: level 0 first).

    The stain is in the Specimen Preparation Sequence (PS3.3 C.7.6.22, TID 8001, 8003): the items
    Using substance, CODE or TEXT, of the step whose Processing type is Staining.

    Raises
    ------
    SourceError
        If the image does not state its pixel spacing.
    """
    base = headers[0]
    measures = base.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
    if not measures or not measures[0].get("PixelSpacing"):
        raise SourceError("the slide lacks PixelSpacing; export it again")
    rows, columns = (float(v) for v in measures[0].PixelSpacing)
    stain_codes, stain_texts = _stains(base.get("SpecimenDescriptionSequence") or [])
    return DicomSlideFacts(
        accession=str(base.get("AccessionNumber") or ""),
        container_id=str(base.get("ContainerIdentifier") or ""),
        stain=_stain(stain_codes, stain_texts),
        stain_codes=stain_codes,
        stain_texts=stain_texts,
        mpp=(rows + columns) / 2 * 1000,
        width_px=int(base.TotalPixelMatrixColumns),
        height_px=int(base.TotalPixelMatrixRows),
        study_uid=str(base.StudyInstanceUID),
        series_uid=str(base.SeriesInstanceUID),
    )


def _stains(specimens: Sequence[Dataset]) -> tuple[tuple[Code, ...], tuple[str, ...]]:
    coded: list[Code] = []
    texts: list[str] = []
    for specimen in specimens:
        for step in specimen.get("SpecimenPreparationSequence") or []:
            items = step.get("SpecimenPreparationStepContentItemSequence") or []
            named = [(_code(item, "ConceptNameCodeSequence"), item) for item in items]
            kinds = [
                _code(item, "ConceptCodeSequence")
                for name, item in named
                if name == codes.PROCESSING_TYPE
            ]
            if codes.STAINING not in kinds:
                continue
            for name, item in named:
                if name != codes.USING_SUBSTANCE:
                    continue
                code = _code(item, "ConceptCodeSequence")
                if code is not None:
                    coded.append(code)
                texts.append(code.meaning if code is not None else str(item.get("TextValue") or ""))
    return tuple(coded), tuple(text for text in texts if text)


def _code(item: Dataset, keyword: str) -> Code | None:
    """Code in an item's code sequence; pydicom's `Code` treats SRT and SCT as equal."""
    sequence = item.get(keyword)
    if not sequence or not sequence[0].get("CodeValue"):
        return None
    found = sequence[0]
    return Code(
        str(found.CodeValue),
        str(found.get("CodingSchemeDesignator") or ""),
        str(found.get("CodeMeaning") or ""),
    )


def _stain(coded: Sequence[Code], texts: Sequence[str]) -> str | None:
    # Hematoxylin is also the counterstain of an immunostain: look for HER2 first.
    if any(HER2_WORDS.search(text) for text in texts):
        return "HER2"
    joined = " ".join(texts).lower()
    coded_both = codes.HEMATOXYLIN in coded and codes.EOSIN in coded
    if coded_both or ("matoxylin" in joined and "eosin" in joined):
        return "HE"
    return None
