"""Steps of a slide: identify, inspect, read."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from appliance.assays.registry import find_assay, interim_reader, is_read_alone, vocabulary
from appliance.delivery.orders import told_by
from appliance.domain import QuarantineReason, Stain
from appliance.findings.opinion import Opinion
from appliance.intake.block import leave_block, make_ready
from appliance.intake.changes import OF_THE_ORDER, bytes_read
from appliance.intake.content import lose_slide
from appliance.intake.identity.evidence import TOLD, Verdict
from appliance.intake.identity.evidence import Outcome as Verdicts
from appliance.intake.identity.identify import evidence_json
from appliance.intake.identity.sources import NameSources
from appliance.intake.pair import join_block, take_place
from appliance.intake.parts import another_part
from appliance.intake.said import KEEP, hold_on, keep_former, said_of_bytes
from appliance.intake.written import block_as_kept
from appliance.ledger.blocks import pairing_of
from appliance.ledger.hints import note_hint
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.second_opinions import SecondOpinion, note_second_opinions
from appliance.ledger.tables import SlideRow, facts_of, params_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.ledger.urgency import follow_block
from appliance.line.analyze_slide import (
    identify_slide,
    inspect_slide,
    wrong_picture,
)
from appliance.line.context import Call, Done, Job, StepContext, append_times, time_of
from appliance.line.interim import read_slide
from appliance.line.outcomes import IdentifiedSlide, InspectedSlide, ReadSlide, SlideRead
from appliance.line.whose import let_merged_go
from appliance.slides.scan_time import AHEAD_S, UNKNOWN, day_of_file

log = logging.getLogger(__name__)

MOST_TAKEN_BACK = 3
"""Times that a slide is taken up anew although its bytes are the same."""


def prepare_identify(context: StepContext, job: Job[SlideRow]) -> Call:
    """Prepare `identify_slide`."""
    row = job.row
    whole = row.size_bytes, row.modified_ns
    said, former = json.loads(row.said), former_accession(row)
    return Call(identify_slide, (Path(row.path), context.settings, said, whole, former))


def former_accession(row: SlideRow) -> str:
    """Return the accession that a slide was read under; empty where a person or a sidecar gave it:
    a word that was taken back counts no more."""
    told = any(claim["accession"] for claim in json.loads(row.evidence) if claim["source"] in TOLD)
    return "" if told else row.accession


def finish_identify(
    tx: Transaction, context: StepContext, row: SlideRow, done: Done, now: float
) -> None:
    """Keep facts, evidence, patient, organ and specimen; join the block.

    A slide of no assay is known and left alone; one that is not identified is set aside. One that
    was read, and whose file was touched alone, is read.
    """
    found: IdentifiedSlide = done.value
    facts, verdict = found.facts, found.verdict
    before = row.accession, row.block, row.stain
    former, scanned_at, read = _asked_of(row), row.scanned_at, bytes_read(tx, row)
    # A day that is still to come takes no other scan's place: a person chooses.
    scanned = UNKNOWN if found.scanned_at > now + AHEAD_S else found.scanned_at
    row.scanned_at = scanned or day_of_file(row.modified_ns, now)
    row.fingerprint, row.format, row.mpp = facts.fingerprint, facts.format, facts.mpp
    row.width_px, row.height_px = facts.width_px, facts.height_px
    row.level_count, row.is_dicom = facts.level_count, facts.is_dicom
    row.accession, row.block, row.stain = verdict.accession, verdict.block, verdict.stain
    row.evidence = json.dumps(evidence_json(verdict), ensure_ascii=False)
    former_block = before[1] if before[0] == row.accession else ""
    others = tx.slides_of_accession(row.accession)
    row.block = block_as_kept(row, former_block, others, context.settings.identify)
    # Frozen here, for steps that run when the sidecar may be gone.
    row.organ, row.specimen = found.organ, found.specimen
    row.patient = found.patient.as_json()
    told = told_by(Path(row.path), found.order_problems, context.settings)
    for note in (*told, *([found.order_note] if found.order_note else [])):
        tx.note(row.subject, "order-note", now, params={"note": note})
    for note in found.header_notes:
        tx.note(row.subject, "header-note", now, params={"note": note})
    if verdict.reason is None:
        hold_on(row)
    append_times(tx, row, (time_of("identify", done),), now)
    is_read = read == row.fingerprint != "" and former == _asked_of(row)
    if is_read:
        row.scanned_at = scanned_at  # where it is the day of the file, a touch makes it no newer
    joins = _join(tx, context, row, verdict, now, is_read=is_read)
    if joins:
        follow_block(tx, row, now)
    # A slide that is set aside under its former name leaves its case, too.
    if before[0] and (not joins or before != (row.accession, row.block, row.stain)):
        leave_block(tx, row, before, now)


def _asked_of(row: SlideRow) -> tuple[object, ...]:
    """Return what the results of a slide depend on, beside its bytes."""
    whose = row.accession, row.block, row.stain, row.patient
    return *whose, row.mpp, row.organ, row.specimen


def _join(
    tx: Transaction,
    context: StepContext,
    row: SlideRow,
    verdict: Verdict,
    now: float,
    *,
    is_read: bool,
) -> bool:
    """Put a slide into its block; return False where it belongs to none, or it is not known.

    One that is read already joins as such: the cases that used it keep their results.
    """
    if verdict.reason is not None:
        log.warning("%s quarantined: %s", row.subject, verdict.reason)
        set_reason(row, verdict.reason, {"detail": verdict.detail})
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=row.reason)
        lose_slide(tx, row, now)
        return False
    params = {"stain": verdict.stain, "kind": verdict.kind}
    if verdict.outcome is Verdicts.OTHER:
        set_reason(row, verdict.kind, params)
        tx.advance(row, SlideState.OTHER, now=now, code="not-for-an-assay", params=params)
        return False
    sources = NameSources(vocabulary(context.settings), context.settings.identify)
    if apart := another_part(row, tx.slides_of_block(row.accession, row.block), sources):
        reason = QuarantineReason.IDENTITY_CONFLICT
        set_reason(row, reason, {"detail": apart})
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=row.reason)
        lose_slide(tx, row, now)
        return False
    tx.advance(row, SlideState.IDENTIFIED, now=now, code="identified", params=params)
    for state in (SlideState.INSPECTED, SlideState.READ) if is_read else ():
        tx.advance(row, state, now=now)
    join_block(tx, row, context.pairings, now)
    return True


def prepare_inspect(context: StepContext, job: Job[SlideRow]) -> Call:
    """Prepare `inspect_slide`."""
    return Call(inspect_slide, (facts_of(job.row), context.settings))


def finish_inspect(
    tx: Transaction, _context: StepContext, row: SlideRow, done: Done, now: float
) -> None:
    """Keep key and picture; quarantine a slide without tissue, or of another stain than named.

    A person's word (``{"picture": "keep"}``) takes precedence over the picture.
    """
    outcome: InspectedSlide = done.value
    row.inspect_key, row.picture = outcome.key, outcome.picture.as_json()
    append_times(tx, row, outcome.times, now)
    detail = wrong_picture(outcome.picture, Stain(row.stain))
    if outcome.tissue_mm2 <= 0:
        set_reason(row, QuarantineReason.NO_TISSUE)
    elif detail and said_of_bytes(row).picture != KEEP:
        set_reason(row, QuarantineReason.WRONG_PICTURE, {"detail": detail})
    else:
        tx.advance(row, SlideState.INSPECTED, now=now)
        take_place(tx, row, now)
        return
    tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=row.reason)
    lose_slide(tx, row, now)


def prepare_read(context: StepContext, job: Job[SlideRow]) -> Call | None:
    """Prepare `read_slide` for the expected assays; None where no reader asks for this slide.

    Other assays read it with their case, so that their trouble is not the slide's.
    """
    row = job.row
    stain = Stain(row.stain)
    names = [
        pairing.assay
        for pairing in context.pairings
        if pairing.expected and is_read_alone(find_assay(pairing.assay), stain, context.settings)
    ]
    if not names:
        return None
    hinted = _hinted(context, row, names)
    return Call(
        read_slide,
        (read_slide_of(row), stain, names, hinted, context.settings, job.progress),
    )


def _hinted(context: StepContext, row: SlideRow, names: list[str]) -> list[str]:
    """Return the assays whose interim reader is on, and that never had a result of the block.

    A hint after a result would change the findings that a person may have signed.
    """
    asked = [
        name
        for name in names
        if row.stain == find_assay(name).anatomy.code
        and interim_reader(find_assay(name), context.settings) is not None
    ]
    if not asked:
        return []
    with context.ledger.transaction() as tx:
        cases = tx.cases_of_block(row.accession, row.block)
    had = {case.assay for case in cases if case.findings_key or case.objects_key}
    return [name for name in asked if name not in had]


def finish_read(
    tx: Transaction, context: StepContext, row: SlideRow, done: Done, now: float
) -> None:
    """Note hints and second readers' opinions on the slide, and make the cases ready whose slides
    are all read."""
    outcome: SlideRead | None = done.value
    if outcome is not None:
        append_times(tx, row, outcome.times, now)
        for hint in outcome.hints:
            note_hint(tx, row, hint, now)
    opinions = outcome.opinions if outcome is not None else ()
    note_second_opinions(tx, row, [_second(each) for each in opinions], now)
    tx.advance(row, SlideState.READ, now=now)
    for case in tx.cases_of_block(row.accession, row.block):
        if row.stain in pairing_of(case).stains:
            make_ready(tx, case, now)
    let_merged_go(tx, context.settings, now)


def _second(opinion: Opinion) -> SecondOpinion:
    return SecondOpinion(
        reader=opinion.reader,
        said=opinion.said,
        percent=round(100 * max(opinion.probabilities), 1),
        weights=opinion.weights.fingerprint if opinion.weights else "",
    )


def take_slide_back(tx: Transaction, slide: SlideRow, now: float) -> None:
    """Take a slide up anew whose file is not the identified one any more (`SourceChangedError`).

    The scan looks at the file again, also where size and time are those of the first one. A slide
    that had the same bytes each time is set aside: reading it would never end.
    """
    times = _same_bytes_again(tx, slide)
    if times >= MOST_TAKEN_BACK:
        set_reason(slide, QuarantineReason.FILE_TOUCHED, {"times": times})
        tx.advance(slide, SlideState.QUARANTINED, now=now, code="set-aside", reason=slide.reason)
        lose_slide(tx, slide, now)
        return
    keep_former(slide)
    read = {"fingerprint": slide.fingerprint}
    slide.fingerprint = ""
    slide.size_bytes, slide.modified_ns = 0, 0
    set_reason(slide)
    tx.advance(slide, SlideState.ARRIVING, now=now, code="file-changed", params=read)


def _same_bytes_again(tx: Transaction, slide: SlideRow) -> int:
    """Return how often a slide was taken back with the bytes that it has, since a person's word."""
    times = 0
    for event in reversed(tx.events(slide.subject) if slide.fingerprint else []):
        before = params_of(event).get("fingerprint") if event.code == "file-changed" else None
        # `tandem retry` names nobody; each other word has its person. Urgency is none on a slide.
        said = event.code == "retry" or (event.by and event.code not in OF_THE_ORDER)
        if said or before not in (None, slide.fingerprint):
            break
        times += before is not None
    return times


def read_slide_of(slide: SlideRow) -> ReadSlide:
    """Return a slide's row as the analysis takes it."""
    return ReadSlide(
        facts=facts_of(slide),
        inspect_key=slide.inspect_key,
        organ=slide.organ,
        specimen=slide.specimen,
        is_kept=said_of_bytes(slide).picture == KEEP,
    )
