"""A person's word: try a slide or a case again, at any state.

Each retry is one transaction, as every word is. ``tandem retry`` has an action of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from appliance.errors import LedgerError, SettingsError
from appliance.intake.block import OPEN, all_read, make_ready, reopen
from appliance.intake.content import EXCLUDED
from appliance.intake.said import said_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import PASSED
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction
from appliance.operations.audited import Word, find_case, find_slide, note_word, send_back, service
from appliance.operations.corrections import ENDED
from appliance.operations.retry import retry_case
from appliance.operations.signed import signed_by, signed_results
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings


def retry(settings: Settings, subject: str, word: Word, *, seen: str = "") -> str:
    """Try a slide or a case again, at any state. Returns what happens next.

    `seen` is the name of the slide (`shown_name`) or the state of the case that the person saw;
    empty: whatever it is now.

    Raises
    ------
    SettingsError
        If there is no such slide or case, it is not as `seen`, it waits for a slide, or its result
        is signed.
    """
    with service(settings) as (tx, now):
        if subject.partition("-")[0] == "case":
            case = find_case(tx, subject)
            if seen and seen != case.state:
                raise SettingsError(f"{case.subject} is {case.state} by now: look at it again.")
            return _retry_case(tx, case, settings, word, now)
        row = find_slide(tx, subject, seen)
        _retry_slide(tx, row, settings, word, now)
        return f"{row.subject} goes through the line again"


RETRY_AT_ONCE = 200
"""Most slides or cases that one word tries again: each is a transaction."""


def retry_all(settings: Settings, subjects: Sequence[str], word: Word) -> str:
    """Try slides that are set aside, and cases that failed or were refused, again.

    Each is a transaction of its own: the daemon goes on in between, and one that cannot be tried
    again, or is in trouble no more, keeps no other from it. After `RETRY_AT_ONCE` the rest waits.
    Returns what happens next.

    Raises
    ------
    LedgerError
        If another process keeps the ledger, with the first one that waited for it.
    """
    done, refused = 0, 0
    ledger = open_ledger(settings)
    try:
        for subject in subjects:
            if done == RETRY_AT_ONCE:
                break
            refused += 1
            try:
                with ledger.transaction() as tx:
                    _retry_in_trouble(tx, subject, settings, word, time.time())
                done, refused = done + 1, refused - 1
            except LedgerError:  # it says nothing of the subject
                raise
            except SettingsError:
                continue
    finally:
        ledger.close()
    told = f"{done} of {len(subjects)} are tried again"
    return f"{told}; {refused} cannot be, or are in trouble no more" if refused else told


def _retry_in_trouble(
    tx: Transaction, subject: str, settings: Settings, word: Word, now: float
) -> None:
    if subject.startswith("case-"):
        case = find_case(tx, subject)
        if case.state not in (CaseState.FAILED, CaseState.UNDELIVERED):
            raise SettingsError(f"{subject} is {case.state}.")
        tx.note(case.subject, "word-retry", now, params={"why": word.why}, by=word.by)
        retry_case(tx, case, settings, now)
        return
    row = find_slide(tx, subject)
    if row.state != SlideState.QUARANTINED:
        raise SettingsError(f"{subject} is {row.state}.")
    _retry_slide(tx, row, settings, word, now)


def _retry_slide(
    tx: Transaction, row: SlideRow, settings: Settings, word: Word, now: float
) -> None:
    """Send a slide through the line again; only one that is left out alone is taken back."""
    if row.state in PASSED and (signed := signed_results(tx, row, settings)):
        raise SettingsError(
            f"{row.subject}: {signed}. A pathologist has it analyzed again: tandem rerun CASE"
        )
    said = said_of(row)
    if row.state == SlideState.OTHER and row.reason == EXCLUDED:
        said = replace(said, excluded=False)
    note_word(tx, row, "word-retry", word, now, said)
    send_back(tx, row, word, now, leaves=False)


def _retry_case(tx: Transaction, case: CaseRow, settings: Settings, word: Word, now: float) -> str:
    params = {"why": word.why}
    tx.note(case.subject, "word-retry", now, params=params, by=word.by)
    if case.state == CaseState.HELD:
        accepted = case.overruled
        reopen(tx, case, "retry", {}, now, word.by)
        case.overruled = accepted
    if case.state in OPEN:
        ready = make_ready(tx, case, now)
        return f"{case.subject} {'is analyzed again' if ready else f'is {case.state}'}"
    # What was refused is sent again. A new result would take a person's signature with it, also by
    # a second press on a page that shows the case as it was.
    signed = case.state in ENDED and signed_by(case, settings)
    if signed and case.state == CaseState.DELIVERED:
        raise SettingsError(
            f"{case.subject}: a person signed its result. To have it analyzed again: tandem rerun "
            f"{case.subject}"
        )
    to_analyze = case.state in ENDED and case.state != CaseState.UNDELIVERED
    if to_analyze and not signed and all_read(tx, case):
        accepted = case.overruled
        reopen(tx, case, "retry", {}, now, word.by)
        case.overruled = accepted
        make_ready(tx, case, now)
        return f"{case.subject} is analyzed again; a new result replaces the former"
    if case.state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED) and not case.reason:
        return f"{case.subject} is {case.state}: it is under way and goes on by itself"
    return retry_case(tx, case, settings, now)
