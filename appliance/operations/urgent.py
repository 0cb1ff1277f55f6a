"""The action of ``tandem stat``."""

from __future__ import annotations

import time

from appliance.errors import SettingsError
from appliance.ledger.tables import CaseRow, SlideRow, id_named
from appliance.ledger.urgency import set_stat
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings
from appliance.text import is_text


def mark_stat(settings: Settings, subject: str, *, on: bool, by: str = "") -> str:
    """Mark a slide or case and its block as STAT, or take the mark off; say what happens next.

    `by` is who wants it, in any form; empty where nobody said so.

    Raises
    ------
    SettingsError
        If there is no such subject, or `by` is not readable.
    """
    if not by.isprintable() or not is_text(by):
        raise SettingsError("--by: say who wants it, in readable text.")
    ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            row: SlideRow | CaseRow | None = None
            if (number := id_named(subject, "slide")) is not None:
                row = tx.slide(number)
            elif (number := id_named(subject, "case")) is not None:
                row = tx.case(number)
            if row is None:
                raise SettingsError(
                    f"no {subject!r}. `tandem status` lists ids such as slide-3 and case-1."
                )
            set_stat(tx, row, on, time.time(), by=by.strip())
    finally:
        ledger.close()
    if on:
        return f"{subject} and its block come first in every lane"
    return f"{subject} and its block wait their turn"
