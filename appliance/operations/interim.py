"""Record of the interim hints of this site: the notes of the ledger beside the scores.

A hint is compared with the score that its case has now, a person's where one corrected it. It is
right where both are the same class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select

from appliance.findings.findings import RESEARCH_USE
from appliance.ledger import overview
from appliance.ledger.hints import CODE, Hint, hint_in
from appliance.ledger.queries import GONE, Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow, SlideRow, id_named
from appliance.operations.corrections import CONFIRMED, CORRECTED, SIGNED
from appliance.operations.status import CHUNK, require_ledger
from appliance.settings.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hinted:
    """A hint, its case, and whether a person confirmed or corrected the case's score."""

    hint: Hint
    case: CaseRow
    signed: bool


def interim_report(settings: Settings) -> dict[str, Any]:
    """Return how often hints were right, by the weights that gave them; ready for JSON.

    A case counts once, by the newest hint on its slide. ``confusion`` has the score of the case by
    the class that the hint said. ``signed`` counts the cases whose score a person confirmed or
    corrected. Intervals are Wilson's at 95 %.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings.
    LedgerError
        If the ledger is damaged or locked.
    """
    require_ledger(settings)
    with closing(LedgerReader(settings.ledger_url)) as reader:
        if not reader.ready:  # the daemon is creating it
            found: list[_Hinted] = []
        else:
            with reader.reading() as tx:
                found = list(_hinted(tx))
    by_weights: dict[str, list[_Hinted]] = {}
    for each in found:
        if each.hint.said:
            by_weights.setdefault(_weights(each.hint)["fingerprint"], []).append(each)
    return {
        "notice": RESEARCH_USE,
        "without_opinion": dict(Counter(h.hint.unusual for h in found if not h.hint.said)),
        "weights": [_figures(each) for each in by_weights.values()],
    }


def _hinted(tx: Queries) -> Iterable[_Hinted]:
    """The newest hint of each case, of the slide that the case uses."""
    notes = tx.notes(CODE)
    slides: dict[str, SlideRow] = {}
    cases: dict[tuple[str, str, str], CaseRow] = {}
    for rows in _noted(tx, notes):
        slides |= {slide.subject: slide for slide in rows}
        for block in overview.cases_by_block(tx, rows).values():
            cases |= {(case.accession, case.block, case.assay): case for case in block}
    if not cases:
        return ()
    known = {case.subject for case in cases.values()}
    spoken = known & {note.subject for note in tx.notes(CONFIRMED, CORRECTED)}
    signed = {subject for subject in spoken if tx.scored_by(subject) in SIGNED}
    newest: dict[str, _Hinted] = {}
    for note in notes:
        slide = slides.get(note.subject)
        hint = None if slide is None else hint_in(note, slide)
        if slide is None or hint is None:
            continue
        case = cases.get((slide.accession, slide.block, hint.assay))
        if case is not None:
            newest[case.subject] = _Hinted(hint=hint, case=case, signed=case.subject in signed)
    return newest.values()


def _noted(tx: Queries, notes: Iterable[EventRow]) -> Iterable[list[SlideRow]]:
    """Yield the slides of some notes that cases use, `CHUNK` at once: few of all."""
    ids = sorted({i for note in notes if (i := id_named(note.subject, "slide")) is not None})
    for start in range(0, len(ids), CHUNK):
        chosen = col(SlideRow.id).in_(ids[start : start + CHUNK])
        query = select(SlideRow).where(chosen, col(SlideRow.state).not_in(GONE))
        yield list(tx.session.exec(query).all())


def _weights(hint: Hint) -> Mapping[str, Any]:
    """Return the weights of an opinion."""
    weights: Mapping[str, Any] = (hint.opinion or {})["weights"]
    return weights


def _figures(hinted: list[_Hinted]) -> dict[str, Any]:
    weights = _weights(hinted[0].hint)
    scored = [each for each in hinted if each.case.score]
    confusion: dict[str, Counter[str]] = {}
    for each in scored:
        confusion.setdefault(each.hint.said, Counter())[each.case.score] += 1
    return {
        "name": weights["name"],
        "version": weights["version"],
        "fingerprint": weights["fingerprint"],
        "hints": len(hinted),
        "waiting": sum(not each.case.findings_key for each in hinted),
        "all": _right(scored),
        "signed": _right([each for each in scored if each.signed]),
        "confusion": {said: dict(counts) for said, counts in sorted(confusion.items())},
    }


def _right(scored: list[_Hinted]) -> dict[str, Any]:
    """Number of cases with a score, of right hints, their share and its interval."""
    from scipy.stats import binomtest

    right = sum(each.hint.said == each.case.score for each in scored)
    if not scored:
        return {"scored": 0, "right": 0, "share": None, "interval": None}
    found = binomtest(right, len(scored)).proportion_ci(method="wilson")
    return {
        "scored": len(scored),
        "right": right,
        "share": round(right / len(scored), 4),
        "interval": [round(float(found.low), 4), round(float(found.high), 4)],
    }
