"""Second readers' opinions on slides, as notes of the ledger: shown before the block is scored.

They are facts of the record. No score depends on one; a case has its opinions in its findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlmodel import col, or_, select

from appliance.ledger.lifecycle import SlideState
from appliance.ledger.queries import Queries
from appliance.ledger.tables import EventRow, SlideRow, params_of
from appliance.ledger.transaction import Transaction

CODE = "second-read"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOpinion:
    """Class that a second reader gave a slide, and its probability in percent.

    `said` is empty where a reader that had an opinion has none any more. `weights` is the
    fingerprint of what it read with; empty in notes that were written before it was kept.
    """

    reader: str
    said: str
    percent: float
    weights: str = ""


def note_second_opinions(
    tx: Transaction, slide: SlideRow, given: Sequence[SecondOpinion], now: float
) -> None:
    """Note the opinions of one reading of a slide; those of before that it lacks end."""
    gone = {each.reader for each in second_opinions_of(tx, slide)}
    gone -= {each.reader for each in given}
    for name in sorted(gone):
        note_second_opinion(tx, slide, SecondOpinion(reader=name, said="", percent=0.0), now)
    for each in given:
        note_second_opinion(tx, slide, each, now)


def note_second_opinion(tx: Transaction, slide: SlideRow, said: SecondOpinion, now: float) -> None:
    """Note an opinion on the file that a slide is now, as the stain that it is now."""
    facts = {"slide": slide.fingerprint, "stain": slide.stain, **asdict(said)}
    tx.note(slide.subject, CODE, now, params=facts)


def second_opinions_of(tx: Queries, slide: SlideRow) -> tuple[SecondOpinion, ...]:
    """Return the newest opinion of each second reader on the file and stain that a slide is now."""
    query = (
        select(EventRow)
        .where(
            EventRow.subject == slide.subject,
            or_(col(EventRow.code) == CODE, col(EventRow.to_state) == SlideState.IDENTIFIED),
        )
        .order_by(col(EventRow.id))
    )
    newest: dict[str, SecondOpinion] = {}
    unnamed: set[str] = set()
    for row in tx.session.exec(query):
        if row.code != CODE:
            # Notes of before have no stain: it may be another one from here on.
            newest = {name: said for name, said in newest.items() if name not in unnamed}
            continue
        facts = params_of(row)
        if (facts["slide"], facts.get("stain", slide.stain)) == (slide.fingerprint, slide.stain):
            names = [each.name for each in fields(SecondOpinion) if each.name in facts]
            newest[facts["reader"]] = SecondOpinion(**{name: facts[name] for name in names})
            (unnamed.discard if "stain" in facts else unnamed.add)(facts["reader"])
    return tuple(each for each in newest.values() if each.said)
