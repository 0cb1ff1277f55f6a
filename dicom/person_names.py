"""Names of patients, as two sources write them (PS3.5 section 6.2.1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
_ONE_LETTER = str.maketrans(
    {"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "þ": "th"}
)
"""Letters that are no letter with an accent."""
_ACCENTS = re.compile(r"[\u0300-\u036f]")
"""Accents of letters; marks of Japanese signs are none."""
_SIGNS = re.compile(r"[\s.'`´’‘ʼʹ′\-‐‑‒–]+")
"""Signs that one source writes within a component, and another leaves out."""
_HYPHENS = re.compile(r"[\s\-‐‑‒–]+")
_TITLE = (
    r"(?:(?:univ\W*)?prof(?:essor(?:in)?)?|dres|dr|priv\W*doz|pd(?=\W+dr)|ph\W?d"
    r"|dipl\W*(?:ing|med|biol|chem|phys|psych|inform|kfm|kffr))\b"
    r"(?:\W+(?:(?:med|dent|vet|habil|rer|jur|oec|theol|ing|fh|h\W?c|univ|mult)%s|(?:nat|phil|pol|sc)\.))*"
)
_TITLES, _DOTTED = (
    re.compile(rf"^(?:{each}\W+)+(?=\w)|(?<=\w)(?:\W+{each})+\W*$", re.IGNORECASE)
    for each in (_TITLE % r"\b", _TITLE % r"\.")
)
"""Titles at the ends of a component, where tables write them; a name is left.

In `_DOTTED` a word behind a title is one by its dot alone: Vet and Ing are names, too.
"""
_FAMILY, _GIVEN, _MIDDLE, _PREFIX = range(4)


def components_agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two names agree in the components that both state.

    ``Müller`` agrees with ``MUELLER`` and with ``Muller``, ``O'Brien`` with ``OBrien``. Given names
    may be divided otherwise, and an initial stands for a middle name. A title tells no patients
    apart, wherever it is written.
    """
    one, other = ([*map(_untitled, name[:_PREFIX]), *name[_PREFIX:]] for name in (one, other))
    pairs = list(zip(one, other, strict=False))
    given = pairs[_GIVEN:_PREFIX]
    rest = [pairs[_FAMILY], *pairs[_PREFIX + 1 :]] if pairs else []
    if not all(_agree(a, b) for a, b in rest):
        return False
    if all(_agree(a, b) for a, b in given[:1]) and all(_is_middle(a, b) for a, b in given[1:]):
        return True
    wholes = [" ".join(filter(None, name[_GIVEN:_PREFIX])) for name in (one, other)]
    return _agree(*wholes) or _have_initials(*(_HYPHENS.split(whole) for whole in wholes))


def words_agree(one: Iterable[str], other: Iterable[str]) -> bool:
    """Return whether the words of one name are among those of the other."""
    one, other = (_untitled_words(" ".join(name)) for name in (one, other))
    pairs = zip(_words(one), _words(other), strict=True)
    return any(first <= second or second <= first for first, second in pairs)


def have_common_word(one: Iterable[str], other: Iterable[str]) -> bool:
    """Return whether components of two names share a word; titles and initials are none."""
    parts = ([re.split(r"[\s,]+", _untitled(part)) for part in name] for name in (one, other))
    words = (_words(word for split in each for word in split) for each in parts)
    pairs = zip(*words, strict=True)
    return any(len(word) > 1 for first, second in pairs for word in first & second)


def _untitled(text: str) -> str:
    """Return a component, or a whole name, without the titles at its ends."""
    return _TITLES.sub("", text)


def _untitled_words(name: str) -> list[str]:
    """Return the words of a name without titles. ``Prof Anna`` has the family's name Prof."""
    if len(left := _untitled(name).split()) > 1:
        return left
    left = _DOTTED.sub("", name).split()
    return left if len(left) > 1 or "." in name else name.split()


def _words(name: Iterable[str]) -> list[set[str]]:
    """Words of a name in both writings."""
    parts = ["", *(part for word in name for part in _HYPHENS.split(word))]
    return [set(filter(None, words)) for words in zip(*map(_writings, parts), strict=True)]


def _agree(one: str, other: str) -> bool:
    """Return whether two components agree in one of their writings, or one is not stated."""
    pairs = list(zip(_writings(one), _writings(other), strict=True))
    return any(a == b or not a or not b for a, b in pairs)


def _is_middle(one: str, other: str) -> bool:
    """Return whether two middle names agree; one letter is an initial."""
    (_, a), (_, b) = _writings(one), _writings(other)
    initial = min(len(a), len(b)) == 1 and a[0] == b[0]
    return initial or _agree(one, other)


def _have_initials(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether given names agree word by word, those behind the first by their initials."""
    return (
        len(one) == len(other) > 1
        and _agree(one[0], other[0])
        and all(map(_is_middle, one[1:], other[1:]))
    )


def _writings(text: str) -> tuple[str, str]:
    """Return a text without signs and accents: umlauts as two letters, and as the plain letter."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    two, plain = (
        unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", letters)))
        for letters in (folded.translate(_TWO_LETTERS), folded)
    )
    return (
        _SIGNS.sub("", two.translate(_ONE_LETTER)),
        _SIGNS.sub("", plain.translate(_ONE_LETTER)),
    )
