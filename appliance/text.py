"""Text that can be written as UTF-8, and names of people in one writing.

Names of files on Linux are bytes, and may be no text.
"""

from __future__ import annotations

import re
import unicodedata

_NO_TEXT = re.compile("[\ud800-\udfff]")
"""Python holds a byte of a file name that is no UTF-8 as a lone surrogate (PEP 383)."""


def is_text(text: str) -> bool:
    """Return whether `text` can be written as UTF-8."""
    return _NO_TEXT.search(text) is None


def readable(text: str) -> str:
    """Return `text` for people and for files: each byte that is no text becomes ``�``."""
    return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def person_key(name: str) -> str:
    """Return what all ways to write one person's name share (DICOM PN, or a plain name).

    Letters with accents may be one character or two; blanks around a component and empty components
    at the end say nothing (PS3.5 6.2).
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    groups = (
        "^".join(" ".join(part.split()) for part in group.split("^")).rstrip("^")
        for group in folded.split("=")
    )
    return "=".join(groups).rstrip("=")


def plain_spaces(text: str) -> str:
    """Return `text` with plain spaces for others, and without signs that are not seen.

    Text from a word processor has spaces that do not break, and hyphens that show at line ends.
    """
    kinds = ((character, unicodedata.category(character)) for character in text)
    return "".join(" " if kind == "Zs" else character for character, kind in kinds if kind != "Cf")
