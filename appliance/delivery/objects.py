"""From `Findings` to DICOM objects: slides (where the scanner wrote none), SEG and SR.

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

import numpy as np
from pydicom import Dataset, dcmread

from appliance.analysis.findings import CLASS_NAMES, MARGIN, RESEARCH_USE, Findings, load_findings
from appliance.analysis.guideline import load_guideline
from appliance.analysis.slide_files import slide_files
from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import UNIDENTIFIED, SlideFacts, Stain
from appliance.settings import Settings
from dicom import codes
from dicom.report import ReportFacts, build_report
from dicom.segmentation import AlgorithmFacts, SegmentFacts, build_segmentation
from dicom.source import ENCODED_AGAIN, SlideIdentity, convert_slide, read_headers
from dicom.uids import deterministic_uid

MAX_ROIS = 5
"""So many of the largest blocks of tiles that decided the score are outlined in the report."""

NOTE_NAME = "note.txt"
SLOWER = "(slower and lossy once more; with libturbojpeg0, JPEG tiles stay as they are)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFile:
    """One DICOM file of a case; `path` is relative to the artifacts folder, `kind` WSM, SEG, SR.

    `note` says what an operator should know of how it came about.
    """

    kind: str
    path: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    note: str = ""


def write_objects(findings_key: str, settings: Settings) -> str:
    """Write all objects of a case; returns the key of the artifact with ``objects.json``.

    Raises
    ------
    dicom.errors.DicomError
        If a slide cannot be converted or the findings make no valid object.
    """
    store = ArtifactStore(settings.artifacts_dir)
    findings_folder = store.path(ArtifactKey.parse(findings_key))
    software = version("tandem-her2")
    key = ArtifactKey.of("objects", findings=findings_key, software=software)
    if store.exists(key):
        return str(key)
    findings = load_findings(findings_folder)
    slides = {Stain.HE: findings.he, Stain.HER2: findings.ihc}
    sources = {
        stain: read_headers(slide_files(Path(facts.path)))
        for stain, facts in slides.items()
        if facts.is_dicom
    }
    study_uid = _study_uid(findings, sources)
    started = min(_scanned(facts) for facts in slides.values())
    objects = []
    for stain, facts in slides.items():
        if stain not in sources:
            files = _converted(facts, stain, findings, study_uid, started, store)
            sources[stain] = read_headers(files)
            note = (files[0].parent / NOTE_NAME).read_text()
            objects += [_index("WSM", file, store.root, note) for file in files]
    # The objects say when they were made; equal findings must make equal bytes, so that is when
    # the findings were saved.
    saved = (findings_folder / "findings.json").stat().st_mtime
    created = datetime.fromtimestamp(int(saved), tz=UTC)
    seed = f"{findings_key}|{int(saved)}|{software}"
    with store.writing(key) as folder:
        written = _results(findings, sources, created, seed, software)
        for number, (kind, dataset) in enumerate(written):
            file = folder / f"{number:02d}-{kind.lower()}.dcm"
            dataset.save_as(file, enforce_file_format=True)
            final = store.path(key) / file.name
            entry = _index(kind, file, store.root)
            objects.append(
                ObjectFile(**asdict(entry) | {"path": str(final.relative_to(store.root))})
            )
        index = [asdict(entry) for entry in objects]
        (folder / "objects.json").write_text(json.dumps(index, indent=2) + "\n")
    return str(key)


def _study_uid(findings: Findings, sources: Mapping[Stain, list[Dataset]]) -> str:
    """The study that the scanner opened, where it wrote DICOM; else one per accession."""
    for stain in (Stain.HER2, Stain.HE):
        if stain in sources:
            return str(sources[stain][0].StudyInstanceUID)
    if findings.accession == UNIDENTIFIED:
        # Two unknown pairs are not one study.
        return deterministic_uid("study", findings.he.fingerprint, findings.ihc.fingerprint)
    return deterministic_uid("study", findings.accession)


def read_index(objects_key: str, settings: Settings) -> list[ObjectFile]:
    """The objects of a case, in the order of sending: slides first, then results."""
    store = ArtifactStore(settings.artifacts_dir)
    text = (store.path(ArtifactKey.parse(objects_key)) / "objects.json").read_text()
    return [ObjectFile(**entry) for entry in json.loads(text)]


def _converted(
    facts: SlideFacts,
    stain: Stain,
    findings: Findings,
    study_uid: str,
    started: datetime,
    store: ArtifactStore,
) -> list[Path]:
    """The slide as VL WSM instances: an artifact of its own, kept across re-runs."""
    key = ArtifactKey.of(
        "wsm",
        slide=facts.fingerprint,
        accession=findings.accession,
        block=findings.block,
        study=study_uid,
        started=started,
    )
    if not store.exists(key):
        identity = SlideIdentity(
            accession=findings.accession,
            block=findings.block,
            stain=stain.value,
            container_id=f"{findings.accession}-{findings.block}-{stain.value}",
            study_uid=study_uid,
            fingerprint=facts.fingerprint,
            scanned=_scanned(facts),
            study_started=started,
        )
        with store.writing(key) as folder:
            done = convert_slide(Path(facts.path), folder, identity, mpp=facts.mpp)
            slower = f"{stain.value} slide to DICOM: {done.how} {SLOWER}"
            note = slower if done.how == ENCODED_AGAIN else ""
            (folder / NOTE_NAME).write_text(note)
    return sorted(store.path(key).glob("*.dcm"))


def _scanned(facts: SlideFacts) -> datetime:
    """When the scanner wrote the file: headers' own dates have no time zone."""
    return datetime.fromtimestamp(int(Path(facts.path).stat().st_mtime), tz=UTC)


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


def _results(
    findings: Findings,
    sources: Mapping[Stain, list[Dataset]],
    created: datetime,
    seed: str,
    software: str,
) -> list[tuple[str, Dataset]]:
    algorithms = {
        model.task: AlgorithmFacts(
            name=f"Tandem {model.task}: {model.name}",
            version=model.version,
            weights_sha256=model.sha256,
        )
        for model in findings.models
    }
    rasters = findings.rasters
    tumor = build_segmentation(
        source_images=sources[Stain.HE],
        label_map=rasters.he_tumor,
        mpp=rasters.he_mpp,
        segments=[
            SegmentFacts(
                number=1,
                label="Tumor",
                category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
                type=codes.NEOPLASM,
                algorithm=algorithms["tumor"],
                cielab=(55, 60, 40),
            )
        ],
        series_description="Tumor on H&E (research use only)",
        content_description=f"Tumor. {RESEARCH_USE}",
        uid_seed=f"{seed}|tumor",
        created=created,
        software=software,
    )
    margin = ", a margin that is not scored included" if (rasters.ihc_read == MARGIN).any() else ""
    stain = build_segmentation(
        source_images=sources[Stain.HER2],
        label_map=rasters.ihc_classes[:],
        mpp=rasters.ihc_mpp,
        segments=[
            SegmentFacts(
                number=number,
                label=f"HER2 {name}",
                category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
                type=codes.NEOPLASM,
                algorithm=algorithms["segmentation"],
                cielab=cielab,
            )
            for number, (name, cielab) in enumerate(
                zip(CLASS_NAMES, SEGMENT_CIELAB, strict=True), start=1
            )
        ],
        series_description="HER2 stain on IHC (research use only)",
        content_description=f"HER2 classes{margin}. {RESEARCH_USE}",
        uid_seed=f"{seed}|stain",
        created=created,
        software=software,
    )
    guideline = load_guideline(findings.guideline)
    report = build_report(
        ReportFacts(
            accession=findings.accession,
            block=findings.block,
            score=None if findings.score is None else findings.score.value,
            estimated=findings.estimated,
            guideline=guideline.title,
            guideline_version=guideline.version,
            rule=findings.rule,
            category="" if findings.category is None else findings.category.value,
            percent_by_class=findings.percent,
            tumor_area_mm2=findings.tumor_area_mm2,
            unscored_tumor_area_mm2=findings.unscored_tumor_area_mm2,
            h_score=findings.h_score,
            paper_score=None if findings.paper_score is None else findings.paper_score.value,
            wsi_percent=findings.wsi_percent,
            comment=findings.comment,
            review_reasons=[reason.sentence for reason in findings.review],
            registration_error_um=findings.alignment.error_um,
            algorithms=list(algorithms.values()),
            roi_polygons_um=[np.array(roi.outline_um) for roi in findings.rois[:MAX_ROIS]],
        ),
        he_images=sources[Stain.HE],
        ihc_images=sources[Stain.HER2],
        segmentations=[*tumor, *stain],
        created=created,
        uid_seed=f"{seed}|report",
        software=software,
    )
    return [*(("SEG", d) for d in tumor), *(("SEG", d) for d in stain), ("SR", report)]


SEGMENT_CIELAB = ((70, -10, -30), (85, 0, 60), (65, 30, 60), (40, 40, 30))
"""Recommended display colours of 0, 1+, 2+, 3+ (L*, a*, b*): blue, yellow, orange, red-brown."""
