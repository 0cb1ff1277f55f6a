"""DICOM objects of a case: slides (where the scanner wrote no DICOM), overlays, report, page.

All objects of a case lie in one artifact with an index, ``objects.json``, which the outbox reads.
UIDs derive from the content: equal findings give equal bytes under equal UIDs, and changed findings
give new objects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydicom import Dataset, dcmread

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import find_assay
from appliance.delivery.context import ObjectContext
from appliance.delivery.index import (
    INDEX_NAME,
    index_entry,
    read_contents,
    read_reports,
)
from appliance.delivery.optional import optional_objects
from appliance.delivery.overlays import write_overlays
from appliance.delivery.page import build_page
from appliance.delivery.sources import slide_sources
from appliance.delivery.structured_report import structured_report
from appliance.findings.codec import load_findings, load_pictures
from appliance.findings.findings import Findings
from appliance.settings.settings import Settings
from dicom.segmentation import AlgorithmFacts
from dicom.study import StudyFacts

PAGE_NAME = "report.pdf"


def write_objects(findings_key: str, settings: Settings, previous: str = "") -> str:
    """Write all objects of a case; return the key of the artifact with ``objects.json``.

    `previous` is the key of the objects that the case has. They stay where findings, software and
    object settings are the same; else the new report names their report as its predecessor.

    Raises
    ------
    dicom.errors.DicomError
        If a slide cannot be converted, or no valid object can be made from the findings.
    WorklistUnavailableError
        If a worklist is set and cannot be queried.
    """
    store = ArtifactStore(settings.artifacts_dir)
    findings_folder = store.path(ArtifactKey.parse(findings_key))
    software = version("tandem-her2")
    wanted = settings.objects.model_dump()
    made_from = {"findings": findings_key, "software": software, "objects": wanted}
    if previous and read_contents(previous, settings)["made_from"] == made_from:
        return previous
    key = ArtifactKey.of("objects", **made_from, previous=previous)
    if store.exists(key):
        return str(key)
    kept = read_contents(previous, settings)["study"] if previous else None
    findings = load_findings(findings_folder)
    assay = find_assay(findings.assay)
    sources = slide_sources(findings, assay, settings, StudyFacts.of_json(kept) if kept else None)
    study_uid = sources.headers[assay.target.code][0].StudyInstanceUID
    # Objects state their time of creation. The time of saving the findings is used, so that equal
    # findings give equal bytes.
    saved = int((findings_folder / "findings.json").stat().st_mtime)
    context = ObjectContext(
        findings=findings,
        assay=assay,
        sources=sources.headers,
        algorithms=_algorithms(findings),
        settings=settings.objects,
        created=datetime.fromtimestamp(saved, tz=UTC),
        seed=f"{findings_key}|{saved}|{software}|{_libraries()}|{study_uid}",
        software=software,
    )
    slides = [index_entry("WSM", file, store.root) for file in sources.converted]
    with store.writing(key) as folder:
        written = _write_all(folder, findings_folder, context, read_reports(previous, settings))
        place = store.path(key).relative_to(store.root)
        results = [
            replace(index_entry(kind, file, store.root), path=str(place / file.name))
            for kind, file in written
        ]
        contents = {
            "made_from": made_from,
            "notes": sources.notes,
            "study": None if sources.study is None else sources.study.as_json(),
            "objects": [asdict(entry) for entry in (*slides, *results)],
        }
        (folder / INDEX_NAME).write_text(json.dumps(contents, indent=2) + "\n")
    return str(key)


def _libraries() -> str:
    """Versions of the libraries that shape the bytes."""
    return ",".join(f"{name} {version(name)}" for name in ("highdicom", "pydicom"))


def _write_all(
    folder: Path, findings_folder: Path, context: ObjectContext, predecessors: Sequence[Dataset]
) -> list[tuple[str, Path]]:
    """Write overlays, report, page and optional objects; return (kind, file) in sending order."""
    written = write_overlays(folder, context)
    segmentations = [
        dcmread(file, stop_before_pixels=True) for kind, file in written if kind == "SEG"
    ]
    report = structured_report(context, segmentations, predecessors)
    he, ihc = load_pictures(findings_folder)
    page = build_page(
        context.findings,
        context.assay,
        he_thumbnail=he,
        ihc_thumbnail=ihc,
        created=context.created,
        software=context.software,
    )
    (folder / PAGE_NAME).write_bytes(page)
    for kind, dataset in [("SR", report), *optional_objects(context, page, report)]:
        written.append((kind, folder / f"{kind.lower()}.dcm"))
        dataset.save_as(written[-1][1], enforce_file_format=True)
    return written


def _algorithms(findings: Findings) -> dict[str, AlgorithmFacts]:
    return {
        model.task: AlgorithmFacts(
            name=f"Tandem {model.task}: {model.name}",
            version=model.version,
            weights_sha256=model.sha256,
        )
        for model in findings.models
    }
