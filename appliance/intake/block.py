"""Cases of a block follow its slides: replaced scans, rivals, slides that leave, holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from appliance.domain import Stain
from appliance.intake.arrange import NOTHING, Scan, Standing, standings
from appliance.intake.patients import held_for
from appliance.intake.said import said_of
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import WITHOUT_RESULT, CaseState, DeliveryState, SlideState
from appliance.ledger.queries import GONE, PASSED, WITHDRAWN
from appliance.ledger.tables import CaseRow, SlideRow, fact, id_of, set_reason
from appliance.ledger.transaction import Transaction

NEWER_SCAN, CHOSEN, SAME_CONTENT = "newer-scan", "chosen", "same-content"
"""Reasons of superseded slides; `part-of`, `renamed` and `channel` have none."""
TWO_SCANS, UNPAIRED, SAME_SLIDE = "two-scans", "unpaired", "same-slide"
"""Reasons of held cases that the pairing itself finds."""
OPEN = (CaseState.WAITING, CaseState.PARTNERLESS)
"""States of cases that use no slides yet."""
ANALYZED = (CaseState.READY, CaseState.ALIGNED)
"""States of cases whose slides are being analyzed: they have to stay those that were read."""
_BY_SCANS = (NEWER_SCAN, CHOSEN)
_KNOWN = (SlideState.IDENTIFIED, *PASSED)


def scans_of(rows: Iterable[SlideRow], *, hoped: bool = False) -> list[Scan]:
    """Return the scans among the slides of a block, with those that another one replaced.

    `hoped`: as if all that are on their way had passed inspection.
    """
    scans = []
    for row in rows:
        there = row.state not in GONE if hoped else row.state in _KNOWN
        if there or (row.state == SlideState.SUPERSEDED and row.reason in _BY_SCANS):
            scan = Scan(
                slide_id=id_of(row),
                stain=Stain(row.stain),
                scanned_at=row.scanned_at,
                passed=there if hoped else row.state in PASSED,
                came_at=row.created_at,
                chosen_at=said_of(row).kept_at,
                chosen_over=said_of(row).kept_over,
            )
            scans.append(scan)
    return scans


def settle(
    tx: Transaction, accession: str, block: str, now: float, passed: SlideRow | None = None
) -> None:
    """Bring the states of a block's slides and cases in line with its scans.

    A scan that another one replaces is superseded. A superseded scan that nothing replaces any more
    goes through the line again. Cases of which a slide was replaced wait for the new one, as they
    do where a scan that has just `passed` stands: no case was read from it.
    """
    rows = {id_of(row): row for row in tx.slides_of_block(accession, block)}
    scans = {scan.slide_id: scan for scan in scans_of(rows.values())}
    found = standings(scans.values())
    hoped = standings(scans_of(rows.values(), hoped=True))
    taken: dict[Stain, SlideRow] = {}
    for stain, each in found.items():
        for old, new in each.replaced.items():
            if rows[old].state != SlideState.SUPERSEDED:
                if rows[old].state in PASSED:
                    taken[stain] = rows[new]
                code = CHOSEN if scans[new].was_chosen_over(scans[old]) else NEWER_SCAN
                supersede(tx, rows[old], rows[new], code, now)
        if passed is not None and passed.id == each.place:
            taken[stain] = passed  # the one before may be on its way again, and no scan now
        for slide_id in each.coming:
            row = rows[slide_id]
            if row.state == SlideState.SUPERSEDED and slide_id not in hoped[stain].replaced:
                set_reason(row)
                tx.advance(row, SlideState.ARRIVED, now=now, code="taken-back")
    coming = {
        stain: [rows[i] for i in each.coming if rows[i].state != SlideState.SUPERSEDED]
        for stain, each in found.items()
        if each.place is None
    }
    for case in tx.cases_of_block(accession, block):
        _follow(tx, case, found, taken, coming, now)


def has_other_scan(tx: Transaction, slide: SlideRow) -> bool:
    """Return whether a block has another identified scan of a slide's stain."""
    rows = tx.slides_of_block(slide.accession, slide.block) if slide.accession else []
    others = (row for row in rows if row.id != slide.id and row.stain == slide.stain)
    return any(row.state in _KNOWN for row in others)


def supersede(tx: Transaction, old: SlideRow, new: SlideRow, code: str, now: float) -> None:
    """Let one slide take the place of another; the reason stays in the row."""
    params = {"slide": new.subject}
    set_reason(old, code, params)
    tx.advance(old, SlideState.SUPERSEDED, now=now, code=code, params=params)


def _follow(
    tx: Transaction,
    case: CaseRow,
    found: Mapping[Stain, Standing],
    taken: Mapping[Stain, SlideRow],
    coming: Mapping[Stain, Sequence[SlideRow]],
    now: float,
) -> None:
    """Let a case follow the scans of its block."""
    mine = {stain: found.get(stain, NOTHING) for stain in pairing_of(case).stains}
    if case.state not in OPEN:
        if any(each.rivals for each in mine.values()):
            if case.state != CaseState.HELD or case.reason == TWO_SCANS:
                hold(tx, case, *_two_scans(tx, mine), now)
            return
        new = [taken[stain] for stain in mine if stain in taken]
        new += [slide for stain in mine for slide in coming.get(stain, ())]
        if new:
            reopen(tx, case, "came-anew", {"slide": new[0].subject}, now)
        elif case.reason == TWO_SCANS:
            reopen(tx, case, "kept", {}, now)
    make_ready(tx, case, now)


def make_ready(tx: Transaction, case: CaseRow, now: float) -> bool:
    """Advance a waiting case to `ready` if both its slides are read; return whether it was.

    A case whose slides contradict each other is held instead. One whose patients the site declares
    to be one is let go by a job (`line.whose`).
    """
    if case.state not in OPEN or not all_read(tx, case):
        return False
    held = why_held(tx, case)
    if held is not None:
        hold(tx, case, *held, now)
        return False
    set_reason(case)
    tx.advance(case, CaseState.READY, now=now)
    return True


def all_read(tx: Transaction, case: CaseRow) -> bool:
    """Return whether both slides of a case are there and read."""
    stains = pairing_of(case).stains
    slides = tx.current_slides(case.accession, case.block, stains)
    return set(slides) == set(stains) and all(
        slide.state == SlideState.READ for slide in slides.values()
    )


def why_held(tx: Transaction, case: CaseRow) -> tuple[str, Mapping[str, Any]] | None:
    """Return why a case whose slides are read must be held, with parameters; None to go on."""
    stains = pairing_of(case).stains
    found = standings(scans_of(tx.slides_of_block(case.accession, case.block)))
    mine = {stain: found.get(stain, NOTHING) for stain in stains}
    if any(each.rivals for each in mine.values()):
        return _two_scans(tx, mine)
    current = tx.current_slides(case.accession, case.block, stains)
    slides = list(current.values())
    subjects = [slide.subject for slide in slides]
    if any(set(said_of(slide).apart) & set(subjects) for slide in slides):
        return UNPAIRED, {"slides": " and ".join(subjects)}
    return held_for(case, current)


def _two_scans(tx: Transaction, mine: Mapping[Stain, Standing]) -> tuple[str, dict[str, Any]]:
    stain, rivals = next((s, each.rivals) for s, each in mine.items() if each.rivals)
    names = [f"{row.subject} ({row.file_name})" for i in rivals if (row := tx.slide(i))]
    return TWO_SCANS, {"stain": stain, "slides": ", ".join(names)}


def hold(
    tx: Transaction, case: CaseRow, code: str, params: Mapping[str, Any], now: float, by: str = ""
) -> None:
    """Hold a case for a person; its result does not count any more, and is not sent.

    What is withdrawn is queued again once the case goes on and has it again.
    """
    withdraw(tx, case, now)
    _forget(case)
    was = case.reason, case.params
    set_reason(case, code, params)
    if case.state != CaseState.HELD:
        tx.advance(case, CaseState.HELD, now=now, code="held", reason=code, params=params, by=by)
    elif was != (case.reason, case.params):
        tx.note(case.subject, "held", now, reason=code, params=params, by=by)
    tx.session.add(case)


def reopen(
    tx: Transaction, case: CaseRow, code: str, params: Mapping[str, Any], now: float, by: str = ""
) -> None:
    """Let a case wait for its slides again; what a person accepted of the former ones is void.

    Objects that were sent stay known: the next report names the report that it replaces.
    """
    if case.state in OPEN:
        return
    _forget(case)
    case.overruled = "[]"
    set_reason(case)
    tx.advance(case, CaseState.WAITING, now=now, code=code, params=params, by=by)


def _forget(case: CaseRow) -> None:
    case.findings_key = case.score = ""
    case.review = "[]"
    case.worker_crashes, case.step_tries, case.not_before = 0, 0, 0.0


def leave_block(
    tx: Transaction, slide: SlideRow, place: tuple[str, str, str], now: float, by: str = ""
) -> tuple[str, ...]:
    """Let the cases of a block go on without a slide that is no longer its own.

    `place` is the accession, the block and the stain that the slide had; the slide's row has
    changed already. Objects that were not sent yet are withdrawn; so are those of a former result,
    which may be of this slide, of a case that waits or is held. Returns the subjects of the cases
    that lost their result.
    """
    accession, block, stain = place
    lost = []
    rows = [row for row in tx.slides_of_block(accession, block) if row.id != slide.id]
    found = standings(scans_of(rows)).get(Stain(stain), NOTHING)
    for case in tx.cases_of_block(accession, block):
        if stain not in pairing_of(case).stains:
            continue
        left = found.place is None and not found.rivals
        if left or case.state in WITHOUT_RESULT:
            withdraw(tx, case, now)
        if left and case.state not in OPEN:
            if case.objects_key:
                lost.append(case.subject)
            reopen(tx, case, "slide-left", {"slide": slide.subject}, now, by)
        stains = pairing_of(case).stains
        if case.state in OPEN and not tx.current_slides(accession, block, stains):
            set_reason(case, "no-slides")
            tx.session.add(case)
    settle(tx, accession, block, now)
    return tuple(lost)


def withdraw(tx: Transaction, case: CaseRow, now: float, *, leaves: bool = False) -> None:
    """Withdraw the objects of a case that were not sent yet, but for those that others need.

    With `leaves` the case goes on without them: no other case keeps them for it.
    """
    for row in tx.deliveries(id_of(case)):
        if row.state != DeliveryState.QUEUED:
            continue
        sharing = [tx.case(i) for i in tx.cases_of_deliveries([row]) if i != case.id]
        if any(other is not None and other.state not in WITHOUT_RESULT for other in sharing):
            if leaves:
                tx.unlink(id_of(case), row)
            continue
        # An answer may have been lost: such an object may be there.
        tried = {"destination": row.destination, "attempts": row.attempts} if row.attempts else {}
        set_reason(row, WITHDRAWN, tried)
        why = {"trouble": fact("delivery", WITHDRAWN, tried)}
        refused, reason = DeliveryState.REFUSED, row.reason
        tx.advance(row, refused, now=now, code="trouble", reason=reason, params=why)
