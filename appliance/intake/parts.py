"""Parts of a specimen that number their blocks alike: P1 A1 is not P2 A1.

A mark of the part is no part of the block, as most laboratories letter their blocks by part. Where
two parts of an accession have slides of one block, a person says which block each is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from appliance.intake.identity.evidence import TOLD
from appliance.intake.identity.sources import NameSources
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.queries import PASSED
from appliance.ledger.tables import SlideRow

FIRST = "1"
"""Part of a slide whose name has a block without a mark: others are marked."""
_MARKING = ("name", "folder")
"""Sources that carry the mark of a part wherever there is one; a barcode may not."""
_READ = (*_MARKING, "barcode", "label")


def part_of(slide: SlideRow, sources: NameSources) -> str:
    """Return the part that an identified slide's sources mark; empty where that is not known.

    It is not where a person or a sidecar names the block, where a barcode alone does, and of a
    slide that an edition identified which kept no mark. Texts without a kept mark are read once
    more: earlier editions knew fewer forms of marks.
    """
    claims = json.loads(slide.evidence)
    if any(claim["block"] for claim in claims if claim["source"] in TOLD):
        return ""
    looked_for = [claim for claim in claims if "part" in claim]
    marks = [
        claim["part"] or sources.of_text(claim["source"], claim["text"]).part
        for claim in looked_for
        if claim["source"] in _READ
    ]
    marked = next(filter(None, marks), "")
    if marked or not any(c["block"] for c in looked_for if c["source"] in _MARKING):
        return str(marked)
    return FIRST


def another_part(slide: SlideRow, block: Iterable[SlideRow], sources: NameSources) -> str:
    """Say which slide of the block is of another part than this one; empty where none is."""
    mine = part_of(slide, sources)
    for other in block:
        known = other.state in (SlideState.IDENTIFIED, *PASSED) and other.id != slide.id
        part = part_of(other, sources) if known else ""
        if mine and part and mine != part:
            return (
                f"part {mine} of the specimen, and {other.subject} of block {slide.block} is of "
                f"part {part}: name the block with its part"
            )
    return ""
