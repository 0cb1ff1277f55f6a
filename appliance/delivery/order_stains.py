"""Stains that the texts of an order ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from dicom.request import OrderedRequest

_GENES = re.compile(
    r"(?<![a-zäöüß])(?:"
    r"(?:[cdfs]|dd|bd|cd|br|iqf|duoc|dual|silver)?ish(?:plus)?\d?|in[ -]?situ|hybridi[sz]\w*"
    r"|(?:cep|cen|chr|chromosome?)[ -]?17|zyto(?:dot|light)|pathvysion|spot-?light|rnascope"
    r"|visionarray|[a-zäöü]*sonden?|(?:dna|dual)[ -]?probes?|amplif\w*"
    r")(?![a-zäöüß])",
    re.IGNORECASE,
)
"""Words of in situ hybridization: ``HER2 FISH`` asks for no immunostain."""
_SEQUENCING = re.compile(
    r"(?<![a-zäöüß])(?:ngs|(?:q|rt-?)?pcr|sequen[cz]\w*|mutation\w*)(?![a-zäöüß])", re.IGNORECASE
)
_APART = re.compile(
    r"(?<![a-zäöüß])(?:before|prior|then|after|known|vor|nach|dann|zu[mr]?|bei|bekannt\w*)"
    r"(?![a-zäöüß])",
    re.IGNORECASE,
)
"""Words between a stain and a word of sequencing that make the latter another thing."""
_ANTIBODY = re.compile(
    r"(?<![a-zäöüß\d])(?:er|pg?r|ki[ -]?67|mib-?1|p\d\d|c[dk][ -]?\d+|gata-?3|pd-?l1|e-?cad\w*"
    r"|(?:o?e|ö)strogen\w*|progesteron\w*)(?![a-zäöüß\d])",
    re.IGNORECASE,
)
"""Antibodies that are ordered with HER2: beside them a word of sequencing is another thing."""
_CONTROL = re.compile(
    r"(?<![a-zäöüß])(?:(?:neg|pos|negativ|positiv|leer)-?)?"
    r"(?:controls?|kontrollen?|kontrollschnitte?|ctrl|ktrl|kontr)(?![a-zäöüß])",
    re.IGNORECASE,
)
_IMMUNO = re.compile(r"(?<![a-zäöüß])(?:ih[ck]|icc|immun\w*)(?![a-zäöüß])", re.IGNORECASE)
_BESIDE = re.compile(r"(?:[\W_]|(?:neg|pos|immun)\w*+|ih[ck]|icc|for|für|of)*+", re.IGNORECASE)
"""Words that may stand between a stain and the word that makes it a control."""
_SIDE_NOTE = re.compile(r"[(\[](?:[\W_]|(?:neg|pos)\w*+)*+\Z", re.IGNORECASE)
"""Bracket with a control that is cut beside a stain: ``HER2 IHC (pos. control)``."""
_BORDER = re.compile(r"[,;+|\n]|(?<=\s)(?:&|and|und|et|plus|sowie)(?=\s)", re.IGNORECASE)
"""Border between things that a text asks for."""
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

    They are whole words, in any case and however their parts are separated: ``HER-2/neu``. A stain
    beside a word of hybridization, sequencing or controls is none: ``HER2 FISH``, but not ``HER2
    IHC with reflex to FISH`` or ``HER2 IHC (pos. control)``. ``HE R2`` is the word HE and something
    else.
    """
    plain = {_plain(word): stain for stain, words in vocabulary.items() for word in (stain, *words)}
    hits = sorted(
        _Hit(*found.span(), stain)
        for stain, words in vocabulary.items()
        for word in (stain, *words)
        for found in _pattern(word).finditer(text)
        if not _is_begun(found[0], stain, plain)
    )
    asked: set[str] = set()
    for start, stop in _items(text, hits):
        within = [hit for hit in hits if start <= hit.start < stop]
        asked |= {hit.stain for hit in within} - _no_immunostains(text, start, stop, within)
        # A catalog's name: "HER2, breast, FISH".
        if len({hit.stain for hit in hits}) == 1 and not _IMMUNO.search(text):
            rest, genes = _GENES.subn("", text[start:stop])
            rest, sequenced = _SEQUENCING.subn("", rest)
            if (genes or (sequenced and _is_catalogs(text))) and not re.search(r"[^\W_]", rest):
                return []
    return [stain for stain in vocabulary if stain in asked]


def has_tests_of(
    later: OrderedRequest, kept: OrderedRequest, vocabulary: Mapping[str, Sequence[str]]
) -> bool:
    """Return whether a later request asks for all that a kept one does, or one names no test.

    Stains decide where one of them names any, however they are written. Else the first text of one
    is a text of the other: the texts behind it are alternates, and a billing text is that of many.
    """
    new, old = (list(filter(None, map(_plain, (r.procedure, *r.asked)))) for r in (later, kept))
    if not new or not old:
        return True
    stains, wanted = (
        {stain for text in (r.asked or [r.procedure]) for stain in stain_codes(text, vocabulary)}
        for r in (later, kept)
    )
    if stains or wanted:
        return bool(wanted) and wanted <= stains
    return new[0] in old or old[0] in new


class _Hit(NamedTuple):
    """Word of a stain in a text."""

    start: int
    stop: int
    stain: str


def _items(text: str, hits: Sequence[_Hit]) -> Iterator[tuple[int, int]]:
    """Start and stop of each thing that a text asks for; ``H & E`` has no border."""
    start = 0
    for border in _BORDER.finditer(text):
        if not any(hit.start <= border.start() < hit.stop for hit in hits):
            yield start, border.start()
            start = border.end()
    yield start, len(text)


def _is_catalogs(text: str) -> bool:
    """Return whether a text may name one test: it has only commas, and no other antibody."""
    return not _ANTIBODY.search(text) and {border[0] for border in _BORDER.finditer(text)} <= {","}


def _no_immunostains(text: str, start: int, stop: int, hits: Sequence[_Hit]) -> set[str]:
    """Stains of an item that its words of genes and of controls turn into something else."""
    found: set[str] = set()
    immuno = _IMMUNO.search(text, start, stop) is not None
    if hits and not immuno:
        for gene in _GENES.finditer(text, start, stop):
            before = [hit for hit in hits if hit.start < gene.start()]
            found.add((before[-1] if before else hits[0]).stain)
        if not _ANTIBODY.search(text, start, stop):
            for word in _SEQUENCING.finditer(text, start, stop):
                before = [hit for hit in hits if hit.start < word.start()]
                hit = before[-1] if before else hits[0]
                if not _APART.search(_between(word, hit)):
                    found.add(hit.stain)
    for word in _CONTROL.finditer(text, start, stop):
        for hit in hits:
            between = _between(word, hit)
            is_noted = immuno and hit.start < word.start() and _is_side_note(between)
            if _BESIDE.fullmatch(between) and not is_noted:
                found.add(hit.stain)
    return found


def _is_side_note(between: str) -> bool:
    """Return whether a control behind a stain is cut beside it: ``IHC HER2 pos. control``."""
    marked = re.search(r"neg|pos", between, re.IGNORECASE) and not _IMMUNO.search(between)
    return bool(marked or _SIDE_NOTE.search(between))


def _between(word: re.Match[str], hit: _Hit) -> str:
    """Text between a stain and another word."""
    first, last = sorted((hit[:2], word.span()))
    return word.string[first[1] : last[0]]


def _plain(word: str) -> str:
    return re.sub(r"[\W_]", "", word).casefold()


def _is_begun(spelled: str, stain: str, plain: Mapping[str, str]) -> bool:
    """Return whether the first parts of a separated word are a word of another stain."""
    ends = (found.start() for found in re.finditer(rf"[{_BETWEEN}]+", spelled))
    return any(plain.get(_plain(spelled[:end]), stain) != stain for end in ends)


@cache
def _pattern(word: str) -> re.Pattern[str]:
    parts = re.findall(r"[^\W_]", word)
    spelled = rf"[{_BETWEEN}]*".join(re.escape(part) for part in parts)
    return re.compile(rf"(?<![^\W_]){spelled}(?![^\W_])" if parts else r"(?!)", re.IGNORECASE)
