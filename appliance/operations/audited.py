"""Rows that a person's word changes: who says it and why, one transaction, the way back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from appliance.errors import SettingsError
from appliance.intake.block import leave_block
from appliance.intake.said import Said, set_said
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import CaseRow, SlideRow, id_named, set_reason
from appliance.ledger.transaction import Transaction
from appliance.operations.seen import shown_name
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings
from appliance.text import is_text, plain_spaces

ON_ITS_WAY = (SlideState.ARRIVING, SlideState.ARRIVED)
"""States of slides that are not identified yet, or not by the last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Author of a word, and the reason."""

    by: str
    why: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "why", plain_spaces(self.why))
        for option, text in (("--by", self.by), ("--why", self.why)):
            if not text.strip() or not text.isprintable() or not is_text(text):
                raise SettingsError(f"{option}: say who says so, and why, in readable text.")


def find_slide(tx: Transaction, text: str, seen: str = "") -> SlideRow:
    """Return a slide by its subject, its number or its path.

    `seen` is the name (`shown_name`) of the slide as the person saw it; empty: as it is now.

    Raises
    ------
    SettingsError
        If there is none, or it is not as `seen`.
    """
    number = id_named(f"slide-{text.removeprefix('slide-')}", "slide")
    row = tx.slide(number) if number is not None else None
    # Paths of the ledger are those of the settings: as given, or absolute.
    row = row or tx.slide_of_path(text) or tx.slide_of_path(os.path.abspath(text))  # noqa: PTH100
    if row is None:
        raise SettingsError(f"no slide {text!r}. `tandem status` lists ids such as slide-3.")
    if seen and seen != shown_name(row):
        raise SettingsError(
            f"{row.subject}: its file, its name or its state changed since you opened it. Look at "
            "it again."
        )
    return row


def find_case(tx: Transaction, text: str) -> CaseRow:
    """Return a case by its subject or its number.

    Raises
    ------
    SettingsError
        If there is none.
    """
    number = id_named(f"case-{text.removeprefix('case-')}", "case")
    row = tx.case(number) if number is not None else None
    if row is None:
        raise SettingsError(f"no case {text!r}. `tandem status` lists ids such as case-1.")
    return row


def names_another(row: SlideRow, told: Mapping[str, str], settings: Settings) -> bool:
    """Return whether a word names another place than a slide has, once identify wrote it."""
    writing = settings.identify.writing
    place = {key: told[key] for key in ("accession", "block", "stain") if key in told}
    for key, write in (("accession", writing.of_accession), ("block", writing.of_block)):
        place |= {key: write(place[key])} if key in place else {}
    return any(getattr(row, key) != text for key, text in place.items())


@contextmanager
def service(settings: Settings) -> Iterator[tuple[Transaction, float]]:
    """Open the ledger for one word: one transaction, and its time."""
    ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            yield tx, time.time()
    finally:
        ledger.close()


def note_word(
    tx: Transaction, row: SlideRow, code: str, word: Word, now: float, said: Said, **params: str
) -> None:
    """Keep a person's word on a slide, with its event.

    A new word is about the bytes that the slide has now; trying it again is none.
    """
    if code != "word-retry":
        said = replace(said, of="", heard=())
    set_said(row, replace(said, by=word.by, why=word.why, at=now))
    tx.session.add(row)
    tx.note(row.subject, code, now, params=params | {"why": word.why}, by=word.by)


def send_back(
    tx: Transaction, row: SlideRow, word: Word, now: float, *, leaves: bool
) -> tuple[str, ...]:
    """Send a slide to identify, whatever its state; `leaves`: its block is no longer its own.

    Returns the cases that lost their result.
    """
    place = row.accession, row.block, row.stain
    set_reason(row)
    row.worker_crashes, row.step_tries, row.not_before = 0, 0, 0.0
    if row.state not in ON_ITS_WAY:
        tx.advance(row, SlideState.ARRIVED, now=now, code="said", by=word.by)
    elif row.state == SlideState.ARRIVED:
        row.changed_at = now  # the answer of an identify that runs now is dropped
        tx.session.add(row)
    if not leaves or not place[0]:
        return ()
    row.accession = row.block = row.stain = ""
    tx.session.add(row)
    tx.session.flush()
    return leave_block(tx, row, place, now, word.by)
