"""Second readers' opinions on slides, as notes of the ledger: shown before the block is scored.

They are facts of the record. No score depends on one; a case has its opinions in its findings.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlmodel import col, select

from appliance.ledger.queries import Queries
from appliance.ledger.tables import EventRow, SlideRow, params_of
from appliance.ledger.transaction import Transaction

CODE = "second-read"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOpinion:
    """Class that a second reader gave a slide, and its probability in percent."""

    reader: str
    said: str
    percent: float


def note_second_opinion(tx: Transaction, slide: SlideRow, said: SecondOpinion, now: float) -> None:
    """Note an opinion on the file that a slide is now."""
    tx.note(slide.subject, CODE, now, params={"slide": slide.fingerprint, **asdict(said)})


def second_opinions_of(tx: Queries, slide: SlideRow) -> tuple[SecondOpinion, ...]:
    """Return the newest opinion of each second reader on the file that a slide is now."""
    query = (
        select(EventRow)
        .where(EventRow.subject == slide.subject, EventRow.code == CODE)
        .order_by(col(EventRow.id))
    )
    newest: dict[str, SecondOpinion] = {}
    for row in tx.session.exec(query):
        facts = params_of(row)
        if facts["slide"] == slide.fingerprint:
            names = ("reader", "said", "percent")
            newest[facts["reader"]] = SecondOpinion(**{name: facts[name] for name in names})
    return tuple(newest.values())
