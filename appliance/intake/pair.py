"""Cases of a tissue block: an assay's case begins with its slides, and rescans reopen it.

A slide belongs to a block, and a block may have a case of each assay. One slide serves all cases
of its block whose assay uses its stain. The pairings of the installed assays are passed as values.
`appliance.intake.arrange` says which scan of a stain stands for the slide, and
`appliance.intake.block` lets states follow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.domain import Identity, Pairing, Stain
from appliance.intake.block import settle
from appliance.intake.content import EXCLUDED, goes_on
from appliance.intake.said import said_of
from appliance.ledger.blocks import is_installed, pairing_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import GONE, NOT_ASKED
from appliance.ledger.tables import CaseRow, SlideRow, set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.intake import PairSettings


def join_block(tx: Transaction, slide: SlideRow, pairings: Sequence[Pairing], now: float) -> None:
    """Put an identified slide into its block.

    The case of each assay whose target this stain is begins; so does that of an expected assay
    whose anatomy it is. Cases of the block wait for the slide where no other scan of it stands. A
    slide of which the same bytes are there already, or that a person left out, does not join.
    """
    if said_of(slide).excluded:
        set_reason(slide, EXCLUDED)
        tx.advance(slide, SlideState.OTHER, now=now, code=EXCLUDED)
        return
    if not goes_on(tx, slide, now):
        return
    stain = Stain(slide.stain)
    identity = Identity(accession=slide.accession, block=slide.block, stain=stain)
    for pairing in pairings:
        if stain == pairing.target or (pairing.expected and stain == pairing.anatomy):
            tx.case_for(identity, now, pairing)
    for case in tx.cases_of_block(slide.accession, slide.block):
        if case.state == CaseState.WAITING and case.reason in (NOT_ASKED, "no-slides"):
            set_reason(case)
            tx.session.add(case)
    settle(tx, slide.accession, slide.block, now)


def take_place(tx: Transaction, slide: SlideRow, now: float) -> None:
    """Let a slide that passed inspection take the place of older scans of it."""
    settle(tx, slide.accession, slide.block, now, slide)


def expire_waiting(
    tx: Transaction,
    pairings: Sequence[Pairing],
    settings: PairSettings,
    now: float,
) -> int:
    """Advance waiting cases whose second slide is overdue to `partnerless`; return how many.

    A case that has only its anatomy slide is no trouble where nobody asked for the target: by the
    order where there is one, else by the settings.
    """
    expired = 0
    unchanged_since = now - 3600 * settings.partner_timeout_hours
    for case in tx.waiting_cases(unchanged_since=unchanged_since):
        pairing = pairing_of(case)
        if not is_installed(case, pairings):
            continue
        slides = tx.current_slides(case.accession, case.block, pairing.stains)
        missing = [stain for stain in pairing.stains if stain not in slides]
        if len(missing) != 1:
            continue
        if missing[0] == pairing.target and not _is_missed(
            slides[pairing.anatomy], pairing.target, settings
        ):
            set_reason(case, NOT_ASKED, {"stain": missing[0]})
            tx.session.add(case)
            continue
        params = {"stain": missing[0], "elsewhere": _blocks_with(tx, case, missing[0])}
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


def _is_missed(anatomy: SlideRow, target: Stain, settings: PairSettings) -> bool:
    """Return whether somebody waits for the target slide of a block that has its anatomy slide."""
    asked = json.loads(anatomy.patient).get("stains") or []
    return str(target) in asked if asked else settings.lone_he == "trouble"


def _blocks_with(tx: Transaction, case: CaseRow, stain: Stain) -> list[str]:
    """Return the other blocks of a case's accession that have a slide of a stain."""
    slides = tx.slides_of_accession(case.accession)
    there = [row for row in slides if row.stain == stain and row.state not in GONE]
    return sorted({row.block for row in there if row.block != case.block})
