"""Brings the two slides of a block together; a late partner or a rescan reopens the case."""

from __future__ import annotations

from appliance.domain import HE, HER2
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow, set_reason
from appliance.ledger.transaction import Transaction


def join_case(tx: Transaction, slide: SlideRow, case: CaseRow, now: float) -> None:
    """Put an identified slide into its case; an older scan of the same stain is superseded."""
    slide_id = slide.id
    for other in tx.slides_ever(case.id or 0, slide.stain):
        if other.id != slide_id and other.state not in (
            SlideState.SUPERSEDED,
            SlideState.QUARANTINED,
        ):
            tx.advance(
                other,
                SlideState.SUPERSEDED,
                now=now,
                code="newer-scan",
                params={"slide": slide.subject},
            )
    slide.case_id = case.id
    tx.session.add(slide)
    if case.state not in (CaseState.WAITING, CaseState.PARTNERLESS):
        # What was sent stays known: the next report names the one that it replaces.
        case.findings_key = case.score = ""
        case.review = "[]"
        set_reason(case)
        tx.advance(
            case, CaseState.WAITING, now=now, code="came-anew", params={"slide": slide.subject}
        )


def make_ready(tx: Transaction, case: CaseRow, now: float) -> bool:
    """`waiting` → `ready` when both slides are read; returns whether it did."""
    if case.id is None or case.state not in (CaseState.WAITING, CaseState.PARTNERLESS):
        return False
    slides = tx.slides_of_case(case.id)
    if set(slides) != {HE, HER2} or any(s.state != SlideState.READ for s in slides.values()):
        return False
    set_reason(case)
    tx.advance(case, CaseState.READY, now=now)
    return True


def expire_waiting(tx: Transaction, timeout_seconds: float, now: float) -> int:
    """`waiting` → `partnerless` for cases whose partner is overdue; returns how many."""
    expired = 0
    for case in tx.cases():
        if case.id is None or case.state != CaseState.WAITING:
            continue
        slides = tx.slides_of_case(case.id)
        overdue = now - case.changed_at >= timeout_seconds
        if len(slides) == 1 and overdue:
            missing = next(stain for stain in (HE, HER2) if stain not in slides)
            set_reason(case, "stain-missing", {"stain": missing})
            tx.advance(
                case,
                CaseState.PARTNERLESS,
                now=now,
                code="stain-missing",
                reason=case.reason,
                params={"stain": missing},
            )
            expired += 1
    return expired
