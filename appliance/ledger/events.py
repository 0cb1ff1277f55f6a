"""Events: append-only and hash-chained.

The hash of each event covers the hash of the event before it, so `first_broken` finds an event
that was changed or removed.
"""

from __future__ import annotations

import hashlib
import json

from sqlmodel import Session, col, select

from appliance.ledger.tables import EventRow


def append(session: Session, subject: str, kind: str, text: str, at: float) -> None:
    """Append an event; `at` in seconds since the epoch."""
    last = session.exec(select(EventRow.hash).order_by(col(EventRow.id).desc()).limit(1)).first()
    row = EventRow(at=at, subject=subject, kind=kind, text=text, hash="")
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
    fields = json.dumps([previous, row.at, row.subject, row.kind, row.text])
    return hashlib.sha256(fields.encode()).hexdigest()
