"""Exports beside the structured reports of a folder archive: GeoJSON and label maps.

They are made from the findings that the report was made from, when the report is sent. Files are
named by the report's SOP Instance UID and the stain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pynetdicom.sop_class import Comprehensive3DSRStorage

from appliance.artifacts import ArtifactKey, ArtifactStore, is_as_written, is_unchecked
from appliance.assays.assay import Assay
from appliance.assays.registry import find_assay
from appliance.delivery.destinations.contract import Instance
from appliance.delivery.exports import SUFFIXES, ExportKind, Offset, offsets_of, write_export
from appliance.delivery.index import INDEX_NAME
from appliance.domain import Stain
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings
from appliance.settings.destinations import FolderDestination
from dicom.status import InstanceRef
from dicom.uids import uid_as_name

Result: TypeAlias = tuple[Findings, Assay, dict[Stain, Offset]]
"""Findings, their assay, and the bounds' offset of both slides."""
LEAST: dict[ExportKind, int] = {"geojson": 2, "label_map": 1}
"""Fewest exports of a report: both slides have areas, and not each has a label map."""


def wanted_exports(section: FolderDestination) -> tuple[ExportKind, ...]:
    """Return the kinds of exports that the settings of a folder archive ask for."""
    asked: dict[ExportKind, bool] = {"geojson": section.geojson, "label_map": section.label_map}
    return tuple(kind for kind, wanted in asked.items() if wanted)


@dataclass(frozen=True, slots=True)
class Exports:
    """Exports of `kinds` in the folder of a study, for each report that is sent there."""

    artifacts: Path
    kinds: tuple[ExportKind, ...]

    def result_of(self, instance: Instance) -> Result | None:
        """Return what a report was made from; None for any other object.

        All of it is checked here: a label map is read only while it is exported, when the report is
        under way already.

        Raises
        ------
        OSError, ValueError, LookupError
            If it cannot be read, or is not what was written.
        SettingsError
            If its assay is not installed any more.
        """
        if instance.ref.sop_class_uid != Comprehensive3DSRStorage:
            return None
        contents = json.loads((instance.path.parent / INDEX_NAME).read_text())
        key = ArtifactKey.parse(contents["made_from"]["findings"])
        folder = ArtifactStore(self.artifacts).path(key)
        if not is_unchecked(folder) and not is_as_written(folder):
            raise ValueError(f"{folder.name} is not what was written")
        findings = load_findings(folder)
        assay = find_assay(findings.assay)
        return findings, assay, offsets_of(findings, assay, ArtifactStore(self.artifacts))

    def write(self, result: Result, report: InstanceRef, archive: Path) -> None:
        """Write the exports of a report.

        Raises
        ------
        OSError
            If the archive cannot be written.
        """
        findings, assay, offsets = result
        for stain, offset_px in offsets.items():
            for kind in self.kinds:
                name = f"{uid_as_name(report.sop_instance_uid)}-{stain}{SUFFIXES[kind]}"
                place = archive / uid_as_name(report.study_uid) / name
                write_export(kind, findings, assay, stain, place, offset_px)

    def are_there(self, ref: InstanceRef, archive: Path) -> bool:
        """Return whether the exports of a report are there; true for any other object."""
        if ref.sop_class_uid != Comprehensive3DSRStorage:
            return True
        study, report = archive / uid_as_name(ref.study_uid), uid_as_name(ref.sop_instance_uid)
        found = {kind: len(list(study.glob(f"{report}-*{SUFFIXES[kind]}"))) for kind in self.kinds}
        return all(found[kind] >= LEAST[kind] for kind in self.kinds)
