"""DICOMDIR (Media Storage Directory, PS3.3 F) of a study's folder, made from file headers.

The folder is a file-set (PS3.10 8). `pydicom.fileset.FileSet` is not used: it copies whole
instances to read their headers, lists the whole tree of an SR, and takes annotations for images.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    MediaStorageDirectoryStorage,
    MicroscopyBulkSimpleAnnotationsStorage,
)

from dicom.characters import CHARACTER_SET, UNREADABLE, in_unicode
from dicom.legal import make_legal
from dicom.uids import deterministic_uid

NAME = "DICOMDIR"
IN_USE = 0xFFFF
SERIES_KEYS = ("Modality", "SeriesInstanceUID", "SeriesNumber")
IMAGE: tuple[str, tuple[str, ...]] = ("IMAGE", ("InstanceNumber",))
LEAVES: dict[str, tuple[str, tuple[str, ...]]] = {
    Comprehensive3DSRStorage: (
        "SR DOCUMENT",
        (
            "InstanceNumber",
            "CompletionFlag",
            "VerificationFlag",
            "ContentDate",
            "ContentTime",
            "ConceptNameCodeSequence",
        ),
    ),
    KeyObjectSelectionDocumentStorage: (
        "KEY OBJECT DOC",
        ("InstanceNumber", "ContentDate", "ContentTime", "ConceptNameCodeSequence"),
    ),
    EncapsulatedPDFStorage: (
        "ENCAP DOC",
        (
            "InstanceNumber",
            "ContentDate",
            "ContentTime",
            "DocumentTitle",
            "ConceptNameCodeSequence",
            "MIMETypeOfEncapsulatedDocument",
        ),
    ),
    MicroscopyBulkSimpleAnnotationsStorage: (
        "ANNOTATION",
        (
            "InstanceNumber",
            "ContentDate",
            "ContentTime",
            "ContentLabel",
            "ContentDescription",
            "ContentCreatorName",
        ),
    ),
}
"""Record type and keys (PS3.3 F.5) by SOP class; all other classes of Tandem are IMAGE."""
READ = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", *SERIES_KEYS, "ContentSequence"),
    *("PatientName", "PatientID", "IssuerOfPatientID"),
    *("StudyDate", "StudyTime", "StudyDescription", "StudyID", "AccessionNumber"),
    *sorted({key for _, keys in LEAVES.values() for key in keys}),
]
"""Attributes read from a file; pixels and documents are not read."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Bytes of a DICOMDIR, and the files that it lists."""

    data: bytes
    files: frozenset[Path]


def file_id(series_uid: str, sop_instance_uid: str) -> tuple[str, str]:
    """Return the place of an instance in its study's file-set: folder and file (PS3.10 8.2, 8.5).

    Each is 40 bits of a UID's SHA-256: equal UIDs give equal names, and names hold no PHI.
    """
    return _component(series_uid), _component(sop_instance_uid)


def _component(uid: str) -> str:
    return base64.b32encode(hashlib.sha256(uid.encode()).digest()[:5]).decode()


def read_keys(path: Path) -> FileDataset | None:
    """Read the attributes that a DICOMDIR needs; None if the file is no readable instance.

    Raises
    ------
    OSError
        If the file system fails, or the file does not exist.
    """
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=READ)
        # Copied values are written in UTF-8, and as DICOM allows them, whatever the file has.
        in_unicode(header)
        make_legal(header)
    except UNREADABLE as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise
        return None  # also raised by pydicom if an item ends too early
    return header if header.get("SOPInstanceUID") else None


def build_directory(folder: Path, study_uid: str) -> Directory:
    """Build the DICOMDIR of the study's instances that lie below `folder` at their File ID.

    Equal files give equal bytes. Misplaced and unreadable files, those of other studies and those
    without a valid series UID are left out.

    Raises
    ------
    OSError
        If the file system fails.
    """
    found: dict[Path, FileDataset] = {}
    for path in folder.glob(f"{'?' * 8}/{'?' * 8}"):
        header = read_keys(path) if path.is_file() else None
        # `make_legal` empties a UID that is none.
        if (
            header is not None
            and header.get("StudyInstanceUID") == study_uid
            and header.get("SeriesInstanceUID")
            and file_id(header.SeriesInstanceUID, header.SOPInstanceUID) == path.parts[-2:]
        ):
            found[path] = header
    headers = sorted(found.values(), key=_order)
    return Directory(_encode(_records(headers, study_uid), study_uid), frozenset(found))


def _order(header: Dataset) -> tuple[int, str, int, str]:
    return (
        int(header.get("SeriesNumber") or 0),
        str(header.SeriesInstanceUID),
        int(header.get("InstanceNumber") or 0),
        str(header.SOPInstanceUID),
    )


def _records(headers: Sequence[FileDataset], study_uid: str) -> list[tuple[int, Dataset]]:
    """Records with their depth; each precedes its descendants."""
    records = []
    patients = _patients(headers)
    for own in patients:
        patient = _patient(own, study_uid)
        if len(patients) > 1 and (issuer := _stated(own, "IssuerOfPatientID")):
            patient["IssuerOfPatientID"] = issuer
        records.append((0, _record("PATIENT", patient)))
        records.append((1, _record("STUDY", _study(own, study_uid))))
        series = ""
        for header in own:
            if header.SeriesInstanceUID != series:
                series = header.SeriesInstanceUID
                keys = {key: header.get(key) for key in SERIES_KEYS}
                records.append((2, _record("SERIES", keys)))
            records.append((3, _leaf(header)))
    return records


def _patients(headers: Sequence[FileDataset]) -> list[list[FileDataset]]:
    """Return the objects of each patient: one that was corrected has another ID or issuer."""
    stated = {_id_of(header) for header in headers}
    found: dict[tuple[str, str], list[FileDataset]] = {}
    for header in headers:
        found.setdefault(_whose(*_id_of(header), stated), []).append(header)
    return list(found.values())


def _id_of(header: Dataset) -> tuple[str, str]:
    number, issuer = (header.get(key) for key in ("PatientID", "IssuerOfPatientID"))
    return str(number or "").strip(), str(issuer or "").strip() if number else ""


def _whose(number: str, issuer: str, stated: Set[tuple[str, str]]) -> tuple[str, str]:
    """Return the patient of an object; where it leaves something open, the one that others name."""
    if issuer:
        return number, issuer
    named = {each for each in stated if each[0] and number in ("", each[0])}
    fuller = {each for each in named if each[1]} or named
    one = len(fuller) == 1 == len({each[0] for each in named})
    return next(iter(fuller)) if one else (number, issuer)


def _stated(headers: Sequence[Dataset], keyword: str) -> Any:
    """First nonempty value of the attribute among the objects, None without one."""
    return next((value for h in headers if (value := h.get(keyword))), None)


def _stand_in(study_uid: str) -> str:
    """Stand-in for an ID that is type 1 here and type 2 in the objects.

    It differs between studies, so that patients without ID do not become one patient.
    """
    return f"NO-ID-{_component(study_uid)}"


def _patient(headers: Sequence[Dataset], study_uid: str) -> dict[str, Any]:
    return {
        "PatientName": _stated(headers, "PatientName"),
        "PatientID": _stated(headers, "PatientID") or _stand_in(study_uid),
    }


def _study(headers: Sequence[Dataset], study_uid: str) -> dict[str, Any]:
    date, time = _stated(headers, "StudyDate"), _stated(headers, "StudyTime")
    if not date:
        # Type 1 too. The earliest object bounds the start of the study.
        dates = [(h.ContentDate, h.get("ContentTime")) for h in headers if h.get("ContentDate")]
        date, time = min(dates, key=str, default=(None, None))
    return {
        "StudyDate": date,
        "StudyTime": time or "000000",
        "StudyDescription": _stated(headers, "StudyDescription"),
        "StudyInstanceUID": study_uid,
        "StudyID": _stated(headers, "StudyID") or _stand_in(study_uid),
        "AccessionNumber": _stated(headers, "AccessionNumber"),
    }


def _leaf(header: FileDataset) -> Dataset:
    kind, keys = LEAVES.get(header.SOPClassUID, IMAGE)
    values = {key: header.get(key) for key in keys}
    if kind == "SR DOCUMENT":
        # The only items of the tree here: modifiers of the title (type 1C).
        items = header.get("ContentSequence") or []
        if said := [item for item in items if item.get("RelationshipType") == "HAS CONCEPT MOD"]:
            values["ContentSequence"] = said
    place = file_id(header.SeriesInstanceUID, header.SOPInstanceUID)
    reference = {
        "ReferencedFileID": list(place),
        "ReferencedSOPClassUIDInFile": header.SOPClassUID,
        "ReferencedSOPInstanceUIDInFile": header.SOPInstanceUID,
        "ReferencedTransferSyntaxUIDInFile": header.file_meta.TransferSyntaxUID,
    }
    return _record(kind, reference | values)


def _record(kind: str, values: Mapping[str, Any]) -> Dataset:
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = IN_USE
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = kind
    for keyword, value in values.items():
        setattr(record, keyword, value)
    if not all(str(element.value).isascii() for element in record.iterall()):
        record.SpecificCharacterSet = CHARACTER_SET
    return record


def _encode(records: Sequence[tuple[int, Dataset]], study_uid: str) -> bytes:
    """Encode with fixed-size offsets: written as 0 first, then as found when read back."""
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    # UID of the file-set; it stays when the file-set is updated (PS3.10 8.6).
    directory.file_meta.MediaStorageSOPInstanceUID = deterministic_uid("file-set", study_uid)
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID = "TANDEM"
    directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.FileSetConsistencyFlag = 0
    directory.DirectoryRecordSequence = [record for _, record in records]
    written = dcmread(BytesIO(_bytes(directory))).DirectoryRecordSequence
    above: list[Dataset] = []
    for (depth, record), item in zip(records, written, strict=True):
        offset = item.seq_item_tell
        if depth < len(above):
            above[depth].OffsetOfTheNextDirectoryRecord = offset
        elif above:
            above[-1].OffsetOfReferencedLowerLevelDirectoryEntity = offset
        else:  # the first patient
            directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = offset
        if depth == 0:
            directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = offset
        above[depth:] = [record]
    return _bytes(directory)


def _bytes(directory: Dataset) -> bytes:
    written = BytesIO()
    directory.save_as(written, enforce_file_format=True)
    return written.getvalue()
