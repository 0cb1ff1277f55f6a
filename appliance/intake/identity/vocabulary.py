"""Words that laboratories write for stains, controls and in situ hybridization."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.intake.identity.words import OF_STAINS, OTHER_STAINS

Kind = Literal["stain", "other", "control", "hybridization"]
"""A `stain` belongs to an assay; the others belong to none and are never scored."""

MOST_JOINED = 4
"""Most parts of a word that a name separates: ``c-erb-B-2``."""

ISH, CONTROL = "ISH", "CONTROL"
"""Codes of slides that are no stain of a block's section."""
_HYBRIDIZATION = re.compile(
    r"(her2|erbb2|neu)?((ish|fish|dish|ddish|bdish|cdish|brish|iqfish|fishplus|sish|cish|duocish"
    r"|dualish|silverish|insitu|hybridisation|hybridization)(her2)?\d?|cep17|cen17|chr17"
    r"|her2cep17|her2chr17|eber|zytodot|zytolight|pathvysion|spotlight|rnascope|visionarray"
    r"|sonde|dnasonde|dnaprobe|dualprobe|amplifikation|amplification)"
)
_CONTROL = re.compile(
    r"(her2|erbb2)?(ctrl|ctr|ctl|ktrl|kontr|kontrolle|kontroll|kontrollschnitt|control|controle|controlo"
    r"|negativkontrolle|negkontrolle|negkontr|negcontrol|negativecontrol|negctrl|negctl|negk|neg"
    r"|negative|negativ|nk|nc|ntc|nrc|isotype|isotyp|iso|igg|rabbitigg|mouseigg|omission|blank"
    r"|leerkontrolle|poskontrolle|poscontrol|positivecontrol|posctrl|posk|onslidecontrol|qc"
    r"|positivkontrolle|poscon|negcon|posko|negko|leerwert|temoin|temoinpositif|temoinnegatif"
    r"|positivkontroll|negativkontroll|kontrol|controllo|контроль|陰性|陽性|陰性対照|陽性対照|対照"
    r"|陰性コントロール|陽性コントロール|コントロール|阴性|阳性|对照|阴性对照|阳性对照)\d{0,3}"
)
_SERIES = re.compile(r"(cd\d{1,3}[a-d]?|ck\d{1,2}|cytokeratin\d{0,2}|muc\d{1,2}(ac)?|cam52)")
"""Antigens that have numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Word of a stain in a list of tokens: those from `first` to before `stop`.

    `or_code` is that of another stain whose word the first of them are: ``HE R2``.
    """

    first: int
    stop: int
    code: str
    kind: Kind
    or_code: str = ""


def folded(word: str) -> str:
    """Return a word without accents, separators and case: ``HER-2/neu`` is ``her2neu``.

    Letters of other alphabets stay: two words of them are not one.
    """
    if word.isascii() and word.isalnum():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word)
    bare = "".join(c for c in plain if c.isalnum()).casefold()
    return unicodedata.normalize("NFC", bare)


def shared_words(stains: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    """Yield each word that two stains have, with the codes of both."""
    taken: dict[str, str] = {}
    for code, words in stains.items():
        for word in (code, *words):
            other = taken.setdefault(folded(word), code)
            if folded(word) and other != code:
                yield word, other, code


class Vocabulary:
    """Words of a laboratory: those of the assays' stains, and those that are known besides.

    `stains` gives the words of each stain of an assay, by code; `other` are more words of the lab
    for stains of no assay. A word of an assay's stain is never one of another kind: one that the
    settings replaced is not known, so that its slides are asked about.
    """

    def __init__(self, stains: Mapping[str, Sequence[str]], other: Iterable[str] = ()) -> None:
        self._words: dict[str, tuple[str, Kind]] = {}
        of_assays = {word for code in stains for word in OF_STAINS.get(code, ())}
        own = tuple(other)
        self._others = {folded(word) for word in own}
        for word in (*(word for word in OTHER_STAINS if word not in of_assays), *own):
            if folded(word):
                self._words[folded(word)] = (word.upper(), "other")
        for code, words in stains.items():
            for word in (code, *words):
                if folded(word):
                    self._words[folded(word)] = (code, "stain")

    def find(self, tokens: Sequence[str]) -> list[Hit]:
        """Return the words in a list of tokens, from the first; longer ones come before shorter."""
        found: list[Hit] = []
        first = 0
        while first < len(tokens):
            for count in range(min(MOST_JOINED, len(tokens) - first), 0, -1):
                known = self.meaning("".join(tokens[first : first + count]))
                if known is not None:
                    code, kind = known
                    begun = self._begun(tokens[first : first + count], code, kind)
                    stop = first + count
                    found.append(Hit(first=first, stop=stop, code=code, kind=kind, or_code=begun))
                    first = stop
                    break
            else:
                first += 1
        return found

    def _begun(self, tokens: Sequence[str], code: str, kind: Kind) -> str:
        """Return the stain of an assay, another than `code`, whose word begins a joined word; empty
        for a word that the laboratory itself gives to a stain of no assay."""
        if folded("".join(tokens)) in self._others:
            return ""
        for count in range(1, len(tokens) if kind in ("stain", "other") else 0):
            known = self._words.get(folded("".join(tokens[:count])))
            if known is not None and known[1] == "stain" and known[0] != code:
                return known[0]
        return ""

    def meaning(self, word: str) -> tuple[str, Kind] | None:
        """Return code and kind of a word; None where it is not known."""
        plain = folded(word)
        if plain in self._words:
            return self._words[plain]
        if _HYBRIDIZATION.fullmatch(plain):
            return ISH, "hybridization"
        if _CONTROL.fullmatch(plain):
            return CONTROL, "control"
        if _SERIES.fullmatch(plain):
            return plain.upper(), "other"
        # A section's number behind the stain: HE1 is the first H&E section.
        shorter = re.fullmatch(r"(\D+)\d", plain)
        known = self._words.get(shorter[1]) if shorter else None
        return known if known and known[1] == "stain" else None
