"""Index of a case's objects: ``objects.json``, which the outbox reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from appliance.artifacts import (
    ArtifactKey,
    ArtifactStore,
    file_is_as_written,
    is_unchecked,
)
from appliance.errors import RecordDamagedError
from appliance.settings.settings import Settings
from dicom.patients import NamedPatient
from dicom.study import StudyFacts
from dicom.uids import uid_as_name

INDEX_NAME = "objects.json"
STAND_IN = "TANDEM-"
"""Prefix of a Patient ID that stands in place of an unknown one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFile:
    """One DICOM file of a case; `path` is relative to the artifacts folder.

    `kind` is WSM, SEG, PM, SR, PDF, SC, ANN or KO.
    """

    kind: str
    path: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


def read_notes(objects_key: str, settings: Settings) -> list[str]:
    """Notes for an operator on how a case's objects came about."""
    return list(read_contents(objects_key, settings)["notes"])


def read_reports(objects_key: str, settings: Settings, *, alone: bool = False) -> list[Dataset]:
    """Report among a case's objects; empty without objects.

    `alone`: without the names of the reports that it replaced.

    Raises
    ------
    RecordDamagedError
        If the report or the index is not what was written: a new report would name no predecessor.
    """
    if not objects_key:
        return []
    contents = sound_contents(objects_key, settings)
    entries = [] if contents is None else contents["objects"]
    files = [object_path(entry["path"], settings) for entry in entries if entry["kind"] == "SR"]
    if contents is None or not all(is_unchecked(f.parent) or file_is_as_written(f) for f in files):
        raise damaged("report")
    reports = [dcmread(file) for file in files]
    for report in reports if alone else ():
        report.pop("PredecessorDocumentsSequence", None)
    return reports


def damaged(what: str) -> RecordDamagedError:
    """Return the error of an object of a replaced result that is not what was written."""
    return RecordDamagedError(
        f"The {what} that the new one replaces is damaged. Restore artifacts/ of the state folder, "
        "then: tandem retry"
    )


def is_signed(objects_key: str, settings: Settings) -> bool:
    """Return whether a person stands for the result: who corrected its score, or confirmed it."""
    return says_signed(read_contents(objects_key, settings))


def says_signed(contents: Mapping[str, Any]) -> bool:
    """Return whether the contents of an index are those of a signed result.

    Objects of earlier builds hold a correction without a sign-off; it counts.
    """
    return bool(contents.get("sign_offs")) or contents.get("correction") is not None


def signers_of(objects_key: str, settings: Settings) -> list[str]:
    """Return who signed the result of a case's objects; none where the index cannot be read."""
    contents = sound_contents(objects_key, settings) if objects_key else None
    if contents is None:
        return []
    said = contents.get("sign_offs") or [contents.get("correction")]
    return [each["by"] for each in said if each is not None]


def read_index(objects_key: str, settings: Settings) -> list[ObjectFile]:
    """Objects of a case, in the order of sending: slides first, then results."""
    return [ObjectFile(**entry) for entry in read_contents(objects_key, settings)["objects"]]


def read_scanned(objects_key: str, settings: Settings) -> list[ObjectFile]:
    """Images of a case's slides that the scanner wrote as DICOM; `path` is that of the header.

    Objects of earlier builds list none.
    """
    contents = read_contents(objects_key, settings)
    return [ObjectFile(**entry) for entry in contents.get("scanned", ())]


def read_retired(objects_key: str, settings: Settings) -> list[str]:
    """SOP Instance UIDs of the result that a case's objects replaced; earlier builds list none."""
    return list(read_contents(objects_key, settings).get("retired", ()))


def rejects_any(objects_key: str, settings: Settings) -> bool:
    """Return whether a case's objects, or any before them, were written with a note that rejects.

    Objects of earlier builds say it of themselves alone.
    """
    contents = sound_contents(objects_key, settings) if objects_key else None
    if contents is None:
        return False
    return bool(contents.get("rejects")) or any(e["kind"] == "KO" for e in contents["objects"])


def read_contents(objects_key: str, settings: Settings) -> dict[str, Any]:
    """Contents of ``objects.json``."""
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(objects_key))
    contents: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
    return contents


def sound_contents(objects_key: str, settings: Settings) -> dict[str, Any] | None:
    """Contents of ``objects.json``; None where the file is not what was written, or is gone.

    The file of an edition that wrote no checksums is taken as it is: nothing else tells which
    objects the case has.
    """
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(objects_key))
    if not folder.is_dir():
        return None
    if not is_unchecked(folder) and not file_is_as_written(folder / INDEX_NAME):
        return None
    try:
        return read_contents(objects_key, settings)
    except (FileNotFoundError, ValueError):  # gone or cut, where no checksum tells it
        return None


def patient_in(contents: Mapping[str, Any] | None) -> NamedPatient | None:
    """Return the patient of the study that the objects of an index lie in; None for no study.

    Where both slides are the scanner's DICOM, the objects lie in the slides' own study.
    """
    if contents is None or contents.get("study") is None:
        return None
    study = StudyFacts.of_json(contents["study"])
    born = study.patient_birth_date
    return NamedPatient(
        patient_id="" if study.patient_id.startswith(STAND_IN) else study.patient_id,
        issuer=study.issuer,
        name=study.patient_name,
        birth_date="" if born is None else born.strftime("%Y%m%d"),
        sex=study.patient_sex,
        other_ids=study.other_ids,
    )


def object_path(path: str, settings: Settings) -> Path:
    """Path of an object's file; `path` is that of its index or its delivery.

    Raises
    ------
    ValueError
        If the path is not that of a file of an artifact.
    """
    key, _, name = path.rpartition("/")
    if not name.endswith(".dcm"):
        raise ValueError("not the path of an object")
    return ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(key)) / name


def index_entry(kind: str, file: Path, root: Path) -> ObjectFile:
    """Entry of a DICOM file below `root`, from its header.

    Raises
    ------
    dicom.errors.ObjectError
        If one of its UIDs is no UID: files and folders are named by them.
    """
    header = dcmread(file, stop_before_pixels=True)
    return ObjectFile(
        kind=kind,
        path=str(file.relative_to(root)),
        study_uid=uid_as_name(str(header.StudyInstanceUID)),
        series_uid=uid_as_name(str(header.SeriesInstanceUID)),
        sop_instance_uid=uid_as_name(str(header.SOPInstanceUID)),
        sop_class_uid=str(header.SOPClassUID),
    )
