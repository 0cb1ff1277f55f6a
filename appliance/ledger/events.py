"""Events: facts of what happened, append-only and hash-chained.

The hash of each event covers the hash of the event before it, so `first_broken` finds an event
that was changed or removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
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
    session.add(EventRow(**_facts(event, head(session))))
    session.flush()


def chained(events: Iterable[Event], head: str = "") -> Iterator[dict[str, Any]]:
    """Yield the columns of events that follow each other after an event with the hash `head`."""
    for event in events:
        facts = _facts(event, head)
        head = facts["hash"]
        yield facts


def head(session: Session) -> str:
    """Return the hash of the last event, which covers all events; empty without events."""
    last = session.exec(select(EventRow.hash).order_by(col(EventRow.id).desc()).limit(1)).first()
    return last or ""


def _facts(event: Event, previous: str) -> dict[str, Any]:
    """Return the columns of an event after the one with the hash `previous`."""
    facts: dict[str, Any] = {
        "at": float(event.at),
        "subject": event.subject,
        "kind": event.kind,
        "code": event.code,
        "from_state": event.from_state,
        "to_state": event.to_state,
        "step": event.step,
        "seconds": float(event.seconds),
        "reused": event.reused,
        "reason": event.reason,
        "score": event.score,
        "by": event.by,
        "params": readable(json.dumps(dict(event.params), ensure_ascii=False)),
    }
    return facts | {"hash": hash_of(previous, facts)}


def hash_of(previous: str, facts: Mapping[str, Any]) -> str:
    """Return the hash of an event's columns after an event with the hash `previous`.

    `score` and `by` count where they are not empty: events of schema 3 had neither.
    """
    counted = {
        name: value
        for name, value in facts.items()
        if name not in ("id", "hash") and (value or name not in ("score", "by"))
    }
    return hashlib.sha256(json.dumps([previous, counted], sort_keys=True).encode()).hexdigest()
