"""Stains that the texts of an order ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_IN_SITU = re.compile(r"(?<![a-z])([cdfs]?ish|in[ -]situ)(?![a-z])", re.IGNORECASE)
"""Words of in situ hybridization: ``HER2 FISH`` asks for no immunostain."""


def asked_stains(texts: Sequence[str], vocabulary: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the codes of the stains that texts of an order ask for.

    `vocabulary` has the words of each stain. A text that names none of them is returned as it is:
    the order asks for something else.
    """
    found = [each for text in texts for each in stain_codes(text, vocabulary) or [text]]
    return list(dict.fromkeys(found))


def stain_codes(text: str, vocabulary: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the codes of the stains whose words a text holds, as whole words in any case."""
    if _IN_SITU.search(text):
        return []
    return [
        stain
        for stain, words in vocabulary.items()
        if any(
            re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", text, re.IGNORECASE)
            for word in words
        )
    ]
