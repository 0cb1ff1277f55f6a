"""Stains that the texts of an order ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

_IN_SITU = re.compile(r"(?<![a-z])([cdfs]?ish|in[ -]situ)(?![a-z])", re.IGNORECASE)
"""Words of in situ hybridization: ``HER2 FISH`` asks for no immunostain."""
_BETWEEN = r"\s_.&+/-"
"""Characters that separate the parts of a stain's word."""


def asked_stains(texts: Sequence[str], vocabulary: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the codes of the stains that texts of an order ask for.

    `vocabulary` has the words of each stain. A text that names none of them is returned as it is:
    the order asks for something else.
    """
    found = [each for text in texts for each in stain_codes(text, vocabulary) or [text]]
    return list(dict.fromkeys(found))


def stain_codes(text: str, vocabulary: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the codes of the stains whose words a text holds.

    They are whole words, in any case and however their parts are separated: ``HER-2/neu``.
    """
    if _IN_SITU.search(text):
        return []
    return [
        stain
        for stain, words in vocabulary.items()
        if any(_pattern(word).search(text) for word in (stain, *words))
    ]


@cache
def _pattern(word: str) -> re.Pattern[str]:
    parts = re.findall(r"[^\W_]", word)
    spelled = rf"[{_BETWEEN}]*".join(re.escape(part) for part in parts)
    return re.compile(rf"(?<![^\W_]){spelled}(?![^\W_])" if parts else r"(?!)", re.IGNORECASE)
