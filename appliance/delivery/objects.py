"""DICOM objects of a case: slides (where the scanner wrote no DICOM), overlays, report, page.

All objects of a case lie in one artifact with an index, ``objects.json``, which the outbox reads.
UIDs derive from the content: equal findings give equal bytes under equal UIDs, and changed findings
give new objects. The report of a result that comes back is new, and has a later time than the one
that it replaces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydicom import Dataset, dcmread

from appliance.artifacts import ArtifactKey, ArtifactStore, is_as_written
from appliance.assays.registry import find_assay
from appliance.delivery.context import ObjectContext, algorithm_facts
from appliance.delivery.index import (
    INDEX_NAME,
    ObjectFile,
    index_entry,
    read_reports,
    rejects_any,
    sound_contents,
)
from appliance.delivery.optional import optional_objects
from appliance.delivery.overlays import write_overlays
from appliance.delivery.rejection import rejected_before, retired_by, write_notes
from appliance.delivery.renumbered import renumbered
from appliance.delivery.requests import request_of
from appliance.delivery.retired import is_retired, slide_entry
from appliance.delivery.sources import Sources, slide_sources
from appliance.delivery.standing import correction_of
from appliance.delivery.structured_report import structured_report
from appliance.domain import Stain
from appliance.findings.codec import load_findings, load_pictures
from appliance.findings.findings import Findings
from appliance.settings.installation import installation_name
from appliance.settings.objects import RejectionNote
from appliance.settings.settings import Settings
from dicom.required import fill_required
from dicom.study import StudyFacts

PAGE_NAME = "report.pdf"
EDITION = 6
"""Counted up when the same facts give other objects."""

UNKNOWN = (
    "the list of the case's objects was damaged, and an earlier edition may have written them: an "
    "archive may have overlays of the same findings under other UIDs beside these"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Former:
    """Objects that a case has: `contents` is their index, None where it is damaged or gone.

    `predecessor` is the key of the objects that they replaced. It is None where they were made from
    other facts than today's. `note` is the setting under which they rejected these. `left` is the
    key of the objects of another patient that they left as they are.
    """

    key: str
    contents: dict[str, Any] | None
    predecessor: str | None
    note: RejectionNote = "none"
    left: str = ""


def write_objects(
    findings_key: str,
    settings: Settings,
    previous: str = "",
    *,
    convert: bool = False,
    patient: str = "",
    leaves: str = "",
    before_new: Callable[[], None] | None = None,
) -> str:
    """Write all objects of a case; return the key of the artifact with ``objects.json``.

    `previous` is the key of the objects that the case has. They stay where findings, software and
    object settings are the same; else the new report names their report as its predecessor. Files
    of them that are damaged are written again, with the same bytes; so are, with `convert`,
    converted slides that retention removed. `patient` tells objects apart that are written anew
    for another patient; empty for the first one. `leaves` is the key of the objects of the former
    patient, which they do not replace; they state a later time than these.
    `before_new` is called before objects under another key are written.

    Raises
    ------
    dicom.errors.DicomError
        If a slide cannot be converted, or no valid object can be made from the findings.
    WorklistUnavailableError
        If a worklist is set and cannot be queried.
    ArtifactDamagedError
        If a converted slide was damaged; the next attempt makes it.
    RecordDamagedError
        If the report that the new one replaces is damaged.
    """
    store = ArtifactStore(settings.artifacts_dir)
    made_from = {
        "findings": findings_key,
        "software": version("tandem-her2"),
        # A note is no part of the result: the setting alone gives no new objects.
        "objects": settings.objects.model_dump(exclude={"rejection_note"}),
        **({"patient": patient} if patient else {}),
    }
    former = _former(previous, made_from, settings)
    replaced, note = previous, settings.objects.rejection_note
    if former.predecessor is not None:
        if _all_there(former, store, retired=not convert):
            return previous
        replaced, note, leaves = former.predecessor, former.note, former.left
    sources = _sources(findings_key, former, settings, convert=convert)
    if former.predecessor is not None and is_as_written(store.path(ArtifactKey.parse(previous))):
        if _all_there(former, store, retired=not convert):
            return previous
        # A slide was converted again with other bytes: other libraries are installed now.
        replaced, note, leaves = previous, settings.objects.rejection_note, ""
    key = _key(made_from, replaced, note, leaves)
    if before_new is not None and str(key) != previous:
        before_new()
    if not is_as_written(store.path(key)):
        # Not removed earlier: the index holds a part of what the objects are written from.
        store.discard(key)
        _write(key, made_from, sources, former, (replaced, note, leaves), settings)
    return str(key)


def _key(
    made_from: Mapping[str, Any], replaced: str, note: RejectionNote, leaves: str = ""
) -> ArtifactKey:
    """Return the key of objects that replace those of another key, or leave them; empty for none.

    What they leave is a part of it: they state a later time than these.
    """
    rejecting = {"note": note} if replaced and note != "none" else {}
    leaving = {"leaves": leaves} if leaves else {}
    return ArtifactKey.of("objects", **made_from, previous=replaced, **rejecting, **leaving)


def _former(previous: str, made_from: dict[str, Any], settings: Settings) -> _Former:
    if not previous:
        return _Former(key="", contents=None, predecessor=None)
    contents = sound_contents(previous, settings)
    same = contents is None or contents["made_from"] == made_from
    found = _predecessor(previous, made_from, settings) if same else None
    predecessor, note, left = found or (None, "none", "")
    return _Former(key=previous, contents=contents, predecessor=predecessor, note=note, left=left)


def _predecessor(
    key: str, made_from: dict[str, Any], settings: Settings
) -> tuple[str, RejectionNote, str] | None:
    """Return the key of the objects that objects made from these facts replaced (empty: none), the
    setting under which they rejected them, and the key of those that they left.

    All are found by the key, which depends on them. None, where the key is of other facts.
    """
    known = [f"objects/{folder.name}" for folder in (settings.artifacts_dir / "objects").glob("*")]
    for candidate, note in product(("", *known), get_args(RejectionNote)):
        if str(_key(made_from, candidate, note)) == key:
            return candidate, note, ""
    for left in known:
        if str(_key(made_from, "", "none", left)) == key:
            return "", "none", left
    return None


def _all_there(former: _Former, store: ArtifactStore, *, retired: bool) -> bool:
    """Return whether all files of the objects are what was written.

    Converted slides are artifacts of their own. With `retired`, one that retention removed counts
    as there: it was proven before.
    """
    if former.contents is None:
        return False
    paths = [entry["path"] for entry in former.contents["objects"]]
    keys = {former.key, *(path.rpartition("/")[0] for path in paths)}
    parsed = {key: ArtifactKey.parse(key) for key in keys}
    present = [key for key in keys if not (retired and is_retired(parsed[key], store))]
    whole = all(is_as_written(store.path(parsed[key])) for key in present)
    files = [store.root / path for path in paths if path.rpartition("/")[0] in present]
    return whole and all(file.is_file() for file in files)


def _sources(findings_key: str, former: _Former, settings: Settings, *, convert: bool) -> Sources:
    """Slides of the case as DICOM, converted into the study of its former objects."""
    findings = load_findings(
        ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(findings_key))
    )
    contents = former.contents
    if contents is None and former.predecessor:
        contents = sound_contents(former.predecessor, settings)
    kept = contents["study"] if contents is not None else None
    study = StudyFacts.of_json(kept) if kept else None
    assay = find_assay(findings.assay)
    listed = [entry["path"] for entry in contents["objects"]] if contents is not None else []
    before = {path.rpartition("/")[0] for path in listed}
    return slide_sources(findings, assay, settings, study, before=before, convert=convert)


def _write(
    key: ArtifactKey,
    made_from: dict[str, Any],
    sources: Sources,
    former: _Former,
    replacing: tuple[str, RejectionNote, str],
    settings: Settings,
) -> None:
    """Write the artifact of objects, which replace others and may reject them, or leave others."""
    store, (replaced, note, leaves) = ArtifactStore(settings.artifacts_dir), replacing
    findings_folder = store.path(ArtifactKey.parse(made_from["findings"]))
    edition, saved = _edition(former, replaced), _time_of(findings_folder, former, replaced)
    findings = _as_told(load_findings(findings_folder), edition)
    assay, as_before, of_before = find_assay(findings.assay), edition < 2, edition < 1
    study_uid = sources.headers[assay.target.code][0].StudyInstanceUID
    patient = "" if as_before else str(made_from.get("patient", ""))
    request, said = request_of(findings, assay.target.code, patient, settings, first=not former.key)
    rejects = not of_before and (note != "none" or rejects_any(replaced, settings))
    context = ObjectContext(
        findings=findings,
        assay=assay,
        sources=sources.headers,
        filled=_filled(sources.headers, edition),
        specimens_as_before=edition < 6,
        algorithms={model.task: algorithm_facts(model) for model in findings.models},
        settings=settings.objects,
        created=datetime.fromtimestamp(saved, tz=UTC),
        seed=_seed(made_from, saved, study_uid, patient, replaced if rejects else ""),
        software=made_from["software"],
        request=request,
        as_before=as_before,
        writing=None if findings.as_before else settings.identify.writing,
        installation="" if as_before else installation_name(settings.state_dir),
    )
    unknown = _unknown(former, replaced, context.filled)
    later = _later(context, _stated(saved, former, replaced or leaves, settings))
    slides = [slide_entry(file, store.root) for file in sources.converted]
    with store.writing(key) as folder:
        reports = read_reports(replaced, settings, alone=of_before)
        written = _write_all(folder, findings_folder, context, reports, later)
        results = [_entry(kind, file, Path(str(key)), store.root) for kind, file in written]
        numbered = renumbered("" if as_before else replaced, folder / "sr.dcm", settings)
        retired = _retired(results, replaced, settings, of_before=of_before)
        report = next(entry.sop_instance_uid for entry in results if entry.kind == "SR")
        notes = write_notes(folder, retired, report, note, later, settings)
        results += [_entry(kind, file, Path(str(key)), store.root) for kind, file in notes]
        contents = {
            "made_from": made_from,
            "created": saved,
            "stated": int(later.created.timestamp()),
            **({} if as_before else {"edition": edition}),
            "correction": correction_of(findings),
            "sign_offs": [asdict(sign_off) for sign_off in findings.sign_offs],
            "notes": [*sources.notes, *filter(None, [said, unknown]), *numbered],
            "study": None if sources.study is None else sources.study.as_json(),
            "objects": [asdict(entry) for entry in (*slides, *results)],
            "scanned": [asdict(index_entry("WSM", file, store.root)) for file in sources.scanned],
            **_of_retired(retired, rejects=bool(replaced) and rejects, of_before=of_before),
        }
        (folder / INDEX_NAME).write_text(json.dumps(contents, indent=2) + "\n")


def _as_told(findings: Findings, edition: int) -> Findings:
    """Return findings with the numbers that objects of an edition tell."""
    return replace(findings, as_before=edition < 3, unscored_as_before=edition < 4)


def _filled(headers: Mapping[Stain, Sequence[Dataset]], edition: int) -> dict[Stain, str] | None:
    """Fill in place what headers of slides lack, as objects of an edition have it; return what was
    filled at level 0 of each, None for an edition that filled nothing."""
    if edition < 5:
        return None
    filled = {
        stain: [fill_required(image, as_before=edition < 6) for image in images]
        for stain, images in headers.items()
    }
    return {stain: of_levels[0] for stain, of_levels in filled.items()}


def _retired(
    results: Sequence[ObjectFile], replaced: str, settings: Settings, *, of_before: bool
) -> list[ObjectFile]:
    """Return the objects that results retire, and those that the replaced ones had rejected."""
    rejected = rejected_before(results, "" if of_before else replaced, settings)
    return [*retired_by(results, replaced, settings), *rejected]


def _of_retired(retired: Sequence[ObjectFile], *, rejects: bool, of_before: bool) -> dict[str, Any]:
    """Return what the index tells of objects that are retired, and may be rejected."""
    told = {"retired": [entry.sop_instance_uid for entry in retired]}
    if of_before:
        return told
    return {**told, "rejects": rejects, "rejected": [asdict(e) for e in retired if rejects]}


def _entry(kind: str, file: Path, place: Path, root: Path) -> ObjectFile:
    """Return the index entry of a file of the artifact that will lie at `place` below `root`."""
    return replace(index_entry(kind, file, root), path=str(place / file.name))


def _edition(former: _Former, replaced: str) -> int:
    """Return the edition whose objects are written: `EDITION`, or that of objects that are written
    again.

    These have its UIDs and bytes: an archive may have them. 0 is the edition without ``rejects``,
    1 the one without ``edition`` in the index. 2 told numbers of results without a score, and took
    accessions that look alike for one. 3 told numbers where a person gave no score, and
    Algorithm 1 where nobody did. 4 took the first of several specimens for the case's, and filled
    nothing that a header lacks. 5 took the first whose identifier named the block.
    """
    if not _is_again(former, replaced) or former.contents is None:
        return EDITION
    return int(former.contents.get("edition", 1)) if "rejects" in former.contents else 0


def _is_again(former: _Former, replaced: str) -> bool:
    """Return whether objects that replace those of a key are the former ones, written again."""
    return former.predecessor is not None and replaced == former.predecessor


def _unknown(former: _Former, replaced: str, filled: Mapping[Stain, str] | None) -> str:
    """Return the note on overlays written again of which the damaged index hid the edition."""
    lost = _is_again(former, replaced) and former.contents is None
    return UNKNOWN if lost and any((filled or {}).values()) else ""


def _time_of(findings_folder: Path, former: _Former, replaced: str) -> int:
    """Time of creation that the objects state, in seconds since the epoch.

    It is the time of saving the findings, so that equal findings give equal bytes. Objects that are
    written again keep theirs: the findings may have been made again, too.
    """
    contents = former.contents
    if _is_again(former, replaced) and contents is not None and "created" in contents:
        return int(contents["created"])
    return int((findings_folder / "findings.json").stat().st_mtime)


def _stated(saved: int, former: _Former, replaced: str, settings: Settings) -> int:
    """Return the time that the report and all but the overlays state, in seconds since the epoch.

    It is that of the findings, but later than that of the report that they replace: a result that
    comes back, as weights did, would be taken for the older one.
    """
    if _is_again(former, replaced) and former.contents is not None:
        return int(former.contents.get("stated", saved))
    before = sound_contents(replaced, settings) if replaced else None
    if before is None:
        return saved
    return max(saved, 1 + int(before.get("stated", before.get("created", 0))))


def _later(context: ObjectContext, stated: int) -> ObjectContext:
    """Return the context of objects that state a later time than the findings have.

    Their series are others, too: a series has one time.
    """
    created = datetime.fromtimestamp(stated, tz=UTC)
    if created == context.created:
        return context
    return replace(context, created=created, seed=f"{context.seed}|{stated}")


def _seed(
    made_from: Mapping[str, Any], saved: int, study_uid: str, patient: str, rejected: str
) -> str:
    """Return what the UIDs of all objects derive from.

    The patient is a part of it for objects that are written anew: the study may be that of the
    former one. So are the objects that are `rejected`: a result that comes back after a note
    rejected it would stay hidden under its old UIDs.
    """
    seed = f"{made_from['findings']}|{saved}|{made_from['software']}|{_libraries()}|{study_uid}"
    return "|".join((seed, *filter(None, (patient, rejected))))


def _libraries() -> str:
    """Versions of the libraries that shape the bytes."""
    return ",".join(f"{name} {version(name)}" for name in ("highdicom", "pydicom"))


def _write_all(
    folder: Path,
    findings_folder: Path,
    context: ObjectContext,
    predecessors: Sequence[Dataset],
    later: ObjectContext,
) -> list[tuple[str, Path]]:
    """Write overlays, report, page and optional objects; return (kind, file) in sending order.

    `later` is the context of all but the overlays.
    """
    from appliance.delivery.page import build_page  # slow to load; the daemon does not need it

    written = write_overlays(folder, context)
    segmentations, heatmaps = (
        [dcmread(file, stop_before_pixels=True) for kind, file in written if kind == wanted]
        for wanted in ("SEG", "PM")
    )
    report = structured_report(later, segmentations, heatmaps, predecessors)
    he, ihc = load_pictures(findings_folder)
    page = build_page(
        later.findings,
        later.assay,
        he_thumbnail=he,
        ihc_thumbnail=ihc,
        created=later.created,
        software=later.software,
    )
    (folder / PAGE_NAME).write_bytes(page)
    for kind, dataset in [("SR", report), *optional_objects(later, page, report)]:
        written.append((kind, folder / f"{kind.lower()}.dcm"))
        dataset.save_as(written[-1][1], enforce_file_format=True)
    return written
