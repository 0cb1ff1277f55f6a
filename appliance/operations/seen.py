"""Names by which a person says what they looked at: a result, a slide, or what holds a case."""

from __future__ import annotations

import hashlib
import json

from appliance.ledger.lifecycle import SLIDES_UNDER_WAY, CaseState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow

DIGITS = 12
"""Digits of a name; the key of a result has 32."""
NO_RESULT = "none"
"""Name by which a person says that there was no result."""


def result_name(findings_key: str) -> str:
    """Return the name of a result by the key of its findings; empty where there is none.

    The name of a name is the name itself.
    """
    return findings_key.rpartition("/")[2][:DIGITS]


def hold_name(case: CaseRow) -> str:
    """Return the name of what holds a case, a digest; empty where nothing holds it.

    Another reason, other parameters and a later hold have another name.
    """
    if case.state != CaseState.HELD:
        return ""
    return _digest(case.reason, case.params, case.changed_at)


def shown_name(slide: SlideRow) -> str:
    """Return the name of a slide as it is shown: its bytes, whose it is, its state; a digest.

    Another file of the same name has another name. So has the same file under another accession,
    block or stain, after another person's word, and where it is set aside for another reason, or
    no more. What the line does with it meanwhile changes no name. While a file is being written,
    its arrival is named in place of its bytes.
    """
    goes = slide.state in (*SLIDES_UNDER_WAY, SlideState.READ)
    state = "" if goes else f"{slide.state} {slide.reason}"
    shown = slide.accession, slide.block, slide.stain, slide.said, state
    if slide.state == SlideState.ARRIVING:
        return _digest(slide.changed_at, *shown)
    return _digest(slide.size_bytes, slide.modified_ns, slide.fingerprint, *shown)


def _digest(*facts: str | float) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:DIGITS]
