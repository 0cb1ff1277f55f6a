"""Parts of a specimen that number their blocks alike: P1 A1 is not P2 A1.

A mark of the part is no part of the block, as most laboratories letter their blocks by part. Where
two parts of an accession have slides of one block, a person says which block each is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from appliance.intake.identity.evidence import TOLD
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.queries import PASSED
from appliance.ledger.tables import SlideRow

FIRST = "1"
"""Part of a slide without a mark: others are marked."""


def part_of(slide: SlideRow) -> str:
    """Return the part that an identified slide's sources mark; empty where a person or a sidecar
    names its block."""
    claims = json.loads(slide.evidence)
    if any(claim["block"] for claim in claims if claim["source"] in TOLD):
        return ""
    return next((claim["part"] for claim in claims if claim.get("part")), FIRST)


def another_part(slide: SlideRow, block: Iterable[SlideRow]) -> str:
    """Say which slide of the block is of another part than this one; empty where none is."""
    mine = part_of(slide)
    for other in block:
        known = other.state in (SlideState.IDENTIFIED, *PASSED) and other.id != slide.id
        part = part_of(other) if known else ""
        if mine and part and mine != part:
            return (
                f"part {mine} of the specimen, and {other.subject} of block {slide.block} is of "
                f"part {part}: name the block with its part"
            )
    return ""
