"""Actions of people on the pages: the service of the commands, and nothing else.

A page reads by the ledger's read-only door. What a person does here is one call of
`appliance.operations`, as ``tandem correct`` or ``tandem identify`` make it: it opens the ledger
for one transaction and keeps the person with the event; the daemon does the rest. Whether the
person's role covers an action is checked here, whatever the page offered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.errors import TandemError
from appliance.findings.findings import Findings
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.reader import LedgerReader
from appliance.operations import first_run, retry_word, word
from appliance.operations.audited import Word, service
from appliance.operations.corrections import (
    CONFIRMED,
    CORRECTED,
    ENDED,
    NO_SCORE,
    SIGNED,
    confirm_score,
    correct_score,
    rerun_case,
    signed_words,
    signer_unread,
    undone_words,
)
from appliance.operations.doctor import check_destination, find_destination
from appliance.operations.first_run import pacs_section
from appliance.operations.users import Role
from appliance.settings.destinations import DestinationSection
from appliance.settings.settings import Settings

SPOKEN = (CONFIRMED, CORRECTED, *SIGNED)
"""Codes of the notes with a person's word on a score, and of the events of a score by such a word,
also of one that stands after the case was analyzed again."""
_FIELDS = {
    "by": "Your name",
    "why": "Reason",
    "accession": "Accession",
    "block": "Block",
    "stain": "Stain",
}
"""Names of the fields of a page for options of the commands."""


@dataclass(frozen=True, slots=True)
class Person:
    """Person who acts: the user who is signed in, or whoever sits at this machine."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcome of an action, in words; `done` tells whether it was carried out."""

    done: bool
    text: str


def undone_by_rerun(
    settings: Settings, reader: LedgerReader, case: int, findings: Findings | None
) -> str:
    """Return what a rerun undoes of people's words on a result; empty where nobody signed it.

    `findings` is None for a case without a result, and where they cannot be read: the ledger and
    the objects tell who signed them.
    """
    if findings is not None:
        signed = signed_words(findings)
    else:
        with reader.reading() as tx:
            row = tx.case(case)
            signed = (
                signer_unread(tx, row, settings) if row is not None and row.findings_key else ""
            )
    return undone_words(signed) if signed else ""


def has_result(state: CaseState) -> bool:
    """Return whether a case of this state has a result that a person can speak on."""
    return state in ENDED


def confirm(settings: Settings, case: str, *, seen: str, result: str, by: Person) -> Answer:
    """Sign the score of a case; score and result are still those that the person saw."""
    return _told(
        by,
        Role.PATHOLOGIST,
        lambda: confirm_score(settings, case, by=by.name, seen=seen, result=result),
    )


def correct(
    settings: Settings, case: str, score: str, *, standing: str, result: str, by: Person, why: str
) -> Answer:
    """Give a case a person's score; the score that it has is confirmed by it.

    `standing` is the score that the person saw, `result` the key of the result.
    """
    if score == standing:
        return confirm(settings, case, seen=standing, result=result, by=by)
    if not why.strip():
        return Answer(False, "Reason: say why, for the report.")
    return _told(
        by,
        Role.PATHOLOGIST,
        lambda: correct_score(settings, case, score, by=by.name, why=why, result=result),
    )


def cannot_score(settings: Settings, case: str, *, result: str, by: Person, why: str) -> Answer:
    """Say that a case, whose result is still the one that the person saw, cannot be scored."""
    return correct(settings, case, NO_SCORE, standing="", result=result, by=by, why=why)


def rerun(settings: Settings, case: str, *, by: Person, result: str = "") -> Answer:
    """Analyze a case with a result again; it is still the one that the person saw.

    A result that somebody signed takes a pathologist.
    """
    if not by.name.strip():
        return Answer(False, "Your name: say who asks for it.")
    may = by.role.covers(Role.PATHOLOGIST)
    return _told(
        by,
        Role.OPERATOR,
        lambda: rerun_case(settings, case, by=by.name, result=result, also_signed=may),
    )


def retry(settings: Settings, subject: str, *, by: Person, why: str, seen: str = "") -> Answer:
    """Try a slide or a case again; `seen` is the name of the slide, or the state of the case, that
    the person saw."""
    return _told(
        by,
        Role.OPERATOR,
        lambda: retry_word.retry(settings, subject, Word(by=by.name, why=why), seen=seen),
    )


RETRY_AT_ONCE = retry_word.RETRY_AT_ONCE


def retry_all(settings: Settings, subjects: Sequence[str], *, by: Person, why: str) -> Answer:
    """Try slides and cases of one cause of trouble again."""
    return _told(
        by,
        Role.OPERATOR,
        lambda: retry_word.retry_all(settings, subjects, Word(by=by.name, why=why)),
    )


def keep(settings: Settings, slide: str, *, by: Person, why: str, seen: str = "") -> Answer:
    """Keep a slide before other scans of it; `seen` is the name of the slide as it was shown."""
    return _told(
        by, Role.OPERATOR, lambda: word.keep(settings, slide, Word(by=by.name, why=why), seen=seen)
    )


def let_go_on(settings: Settings, case: str, *, held: str, by: Person, why: str) -> Answer:
    """Let a held case go on; `held` is the name of the hold that the person saw."""
    return _told(
        by,
        Role.OPERATOR,
        lambda: word.keep(settings, case, Word(by=by.name, why=why), seen=held),
    )


def exclude(settings: Settings, slide: str, *, by: Person, why: str, seen: str = "") -> Answer:
    """Leave a slide out of every case; `seen` is the name of the slide as it was shown."""
    return _told(
        by,
        Role.OPERATOR,
        lambda: word.exclude_slide(settings, slide, Word(by=by.name, why=why), seen=seen),
    )


def pair(
    settings: Settings,
    anatomy: str,
    target: str,
    *,
    by: Person,
    why: str,
    seen: tuple[str, str] = ("", ""),
) -> Answer:
    """Say that two slides are a pair; `seen` are the names of the slides as they were shown."""
    return _told(
        by,
        Role.OPERATOR,
        lambda: word.pair_slides(settings, anatomy, target, Word(by=by.name, why=why), seen=seen),
    )


def try_pair(
    settings: Settings,
    anatomy: str,
    target: str,
    *,
    by: Person,
    seen: tuple[str, str] = ("", ""),
) -> Answer:
    """Have one pair analyzed before all others, to see that the site's settings work.

    `seen` are the names of the slides as they were shown.
    """
    said = "First run: one pair."
    return _told(
        by,
        Role.OPERATOR,
        lambda: first_run.try_pair(
            settings, anatomy, target, Word(by=by.name, why=said), seen=seen
        ),
    )


def name_slide(
    settings: Settings,
    slide: str,
    *,
    accession: str,
    block: str,
    stain: str,
    by: Person,
    why: str,
    seen: str = "",
) -> Answer:
    """Say whose slide it is, or which stain it has; what is empty stays.

    `seen` is the name of the slide as it was shown.
    """
    words = word.SlideWords(accession=accession, block=block, stain=stain)
    return _told(
        by,
        Role.OPERATOR,
        lambda: word.say_slide(settings, slide, words, Word(by=by.name, why=why), seen=seen),
    )


def test_destination(settings: Settings, name: str, *, by: Person) -> Answer:
    """Ask a destination of the settings whether it answers, and keep that it was asked."""
    return _asked(settings, lambda: find_destination(settings, name), name, by)


def try_pacs(
    settings: Settings, host: str, port: int, called: str, calling: str, *, by: Person
) -> Answer:
    """Ask a PACS that the settings do not name yet, and keep that it was asked."""
    return _asked(settings, lambda: pacs_section(host, port, called, calling), host, by)


def _asked(
    settings: Settings, section: Callable[[], DestinationSection], name: str, by: Person
) -> Answer:
    if not by.name.strip():
        return Answer(False, "Your name: say who asks for it.")

    def ask() -> str:
        outcome = "it does not answer"
        try:
            said = check_destination(settings, section())
            outcome = "it answers"
        finally:
            if settings.ledger_file.is_file():  # before the first start there is no record
                with service(settings) as (tx, now):
                    params = {"destination": name, "outcome": outcome}
                    tx.note("dashboard", "destination-tested", now, params=params, by=by.name)
        return f"{name}: {said}"

    return _told(by, Role.ADMIN, ask)


def note_access(
    settings: Settings, code: str, *, by: str, about: int | None = None, **params: str
) -> Answer:
    """Keep in the audit trail who came, went, or opened a case; no role is needed for it.

    `about` is the ID of the case; of one that does not exist nothing is kept. The answer's text is
    `code` where it was kept.
    """

    def note() -> str:
        with service(settings) as (tx, now):
            if about is not None and tx.case(about) is None:
                return ""
            tx.note("dashboard", code, now, params=params, by=by)
        return code

    return _told(Person(by, Role.VIEWER), Role.VIEWER, note)


def _told(by: Person, needed: Role, act: Callable[[], str]) -> Answer:
    if not by.role.covers(needed):
        return Answer(
            False, f"Your role is {by.role}; this needs {needed}. An admin can change it."
        )
    try:
        return Answer(True, act())
    except TandemError as err:
        # Options of the commands are fields here.
        return Answer(False, re.sub(r"^--(\w+)", _field, str(err)))
    except OSError as err:  # the disk is full, or the state folder is away
        return Answer(False, f"It could not be written: {err.strerror or type(err).__name__}.")


def _field(option: re.Match[str]) -> str:
    return _FIELDS.get(option[1], option[0])
