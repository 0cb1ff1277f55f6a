"""Details of events: kind ``event``. The states themselves are columns of the event."""

from __future__ import annotations

from appliance.words.english.interim import no_opinion
from appliance.words.english.review import READERS
from appliance.words.template import Params, Words


def _step(facts: Params) -> str:
    return f"{facts['step']} {facts['seconds']:.2f} s{' (was there)' if facts['reused'] else ''}"


def _corrected(facts: Params) -> str:
    return f"corrected from {facts['was'] or 'none'} to {facts['score'] or 'no score'}"


def _set(facts: Params) -> str:
    keys = ("accession", "block", "stain", "organ", "specimen")
    told = ", ".join(f"{key} {facts[key]}" for key in keys if facts.get(key))
    return f"a person said {told}: {facts['why']}"


def _retired(facts: Params) -> str:
    steps = ", ".join(sorted({key.partition("/")[0] for key in facts["keys"]}))
    why = "its days are over" if facts["why"] == "age" else "room on the disk was short"
    return f"working data removed ({steps}, {facts['bytes'] / 1e6:.1f} MB): {why}"


def _interim(facts: Params) -> str:
    if not facts["said"]:
        return no_opinion(facts)
    return f"interim, not a score: {facts['said']} ({facts['percent']:.0f} %)"


EVENTS: Words = {
    # states of slides
    "created": "",
    "advanced": "",
    "identified": "{stain}",
    "not-for-an-assay": "{stain}: of no assay here",
    "set-aside": "{reason}",
    "newer-scan": "{slide} is a newer scan",
    "chosen": "a person chose {slide}",
    "same-content": "its bytes are those of {slide}",
    "excluded": "a person left it out",
    "taken-back": "what took its place is gone",
    "said": "by a person's word",
    "file-changed": "the file changed",
    "not-whole": "quiet, but not whole",
    "came-back": "the file is there again",
    "files-deleted": "files of it were deleted; what was read of them counts",
    "part-of": "its files are a part of {slide}",
    "renamed": "its file was renamed, and is {slide}",
    "channel": "a channel of a set that cannot be read here",
    # states of cases
    "came-anew": "{slide} came in anew",
    "slide-changed": "a slide of it changed",
    "slide-left": "{slide} is no slide of it any more",
    "held": "{reason}",
    "merged": "the settings declare these patient IDs to be one patient",
    "kept": "a person decided",
    "stain-missing": "no {stain} slide",
    "objects-queued": "{count} deliveries queued",
    "failed": "",
    "retry": "retry",
    "rerun": "rerun",
    "result-damaged": "its stored findings are damaged; they are made again",
    "object-damaged": "the stored object {kind} is damaged; it is written again",
    "corrected": _corrected,
    "confirmed": "score {score} confirmed",
    # states of deliveries
    "answered": "{answer}",
    "there-already": "it was there already",
    "only-asked-for": "it is asked for, and not sent",
    "trouble": "{trouble}",
    # steps
    "step-done": _step,
    # notes
    "sidecar-again": (
        "the sidecar was read again: organ '{organ}' (was '{was_organ}'), specimen '{specimen}' "
        "(was '{was_specimen}')"
    ),
    "word-set": _set,
    "word-pair": "a person paired it with {slide}: {why}",
    "word-unpair": "a person took its slides apart: {why}",
    "word-exclude": "a person left it out: {why}",
    "word-keep": "a person kept it: {why}",
    "word-retry": "a person had it tried again: {why}",
    "stat": "STAT: first in every lane",
    "stat-off": "no longer STAT",
    "try-again": "{message}; trying again",
    "confirmed-by": "score {score} confirmed by {by}",
    "corrected-by": lambda facts: f"{_corrected(facts)} by {facts['by']}",
    "object-note": "{note}",
    "order-note": "{note}",
    "header-note": "{note}",
    "signed-in": "{name} signed in to the dashboard from {address}",
    "sign-in-failed": "a try to sign in to the dashboard as {name} from {address} failed",
    "signed-out": "{name} signed out of the dashboard",
    "case-opened": "{case} was opened on the dashboard",
    "destination-tested": "{destination} was asked from the dashboard: {outcome}",
    "retired": _retired,
    "interim-read": _interim,
    "second-read": lambda p: (
        "second reader, not a score: "
        + (f"{p['said']} ({p['percent']:.0f} %)" if p["said"] else "no opinion any more")
        + f" by {READERS.get(p['reader'], p['reader'])}"
    ),
    # migrations of the ledger
    "told": "{text}",
    "migrated": "taken over from an earlier build",
    "carried-over": "score {score} taken over from an earlier build",
    "chain-carried-over": "events of an earlier build were converted; their last hash was {head}",
    "chain-was-broken": (
        "events of an earlier build were converted; event {event} had been changed before"
    ),
    "begun-anew": "results were there without a ledger: a new one began",
    "restored": "the backup {backup} was restored",
    "clock-doubted": "the clock was set far, or is far from the last event: doubted for a day",
}
