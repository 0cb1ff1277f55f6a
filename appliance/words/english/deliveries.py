"""English reasons for which an object is not delivered: kind ``delivery``."""

from __future__ import annotations

from appliance.words.template import Words

DELIVERY_REASONS: Words = {
    "no-destination": (
        "no destination '{destination}' in the settings any more; add it, then: tandem retry"
    ),
    "away": "{message}",
    "not-allowed": "{message}",
    "object-damaged": "its file is not what was written; it is written again first",
    "object-replaced": "its file is damaged, and other objects took the place of this one",
    "withdrawn": "it was withdrawn before it was sent: a slide of it is no slide of its case",
    "unforeseen": "{error}: {message}. It is tried again.",
    "given-up": lambda facts: (
        f"given up after {facts['attempts']} attempts: {facts['last'] or 'no answer'}"
    ),
    "refused": "'{destination}' {answer}",
    "not-now": "'{destination}' {answer}",
    "not-there": "accepted, but not there ({answer})",
    "cannot-say": "{answer}",
    "told": "{text}",  # of the first edition
}
