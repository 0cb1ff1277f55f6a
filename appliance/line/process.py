"""``tandem process``: steps of the daemon on two files, without daemon and database."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.artifacts import SUMS_NAME, ArtifactKey, ArtifactStore
from appliance.assays.assay import Assay
from appliance.assays.registry import assays, find_assay, tasks, vocabulary
from appliance.delivery.frozen import freeze_source
from appliance.delivery.index import ObjectFile, read_index, read_notes
from appliance.delivery.objects import PAGE_NAME, write_objects
from appliance.domain import UNIDENTIFIED, Identity, QuarantineReason, Stain
from appliance.errors import SettingsError, SlideError, TandemError
from appliance.intake.identity.evidence import Verdict, block_key
from appliance.intake.identity.identify import Identifier, require_identity
from appliance.intake.identity.opened import evidence_in
from appliance.intake.identity.sidecar import read_sidecar
from appliance.intake.patients import contradiction
from appliance.line.analyze_case import analyze_case
from appliance.line.analyze_slide import inspect_slide, open_facts, wrong_picture
from appliance.line.ordered import ordered_for
from appliance.line.outcomes import ReadSlide, StepTime
from appliance.line.whose import stated_by, whose_slide
from appliance.operations.start_checks import require_outside
from appliance.readers.chosen_weights import with_chosen_weights
from appliance.readers.tile_pass import Progress
from appliance.settings.installation import SALT_NAME, installation_salt
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """Findings as JSON, time of each step, objects written, and notes for the operator."""

    summary: dict[str, Any]
    times: tuple[StepTime, ...]
    objects: tuple[ObjectFile, ...]
    notes: tuple[str, ...]


def process_pair(
    he_path: Path,
    ihc_path: Path,
    out_dir: Path,
    settings: Settings,
    *,
    accession: str = "",
    block: str = "",
    assay_name: str = "",
    progress: Progress,
) -> Processed:
    """Score a pair and write findings, DICOM objects and the page as PDF into `out_dir`.

    Raises
    ------
    TandemError
        If a slide cannot be used; its file is named.
    SettingsError
        If `out_dir` cannot be written, or lies in a scanner's folder.
    """
    require_outside(settings, out_dir)
    assay = find_assay(assay_name) if assay_name else _main_assay(settings)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".tandem-", dir=out_dir))
    except OSError as err:
        raise SettingsError(f"--out {out_dir}: {err.strerror}. Choose another folder.") from err
    try:
        # The weights selected in the real state folder apply in the scratch folder, too.
        installed = settings.state_dir
        settings = with_chosen_weights(settings, tasks()).model_copy(update={"state_dir": scratch})
        he, he_times = _inspected(he_path, assay.anatomy.code, settings)
        ihc, ihc_times = _inspected(ihc_path, assay.target.code, settings)
        (scratch / SALT_NAME).write_text(_salt(installed, he, ihc))
        identity = _identity(he_path, ihc_path, settings, assay.target.code, accession, block)
        pair = {assay.anatomy.code: he, assay.target.code: ihc}
        told = _require_one_patient(identity.accession, pair, settings)
        scored = analyze_case(assay.name, identity, he, ihc, settings, progress)
        start = time.perf_counter()
        objects_key = write_objects(scored.key, settings)
        written = StepTime(step="write", seconds=time.perf_counter() - start, reused=False)
        index = read_index(objects_key, settings)
        notes = [*told, *read_notes(objects_key, settings)]
        store = ArtifactStore(settings.artifacts_dir)
        for file in store.path(ArtifactKey.parse(scored.key)).iterdir():
            if file.name != SUMS_NAME:
                shutil.copy2(file, out_dir / file.name)
        for item in index:
            shutil.copy2(
                settings.artifacts_dir / item.path,
                out_dir / f"{item.kind}-{item.sop_instance_uid}.dcm",
            )
        page = store.path(ArtifactKey.parse(objects_key)) / PAGE_NAME
        shutil.copy2(page, out_dir / PAGE_NAME)
        summary = json.loads((out_dir / "findings.json").read_text())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    times = (*he_times, *ihc_times, *scored.times, written)
    return Processed(summary=summary, times=times, objects=tuple(index), notes=tuple(notes))


def _salt(state_dir: Path, he: ReadSlide, ihc: ReadSlide) -> str:
    """Return the salt of the installation; where there is none, one of the pair's own bytes."""
    with suppress(OSError):
        if state_dir.is_dir():
            return installation_salt(state_dir)
    pair = he.facts.fingerprint + ihc.facts.fingerprint
    return hashlib.sha256(pair.encode()).hexdigest()


def _require_one_patient(
    accession: str, slides: Mapping[Stain, ReadSlide], settings: Settings
) -> list[str]:
    """Return what is to be told of the headers of two slides of one patient.

    Raises
    ------
    SettingsError
        If they, or the order, name different patients.
    SlideError
        If a header has an identifier that no result can carry.
    """
    store = ArtifactStore(settings.artifacts_dir)
    orders = ordered_for(accession, settings, vocabulary(settings)).patients
    stated = {
        stain: stated_by(freeze_source(slide.facts, store)[1]) for stain, slide in slides.items()
    }
    patients = {stain: whose_slide(said, orders, settings) for stain, said in stated.items()}
    params = contradiction(patients, settings.patients.merged)
    if params is not None:
        who = f"the {params['stain']} slide and its order" if "source" in params else "the slides"
        raise SettingsError(
            f"{who} name different patients: {params['he']} and {params['ihc']}. Choose slides of "
            "one patient, or declare the IDs to be one: patients.merged in the settings."
        )
    return [f"{stain}: {problem}" for stain, said in stated.items() for problem in said.problems]


def _main_assay(settings: Settings) -> Assay:
    """First expected assay; the first installed one where none is expected."""
    expected = settings.pair.expected_assays
    return find_assay(expected[0]) if expected else assays()[0]


def _inspected(
    path: Path, stain: Stain, settings: Settings
) -> tuple[ReadSlide, tuple[StepTime, ...]]:
    """Inspect a slide.

    Raises
    ------
    TandemError
        If it cannot be used; the file is named: a pair has two.
    """
    try:
        return _of_stain(path, stain, settings)
    except SlideError as err:
        raise TandemError(f"{path}: {err}") from err


def _of_stain(
    path: Path, stain: Stain, settings: Settings
) -> tuple[ReadSlide, tuple[StepTime, ...]]:
    """Inspect a slide; raises SlideError where it holds no tissue or is of another stain."""
    facts = open_facts(path, ArtifactStore(settings.artifacts_dir))
    sidecar = read_sidecar(path)
    outcome = inspect_slide(facts, settings)
    if outcome.tissue_mm2 <= 0:
        raise SlideError(QuarantineReason.NO_TISSUE)
    if detail := wrong_picture(outcome.picture, stain):
        raise SlideError(QuarantineReason.WRONG_PICTURE, f"{detail}; are the files exchanged?")
    slide = ReadSlide(
        facts=facts,
        inspect_key=outcome.key,
        organ=str(sidecar.organ),
        specimen=str(sidecar.specimen),
    )
    return slide, outcome.times


def _identity(
    he_path: Path,
    ihc_path: Path,
    settings: Settings,
    target: Stain,
    accession: str,
    block: str,
) -> Identity:
    """Identity from the options, else from the slides, else `UNIDENTIFIED`.

    A slide without accession, block or known stain is accepted, because the caller chose the files.

    Raises
    ------
    SettingsError
        If the slides are of different accessions or blocks, and no option says which it is.
    """
    ihc, he = (_verdict(path, settings) for path in (ihc_path, he_path))
    apart = _differ(ihc.accession, he.accession) and not accession
    if not (ihc.reason or he.reason or block):  # a block that is in doubt says nothing
        one, other = (block_key(each.block, settings.identify) for each in (ihc, he))
        apart = apart or _differ(one, other)
    if apart:
        told = " and ".join(
            f"{path.name} is of accession {found.accession}, block {found.block or 'unknown'}"
            for path, found in ((he_path, he), (ihc_path, ihc))
        )
        raise SettingsError(
            f"{told}. Choose slides of one block, or say which it is: --accession, --block."
        )
    found = next((each for each in (ihc, he) if each.reason is None), None)
    return Identity(
        accession=accession or (UNIDENTIFIED if found is None else found.accession),
        block=block or (UNIDENTIFIED if found is None else found.block),
        stain=target,
    )


def _differ(one: str, other: str) -> bool:
    return one != other and one != "" != other


def _verdict(path: Path, settings: Settings) -> Verdict:
    """Return what is known of a slide; a part may be missing, and no two contradict each other."""
    sidecar = read_sidecar(path)
    with SlideReader.open(path, mpp=sidecar.mpp) as slide:
        evidence = evidence_in(path, slide.properties, sidecar, settings.identify, {})
        found = Identifier(vocabulary(settings), settings.identify).verdict(path, evidence)
    try:
        require_identity(found)
    except SlideError as err:
        if err.reason is QuarantineReason.IDENTITY_CONFLICT:
            raise TandemError(f"{path}: {err}") from err
        if err.reason is QuarantineReason.NO_ACCESSION:  # what was read may be no accession
            return replace(found, accession="")
    return found
