"""Sentences on interim hints: kind ``interim``."""

from __future__ import annotations

from appliance.words.template import Params, Words

_UNUSUAL = {
    "stain": "its stain is unlike what the networks know",
    "focus": "its focus is unlike what the networks know",
    "picture": "its picture is not that of its stain",
    "tissue": "its tissue is too small",
    "unreadable": "too many of its tiles are damaged in the file",
}


def no_opinion(facts: Params) -> str:
    """Return the sentence on a slide that got no opinion."""
    if facts["unusual"] == "trouble":
        return (
            "Interim, not a score: no opinion, because the interim reader could not read the "
            "slide. See the log, and models.interim in the settings."
        )
    why = _UNUSUAL.get(facts["unusual"], facts["unusual"])
    return f"Interim, not a score: no opinion, because the slide is unusual: {why}."


INTERIM: Words = {
    "waiting": (
        "Interim, not a score: {said} ({percent:.0f} %) from the H&E slide alone. A hint for "
        "planning, until the block is scored."
    ),
    "no-opinion": no_opinion,
    "agreed": (
        "Interim, superseded: {said} ({percent:.0f} %) from the H&E slide alone. It agreed with "
        "the score {score}."
    ),
    "differed": (
        "Interim, superseded: {said} ({percent:.0f} %) from the H&E slide alone. It did not agree "
        "with the score {score}."
    ),
    "without-score": (
        "Interim, superseded: {said} ({percent:.0f} %) from the H&E slide alone. The result has "
        "no score."
    ),
}
