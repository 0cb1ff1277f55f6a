"""From `Findings` to DICOM objects: slides (where the scanner wrote none), overlays, SR, the page.

All objects of a case lie in one artifact with an index, ``objects.json``; the outbox reads that.
UIDs come from the content: the same findings make the same bytes under the same UIDs, and changed
findings are new objects.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.optional import optional_objects
from appliance.delivery.overlays import ObjectContext, write_overlays
from appliance.delivery.page import build_page
from appliance.delivery.sources import slide_sources
from appliance.delivery.structured_report import structured_report
from appliance.domain import HER2
from appliance.findings.findings import Findings, load_findings
from appliance.findings.overlay import MAX_EDGE_PX
from appliance.settings.settings import Settings
from appliance.slides.overview import load_overview
from dicom.segmentation import AlgorithmFacts
from dicom.study import StudyFacts

PAGE_NAME, INDEX_NAME = "report.pdf", "objects.json"


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


def write_objects(findings_key: str, settings: Settings, previous: str = "") -> str:
    """Write all objects of a case; returns the key of the artifact with ``objects.json``.

    `previous` is the key of the objects that the case has already: those of the same findings stay,
    and the report of others is named as the new one's predecessor.

    Raises
    ------
    dicom.errors.DicomError
        If a slide cannot be converted or the findings make no valid object.
    WorklistUnavailableError
        If a worklist is set and cannot be asked.
    """
    store = ArtifactStore(settings.artifacts_dir)
    findings_folder = store.path(ArtifactKey.parse(findings_key))
    software = version("tandem-her2")
    made_from = {
        "findings": findings_key,
        "software": software,
        "objects": settings.objects.model_dump(),
    }
    if previous and _contents(previous, settings)["made_from"] == made_from:
        return previous
    key = ArtifactKey.of("objects", **made_from, previous=previous)
    if store.exists(key):
        return str(key)
    findings = load_findings(findings_folder)
    kept = _contents(previous, settings)["study"] if previous else None
    sources = slide_sources(findings, settings, StudyFacts.of_json(kept) if kept else None)
    study_uid = sources.headers[HER2][0].StudyInstanceUID
    objects = [_index("WSM", file, store.root) for file in sources.converted]
    # The objects say when they were made; equal findings must make equal bytes, so that is when
    # the findings were saved.
    saved = (findings_folder / "findings.json").stat().st_mtime
    created = datetime.fromtimestamp(int(saved), tz=UTC)
    libraries = ",".join(f"{name} {version(name)}" for name in ("highdicom", "pydicom"))
    seed = f"{findings_key}|{int(saved)}|{software}|{libraries}|{study_uid}"
    with store.writing(key) as folder:
        context = ObjectContext(
            findings=findings,
            sources=sources.headers,
            algorithms=_algorithms(findings),
            settings=settings.objects,
            created=created,
            seed=seed,
            software=software,
        )
        written = write_overlays(folder, context)
        segmentations = [
            dcmread(file, stop_before_pixels=True) for kind, file in written if kind == "SEG"
        ]
        report = structured_report(context, segmentations, _reports(previous, settings))
        page = build_page(
            findings,
            he_thumbnail=load_overview(
                findings_folder / "he_thumbnail.png", longest_px=MAX_EDGE_PX
            ),
            ihc_thumbnail=load_overview(
                findings_folder / "ihc_thumbnail.png", longest_px=MAX_EDGE_PX
            ),
            created=created,
            software=software,
        )
        (folder / PAGE_NAME).write_bytes(page)
        for kind, dataset in [("SR", report), *optional_objects(context, page, report)]:
            written.append((kind, folder / f"{kind.lower()}.dcm"))
            dataset.save_as(written[-1][1], enforce_file_format=True)
        for kind, file in written:
            final = store.path(key) / file.name
            entry = _index(kind, file, store.root)
            objects.append(
                ObjectFile(**asdict(entry) | {"path": str(final.relative_to(store.root))})
            )
        index = {
            "made_from": made_from,
            "notes": sources.notes,
            "study": None if sources.study is None else sources.study.as_json(),
            "objects": [asdict(entry) for entry in objects],
        }
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")
    return str(key)


def read_findings_key(objects_key: str, settings: Settings) -> str:
    """The key of the findings that a case's objects were made from."""
    return str(_contents(objects_key, settings)["made_from"]["findings"])


def read_notes(objects_key: str, settings: Settings) -> list[str]:
    """What an operator should know of how a case's objects came about."""
    return list(_contents(objects_key, settings)["notes"])


def _reports(objects_key: str, settings: Settings) -> list[Dataset]:
    """The report among a case's objects."""
    if not objects_key:
        return []
    return [
        dcmread(settings.artifacts_dir / item.path)
        for item in read_index(objects_key, settings)
        if item.kind == "SR"
    ]


def read_index(objects_key: str, settings: Settings) -> list[ObjectFile]:
    """The objects of a case, in the order of sending: slides first, then results."""
    return [ObjectFile(**entry) for entry in _contents(objects_key, settings)["objects"]]


def _contents(objects_key: str, settings: Settings) -> dict[str, Any]:
    """What ``objects.json`` says."""
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(objects_key))
    contents: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
    return contents


def _index(kind: str, file: Path, root: Path) -> ObjectFile:
    header = dcmread(file, stop_before_pixels=True)
    return ObjectFile(
        kind=kind,
        path=str(file.relative_to(root)),
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
    )


def _algorithms(findings: Findings) -> dict[str, AlgorithmFacts]:
    return {
        model.task: AlgorithmFacts(
            name=f"Tandem {model.task}: {model.name}",
            version=model.version,
            weights_sha256=model.sha256,
        )
        for model in findings.models
    }
