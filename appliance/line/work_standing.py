"""Standing of a work item: how far its slides and the cases of their blocks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from appliance.domain import Stain
from appliance.intake.block import OPEN, SAME_CONTENT
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import GONE
from appliance.ledger.tables import CaseRow, SlideRow, id_of
from appliance.ledger.transaction import Transaction

_SLIDE_PERCENT: dict[str, int] = {
    SlideState.ARRIVED: 15,
    SlideState.IDENTIFIED: 20,
    SlideState.INSPECTED: 30,
    SlideState.READ: 50,
}
_CASE_PERCENT: dict[str, int] = {
    CaseState.READY: 60,
    CaseState.ALIGNED: 65,
    CaseState.SCORED: 80,
    CaseState.WRITTEN: 90,
    CaseState.UNPROVEN: 95,
}
_ASIDE = (SlideState.OTHER, SlideState.SUPERSEDED)
"""States of slides that no result comes of."""
_FOR_A_PERSON = frozenset(
    {CaseState.FAILED, CaseState.HELD, CaseState.UNDELIVERED, CaseState.PARTNERLESS}
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Progress of a work item: percent, words for the other side, and whether it ended.

    `cases` are those whose objects came of it; empty where it ends without any.
    """

    percent: int
    words: str
    ended: bool = False
    cases: tuple[CaseRow, ...] = ()


def standing_below(tx: Transaction, folder: str, series: Sequence[str]) -> Standing:
    """Return how far a work item is whose fetched `series`, folders, lie in a folder.

    A series that no scan has seen yet may become a rescan of a finished slide.
    """
    if not all(tx.slides_below(each) for each in series):
        return standing_of([], [], set())
    fetched = tx.slides_below(folder)
    live = [_standing_for(tx, row) for row in fetched]
    slides = list({id_of(row): row for row in live}.values())
    blocks = dict.fromkeys((row.accession, row.block) for row in slides if row.accession)
    cases = [case for block in blocks for case in tx.cases_of_block(*block)]
    there = {
        id_of(case): tx.current_slides(case.accession, case.block, pairing_of(case).stains)
        for case in cases
    }
    slides, cases = _without_lone(slides, cases, there)
    used = {id_of(slide) for case in cases for slide in there[id_of(case)].values()}
    return standing_of(slides, cases, used)


def _standing_for(tx: Transaction, row: SlideRow) -> SlideRow:
    """Return the slide that is in use for a row of the same bytes; the row itself where none is."""
    if row.state != SlideState.SUPERSEDED or row.reason != SAME_CONTENT:
        return row
    return next((r for r in tx.slides_of_content(row.fingerprint) if r.state not in GONE), row)


def _without_lone(
    slides: list[SlideRow], cases: list[CaseRow], there: Mapping[int, Mapping[Stain, SlideRow]]
) -> tuple[list[SlideRow], list[CaseRow]]:
    """Return slides and cases without those of which no result comes of this work item.

    `there` has the slides of each case. Once all slides are read, a case without its target slide
    gets none of them. Where no other case is there, it counts.
    """
    if any(row.state not in (*_ASIDE, SlideState.READ) for row in slides):
        return slides, cases
    kept = [
        case
        for case in cases
        if case.state not in OPEN or pairing_of(case).target in there[id_of(case)]
    ]
    needed = {(c.accession, c.block, str(stain)) for c in kept for stain in pairing_of(c).stains}
    rest = [row for row in slides if (row.accession, row.block, row.stain) in needed]
    return (rest, kept) if any(row.state not in _ASIDE for row in rest) else (slides, cases)


def standing_of(slides: Sequence[SlideRow], cases: Sequence[CaseRow], used: Set[int]) -> Standing:
    """Return how far the slides of a work item and the cases of their blocks are.

    `used` has the ids of the slides that the cases use. A case keeps the result of its former
    scans until a new one passes inspection.
    """
    if not slides:
        return Standing(10, "The slides are fetched; they are not taken up yet.")
    aside = [row for row in slides if row.state == SlideState.QUARANTINED]
    if aside:
        return Standing(20, f"A person is needed: a slide was set aside ({aside[0].reason}).")
    awaited = [row for row in slides if row.state not in _ASIDE]
    if not awaited:
        if any(row.state == SlideState.SUPERSEDED for row in slides):
            return Standing(0, "Other scans took the place of its slides.", ended=True)
        return Standing(0, "No slide of it is for Tandem.", ended=True)
    for_a_person = [case for case in cases if case.state in _FOR_A_PERSON]
    if for_a_person:
        case = for_a_person[0]
        return Standing(50, f"A person is needed: {case.state} ({case.reason or case.state}).")
    scored = all(row.state == SlideState.READ and id_of(row) in used for row in awaited)
    if scored and cases and all(case.state == CaseState.DELIVERED for case in cases):
        return Standing(100, "Delivered.", ended=True, cases=tuple(cases))
    slowest = min(_SLIDE_PERCENT.get(row.state, 10) for row in awaited)
    if cases and slowest == _SLIDE_PERCENT[SlideState.READ]:
        slowest = min(_CASE_PERCENT.get(case.state, 50) for case in cases)
    return Standing(slowest, "In progress.")
