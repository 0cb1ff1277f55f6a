"""Interim hints on slides, as notes of the ledger: what was said before a block was scored.

They are facts of the record. The score of a case never depends on one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select

from appliance.ledger.queries import Queries
from appliance.ledger.tables import EventRow, SlideRow, params_of
from appliance.ledger.transaction import Transaction

CODE = "interim-read"
TROUBLE = "trouble"
"""Why there is no opinion where its reader could not read; the log has the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Hint on a slide for an assay: a class and its probability in percent.

    `said` is empty where there was no opinion; `unusual` says why: ``stain``, ``focus``,
    ``picture``, ``tissue``, ``unreadable`` or `TROUBLE`. `opinion` is the reader's
    (`Opinion.as_json`), None for none. `key` is that of the opinion's artifact; empty for none, and
    in notes that were written before it was kept.
    """

    assay: str
    said: str = ""
    percent: float = 0.0
    unusual: str = ""
    opinion: Mapping[str, Any] | None = None
    key: str = ""

    @property
    def opinion_text(self) -> str:
        """Opinion as JSON text; empty for none."""
        return "" if self.opinion is None else json.dumps(self.opinion, sort_keys=True)

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the sentences on it."""
        return {"said": self.said, "percent": self.percent, "unusual": self.unusual}


def note_hint(tx: Transaction, slide: SlideRow, hint: Hint, now: float) -> None:
    """Note a hint on the file that a slide is now."""
    params = {"assay": hint.assay, "slide": slide.fingerprint, **hint.params}
    tx.note(slide.subject, CODE, now, params=params | {"opinion": hint.opinion, "key": hint.key})


def hint_of(tx: Queries, slide: SlideRow, assay: str) -> Hint | None:
    """Return the newest hint on a slide's file for an assay; None without one."""
    query = (
        select(EventRow)
        .where(EventRow.subject == slide.subject, EventRow.code == CODE)
        .order_by(col(EventRow.id).desc())
    )
    for row in tx.session.exec(query):
        if (hint := hint_in(row, slide)) is not None and hint.assay == assay:
            return hint
    return None


def hint_in(note: EventRow, slide: SlideRow) -> Hint | None:
    """Return the hint of a note; None where it is on another file than the slide is now."""
    facts = params_of(note)
    if facts["slide"] != slide.fingerprint:
        return None
    names = ("assay", "said", "percent", "unusual", "opinion")
    return Hint(**{name: facts[name] for name in names}, key=facts.get("key", ""))
