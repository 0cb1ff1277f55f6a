"""Quick alignment and quick objects in place of the product's, in each process that loads this.

Steps run in worker processes, which load the extensions before the code of a step. So the functions
are replaced where they are defined, and where they have been imported already.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from appliance.artifacts import ArtifactKey, ArtifactStore, is_as_written
from appliance.delivery import objects
from appliance.delivery.index import INDEX_NAME, index_entry
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings
from appliance.geometry import Affine
from appliance.registration import alignment
from appliance.registration.alignment import Alignment
from appliance.registration.mapping import SlideMapping
from appliance.settings.settings import Settings
from dicom.uids import deterministic_uid


def quick_align(*_given: Any, **_options: Any) -> Alignment:
    """Return the identity: simulated pairs lie nearly on each other."""
    mapping = SlideMapping.of(Affine.identity())
    return Alignment(mapping=mapping, error_um=1.0, overlap=1.0, agreement=1.0)


def quick_objects(
    findings_key: str, settings: Settings, _previous: str = "", **_options: Any
) -> str:
    """Write one small report, which states what was read; return the key of its artifact.

    Equal findings give equal bytes; an artifact that is damaged is written again.
    """
    made_from = {"findings": findings_key, "quick": True}
    store = ArtifactStore(settings.artifacts_dir)
    key = ArtifactKey.of("objects", **made_from)
    if not is_as_written(store.path(key)):
        store.discard(key)
        findings = load_findings(store.path(ArtifactKey.parse(findings_key)))
        with store.writing(key) as folder:
            file = folder / "sr.dcm"
            _report(findings, findings_key).save_as(file, enforce_file_format=True)
            place = store.path(key).relative_to(store.root) / file.name
            entry = replace(index_entry("SR", file, store.root), path=str(place))
            contents = {
                "made_from": made_from,
                "notes": [],
                "study": None,
                "objects": [asdict(entry)],
            }
            (folder / INDEX_NAME).write_text(json.dumps(contents))
    return str(key)


def _report(findings: Findings, findings_key: str) -> Dataset:
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = deterministic_uid("quick", findings.accession, findings.block, findings_key)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = uid
    report.StudyInstanceUID = deterministic_uid("quick study", findings.accession)
    report.SeriesInstanceUID = deterministic_uid("quick series", findings_key)
    report.AccessionNumber = findings.accession
    report.Modality = "SR"
    report.SeriesDescription = f"{findings.block} {findings.score}"
    # What was read, for the judge of a simulated day.
    facts = {
        "block": findings.block,
        "read": findings.rule.split(),
        "stated": [findings.he.fingerprint, findings.ihc.fingerprint],
    }
    report.DocumentTitle = json.dumps(facts)
    return report


def _replace(module: Any, name: str, stand_in: Any) -> None:
    original = getattr(module, name)
    for known in list(sys.modules.values()):
        if getattr(known, "__name__", "").startswith("appliance."):
            for attribute, value in list(vars(known).items()):
                if value is original:
                    setattr(known, attribute, stand_in)


_replace(alignment, "align", quick_align)
_replace(objects, "write_objects", quick_objects)
