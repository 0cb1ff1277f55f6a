"""The slides of a case as DICOM: as the scanner wrote them, else converted into the case's study.

The study is the one that the scanner opened, else the one of the worklist's order, else our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydicom import Dataset

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.orders import order_of
from appliance.domain import HE, HER2, UNIDENTIFIED, SlideFacts, Stain
from appliance.findings.findings import Findings
from appliance.settings.settings import Settings
from appliance.slides.files import slide_files
from dicom.header import read_headers
from dicom.source import ENCODED_AGAIN, SlideIdentity, convert_slide
from dicom.study import StudyFacts, study_of
from dicom.uids import deterministic_uid

NOTE_NAME, SCANNED_NAME = "note.txt", "scanned.txt"
SLOWER = "(slower and lossy once more; with libturbojpeg0, JPEG tiles stay as they are)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Headers of both slides' volume images, level 0 first; files that we `converted`, to be sent;
    `notes` on how that went, for the operator."""

    headers: Mapping[Stain, list[Dataset]]
    converted: tuple[Path, ...]
    notes: tuple[str, ...]
    study: StudyFacts | None
    """What was converted lies in it."""


def slide_sources(
    findings: Findings, settings: Settings, kept: StudyFacts | None = None
) -> Sources:
    """Both slides, converted where the scanner wrote no DICOM. `kept` is the study that the case's
    former objects were converted into.

    Raises
    ------
    dicom.errors.DicomError
        If a slide cannot be converted.
    WorklistUnavailableError
        If a worklist is set and cannot be asked.
    """
    store = ArtifactStore(settings.artifacts_dir)
    slides = {HE: findings.he, HER2: findings.ihc}
    known = {stain: _known(facts, store) for stain, facts in slides.items()}
    headers = {stain: read_headers(files) for stain, (_, files) in known.items() if files}
    missing = [stain for stain in slides if stain not in headers]
    if not missing:
        return Sources(headers=headers, converted=(), notes=(), study=None)
    study, note = _study(findings, headers, kept, settings)
    if study.started is None:
        first = min(scanned for scanned, _ in known.values())
        study = replace(study, started=_started(study.uid, first, store))
    notes, converted = [note], []
    for stain in missing:
        scanned, _ = known[stain]
        folder = _converted(slides[stain], stain, findings, study, scanned, settings)
        files = sorted(folder.glob("*.dcm"))
        headers[stain] = read_headers(files)
        converted += files
        notes.append((folder / NOTE_NAME).read_text())
    return Sources(
        headers=headers,
        converted=tuple(converted),
        notes=tuple(note for note in notes if note),
        study=study,
    )


def _started(study_uid: str, scanned: datetime, store: ArtifactStore) -> datetime:
    """When the first slide that was converted into a study was scanned: all its blocks say that."""
    key = ArtifactKey.of("study", uid=study_uid)
    if not store.exists(key):
        with store.writing(key) as folder:
            (folder / SCANNED_NAME).write_text(scanned.isoformat())
    return datetime.fromisoformat((store.path(key) / SCANNED_NAME).read_text())


def _study(
    findings: Findings,
    headers: Mapping[Stain, list[Dataset]],
    kept: StudyFacts | None,
    settings: Settings,
) -> tuple[StudyFacts, str]:
    for stain in (HER2, HE):
        if stain in headers:
            return study_of(headers[stain][0]), ""
    if kept is not None:
        return kept, ""
    if findings.accession == UNIDENTIFIED:
        # Two unknown pairs are not one study.
        uid = deterministic_uid("study", findings.he.fingerprint, findings.ihc.fingerprint)
        return StudyFacts(uid=uid), ""
    order, note = order_of(findings.accession, settings)
    return order or StudyFacts(uid=deterministic_uid("study", findings.accession)), note


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


def _converted(
    facts: SlideFacts,
    stain: Stain,
    findings: Findings,
    study: StudyFacts,
    scanned: datetime,
    settings: Settings,
) -> Path:
    """Folder of the slide's VL WSM instances: an artifact of its own, kept across re-runs."""
    store = ArtifactStore(settings.artifacts_dir)
    with_label = settings.objects.label_images
    key = ArtifactKey.of(
        "wsm",
        slide=facts.fingerprint,
        accession=findings.accession,
        block=findings.block,
        study=asdict(study),
        scanned=scanned,
        with_label=with_label,
    )
    if not store.exists(key):
        identity = SlideIdentity(
            accession=findings.accession,
            block=findings.block,
            stain=stain,
            container_id=f"{findings.accession}-{findings.block}-{stain}",
            study=study,
            fingerprint=facts.fingerprint,
            scanned=scanned,
        )
        with store.writing(key) as folder:
            done = convert_slide(
                Path(facts.path), folder, identity, mpp=facts.mpp, with_label=with_label
            )
            slower = f"{stain} slide to DICOM: {done.how} {SLOWER}"
            (folder / NOTE_NAME).write_text(slower if done.how == ENCODED_AGAIN else "")
    return store.path(key)
