"""Index of a case's objects: ``objects.json``, which the outbox reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.settings.settings import Settings

INDEX_NAME = "objects.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFile:
    """One DICOM file of a case; `path` is relative to the artifacts folder.

    `kind` is WSM, SEG, PM, SR, PDF, SC or ANN.
    """

    kind: str
    path: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


def read_findings_key(objects_key: str, settings: Settings) -> str:
    """Key of the findings that a case's objects were made from."""
    return str(read_contents(objects_key, settings)["made_from"]["findings"])


def read_notes(objects_key: str, settings: Settings) -> list[str]:
    """Notes for an operator on how a case's objects came about."""
    return list(read_contents(objects_key, settings)["notes"])


def read_reports(objects_key: str, settings: Settings) -> list[Dataset]:
    """Report among a case's objects; empty without objects."""
    if not objects_key:
        return []
    return [
        dcmread(settings.artifacts_dir / item.path)
        for item in read_index(objects_key, settings)
        if item.kind == "SR"
    ]


def read_index(objects_key: str, settings: Settings) -> list[ObjectFile]:
    """Objects of a case, in the order of sending: slides first, then results."""
    return [ObjectFile(**entry) for entry in read_contents(objects_key, settings)["objects"]]


def read_contents(objects_key: str, settings: Settings) -> dict[str, Any]:
    """Contents of ``objects.json``."""
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(objects_key))
    contents: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
    return contents


def index_entry(kind: str, file: Path, root: Path) -> ObjectFile:
    """Entry of a DICOM file below `root`, from its header."""
    header = dcmread(file, stop_before_pixels=True)
    return ObjectFile(
        kind=kind,
        path=str(file.relative_to(root)),
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
    )
