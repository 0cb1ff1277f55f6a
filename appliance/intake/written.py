"""Writing of a block: A01 is A1, and the slides of one block are kept under one of the two."""

from __future__ import annotations

import json
from collections.abc import Iterable

from appliance.intake.identity.evidence import TOLD, block_key
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.queries import PASSED
from appliance.ledger.tables import SlideRow
from appliance.settings.identify import Identify

_THERE = (SlideState.IDENTIFIED, *PASSED, SlideState.SUPERSEDED)


def block_as_kept(
    slide: SlideRow, former: str, others: Iterable[SlideRow], settings: Identify
) -> str:
    """Return the block of a slide as it was kept before, or as other slides of the accession are.

    `former` is the slide's own before. Objects, orders and cases name a block as it was kept. The
    word of a person or a sidecar is kept as it is.
    """
    told = any(claim["block"] for claim in json.loads(slide.evidence) if claim["source"] in TOLD)
    kept = [row.block for row in others if row.state in _THERE and row.id != slide.id]
    if told or not slide.block or slide.block in kept:
        return slide.block
    key = block_key(slide.block, settings)
    alike = (each for each in (former, *kept) if each and block_key(each, settings) == key)
    return next(alike, slide.block)
