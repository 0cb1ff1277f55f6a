"""Blocks: which slides and cases belong together, by the stains that each case pairs."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.domain import Pairing, Stain
from appliance.ledger.tables import CaseRow, SlideRow


def pairing_of(case: CaseRow) -> Pairing:
    """Return the pairing that a case was opened with, whether or not its assay is installed."""
    return Pairing(
        assay=case.assay,
        anatomy=Stain(case.anatomy),
        target=Stain(case.target),
        expected=False,
    )


def is_installed(case: CaseRow, pairings: Iterable[Pairing]) -> bool:
    """Return whether a case's assay is among those installed here."""
    return any(pairing.assay == case.assay for pairing in pairings)


def case_of_slide(slide: SlideRow, cases: Iterable[CaseRow]) -> CaseRow | None:
    """Return the first of `cases` that is of the slide's block and uses its stain."""
    for case in cases:
        same_block = (case.accession, case.block) == (slide.accession, slide.block)
        if same_block and slide.stain in pairing_of(case).stains:
            return case
    return None
