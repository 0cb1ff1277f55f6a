"""Sentences that rows and events of the first edition held, as codes with parameters.

What no pattern knows keeps its sentence as the parameter of the code ``told``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Conversion = Callable[..., tuple[str, ...]]

_STATE = re.compile(r"(?:(\w+) )?→ (\w+)(?:: (.*))?", re.DOTALL)
_STEP = re.compile(r"(.+) (\d+\.\d+) s( \(was there\))?")
_EVENTS = (
    (re.compile(r"(?P<slide>slide-\d+) is a newer scan"), "newer-scan"),
    (re.compile(r"(?P<slide>slide-\d+) came in anew"), "came-anew"),
    (re.compile(r"no (?P<stain>\w+) slide"), "stain-missing"),
    (re.compile(r"(?P<count>\d+) deliveries queued"), "objects-queued"),
    (re.compile(r"corrected from (?P<was>\S+) to (?P<score>\S+)"), "corrected"),
    (re.compile(r"the file changed"), "file-changed"),
    (re.compile(r"quiet, but not whole"), "not-whole"),
    (re.compile(r"it was there already"), "there-already"),
    (re.compile(r"retry"), "retry"),
    (re.compile(r"rerun"), "rerun"),
)
_NOTES = (
    (
        re.compile(r"corrected from (?P<was>\S+) to (?P<score>\S+) by (?P<by>.+)", re.DOTALL),
        "corrected-by",
    ),
    (re.compile(r"(?P<message>.+); trying again", re.DOTALL), "try-again"),
)
_LOG = re.compile(r"(.*)\. See the log, then: tandem retry case-\d+", re.DOTALL)
_KILLED = re.compile(r"the worker process died (\d+) times")
_ERROR = re.compile(r"(\w+): (.*)", re.DOTALL)


def of_slide(reason: str, detail: str) -> tuple[str]:
    """Return the parameters of a slide's reason."""
    if not detail:
        return ("{}",)
    crashes, error = re.fullmatch(r"(\d+) times", detail), _ERROR.fullmatch(detail)
    if reason == "worker-killed" and crashes:
        return (_json({"crashes": int(crashes[1])}),)
    if reason == "failed" and error:
        return (_json({"error": error[1], "message": error[2]}),)
    return (_json({"detail": detail}),)


def of_case(sentence: str, review: str) -> tuple[str, str, str]:
    """Return a case's reason, its parameters, and its reasons for review."""
    reasons = [
        {"code": "told", "params": {"sentence": said}} if isinstance(said, str) else said
        for said in json.loads(review)
    ]
    return (*_case_reason(sentence), json.dumps(reasons, ensure_ascii=False))


def _case_reason(sentence: str) -> tuple[str, str]:
    if not sentence:
        return "", "{}"
    if missing := re.match(r"No (\w+) slide of this block came", sentence):
        return "stain-missing", _json({"stain": missing[1]})
    if sentence.startswith("A destination refused an object"):
        return "refused", "{}"
    if sentence.startswith("A destination cannot say"):
        return "unproven", "{}"
    if failed := _LOG.fullmatch(sentence):
        if killed := _KILLED.fullmatch(failed[1]):
            return "worker-killed", _json({"crashes": int(killed[1])})
        if error := _ERROR.fullmatch(failed[1]):
            return "step-failed", _json({"error": error[1], "message": error[2]})
    return "told", _json({"text": sentence})


def of_delivery(error: str, destination: str) -> tuple[str, str]:
    """Return the reason of a delivery and its parameters."""
    if not error:
        return "", "{}"
    if absent := re.fullmatch(r"accepted, but not there \((.*)\)", error, re.DOTALL):
        return "not-there", _json({"answer": absent[1]})
    if error.startswith(f"no destination '{destination}'"):
        return "no-destination", _json({"destination": destination})
    return "told", _json({"text": error})


def of_event(kind: str, said: str) -> dict[str, Any]:
    """Return the columns of an event, but its time, subject and kind."""
    found: dict[str, Any] = dict.fromkeys(("from_state", "to_state", "step", "reason"), "")
    found |= {"seconds": 0.0, "reused": False}
    step, state = _STEP.fullmatch(said), _STATE.fullmatch(said)
    if kind == "step" and step:
        found |= {"step": step[1], "seconds": float(step[2]), "reused": step[3] is not None}
        return found | {"code": "step-done", "params": "{}"}
    if kind == "state" and state:
        before, after, detail = state[1] or "", state[2], state[3] or ""
        found |= {"from_state": before, "to_state": after}
        return found | _detail(before, after, detail)
    return found | _matched(said, _NOTES)


def _detail(before: str, after: str, detail: str) -> dict[str, Any]:
    """Return code, parameters and reason of a change of state."""
    if not detail:
        code = "failed" if after == "failed" else "advanced" if before else "created"
        return {"code": code, "params": "{}"}
    if after == "quarantined":
        return {"code": "set-aside", "params": "{}", "reason": detail}
    if after == "identified":
        return {"code": "identified", "params": _json({"stain": detail})}
    return _matched(detail, _EVENTS)


def _matched(said: str, patterns: tuple[tuple[re.Pattern[str], str], ...]) -> dict[str, Any]:
    for pattern, code in patterns:
        if match := pattern.fullmatch(said):
            params: dict[str, Any] = match.groupdict()
            if "count" in params:
                params["count"] = int(params["count"])
            if params.get("was") == "none":
                params["was"] = ""
            return {"code": code, "params": _json(params)}
    return {"code": "told", "params": _json({"text": said})}


def _json(params: dict[str, Any]) -> str:
    return json.dumps(params, ensure_ascii=False)
