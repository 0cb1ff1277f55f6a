"""A person's word on a delivered result: another score, the same score, or a rerun.

Nothing is overwritten: objects of new findings have UIDs of their own, and the new report names
its predecessor (PS3.3 C.17.2, Predecessor Documents Sequence). Who corrects or confirms a score
stands for the result: its report is VERIFIED by them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from appliance.artifacts import ArtifactKey, ArtifactStore, is_as_written, is_unchecked
from appliance.assays.registry import find_assay
from appliance.delivery.index import signers_of
from appliance.delivery.standing import (
    SIGNED_AS,
    confirmed,
    corrected,
    save_signed,
    signed_as,
)
from appliance.errors import SettingsError, SlideError
from appliance.findings.codec import load_findings
from appliance.findings.findings import Correction, Findings, SignOff
from appliance.intake.identity.evidence import accession_key, block_key
from appliance.intake.identity.sidecar import Sidecar, has_sidecar, read_sidecar, sidecar_path
from appliance.intake.said import said_of, said_of_bytes
from appliance.ledger.blocks import pairing_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import Queries
from appliance.ledger.tables import CaseRow, SlideRow, id_named, id_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.operations.seen import NO_RESULT, result_name
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings
from appliance.text import is_text, person_key, plain_spaces, readable
from appliance.words.say import say
from dicom.legal import COMPONENTS, GROUP_LENGTH
from dicom.study import is_name

CORRECTED, CONFIRMED = "corrected-by", "confirmed-by"
"""Codes of the notes with a person's word on a score."""
SIGNED = ("corrected", "confirmed")
"""Codes of the events by which a person's word gives a case its score."""
GIVEN = "given"
"""Parameter of these notes: the appliance's own score, empty without one. Older notes lack it."""
NO_SCORE = "none"
"""Word of a person for a case that cannot be scored."""
ENDED = (CaseState.WRITTEN, CaseState.DELIVERED, CaseState.UNPROVEN, CaseState.UNDELIVERED)


def correct_score(
    settings: Settings, subject: str, score: str, *, by: str, why: str, result: str = ""
) -> str:
    """Replace a case's score by a person's; the objects are written and sent anew.

    The score `NO_SCORE` says that the case cannot be scored. `by` is a DICOM person name such as
    ``Meyer^Anna``: the new report is VERIFIED by that person alone. `result` is the key or the name
    (`result_name`) of the result that the person saw; empty: the standing one. Returns what
    happened, for people.

    Raises
    ------
    SettingsError
        If there is no such case, `score` is none of its assay, it has no result yet, another one
        than `result`, or that score already; if `by` is no person name, or `why` says nothing.
    """
    name, why = _person(by), plain_spaces(why)
    if not why.strip() or not why.isprintable() or not is_text(why):
        raise SettingsError("--why: say why; the report states it, in readable text.")
    ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            case = _case(tx, subject)
        _require_score(case, score)  # first: waiting makes a wrong word no better
        _require_ended(case)
        _require_seen(case, result)
        findings = _standing_findings(settings, case)
        signed = _corrected(settings, case, findings, score, by=name, why=why)
        scores = {"was": case.score, "score": signed.score or ""}
        note = scores | {"by": name, GIVEN: _given(findings)}
        _sign(ledger, settings, case, signed, note=(CORRECTED, note), code="corrected", told=scores)
    finally:
        ledger.close()
    return f"{subject}: {say('event', 'corrected', scores)}; a new report is written and sent"


def confirm_score(
    settings: Settings, subject: str, *, by: str, seen: str = "", result: str = ""
) -> str:
    """Sign a case's result: a person found its score right; the objects are written and sent anew.

    `by` is a DICOM person name such as ``Meyer^Anna``. The new report is VERIFIED by that person,
    and by those who signed the same result before. A person signs a result once: for a second word
    of the same person nothing is done. `seen` is the score that the person saw, and `result` the
    key or the name (`result_name`) of the result, where these may be others by now; empty: the
    standing one. Returns what happened, for people.

    Raises
    ------
    SettingsError
        If there is no such case, it has no result yet or another one than `result`, or its result
        has no score or another one than `seen`; or if `by` is no person name.
    """
    name = _person(by)
    ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            case = _ended(tx, subject, CaseState.SCORED)
        findings = _standing_findings(settings, case)
        if seen and findings.score != seen:
            raise SettingsError(
                f"{subject} has the score {findings.score or 'none'} by now: look at it first."
            )
        for each in findings.sign_offs:
            if person_key(each.by) == person_key(name):
                return f"{subject}: {each.by} signed this result on {each.when}; nothing is done"
        _require_ended(case)
        _require_seen(case, result)
        if not findings.score:
            raise SettingsError(
                f"{subject} has no score to confirm. Give it one: tandem correct {subject}"
            )
        signed = confirmed(
            findings, (*findings.sign_offs, _sign_off(settings, case, findings, name))
        )
        told = {"score": findings.score}
        note = told | {"by": name, GIVEN: _given(findings)}
        _sign(ledger, settings, case, signed, note=(CONFIRMED, note), code="confirmed", told=told)
    finally:
        ledger.close()
    return f"{subject}: {say('event', CONFIRMED, note)}; a new report is written and sent"


def rerun_case(
    settings: Settings, subject: str, *, by: str = "", result: str = "", also_signed: bool = True
) -> str:
    """Analyze a case that has a result once more, with the weights and settings of today.

    `by` is who asked for it, in any form; empty where nobody said so. `result` is the key or the
    name (`result_name`) of the result that the person saw, `NO_RESULT` where there was none; empty:
    the standing one. `also_signed` tells whether this person may take a signed result away.

    Sidecars that are there are read again: a corrected organ or specimen counts from here on. One
    that a person said of the slide (``tandem identify set``) stays. So does what was frozen at
    identify, for slides whose sidecar is gone.

    Raises
    ------
    SettingsError
        If there is no such case, it has no result yet or another one than `result`, its result is
        signed and `also_signed` is not given, its assay is not installed, a slide of it is not
        read, a sidecar cannot be read or names another slide, or `by` is not readable.
    """
    if not by.isprintable() or not is_text(by):
        raise SettingsError("--by: say who asks for it, in readable text.")
    ledger: Ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            case = _ended(tx, subject, CaseState.FAILED)
            _require_seen(case, result)
            slides = _slides_to_rerun(tx, case)
        signed = _who_signed(ledger, settings, case)
        if signed and not also_signed:
            raise SettingsError(f"{subject} is {signed}: it takes a pathologist to rerun it.")
        # Outside of any transaction: a share that hangs must not hold the ledger.
        found = {id_of(slide): _sidecar_again(slide, settings) for slide in slides}
        now = time.time()
        with ledger.transaction() as tx:
            row = _ended(tx, subject, CaseState.FAILED)
            _require_seen(row, case.findings_key or NO_RESULT)
            for slide in _slides_to_rerun(tx, row):
                _take_words(tx, slide, found.get(id_of(slide)), now)
            row.findings_key = row.score = ""
            row.review = "[]"
            set_reason(row)
            row.worker_crashes, row.step_tries, row.not_before = 0, 0, 0.0
            tx.advance(row, CaseState.READY, now=now, code="rerun", by=by.strip())
    finally:
        ledger.close()
    told = "is analyzed again; what is already known and unchanged is not computed twice"
    return f"{subject} {told}. {undone_words(signed)}" if signed else f"{subject} {told}"


def signed_words(findings: Findings) -> str:
    """Return who stands for a result, in words; empty where nobody signed it."""
    correction = findings.correction
    said = [] if correction is None else [f"corrected by {correction.by}"]
    return " and ".join([*said, *(f"confirmed by {each.by}" for each in findings.confirmations)])


def undone_words(signed: str) -> str:
    """Return what a rerun does to the words of who signed a result (`signed_words`)."""
    return f"The result is {signed}: this is undone, unless the new result is the same."


def _who_signed(ledger: Ledger, settings: Settings, case: CaseRow) -> str:
    """Return who stands for a case's result, in words; by the ledger where it cannot be read."""
    if not case.findings_key:
        return ""
    try:
        return signed_words(_standing_findings(settings, case))
    except (SettingsError, ValueError, OSError, LookupError, BadZipFile):
        with ledger.transaction() as tx:
            return signer_unread(tx, case, settings)


def signer_unread(tx: Queries, case: CaseRow, settings: Settings) -> str:
    """Return who signed a result that cannot be read, in words; empty where nobody did.

    After a retry of the writing the ledger does not tell it of the result, so the objects do.
    """
    by = [e.by for e in tx.events(case.subject) if e.code in (CORRECTED, CONFIRMED)]
    if tx.scored_by(case.subject) not in SIGNED:
        by = signers_of(case.objects_key, settings)
    return f"signed by {by[-1]}" if by else ""


def _slides_to_rerun(tx: Transaction, case: CaseRow) -> list[SlideRow]:
    find_assay(case.assay)
    stains = pairing_of(case).stains
    slides = tx.current_slides(case.accession, case.block, stains)
    for stain in stains:
        slide = slides.get(stain)
        state = "missing" if slide is None else slide.state
        if state != SlideState.READ:
            raise SettingsError(
                f"{case.subject}: its {stain} slide is {state}, so the case is left as it is. Run "
                "it again when `tandem status` shows the slide as read."
            )
    return list(slides.values())


def _sidecar_again(slide: SlideRow, settings: Settings) -> Sidecar | None:
    """Sidecar of a slide; None where there is none.

    It names the slide as identify understood it: in any way of writing, and where no person said
    otherwise.
    """
    path = Path(slide.path)
    if not has_sidecar(path):
        return None
    try:
        sidecar = read_sidecar(path)
    except SlideError as err:
        raise SettingsError(str(err)) from err
    person = said_of_bytes(slide)
    same = {
        "accession": person.accession
        or accession_key(sidecar.accession, settings.identify)
        == accession_key(slide.accession, settings.identify),
        "block": person.block
        or block_key(sidecar.block, settings.identify) == block_key(slide.block, settings.identify),
        "mpp": sidecar.mpp == slide.mpp,
    }
    for key, is_same in same.items():
        if getattr(sidecar, key) and not is_same:
            raise SettingsError(
                f"{readable(sidecar_path(path).name)}: its {key} is not that of {slide.subject}. A "
                "rerun takes organ and specimen only; touch the slide's file to have it "
                "identified anew."
            )
    return sidecar


def _take_words(tx: Transaction, slide: SlideRow, sidecar: Sidecar | None, now: float) -> None:
    if sidecar is None:
        return
    said = said_of(slide)  # a person's word comes first, as at identify
    organ, specimen = said.organ or str(sidecar.organ), said.specimen or str(sidecar.specimen)
    if (organ, specimen) == (slide.organ, slide.specimen):
        return
    params = {"organ": organ, "specimen": specimen}
    params |= {"was_organ": slide.organ, "was_specimen": slide.specimen}
    slide.organ, slide.specimen = organ, specimen
    tx.note(slide.subject, "sidecar-again", now, params=params)
    tx.session.add(slide)


def _case(tx: Transaction, subject: str) -> CaseRow:
    number = id_named(subject, "case")
    case = tx.case(number) if number is not None else None
    if case is None:
        raise SettingsError(f"no {subject!r}. `tandem status` lists ids such as case-1.")
    return case


def _ended(tx: Transaction, subject: str, *also: CaseState) -> CaseRow:
    case = _case(tx, subject)
    _require_ended(case, *also)
    return case


def _require_ended(case: CaseRow, *also: CaseState) -> None:
    if case.state not in (*ENDED, *also):
        raise SettingsError(
            f"{case.subject} is {case.state}: it has no delivered result yet. `tandem status` "
            "tells what it waits for."
        )


def _require_seen(case: CaseRow, result: str) -> None:
    """Refuse a word on another result than the standing one; an empty `result` is any."""
    if result and result_name(result) != (result_name(case.findings_key) or NO_RESULT):
        raise SettingsError(
            f"{case.subject}: its result changed since you opened it. Look at it again."
        )


def _require_score(case: CaseRow, score: str) -> None:
    assay = find_assay(case.assay)
    if score not in (*assay.scores, NO_SCORE):
        raise SettingsError(
            f"{score!r} is no {assay.title} score; scores are {', '.join(assay.scores)}. The word "
            f"{NO_SCORE} says that the case cannot be scored."
        )


def _person(by: str) -> str:
    """Return a person's name without what means nothing: spaces and carets at the end of a group.

    Raises
    ------
    SettingsError
        If it is no name of a person as DICOM has them (PS3.5 6.2, PN).
    """
    groups = [group.strip().rstrip("^ ") for group in by.split("=")]
    fits = is_name("=".join(groups)) and all(group.count("^") < COMPONENTS for group in groups)
    readable_name = by.strip().isprintable() and is_text(by)
    if not (fits and readable_name and any(groups)):
        raise SettingsError(
            "--by: say who says so, as DICOM writes names: Meyer^Anna. At most "
            f"{GROUP_LENGTH} readable characters, without a backslash."
        )
    return "=".join(groups).rstrip("=")


def _sign_off(settings: Settings, case: CaseRow, findings: Findings, by: str) -> SignOff:
    """Return a person's word that they stand for a result, given now."""
    signs = next((each.signs for each in findings.sign_offs), case.findings_key)
    if findings.correction is not None:
        signs = findings.correction.corrects
    return SignOff(by=by, organization=settings.organization, at=int(time.time()), signs=signs)


def _sign(
    ledger: Ledger,
    settings: Settings,
    case: CaseRow,
    signed: Findings,
    *,
    note: tuple[str, Mapping[str, Any]],
    code: str,
    told: Mapping[str, Any],
) -> None:
    """Store what the last one of its sign-offs signed, and let the case be written from it.

    `note` are code and parameters of the person's word, `code` and `told` those of the change of
    state, both in one transaction.

    Raises
    ------
    SettingsError
        If the case has another result meanwhile.
    """
    last, correction = signed.sign_offs[-1], signed.correction
    key = ArtifactKey.of(
        "findings",
        rests_on=case.findings_key,
        score=signed.score,
        correction=None if correction is None else asdict(correction),
        signed=asdict(last),
    )
    store = ArtifactStore(settings.artifacts_dir)
    if not store.has(key):
        save_signed(store.path(ArtifactKey.parse(case.findings_key)), key, signed, settings)
    with ledger.transaction() as tx:
        row = _ended(tx, case.subject)
        if row.findings_key != case.findings_key:
            raise SettingsError(f"{case.subject} has a new result since: look at it first.")
        row.findings_key, row.score, row.review = str(key), signed.score or "", "[]"
        set_reason(row)
        now = time.time()
        params = {**note[1], SIGNED_AS: signed_as(str(key), signed)}
        tx.note(row.subject, note[0], now, params=params, by=last.by)
        tx.advance(row, CaseState.SCORED, now=now, code=code, params=told, by=last.by)


def _standing_findings(settings: Settings, case: CaseRow) -> Findings:
    """Return the findings that a case has now, the appliance's or corrected ones."""
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(case.findings_key))
    if not is_unchecked(folder) and not is_as_written(folder):
        raise SettingsError(
            f"{case.subject}: its stored result is not what was written. Have it made again first: "
            f"tandem rerun {case.subject}"
        )
    return load_findings(folder)


def _given(findings: Findings) -> str:
    """Return the score that the appliance had given, whatever a person said since; empty: none."""
    correction = findings.correction
    return (findings.score if correction is None else correction.was) or ""


def _corrected(
    settings: Settings, case: CaseRow, findings: Findings, score: str, *, by: str, why: str
) -> Findings:
    """Return the findings of a case with a person's score; who signed the former one did not
    sign this one."""
    given = None if score == NO_SCORE else score
    if given is None and findings.score is None and findings.correction is not None:
        raise SettingsError(f"{case.subject}: a person said already that it cannot be scored.")
    if given is not None and findings.score == given:
        raise SettingsError(
            f"{case.subject} has the score {score} already. To sign it: tandem confirm "
            f"{case.subject}"
        )
    was = findings.score if findings.correction is None else findings.correction.was
    sign_off = _sign_off(settings, case, findings, by)
    correction = Correction(by=by, why=why, was=was, corrects=sign_off.signs)
    return corrected(findings, given, correction, [sign_off])
