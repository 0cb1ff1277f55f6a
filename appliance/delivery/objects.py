"""From `Findings` to DICOM objects: slides (where the scanner wrote none), overlays, SR, the page.

All objects of a case lie in one artifact with an index, ``objects.json``; the outbox reads that.
UIDs come from the content: the same findings make the same bytes under the same UIDs, and changed
findings are new objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from appliance.analysis.findings import Findings, load_findings
from appliance.analysis.overlay import load_thumbnail
from appliance.analysis.slide_files import slide_files
from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.optional import optional_objects
from appliance.delivery.overlays import Making, write_overlays
from appliance.delivery.page import build_page
from appliance.delivery.structured_report import structured_report
from appliance.domain import UNIDENTIFIED, SlideFacts, Stain
from appliance.settings import Settings
from dicom.header import read_headers, study_start
from dicom.segmentation import AlgorithmFacts
from dicom.source import ENCODED_AGAIN, SlideIdentity, convert_slide
from dicom.uids import deterministic_uid

NOTE_NAME, PAGE_NAME, INDEX_NAME = "note.txt", "report.pdf", "objects.json"
SCANNED_NAME = "scanned.txt"
SLOWER = "(slower and lossy once more; with libturbojpeg0, JPEG tiles stay as they are)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFile:
    """One DICOM file of a case; `path` is relative to the artifacts folder.

    `kind` is WSM, SEG, PM, SR, PDF, SC or ANN; `note` says what an operator should know of how it
    came about.
    """

    kind: str
    path: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    note: str = ""


def write_objects(findings_key: str, settings: Settings, previous: str = "") -> str:
    """Write all objects of a case; returns the key of the artifact with ``objects.json``.

    `previous` is the key of the objects that the case has already: those of the same findings stay,
    and the report of others is named as the new one's predecessor.

    Raises
    ------
    dicom.errors.DicomError
        If a slide cannot be converted or the findings make no valid object.
    """
    store = ArtifactStore(settings.artifacts_dir)
    findings_folder = store.path(ArtifactKey.parse(findings_key))
    software = version("tandem-her2")
    made_from = {
        "findings": findings_key,
        "software": software,
        "objects": settings.objects.model_dump(),
    }
    if previous and _made_from(previous, store) == made_from:
        return previous
    key = ArtifactKey.of("objects", **made_from, previous=previous)
    if store.exists(key):
        return str(key)
    findings = load_findings(findings_folder)
    slides = {Stain.HE: findings.he, Stain.HER2: findings.ihc}
    known = {stain: _known(facts, store) for stain, facts in slides.items()}
    sources = {stain: read_headers(files) for stain, (_, files) in known.items() if files}
    scanned = {stain: when for stain, (when, _) in known.items()}
    study = _study(findings, sources, min(scanned.values()))
    objects = []
    for stain, facts in slides.items():
        if stain not in sources:
            files = _converted(facts, stain, findings, study, scanned[stain], store)
            sources[stain] = read_headers(files)
            note = (files[0].parent / NOTE_NAME).read_text()
            objects += [_index("WSM", file, store.root, note) for file in files]
    # The objects say when they were made; equal findings must make equal bytes, so that is when
    # the findings were saved.
    saved = (findings_folder / "findings.json").stat().st_mtime
    created = datetime.fromtimestamp(int(saved), tz=UTC)
    libraries = ",".join(f"{name} {version(name)}" for name in ("highdicom", "pydicom"))
    seed = f"{findings_key}|{int(saved)}|{software}|{libraries}"
    with store.writing(key) as folder:
        making = Making(
            findings=findings,
            sources=sources,
            algorithms=_algorithms(findings),
            settings=settings.objects,
            created=created,
            seed=seed,
            software=software,
        )
        written = write_overlays(folder, making)
        segmentations = [
            dcmread(file, stop_before_pixels=True) for kind, file in written if kind == "SEG"
        ]
        report = structured_report(making, segmentations, _reports(previous, settings))
        page = build_page(
            findings,
            he_thumbnail=load_thumbnail(findings_folder / "he_thumbnail.png"),
            ihc_thumbnail=load_thumbnail(findings_folder / "ihc_thumbnail.png"),
            created=created,
            software=software,
        )
        (folder / PAGE_NAME).write_bytes(page)
        for kind, dataset in [("SR", report), *optional_objects(making, page, report)]:
            written.append((kind, folder / f"{kind.lower()}.dcm"))
            dataset.save_as(written[-1][1], enforce_file_format=True)
        for kind, file in written:
            final = store.path(key) / file.name
            entry = _index(kind, file, store.root)
            objects.append(
                ObjectFile(**asdict(entry) | {"path": str(final.relative_to(store.root))})
            )
        index = {"made_from": made_from, "objects": [asdict(entry) for entry in objects]}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")
    return str(key)


def read_findings_key(objects_key: str, settings: Settings) -> str:
    """The key of the findings that a case's objects were made from."""
    made_from = _made_from(objects_key, ArtifactStore(settings.artifacts_dir))
    return str(made_from["findings"])


def _made_from(objects_key: str, store: ArtifactStore) -> dict[str, Any]:
    """What a case's objects were made from."""
    text = (store.path(ArtifactKey.parse(objects_key)) / INDEX_NAME).read_text()
    made_from: dict[str, Any] = json.loads(text)["made_from"]
    return made_from


def _reports(objects_key: str, settings: Settings) -> list[Dataset]:
    """The report among a case's objects."""
    if not objects_key:
        return []
    return [
        dcmread(settings.artifacts_dir / item.path)
        for item in read_index(objects_key, settings)
        if item.kind == "SR"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    """The study of a case, and whose it is."""

    uid: str
    started: datetime
    patient_id: str = ""
    patient_name: str = ""


def _study(findings: Findings, sources: Mapping[Stain, list[Dataset]], scanned: datetime) -> _Study:
    """The study that the scanner opened, where it wrote DICOM; else one per accession."""
    for stain in (Stain.HER2, Stain.HE):
        if stain in sources:
            header = sources[stain][0]
            return _Study(
                uid=str(header.StudyInstanceUID),
                started=study_start(header) or scanned,
                patient_id=str(header.PatientID or ""),
                patient_name=str(header.PatientName or ""),
            )
    if findings.accession == UNIDENTIFIED:
        # Two unknown pairs are not one study.
        uid = deterministic_uid("study", findings.he.fingerprint, findings.ihc.fingerprint)
    else:
        uid = deterministic_uid("study", findings.accession)
    return _Study(uid=uid, started=scanned)


def _known(facts: SlideFacts, store: ArtifactStore) -> tuple[datetime, list[Path]]:
    """When a slide was scanned, and its headers where it is DICOM: an artifact, because scanners'
    folders are cleared, and a correction may come after that."""
    key = ArtifactKey.of("source", slide=facts.fingerprint)
    if not store.exists(key):
        path = Path(facts.path)
        with store.writing(key) as folder:
            # When the scanner wrote the file: headers' own dates have no time zone.
            (folder / SCANNED_NAME).write_text(str(int(path.stat().st_mtime)))
            headers = read_headers(slide_files(path)) if facts.is_dicom else []
            for number, header in enumerate(headers):
                header.save_as(folder / f"{number:02d}.dcm", enforce_file_format=True)
    folder = store.path(key)
    scanned = datetime.fromtimestamp(int((folder / SCANNED_NAME).read_text()), tz=UTC)
    return scanned, sorted(folder.glob("*.dcm"))


def read_index(objects_key: str, settings: Settings) -> list[ObjectFile]:
    """The objects of a case, in the order of sending: slides first, then results."""
    store = ArtifactStore(settings.artifacts_dir)
    text = (store.path(ArtifactKey.parse(objects_key)) / INDEX_NAME).read_text()
    return [ObjectFile(**entry) for entry in json.loads(text)["objects"]]


def _converted(
    facts: SlideFacts,
    stain: Stain,
    findings: Findings,
    study: _Study,
    scanned: datetime,
    store: ArtifactStore,
) -> list[Path]:
    """The slide as VL WSM instances: an artifact of its own, kept across re-runs."""
    key = ArtifactKey.of(
        "wsm",
        slide=facts.fingerprint,
        accession=findings.accession,
        block=findings.block,
        study=asdict(study),
        scanned=scanned,
    )
    if not store.exists(key):
        identity = SlideIdentity(
            accession=findings.accession,
            block=findings.block,
            stain=stain.value,
            container_id=f"{findings.accession}-{findings.block}-{stain.value}",
            study_uid=study.uid,
            fingerprint=facts.fingerprint,
            scanned=scanned,
            study_started=study.started,
            patient_id=study.patient_id,
            patient_name=study.patient_name,
        )
        with store.writing(key) as folder:
            done = convert_slide(Path(facts.path), folder, identity, mpp=facts.mpp)
            slower = f"{stain.value} slide to DICOM: {done.how} {SLOWER}"
            note = slower if done.how == ENCODED_AGAIN else ""
            (folder / NOTE_NAME).write_text(note)
    return sorted(store.path(key).glob("*.dcm"))


def _index(kind: str, file: Path, root: Path, note: str = "") -> ObjectFile:
    header = dcmread(file, stop_before_pixels=True)
    return ObjectFile(
        kind=kind,
        path=str(file.relative_to(root)),
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        note=note,
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
