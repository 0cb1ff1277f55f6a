"""Blocks: which slides and cases belong together, by the pairings of the assays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.domain import Pairing
from appliance.ledger.tables import CaseRow, SlideRow


def pairing_of(case: CaseRow, pairings: Iterable[Pairing]) -> Pairing | None:
    """Return the pairing of a case's assay, or None where that assay is not installed."""
    return next((pairing for pairing in pairings if pairing.assay == case.assay), None)


def case_of_slide(
    slide: SlideRow, cases: Iterable[CaseRow], pairings: Sequence[Pairing]
) -> CaseRow | None:
    """Return the first of `cases` that is of the slide's block and uses its stain."""
    for case in cases:
        if (case.accession, case.block) == (slide.accession, slide.block):
            pairing = pairing_of(case, pairings)
            if pairing is not None and slide.stain in pairing.stains:
                return case
    return None
