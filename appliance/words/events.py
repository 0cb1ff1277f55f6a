"""Sentences of the ledger's events."""

from __future__ import annotations

import json
from typing import Protocol

from appliance.words.say import say


class EventFacts(Protocol):
    """Columns of an event that its sentence is made of; `params` is a JSON object."""

    kind: str
    code: str
    from_state: str
    to_state: str
    step: str
    seconds: float
    reused: bool
    reason: str
    params: str


def event_text(event: EventFacts, language: str = "en") -> str:
    """Return the whole event: ``written → delivered``, ``tumor 3.20 s``, or a note."""
    brief = event_brief(event, language)
    if event.kind != "state":
        return brief
    return f"{event.from_state} → {brief}" if event.from_state else f"→ {brief}"


def event_brief(event: EventFacts, language: str = "en") -> str:
    """Return the event without the state that was left: ``delivered``."""
    facts = {
        "step": event.step,
        "seconds": event.seconds,
        "reused": event.reused,
        "reason": event.reason,
    }
    detail = say("event", event.code, facts | json.loads(event.params), language)
    if event.kind != "state":
        return detail
    return f"{event.to_state}: {detail}" if detail else event.to_state
