"""Actions of people on the pages: the service of the commands, and nothing else.

A page reads by the ledger's read-only door. What a person does here is one call of
`appliance.operations`, as ``tandem correct`` or ``tandem identify`` make it: it opens the ledger
for one transaction and keeps the person with the event; the daemon does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import TandemError
from appliance.ledger.lifecycle import CaseState
from appliance.operations import word
from appliance.operations.audited import Word
from appliance.operations.corrections import (
    CONFIRMED,
    CORRECTED,
    ENDED,
    NO_SCORE,
    confirm_score,
    correct_score,
    rerun_case,
)
from appliance.settings.settings import Settings

SPOKEN = (CONFIRMED, CORRECTED)
"""Codes of the notes with a person's word on a score."""
_FIELDS = {
    "by": "Your name",
    "why": "Reason",
    "accession": "Accession",
    "block": "Block",
    "stain": "Stain",
}
"""Names of the fields of a page for options of the commands."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcome of an action, in words; `done` tells whether it was carried out."""

    done: bool
    text: str


def has_result(state: CaseState) -> bool:
    """Return whether a case of this state has a result that a person can speak on."""
    return state in ENDED


def confirm(settings: Settings, case: str, *, seen: str, by: str) -> Answer:
    """Sign the score of a case, which is still the one that the person saw."""
    return _told(lambda: confirm_score(settings, case, by=by, seen=seen))


def correct(
    settings: Settings, case: str, score: str, *, standing: str, by: str, why: str
) -> Answer:
    """Give a case a person's score; the score that it has is confirmed by it.

    `standing` is the score that the person saw.
    """
    if score == standing:
        return confirm(settings, case, seen=standing, by=by)
    if not why.strip():
        return Answer(False, "Reason: say why, for the report.")
    return _told(lambda: correct_score(settings, case, score, by=by, why=why))


def cannot_score(settings: Settings, case: str, *, by: str, why: str) -> Answer:
    """Say that a case cannot be scored."""
    return correct(settings, case, NO_SCORE, standing="", by=by, why=why)


def rerun(settings: Settings, case: str, *, by: str) -> Answer:
    """Analyze a case with a result again."""
    if not by.strip():
        return Answer(False, "Your name: say who asks for it.")
    return _told(lambda: rerun_case(settings, case, by=by))


def retry(settings: Settings, subject: str, *, by: str, why: str) -> Answer:
    """Try a slide or a case again."""
    return _told(lambda: word.retry(settings, subject, Word(by=by, why=why)))


def keep(settings: Settings, subject: str, *, by: str, why: str) -> Answer:
    """Keep a slide before other scans of it, or let a held case go on."""
    return _told(lambda: word.keep(settings, subject, Word(by=by, why=why)))


def exclude(settings: Settings, slide: str, *, by: str, why: str) -> Answer:
    """Leave a slide out of every case."""
    return _told(lambda: word.exclude_slide(settings, slide, Word(by=by, why=why)))


def pair(settings: Settings, anatomy: str, target: str, *, by: str, why: str) -> Answer:
    """Say that two slides are a pair."""
    return _told(lambda: word.pair_slides(settings, anatomy, target, Word(by=by, why=why)))


def name_slide(
    settings: Settings,
    slide: str,
    *,
    accession: str,
    block: str,
    stain: str,
    by: str,
    why: str,
) -> Answer:
    """Say whose slide it is, or which stain it has; what is empty stays."""
    words = word.SlideWords(accession=accession, block=block, stain=stain)
    return _told(lambda: word.say_slide(settings, slide, words, Word(by=by, why=why)))


def _told(act: Callable[[], str]) -> Answer:
    try:
        return Answer(True, act())
    except TandemError as err:
        # Options of the commands are fields here.
        return Answer(False, re.sub(r"^--(\w+)", _field, str(err)))
    except OSError as err:  # the disk is full, or the state folder is away
        return Answer(False, f"It could not be written: {err.strerror or type(err).__name__}.")


def _field(option: re.Match[str]) -> str:
    return _FIELDS.get(option[1], option[0])
