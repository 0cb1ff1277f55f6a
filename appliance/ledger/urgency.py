"""STAT: a block that a person wants first. All slides and cases of it are marked."""

from __future__ import annotations

from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction


def set_stat(
    tx: Transaction, row: SlideRow | CaseRow, on: bool, now: float, *, by: str = ""
) -> int:
    """Mark a slide or case and all of its block; return how many were changed.

    `by` is the person who wants it, empty where nobody said so.

    A slide that is not identified yet has no block: its block follows when it is.
    """
    rows: list[SlideRow | CaseRow] = [row]
    if row.accession:
        rows += tx.slides_of_block(row.accession, row.block)
        rows += tx.cases_of_block(row.accession, row.block)
    changed = 0
    for each in rows:
        if each.stat != on:
            each.stat = on
            changed += 1
            tx.session.add(each)
            tx.note(each.subject, "stat" if on else "stat-off", now, by=by)
    return changed


def follow_block(tx: Transaction, slide: SlideRow, now: float) -> None:
    """Mark a slide that joins a block, or the block, where one of the two is STAT."""
    block = slide.accession, slide.block
    rows: list[SlideRow | CaseRow] = [*tx.slides_of_block(*block), *tx.cases_of_block(*block)]
    if slide.stat or any(row.stat for row in rows):
        set_stat(tx, slide, True, now)
