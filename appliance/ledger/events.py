"""Events: facts of what happened, append-only and hash-chained.

The hash of each event covers the hash of the event before it, so `first_broken` finds an event
that was changed or removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlmodel import Session, col, select

from appliance.ledger.tables import EventRow
from appliance.text import readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event to be appended; fields as in `EventRow`, `at` in seconds since the epoch."""

    at: float
    subject: str
    kind: Literal["state", "step", "note"]
    code: str
    from_state: str = ""
    to_state: str = ""
    step: str = ""
    seconds: float = 0.0
    reused: bool = False
    reason: str = ""
    score: str = ""
    by: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


def append(session: Session, event: Event) -> None:
    """Append an event to the chain."""
    last = session.exec(select(EventRow.hash).order_by(col(EventRow.id).desc()).limit(1)).first()
    row = EventRow(
        at=float(event.at),
        subject=event.subject,
        kind=event.kind,
        code=event.code,
        from_state=event.from_state,
        to_state=event.to_state,
        step=event.step,
        seconds=float(event.seconds),
        reused=event.reused,
        reason=event.reason,
        score=event.score,
        by=event.by,
        params=readable(json.dumps(dict(event.params), ensure_ascii=False)),
        hash="",
    )
    row.hash = _hash(last or "", row)
    session.add(row)
    session.flush()


def first_broken(session: Session) -> int | None:
    """Return the id of the first event whose hash does not fit, or None for a whole chain."""
    previous = ""
    for row in session.exec(select(EventRow).order_by(col(EventRow.id))):
        if row.hash != _hash(previous, row):
            return row.id
        previous = row.hash
    return None


def _hash(previous: str, row: EventRow) -> str:
    facts = row.model_dump(exclude={"id", "hash"})
    return hashlib.sha256(json.dumps([previous, facts], sort_keys=True).encode()).hexdigest()
