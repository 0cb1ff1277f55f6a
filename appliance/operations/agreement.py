"""The appliance's scores beside people's: corrections and confirmations that the ledger holds.

A person saw the appliance's score before they spoke, and spoke on the cases that they chose. The
figures are agreement after the fact, not accuracy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import func
from sqlmodel import col, select

from appliance.assays.assay import Assay
from appliance.assays.registry import assays
from appliance.findings.findings import RESEARCH_USE
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow, id_named, params_of
from appliance.operations.corrections import CONFIRMED, CORRECTED, ENDED, GIVEN
from appliance.operations.status import require_ledger
from appliance.settings.settings import Settings

AT_ONCE = 500
"""Most cases that one query names: SQLite has a limit on parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """A person's last word on a case: the appliance's score, empty without one, and theirs."""

    case: CaseRow
    given: str
    said: str
    by: str


def compare_with_people(settings: Settings) -> dict[str, Any]:
    """Compare the appliance's scores with people's, by assay; ready for JSON.

    Each case counts once, by its last word, with the score that the appliance had given then. Rows
    of ``confusion`` are the person's score, columns the appliance's, the last of them no score.
    Intervals resample whole accessions. Three numbers of cases are in no other figure: ``silent``
    of those with a result on which nobody said a word, ``unscored`` of those of which a person said
    that they cannot be scored, ``other_scores`` of those with a word that the assay has no more.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings.
    LedgerError
        If the ledger is damaged or locked.
    """
    require_ledger(settings)
    reader = LedgerReader(settings.ledger_url)
    try:
        if not reader.ready:  # the daemon is creating it
            cases, notes, ended = [], [], {}
        else:
            with reader.reading() as tx:
                notes, ended = tx.notes(CORRECTED, CONFIRMED), _results(tx)
                cases = _spoken_on(tx, notes)
    finally:
        reader.close()
    words = list(_last_words(cases, notes))
    found = {}
    for assay in assays():
        own = [word for word in words if word.case.assay == assay.name]
        silent = ended.get(assay.name, 0) - sum(word.case.state in ENDED for word in own)
        if own or silent:
            found[assay.name] = _figures(assay, own) | {"silent": silent}
    return {"notice": RESEARCH_USE, "data": "people", "assays": found}


def _results(tx: Queries) -> dict[str, int]:
    """Return the number of cases with a result, by assay."""
    query = (
        select(CaseRow.assay, func.count())
        .where(col(CaseRow.state).in_(ENDED))
        .group_by(CaseRow.assay)
    )
    return dict(tx.session.exec(query).all())


def _spoken_on(tx: Queries, notes: Iterable[EventRow]) -> list[CaseRow]:
    """Return the cases of some notes: few of all that the ledger has."""
    ids = sorted({i for note in notes if (i := id_named(note.subject, "case")) is not None})
    found: list[CaseRow] = []
    for start in range(0, len(ids), AT_ONCE):
        chosen = col(CaseRow.id).in_(ids[start : start + AT_ONCE])
        found += tx.session.exec(select(CaseRow).where(chosen)).all()
    return found


def _last_words(cases: Iterable[CaseRow], notes: Iterable[EventRow]) -> Iterable[_Word]:
    """The last word on each case."""
    known = {case.subject: case for case in cases}
    words: dict[str, _Word] = {}
    for note in notes:
        if (case := known.get(note.subject)) is None:
            continue
        params, before = params_of(note), words.get(note.subject)
        given = params.get(GIVEN)
        if given is None:  # a correction of an earlier build names only the score that it replaced
            was = params.get("was") or ""
            given = before.given if before is not None and before.said == was else was
        words[note.subject] = _Word(case=case, given=given, said=params["score"], by=note.by)
    return words.values()


def _figures(assay: Assay, words: list[_Word]) -> dict[str, Any]:
    from models.evaluation.figures import slide_figures
    from models.evaluation.judged import JudgedSlides

    grades = {score: grade for grade, score in enumerate(assay.scores)}
    # "Cannot be scored" has no grade, nor has a score of an earlier version of the assay.
    unscored = sum(not word.said for word in words)
    spoken, words = len(words), [word for word in words if word.said in grades]
    judged = JudgedSlides(
        truth=np.array([grades[word.said] for word in words], dtype=np.int64),
        found=np.array([grades.get(word.given, -1) for word in words], dtype=np.int64),
        patient=np.array([word.case.accession for word in words], dtype=np.str_),
    )
    figures = slide_figures(judged, classes=len(assay.scores))
    for each in (figures, figures.get("interval", {})):
        if "accuracy" in each:
            each["agreement"] = each.pop("accuracy")
    agreed = Counter(word.by for word in words if word.given == word.said)
    return {
        "title": assay.title,
        "scores": list(assay.scores),
        **figures,
        "unscored": unscored,
        "other_scores": spoken - unscored - len(words),
        "people": [
            {"by": by, "n": n, "exact": agreed[by]}
            for by, n in Counter(word.by for word in words).most_common()
        ],
    }
