"""Cases of a tissue block: an assay's case begins with its slides, and rescans reopen it.

A slide belongs to a block, and a block may have a case of each assay. One slide serves all cases
of its block whose assay uses its stain. The pairings of the installed assays are passed as values.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.domain import Identity, Pairing, Stain
from appliance.intake.patients import held_for
from appliance.ledger.blocks import is_installed, pairing_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import GONE
from appliance.ledger.tables import CaseRow, SlideRow, set_reason
from appliance.ledger.transaction import Transaction


def join_block(tx: Transaction, slide: SlideRow, pairings: Sequence[Pairing], now: float) -> None:
    """Put an identified slide into its block.

    An older scan of the same stain is superseded. The case of each assay whose target this stain
    is begins; so does that of an expected assay whose anatomy it is. Every case of the block that
    uses this stain waits again.
    """
    _supersede_older(tx, slide, now)
    stain = Stain(slide.stain)
    identity = Identity(accession=slide.accession, block=slide.block, stain=stain)
    for pairing in pairings:
        if stain == pairing.target or (pairing.expected and stain == pairing.anatomy):
            tx.case_for(identity, now, pairing)
    for case in tx.cases_of_block(slide.accession, slide.block):
        if stain in pairing_of(case).stains:
            _reopen(tx, case, slide, now)


def _supersede_older(tx: Transaction, slide: SlideRow, now: float) -> None:
    for other in tx.slides_of_block(slide.accession, slide.block):
        if other.id != slide.id and other.stain == slide.stain and other.state not in GONE:
            tx.advance(
                other,
                SlideState.SUPERSEDED,
                now=now,
                code="newer-scan",
                params={"slide": slide.subject},
            )


def _reopen(tx: Transaction, case: CaseRow, slide: SlideRow, now: float) -> None:
    if case.state in (CaseState.WAITING, CaseState.PARTNERLESS):
        return
    # Objects that were sent stay known: the next report names the report that it replaces.
    case.findings_key = case.score = ""
    case.review = case.overruled = "[]"
    set_reason(case)
    params = {"slide": slide.subject}
    tx.advance(case, CaseState.WAITING, now=now, code="came-anew", params=params)


def make_ready(tx: Transaction, case: CaseRow, now: float) -> bool:
    """Advance a waiting case to `ready` if both its slides are read; return whether it was.

    It is held where slides or orders name different patients.
    """
    if case.state not in (CaseState.WAITING, CaseState.PARTNERLESS):
        return False
    if not all_read(tx, case):
        return False
    slides = tx.current_slides(case.accession, case.block, pairing_of(case).stains)
    if held := held_for(case, slides):
        set_reason(case, *held)
        tx.advance(case, CaseState.HELD, now=now, code="held", reason=held[0], params=held[1])
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


def expire_waiting(
    tx: Transaction, pairings: Sequence[Pairing], timeout_s: float, now: float
) -> int:
    """Advance waiting cases whose second slide is overdue to `partnerless`; return how many."""
    expired = 0
    for case in tx.waiting_cases(unchanged_since=now - timeout_s):
        pairing = pairing_of(case)
        if not is_installed(case, pairings):
            continue
        slides = tx.current_slides(case.accession, case.block, pairing.stains)
        missing = [stain for stain in pairing.stains if stain not in slides]
        if len(missing) != 1:
            continue
        params = {"stain": missing[0]}
        set_reason(case, "stain-missing", params)
        tx.advance(
            case,
            CaseState.PARTNERLESS,
            now=now,
            code="stain-missing",
            reason=case.reason,
            params=params,
        )
        expired += 1
    return expired
