"""Results that people stand for: who signed them, and which slides they rest on."""

from __future__ import annotations

from appliance.delivery.index import sound_contents
from appliance.ledger.blocks import pairing_of
from appliance.ledger.queries import Queries
from appliance.ledger.tables import CaseRow, SlideRow, params_of
from appliance.operations.corrections import CONFIRMED, CORRECTED, ENDED, SIGNED
from appliance.settings.settings import Settings

_UNKNOWN = "Somebody (which its damaged objects do not tell)"


def signed_by(case: CaseRow, settings: Settings) -> str:
    """Return who stands for the result of a case's objects; empty where nobody does.

    Where the objects do not tell, somebody may.
    """
    if not case.objects_key:
        return ""
    contents = sound_contents(case.objects_key, settings)
    if contents is None:
        return _UNKNOWN
    # Objects of earlier builds hold a correction without a sign-off.
    words = (contents.get("correction"), *contents.get("sign_offs", ()))
    return " and ".join(dict.fromkeys(str(each["by"]) for each in words if each is not None))


def signed_results(tx: Queries, slide: SlideRow, settings: Settings) -> str:
    """Return who signed which results of cases that a slide belongs to; empty for none."""
    told = []
    for case in tx.cases_of_block(slide.accession, slide.block):
        if slide.stain in pairing_of(case).stains:
            who = signed_by(case, settings) if case.state in ENDED else _signed_since(tx, case)
            told += [f"{who} signed the result of {case.subject}"] if who else []
    return "; ".join(told)


def _signed_since(tx: Queries, case: CaseRow) -> str:
    """Return who signed a result whose objects are not written yet, or could not be written."""
    if not case.findings_key or tx.scored_by(case.subject) not in SIGNED:
        return ""
    words = [e for e in tx.events(case.subject) if e.code in (CORRECTED, CONFIRMED)]
    # Earlier builds kept the person among the facts.
    by = words[-1].by or params_of(words[-1]).get("by", "") if words else ""
    return str(by or "Somebody")
