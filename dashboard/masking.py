"""Stand-ins that a screen with hidden names shows in place of names, made where facts are read.

Hidden are accessions, names of patients and files, and every text whose content Tandem does not
know: answers of other machines, messages of errors, reasons that people typed. Pages and routes get
facts that lack them, so no markup can show them. The stand-in of a case is its number.

Whether a screen hides names is `dashboard.mask` of the settings that the reading functions get:
``always`` there means hidden (`dashboard.views.look.settings`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.settings.settings import Settings
from appliance.words.events import EventFacts, event_brief

HIDDEN = "••••"
"""Stand-in of a text that is hidden."""
_SUBJECT = re.compile(r"(case|slide|delivery)-\d{1,15}")
_CODE = re.compile(r"[a-z]+(-[a-z]+)*")
_KNOWN = frozenset(
    (
        *("stain", "stains", "looks_like", "differs_in", "strongest", "expected", "score", "was"),
        *("assay", "reader", "votes", "said", "step", "kind", "destination", "destinations"),
        *("elsewhere", "formats", "what", "against", "outcome", "by", "code", "keys"),
    )
)
"""Parameters of facts that name stains, scores, readers, blocks, destinations or staff."""


def hides(settings: Settings) -> bool:
    """Return whether what is read by these settings is for a screen with hidden names."""
    return settings.dashboard.mask == "always"


def hiding(settings: Settings) -> Settings:
    """Return the settings for a screen with hidden names."""
    dashboard = settings.dashboard.model_copy(update={"mask": "always"})
    return settings.model_copy(update={"dashboard": dashboard})


def case_name(case_id: int | None) -> str:
    """Return the stand-in of a case's accession, such as ``•••• 026``; no case has no number."""
    return HIDDEN if case_id is None else f"{HIDDEN} {case_id:03d}"


def slide_name(slide_id: int) -> str:
    """Return the stand-in of a slide's file name."""
    return f"{HIDDEN} slide-{slide_id}"


def facts_shown(params: Mapping[str, Any], *, hidden: bool) -> dict[str, Any]:
    """Return the parameters of a fact; `hidden`: texts stay only where their kind is known."""
    if not hidden:
        return dict(params)
    return {
        name: value if name in _KNOWN and not _is_fact(value) else _shown(value)
        for name, value in params.items()
    }


def event_shown(event: EventFacts, *, hidden: bool) -> str:
    """Return an event in words."""
    return event_brief(_Event.of(event) if hidden else event)


def _is_fact(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() >= {"kind", "code"}


def _shown(value: Any) -> Any:
    """Return a value without texts; facts within it keep their code, which chooses a sentence."""
    if _is_fact(value):
        params = facts_shown(value.get("params") or {}, hidden=True)
        return {"kind": value["kind"], "code": value["code"], "params": params}
    if isinstance(value, Mapping):
        return {HIDDEN: HIDDEN} if value else {}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    if isinstance(value, str) and value and not _SUBJECT.fullmatch(value):
        return HIDDEN
    return value


def _shown_of(code: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of an event; why working data was removed is a code, no person's word."""
    shown = facts_shown(params, hidden=True)
    return shown | {"why": params["why"]} if code == "retired" and "why" in params else shown


@dataclass(slots=True, kw_only=True)
class _Event:
    """An event whose texts are hidden; its codes, times and states stay."""

    kind: str
    code: str
    from_state: str
    to_state: str
    step: str
    seconds: float
    reused: bool
    reason: str
    params: str

    @classmethod
    def of(cls, event: EventFacts) -> _Event:
        known = not event.reason or _CODE.fullmatch(event.reason)
        return cls(
            kind=event.kind,
            code=event.code,
            from_state=event.from_state,
            to_state=event.to_state,
            step=event.step,
            seconds=event.seconds,
            reused=event.reused,
            reason=event.reason if known else HIDDEN,
            params=json.dumps(_shown_of(event.code, json.loads(event.params))),
        )
