"""Alignment of a case as findings state it."""

from __future__ import annotations

from appliance.findings.measured import AlignmentFacts
from appliance.registration.alignment import Alignment


def alignment_facts(alignment: Alignment) -> AlignmentFacts:
    """Facts of an alignment as findings hold them."""
    main = alignment.mapping.main
    return AlignmentFacts(
        matrix=main.matrix,
        shift_um=main.shift_um,
        error_um=alignment.error_um,
        overlap=alignment.overlap,
        agreement=alignment.agreement,
        lost_mm2=alignment.lost_mm2,
        mirrored=alignment.mirrored,
        pieces=len(alignment.mapping.pieces),
        method=alignment.method,
    )
