"""Names by which a person says what they looked at: a result, or what holds a case."""

from __future__ import annotations

import hashlib
import json

from appliance.ledger.lifecycle import CaseState
from appliance.ledger.tables import CaseRow

DIGITS = 12
"""Digits of a name; the key of a result has 32."""


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
    text = json.dumps([case.reason, case.params, case.changed_at])
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
