"""Sentences of facts: every code of the product has words, and no fact is too odd to be shown."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import appliance
from appliance.domain import QuarantineReason
from appliance.errors import SlideError, TransientError, WorkerDiedError
from appliance.ledger.tables import EventRow, fact
from appliance.words import say as module
from appliance.words.events import event_brief, event_text
from appliance.words.say import add_words, say


def event(**facts: object) -> EventRow:
    return EventRow(at=0.0, subject="case-1", hash="", **facts)


@pytest.mark.parametrize("reason", list(QuarantineReason))
def test_every_reason_has_a_sentence_and_a_remedy(reason: QuarantineReason) -> None:
    for kind in ("quarantine", "remedy"):
        assert re.fullmatch(r"[A-Z].*\.", say(kind, reason))


def test_every_code_that_the_appliance_writes_has_words() -> None:
    """Codes are literals where they are written; each kind of call names its table."""
    source = "\n".join(p.read_text() for p in Path(appliance.__file__).parent.rglob("*.py"))
    for call, kind in (
        (r'\bcode="([a-z-]+)"', ("event", "delivery")),
        (r'\.note\(\s*[\w.]+,\s*"([a-z-]+)"', ("event",)),
        (r'set_reason\(\s*\w+,\s*"([a-z-]+)"', ("case",)),
        (r'fail_case\(\s*context,\s*job,\s*"([a-z-]+)"', ("case", "case-trouble")),
    ):
        codes = set(re.findall(call, source))
        assert codes, call
        known = {code for k in kind for code in module._LANGUAGES["en"][k]}
        assert codes <= known


@pytest.mark.parametrize("error", [TransientError, *TransientError.__subclasses__()])
def test_a_case_that_waits_says_for_what(error: type[TransientError]) -> None:
    if error.__name__ != "DestinationUnavailableError":
        assert error.code in module._LANGUAGES["en"]["case"]
    assert say("case", error.code, {"message": "RIS is away"}) == "RIS is away"


def test_an_unknown_code_is_text_and_no_error() -> None:
    assert say("event", "from-the-future", {"by": "X", "n": 3}) == "from-the-future (by=X, n=3)"
    assert say("no such kind", "odd") == "odd"
    # A known code of another version, without the parameter that the template wants.
    assert say("case", "stain-missing", {"slide": 1}) == "stain-missing (slide=1)"
    assert say("case", "", {"slide": 1}) == ""


def test_foreign_texts_are_shown_as_they_are() -> None:
    odd = "{stain} → %s. See {0} </b>"
    assert say("case", "worklist-away", {"message": odd}) == odd


def test_a_fact_within_a_fact_is_told_in_the_same_language() -> None:
    last = fact("delivery", "not-now", {"destination": "pacs", "answer": "no room"})
    given_up = fact("delivery", "given-up", {"attempts": 3, "last": last})
    told = say("event", "trouble", {"trouble": given_up})
    remedy = "Once the cause is mended: tandem retry."
    assert told == f"given up after 3 attempts: 'pacs' no room. {remedy}"
    nothing = {"attempts": 3, "last": fact("delivery", "")}
    told = say("delivery", "given-up", nothing)
    assert told == f"given up after 3 attempts: no answer. {remedy}"


def test_review_reasons_without_template_show_the_sentence_that_was_saved() -> None:
    assert say("review", "toy-reason", {"sentence": "Look at it."}) == "Look at it."
    assert say("review", "toy-reason", {"percent": 3}) == "toy-reason (percent=3)"


def test_an_extension_adds_words() -> None:
    add_words("toy", {"glow": "It glows for {seconds} s.", "dark": lambda _: "It is dark."})
    assert say("toy", "glow", {"seconds": 4}) == "It glows for 4 s."
    assert say("toy", "dark") == "It is dark."


def test_a_language_without_words_falls_back_to_english() -> None:
    add_words("toy-slide", {"glow": "Es leuchtet."}, language="de")
    assert say("toy-slide", "glow", language="de") == "Es leuchtet."
    assert say("quarantine", "no-tissue", language="de") == "No tissue was found on the slide."
    assert say("toy-slide", "glow", {"s": 1}) == "glow (s=1)"


def test_events_read_as_before() -> None:
    step = {"kind": "step", "code": "step-done", "step": "tumor", "seconds": 3.2}
    assert event_text(event(**step, reused=False)) == "tumor 3.20 s"
    assert event_text(event(**step, reused=True)) == "tumor 3.20 s (was there)"
    states = {"from_state": "identified", "to_state": "quarantined"}
    aside = event(kind="state", code="set-aside", reason="no-mpp", **states)
    assert event_text(aside) == "identified → quarantined: no-mpp"
    assert event_brief(aside) == "quarantined: no-mpp"
    corrected = event(
        kind="note",
        code="corrected-by",
        params='{"was": "", "score": "1+", "by": "Meyer^Anna"}',
    )
    assert event_text(corrected) == "corrected from none to 1+ by Meyer^Anna"


def test_an_error_of_a_slide_is_told_with_its_remedy() -> None:
    error = SlideError(QuarantineReason.DAMAGED, "tile 7")
    assert str(pickle.loads(pickle.dumps(error))) == (  # noqa: S301  our own
        "The file opens but a part of its pixels cannot be decoded. (tile 7) "
        "Copy or scan the slide again."
    )
    assert str(WorkerDiedError("the worker process died")) == "the worker process died"


def test_words_know_nothing_of_the_appliance() -> None:
    code = (
        "import sys, appliance.words.say, appliance.words.events\n"
        "print(sorted(m for m in sys.modules if m.startswith('appliance.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in eval(done.stdout)}  # noqa: S307  our own list
    assert rooms == {"words"}


@pytest.mark.parametrize("message", ["no place", "no place."])
def test_the_message_of_an_error_ends_with_one_full_stop(message: str) -> None:
    facts = {"error": "ValueError", "message": message, "subject": "S26-4"}
    assert say("case-trouble", "step-failed", facts) == "ValueError: no place."
    assert say("case", "step-failed", facts).startswith("ValueError: no place. See the log")
