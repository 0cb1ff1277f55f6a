"""Slides of a case as DICOM: as the scanner wrote them, else converted into the case's study.

The study is the one that the scanner opened, else that of the worklist's order, else the
appliance's own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.assay import Assay
from appliance.delivery.frozen import freeze_source, same_source
from appliance.delivery.index import STAND_IN
from appliance.delivery.orders import former_specimens, order_of, ordered_specimen
from appliance.delivery.retired import headers_of, is_retired
from appliance.domain import UNIDENTIFIED, SlideFacts, Stain
from appliance.findings.findings import Findings
from appliance.settings.identify import Writing
from appliance.settings.installation import installation_salt
from appliance.settings.settings import Settings
from appliance.slides.general import pyramid_of
from appliance.slides.header import BOUNDED
from appliance.slides.places import place_of
from dicom.errors import ObjectError
from dicom.header import read_headers
from dicom.order import OrderedSpecimen
from dicom.source import ENCODED_AGAIN, SlideIdentity, convert_slide
from dicom.study import StudyFacts, study_of, with_accession
from dicom.times import zone_at
from dicom.uids import deterministic_uid

NOTE_NAME, STARTED_NAME, ZONE_NAME = "note.txt", "scanned.txt", "zone.txt"
SLOWER = "(slower, and lossy once more)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Slides of a case as DICOM.

    `headers` are those of the volume images of each slide, level 0 first. `converted` are the files
    that the appliance converted and has to send, `scanned` the headers of slides that are DICOM.
    `notes` tell the operator how the conversion went.
    """

    headers: Mapping[Stain, list[Dataset]]
    converted: tuple[Path, ...]
    scanned: tuple[Path, ...]
    notes: tuple[str, ...]
    study: StudyFacts | None
    """Study of the converted files; None where no slide was converted."""


def slide_sources(
    findings: Findings,
    assay: Assay,
    settings: Settings,
    kept: StudyFacts | None = None,
    *,
    before: Collection[str] = (),
    convert: bool = False,
) -> Sources:
    """Return both slides, converted where the scanner wrote no DICOM.

    `kept` is the study into which the slides of the case's former objects were converted, `before`
    the keys of these slides: one that is damaged gets the same bytes again. With
    `convert`, a slide is converted again that retention removed; else its headers stand for it.

    Raises
    ------
    dicom.errors.DicomError
        If a slide cannot be converted.
    WorklistUnavailableError
        If a worklist is set and cannot be queried.
    SlideError, SourceChangedError
        If a slide has to be converted, and its file is gone or another one by now.
    ArtifactDamagedError
        If what is stored of a slide was damaged; the next attempt makes it.
    """
    store = ArtifactStore(settings.artifacts_dir)
    slides = {assay.anatomy.code: findings.he, assay.target.code: findings.ihc}
    known = {stain: freeze_source(facts, store) for stain, facts in slides.items()}
    headers = {stain: read_headers(files) for stain, (_, files) in known.items() if files}
    scanned = tuple(file for _, files in known.values() for file in files)
    missing = [stain for stain in slides if stain not in headers]
    if not missing:
        said = _two_studies(headers)
        return Sources(headers=headers, converted=(), scanned=scanned, notes=said, study=None)
    study, note = _study(findings, assay, headers, kept, settings)
    if study.started is None:
        first = min(scanned for scanned, _ in known.values())
        study = replace(study, started=_started(study.uid, first, store))
    if not study.zone and study.started is not None:
        study = replace(study, zone=_zone(study.uid, study.started, store))
    stated = _stated(findings.accession, study, headers, settings)
    notes, converted = [note], []
    for stain in missing:
        slide = slides[stain], stain, known[stain][0]
        folder = _converted(slide, findings, (stated, before), settings, convert)
        files = sorted(folder.glob("*.dcm"))
        headers[stain] = read_headers(files)
        converted += files
        notes.append((folder / NOTE_NAME).read_text())
    return Sources(
        headers=headers,
        converted=tuple(converted),
        scanned=scanned,
        notes=tuple(note for note in notes if note),
        study=study,
    )


def _started(study_uid: str, scanned: datetime, store: ArtifactStore) -> datetime:
    """Time of scan of the first slide converted into a study; all blocks of the study state it."""
    key = ArtifactKey.of("study", uid=study_uid)
    if not store.has(key):
        with store.writing(key) as folder:
            (folder / STARTED_NAME).write_text(scanned.isoformat())
    return datetime.fromisoformat((store.path(key) / STARTED_NAME).read_text())


def _zone(study_uid: str, started: datetime, store: ArtifactStore) -> str:
    """Zone of a study's times: the machine's when it was first asked for, whatever that is now.

    With another one, slides would be converted and sent again, and the study contradict itself.
    """
    if not (of_machine := zone_at(started)):
        return ""
    # An artifact of its own, so that studies of earlier editions get one, too.
    key = ArtifactKey.of("study", uid=study_uid, states="zone")
    if not store.has(key):
        with store.writing(key) as folder:
            (folder / ZONE_NAME).write_text(of_machine)
    return (store.path(key) / ZONE_NAME).read_text()


def _study(
    findings: Findings,
    assay: Assay,
    headers: Mapping[Stain, list[Dataset]],
    kept: StudyFacts | None,
    settings: Settings,
) -> tuple[StudyFacts, str]:
    for stain in (assay.target.code, assay.anatomy.code):
        if stain in headers:
            return study_of(headers[stain][0]), ""
    if kept is not None:
        return kept, ""
    salt = installation_salt(settings.state_dir)
    if findings.accession == UNIDENTIFIED:
        # Pairs without accession must not share a study.
        of_pair = (findings.he.fingerprint, findings.ihc.fingerprint)
        return _own_study(salt, of_pair, settings), ""
    order, note = order_of(findings.accession, settings)
    if order is None:
        return _own_study(salt, (findings.accession,), settings), note
    if order.patient_id or settings.identify.without_patient != "stand-in":
        return order, note
    return replace(order, patient_id=_stand_in(salt, (findings.accession,))), note


def _own_study(salt: str, parts: tuple[str, ...], settings: Settings) -> StudyFacts:
    """Return a study of the appliance, which is that of no other installation.

    Slides that an earlier edition converted lie in a study without salt; later blocks of their
    accession join it.
    """
    unsalted = deterministic_uid("study", *parts)
    store = ArtifactStore(settings.artifacts_dir)
    known = store.has(ArtifactKey.of("study", uid=unsalted))
    uid = unsalted if known else deterministic_uid("study", salt, *parts)
    stand_in = settings.identify.without_patient == "stand-in"
    return StudyFacts(uid=uid, patient_id=_stand_in(salt, parts) if stand_in else "")


def _stand_in(salt: str, parts: tuple[str, ...]) -> str:
    """Return a Patient ID in place of an unknown one: equal for all slides of an accession."""
    digest = hashlib.sha256("\0".join((salt, *parts)).encode()).digest()
    return f"{STAND_IN}{base64.b32encode(digest[:10]).decode()}"


def as_written(
    accession: str, headers: Mapping[Stain, Sequence[Dataset]], writing: Writing | None
) -> str:
    """Return an accession in the writing of the study's header, where that is the same one.

    It is, by the site's rule of `writing`, whatever its separators are. None: also with others and
    other leading zeros, as earlier editions compared.
    """
    for images in headers.values():
        written = str(images[0].get("AccessionNumber") or "").strip()
        if _plain(written, writing) == _plain(accession, writing):
            return written
    return accession


def _plain(accession: str, writing: Writing | None) -> str:
    """Return an accession without what makes no other one of it."""
    if writing is None:
        return re.sub(r"[\W_]|(?<!\d)0+(?=\d)", "", accession.casefold())
    return writing.of_accession(re.sub(r"[\W_]", "-", accession.strip()))


def _stated(
    identified: str, study: StudyFacts, headers: Mapping[Stain, list[Dataset]], settings: Settings
) -> list[tuple[str, StudyFacts]]:
    """Return accession and study of converted slides as earlier editions stated them, and today's.

    Today the Accession Number is that of the header whose study they join, as all of its objects
    have it. The accession is in the identifiers of the specimens.
    """
    former, today = (
        as_written(identified, headers, rule) for rule in (None, settings.identify.writing)
    )
    of_header = study
    for images in headers.values():
        if str(images[0].get("AccessionNumber") or "").strip() != today:
            of_header = with_accession(study, images[0])
    return [(former, study), (today, of_header)]


def _two_studies(headers: Mapping[Stain, list[Dataset]]) -> tuple[str, ...]:
    """Return a note where the scanner put the slides of a case into two studies."""
    if len({str(images[0].StudyInstanceUID) for images in headers.values()}) == 1:
        return ()
    return ("the scanner put the two slides into two studies: results lie in that of their slide",)


def _converted(
    slide: tuple[SlideFacts, Stain, datetime],
    findings: Findings,
    into: tuple[Sequence[tuple[str, StudyFacts]], Collection[str]],
    settings: Settings,
    convert: bool,
) -> Path:
    """Folder of the slide's VL WSM instances: a separate artifact, reused by later runs.

    `slide` are its facts, its stain and the time of its scan; `into` the accession and the study
    as earlier editions stated them and as today's, and the keys of the slides that were converted
    before.
    """
    facts, stain, scanned = slide
    stated, before = into
    store = ArtifactStore(settings.artifacts_dir)
    place = findings.accession, findings.block, stain, settings
    specimens = [*former_specimens(*place), ordered_specimen(*place)]
    depends_on = {
        "slide": facts.fingerprint,
        "block": findings.block,
        "scanned": scanned,
        "with_label": settings.objects.label_images,
        "stain": stain,
        "mpp": facts.mpp,
        # Former editions cropped these to their bounds.
        "version": 3 if facts.format in BOUNDED else 2,
    }
    found = _converted_into(stated, before, depends_on, specimens, store)
    accession, study, specimen, key = found
    container = f"{findings.accession}-{findings.block}-{stain}"
    identity = SlideIdentity(
        accession=accession,
        block=findings.block,
        stain=stain,
        container_id=(specimen.container_id if specimen else "") or container,
        specimen_id=specimen.specimen_id if specimen else "",
        study=study,
        fingerprint=facts.fingerprint,
        scanned=scanned,
    )
    if not convert and is_retired(key, store) and store.has(headers_of(key)):
        return store.path(headers_of(key))
    if not store.has(key):
        with store.writing(key) as folder:
            path = place_of(facts.path)
            with same_source(facts, store), pyramid_of(path) as pyramid:
                done = convert_slide(
                    path,
                    folder,
                    identity,
                    mpp=facts.mpp,
                    with_label=settings.objects.label_images,
                    pyramid=pyramid,
                    max_bytes=int(settings.objects.max_slide_mib * 2**20),
                )
            _check_whole(done.paths, facts)
            slower = f"{stain} slide to DICOM: {done.how} {SLOWER}"
            (folder / NOTE_NAME).write_text(slower if done.how == ENCODED_AGAIN else "")
    return store.path(key)


def _check_whole(paths: Sequence[Path], facts: SlideFacts) -> None:
    """Raise ObjectError unless level 0 of converted files has the size of the slide that was
    read."""
    base = read_headers(paths)[0]
    size = int(base.TotalPixelMatrixColumns), int(base.TotalPixelMatrixRows)
    if size != (facts.width_px, facts.height_px):
        raise ObjectError(
            f"the converted slide has {size[0]} x {size[1]} px, and the slide's file "
            f"{facts.width_px} x {facts.height_px}; results would lie beside the tissue. Export "
            "DICOM on the scanner, or report the slide's format."
        )


def _converted_into(
    stated: Sequence[tuple[str, StudyFacts]],
    before: Collection[str],
    depends_on: Mapping[str, Any],
    specimens: Sequence[OrderedSpecimen | None],
    store: ArtifactStore,
) -> tuple[str, StudyFacts, OrderedSpecimen | None, ArtifactKey]:
    """Return the accession, the study and the specimen that a converted slide states, and its key.

    `specimens` are those by former orders, and the one of today. A slide that was converted
    before its specimen was known, or known in full, or by an edition that wrote no zone or
    another accession, or that filled what the header of the study leaves open, stays as it was
    sent, also where its file is gone.
    """
    candidates = []
    for accession, facts in ((n, each) for n, study in stated for each in (study.filled(), study)):
        unzoned = replace(facts, zone="")
        for of_order in (None, *specimens):
            of_specimen = {} if of_order is None else {"specimen": asdict(of_order)}
            for into in (unzoned, facts):
                of_zone = {"zone": into.zone} if into.zone else {}
                key = ArtifactKey.of(
                    "wsm",
                    **depends_on,
                    accession=accession,
                    study=unzoned.stated(),
                    **of_specimen,
                    **of_zone,
                )
                candidates.append((accession, into, of_order, key))
    there = (
        each for each in candidates if store.path(each[3]).is_dir() or is_retired(each[3], store)
    )
    named = (each for each in candidates if str(each[3]) in before)
    return next(there, next(named, candidates[-1]))
