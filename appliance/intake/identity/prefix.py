"""Prefix joined to an accession: a number of the site, or a word without meaning.

``01-S26-00031`` and ``02-S26-00031`` may be two patients' of two sites that share their numbers.
"""

from __future__ import annotations

import re

from appliance.intake.identity.vocabulary import Vocabulary
from appliance.intake.identity.words import COUNTED, HARMLESS

DEVICES = re.compile(r"(s60|s210|s360|gt450|at2|cs2|p250|p480|p1000|dp200|dp600|x\d{2}|\d{2}x|v\d)")
_JOINED = re.compile(r"(?P<whole>[^\s_;,]*?(?P<run>(?<![^\W_])[A-Za-z0-9]{1,4}))[-.]\Z")
_DATE = re.compile(r"(?:19|20)\d{2}|\d{2}([-.])\d{2}\1\d{2}")
_MADE_BY = ("mds",)
"""Words of viewers' exports in front of a name."""
_NAME = re.compile(r"[A-Z][a-z]{2,3}")
"""Short name of a person: ``Kim``."""


def with_prefix(text: str, found: re.Match[str], vocabulary: Vocabulary) -> str:
    """Return an accession with what is joined to it and may belong to it; else nothing.

    Names, dates, stains, scanners and words that count or say nothing do not belong to it.
    """
    joined = _JOINED.search(text[: found.start("accession")])
    if joined is None:
        return ""
    whole, run = joined["whole"], joined["run"]
    word = run.lower()
    is_known = (
        vocabulary.meaning(run) is not None
        or vocabulary.meaning(whole) is not None
        or (word.rstrip("0123456789") or "-") in HARMLESS | COUNTED
        or DEVICES.fullmatch(word) is not None
        or word in _MADE_BY
    )
    year = found.groupdict().get("year") or "-"
    if is_known or _NAME.fullmatch(run) or _DATE.fullmatch(whole) or whole == year:
        return ""
    return text[joined.start() : found.end("accession")]
