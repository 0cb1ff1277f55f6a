"""Reading of a name: accession, block and stain in a file name, a folder name or a barcode.

Laboratories write them in some order, with separators of their own, and put more beside them: a
time, a level, a rescan's number, a patient's name. A part is taken only where its form is clear;
what could be read in two ways is a doubt, and a person is asked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from appliance.intake.identity.blocks import BlockReading, Doubt, Token, read_blocks
from appliance.intake.identity.prefix import DEVICES, with_prefix
from appliance.intake.identity.vocabulary import Hit, Vocabulary, folded
from appliance.intake.identity.words import COUNTED, HARMLESS, METHODS, NOUNS, REAGENTS

_END = r"(?![A-Za-z0-9])"
_GLUED = rf"(?:{_END}|(?=[A-Z]{{1,2}}\d{{1,2}}{_END}))"
"""End of an accession; a block may follow without separator: ``S2600031A1``."""
_FORMS = tuple(
    re.compile(rf"(?<![A-Za-z0-9])(?P<accession>{form}){end}", re.IGNORECASE)
    for form, end in (
        (r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}", _END),
        (r"(?P<prefix>[A-Z]{1,4})[-/]?(?P<year>20\d{2})[-./](?P<number>\d{1,8})", _GLUED),
        (r"(?P<prefix>[A-Z]{1,4})/(?P<year>\d{2})/(?P<number>\d{1,8})", _GLUED),
        (r"(?P<prefix>[A-Z]{1,4})/(?P<number>\d{2,7})/(?P<year>\d{2}|20\d{2})", _END),
        (r"(?P<prefix>[A-Z]{1,4})-?(?P<year>\d{2})[-.](?P<number>\d{1,10})", _GLUED),
        (r"(?P<prefix>[A-Z]{1,4})(?P<number>\d{6,10})", _GLUED),
        (r"(?P<year>\d{2})-(?P<prefix>[A-Z]{1,3})-?(?P<number>\d{1,8})", _GLUED),
        (r"(?P<year>\d{2})(?P<prefix>[A-Z]{1,3})-(?P<number>\d{1,8})", _GLUED),
        (r"(?P<year>\d{2})(?P<prefix>[A-Z]{1,3})(?P<number>\d{4,8})", _GLUED),
        (r"(?P<prefix>[A-Z]{1,4})-?(?P<number>\d{2,7})[-/](?P<year>\d{2}|20\d{2})", _END),
        (r"(?P<prefix>[A-Z]{1,4}) (?P<number>\d{2,7})[ /](?P<year>\d{2}|20\d{2})", _END),
    )
)
"""Forms of accessions, the most telling first: a year and a number, with letters."""
_BARE = re.compile(
    r"^\s*(?P<accession>(?!(?:19|20)\d{2}(?:0[1-9]|1[0-2])?(?!\d))\d{4,10})"
    r"(?=[_;, -]+[A-Za-z0-9]{1,4}(?![A-Za-z0-9]))"
)
"""A number alone is an accession only in front of a block. A year or a month is none: ``2026_11``,
``202611_2``."""
_NUMBER_AND_YEAR = re.compile(
    r"^\s*(?P<accession>(?!(?:19|20)\d{2}[-/])\d{4,7}[-/]\d{2}|(?:20)?\d{2}[-/]\d{5,7})"
    rf"{_END}"
    r"(?=[_;, -]+[A-Za-z0-9]{1,4}(?![A-Za-z0-9]))"
)
"""A number with a year, without letters: the year belongs to it."""
_BLOCK_AND_STAIN = re.compile(r"(?P<block>[A-Z]{1,2}\d{1,2}|\d{1,2}[A-Z])(?P<stain>[A-Z].+)", re.I)
_SIGNS = str.maketrans(
    {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212), "-")
    | dict.fromkeys((0xA0, 0x202F, 0x3000), " ")
)
"""Wide letters, dashes and blanks, as the plain ones that they stand for."""
_TIMES = re.compile(
    r"(?<!\d)(?:"
    r"(?:19|20)\d{2}([-._]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T _-]{1,3}\d{2}[.:h_-]?\d{2}(?:[.:m_-]?\d{2})?(?:Z(?![A-Za-z0-9]))?(?!\d))?"
    r"|(?:0?[1-9]|[12]\d|3[01])-(?:Jan|Feb|Mar|Apr|Ma[iy]|Jun|Jul|Aug|Sep|O[ck]t|Nov|De[cz])-20\d{2}"
    r"|(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.(?:19|20)\d{2}"
    r"|(?:0[1-9]|[12]\d|3[01])[-_](?:0[1-9]|1[0-2])[-_](?:19|20)\d{2}"
    r"|\d{2}[.:]\d{2}[.:]\d{2}"
    r")(?!\d)"
)
"""Dates and times of day."""
_RACK = re.compile(r"(?<![A-Za-z0-9])R\d{2}[-_]S\d{2}(?![A-Za-z0-9])", re.IGNORECASE)
"""Rack and slot of a scanner, as in ``R03-S07``: the slot is no block."""
_UUID = re.compile(
    r"(?<![A-Za-z0-9])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![A-Za-z0-9])", re.IGNORECASE
)
_FILE_SET = re.compile(r"(?:sm|im|wsm|dcm)0\d+|(?:pa|st|se)0{3,}\d*", re.IGNORECASE)
"""Names of files and folders of a DICOM file set, as in ``PA000000/SM000001``."""
_DAY = re.compile(
    r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])(?:(?:19|20)\d{2}|\d{2})"
    r"|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:19|20)\d{2}|\d{2})"
    r"|\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
)
"""Digits that may be a date, in the orders of several countries."""
_METHOD = re.compile(
    r"^(d|f|s|c)ish[^eo]|[dfsc]ish$|kontr|contr(?!era)|verdunn|noprim|ohneprim|^secondar|^sekundar"
    r"|dilu(en|t|an|zione)|^omi(t|ssi|s[eo]?\d*$)|bleach(?!er)|bleich(t|ung|en\d*$)|buffer|puffer|serum|reagen[tz]|^negat|destain|entfarb|fluor|ringvers"
    r"|zellblock|cellblock|cytolog|zytolog|[ck]alibr|[ad]bsor|^valid|testlauf|probelauf|specific"
    r"|spezif|neqas"
)
"""Part of a word that names a reagent, a trial or a treatment instead of an assay's section.

Bleicher, Diluzio, Omisore and Contreras are persons.
"""
_NO_TEXT = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(r"[A-Za-z0-9\u00C0-\u024F]+|[^\W_A-Za-z0-9\u00C0-\u024F]+")
"""Runs of letters and digits of one alphabet: ``HER2`` stands apart from what follows in kanji."""
MOST_CHARACTERS = 256
"""Longest text that is read; a file name has 255 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameReading:
    """Reading of a name; empty strings where it says nothing.

    `kind` is that of the stain, `prefixed` the accession with what is joined to it in front.
    """

    accession: str = ""
    prefixed: str = ""
    block: str = ""
    level: str = ""
    part: str = ""
    stain: str = ""
    kind: str = ""
    doubts: tuple[Doubt, ...] = ()


@dataclass(slots=True)
class _Parts:
    """Text of a name, with the parts that are read replaced by blanks."""

    text: str
    doubts: list[Doubt] = field(default_factory=list)
    prefixed: str = ""

    def blank(self, start: int, end: int) -> None:
        self.text = self.text[:start] + " " * (end - start) + self.text[end:]


def read_name(text: str, vocabulary: Vocabulary, patterns: Iterable[str] = ()) -> NameReading:
    """Read a name, without its suffix; never raises, whatever the text is.

    `patterns` are the laboratory's own regular expressions, with the groups `accession` and
    `block`; the first that is found precedes the forms that are known here.
    """
    # A byte that is no text stands for a letter of another alphabet.
    letters = _NO_TEXT.sub("e", text[:MOST_CHARACTERS])
    parts = _Parts(unicodedata.normalize("NFC", letters).translate(_SIGNS))
    accession, end, block = _by_pattern(parts, patterns)
    for found in _UUID.finditer(parts.text):
        parts.blank(*found.span())
    if not accession:
        for found in (*_TIMES.finditer(parts.text), *_RACK.finditer(parts.text)):
            parts.blank(*found.span())
        accession, end = _by_form(parts, vocabulary)
    tokens = list(_tokens(parts.text, vocabulary))
    hits = vocabulary.find([token.text for token in tokens])
    stain, kind = _stain(hits, parts)
    taken = {number for hit in hits for number in range(hit.first, hit.stop)}
    rest = [t for n, t in enumerate(tokens) if n not in taken and t.start >= end]
    blocks = read_blocks(rest, end if accession else 0)
    if not block and (accession or not blocks.block.replace("-", "").isdigit()):
        block = blocks.block  # a number without an accession is no block: UIDs have many
        # Two blocks on a control: no question. Nor is an odd word one, without an accession.
        is_open = (accession or block) and kind in ("", "stain")
        parts.doubts += blocks.doubts if is_open else ()
    if kind == "stain":
        _unknown_words(tokens, hits, blocks, parts)
    return NameReading(
        accession=accession,
        prefixed=parts.prefixed,
        block=block,
        level=blocks.level,
        part=blocks.part,
        stain=stain,
        kind=kind,
        doubts=tuple(dict.fromkeys(parts.doubts)),
    )


def _tokens(text: str, vocabulary: Vocabulary) -> Iterator[Token]:
    """Yield the runs of letters and digits; a stain right behind a block is parted from it."""
    for found in _TOKEN.finditer(text):
        start, before = found.start(), _separator(text, found.start())
        glued = _BLOCK_AND_STAIN.fullmatch(found[0])
        if (
            glued
            and vocabulary.meaning(found[0]) is None
            and vocabulary.meaning(glued["stain"]) is not None
        ):
            yield Token(text=glued["block"], start=start, before=before)
            yield Token(text=glued["stain"], start=start + glued.start("stain"), before="")
        else:
            yield Token(text=found[0], start=start, before=before)


def _plain(text: str) -> str:
    """Return a text without accents: ``Müller`` is ``Muller``."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if c.isascii())


def _by_pattern(parts: _Parts, patterns: Iterable[str]) -> tuple[str, int, str]:
    """Return accession, its end and the block by the laboratory's patterns."""
    for pattern in patterns:
        found = re.search(pattern, parts.text)
        groups = found.groupdict() if found else {}
        if found and groups.get("accession"):
            end = found.end("accession")
            parts.blank(*found.span("accession"))
            block = groups.get("block") or ""
            if block:
                parts.blank(*found.span("block"))
                end = max(end, found.end("block"))
            return groups["accession"].upper(), end, block.upper()
    return "", 0, ""


def _by_form(parts: _Parts, vocabulary: Vocabulary) -> tuple[str, int]:
    """Return accession and its end by the known forms; a second one is a doubt."""
    text = parts.text
    if _FILE_SET.fullmatch(text.strip()):
        return "", 0
    found = next(
        (m for form in _FORMS for m in form.finditer(text) if _plausible(m, vocabulary)), None
    )
    if found is None:
        found = _NUMBER_AND_YEAR.match(text) or _BARE.match(text)
        if found is None or _has_year(text, found) or _has_day(found["accession"]):
            return "", 0
    parts.prefixed = _written(with_prefix(text, found, vocabulary))
    if parts.prefixed:
        more = f"something in front may belong to it: {parts.prefixed}"
        parts.doubts.append(Doubt(part="accession", many=False, text=more))
    parts.blank(*found.span("accession"))
    accession = _written(found["accession"])
    for form in _FORMS:
        for other in form.finditer(parts.text):
            number = other.groupdict().get("number") or ""
            if len(number) >= 3 and _plausible(other, vocabulary):
                both = f"two accessions: {accession}, {_written(other['accession'])}"
                parts.doubts.append(Doubt(part="accession", many=True, text=both))
                return accession, found.end("accession")
    return accession, found.end("accession")


def _has_day(accession: str) -> bool:
    """Return whether a number, or a part of it, may be a date."""
    day_and_month = re.fullmatch(r"(\d{4})[-/](\d{2})", accession)  # 1120-26
    parts = re.split(r"[-/]", accession)
    parts += [f"{day_and_month[1]}{day_and_month[2]}"] if day_and_month else []
    return any(_DAY.fullmatch(part) for part in parts)


def _has_year(text: str, found: re.Match[str]) -> bool:
    """Return whether a year, or another part of a number, follows a number that was found."""
    accession = found["accession"]
    behind = re.match(r"[-/.]\d{2,}(?![A-Za-z0-9])", text[found.end() :])
    return accession.isdigit() and behind is not None


def _plausible(found: re.Match[str], vocabulary: Vocabulary) -> bool:
    groups = found.groupdict()
    prefix = (groups.get("prefix") or "").lower()
    digits = re.sub(r"\D", "", found["accession"])
    if prefix in COUNTED:
        return False
    device, _, counter = found["accession"].lower().partition("-")
    if prefix and len(counter) < 4 and DEVICES.fullmatch(device):
        return False  # P1000-12 is a scanner and a counter
    if vocabulary.meaning(prefix + (groups.get("year") or "")) is not None and prefix:
        return False  # CD20-1 is an antibody
    return not (prefix and not groups.get("year") and _DAY.fullmatch(digits) and len(prefix) > 2)


def _written(accession: str) -> str:
    """Return an accession as it is written in reports; a blank before a year stands for a slash."""
    upper = accession.upper()
    return re.sub(r"^([A-Z]{1,4} \d+) (\d{2,4})$", r"\1/\2", upper)


def _separator(text: str, start: int) -> str:
    """Return the characters between a token and the one before it."""
    first = start
    while first > 0 and not text[first - 1].isalnum():
        first -= 1
    return text[first:start]


def _stain(hits: Sequence[Hit], parts: _Parts) -> tuple[str, str]:
    """Return code and kind of the stain that the words name together.

    A control or a hybridization is one whatever stain stands beside it.
    """
    for kind in ("hybridization", "control"):
        for hit in hits:
            if hit.kind == kind:
                beside = {other.code for other in hits if other.kind == "stain"}
                return "-".join((*sorted(beside)[:1], hit.code)), kind
    codes = list(dict.fromkeys(hit.code for hit in hits))
    either = next((hit for hit in hits if hit.or_code), None)
    if either is not None and set(codes) <= {either.code, either.or_code}:
        text = f"a word may be of two stains: {either.or_code}, {either.code}"
        parts.doubts.append(Doubt(part="stain", many=False, text=text))
        return "", ""
    if len(codes) > 1 and all(hit.kind == "other" for hit in hits):
        return "-".join(codes), "other"
    if len(codes) > 1:
        both = f"two stains: {', '.join(codes)}"
        parts.doubts.append(Doubt(part="stain", many=True, text=both))
        return "", ""
    return (hits[0].code, hits[0].kind) if hits else ("", "")


def _is_name(text: str) -> bool:
    """Return whether a word may be a person's name."""
    return re.fullmatch(r"[A-Z][a-z]{3,}|[a-z]{6,}", _plain(text)) is not None


def _is_method(word: str) -> bool:
    """Return whether a word tells, or may tell, that a slide is no usual section of its stain."""
    return word in METHODS or word in REAGENTS or _METHOD.search(word) is not None


def _is_person(number: int, tokens: Sequence[Token], taken: Set[int]) -> bool:
    """Return whether ``Leer`` or ``Null`` is a person's: beside another name, as in ``Leer, Anna``.

    A noun that a laboratory writes beside it, as in ``Leer-Probe``, is no name.
    """
    text = tokens[number].text
    if text not in ("Leer", "Null"):
        return False
    beside = {number - 1, number + 1} & set(range(len(tokens))) - taken
    words = {
        folded(tokens[n].text)
        for n in beside
        if tokens[n].text.istitle() and _is_name(tokens[n].text)
    }
    return any(w not in HARMLESS | COUNTED | NOUNS and not _is_method(w) for w in words)


def _says_nothing(token: Token, words: Set[str]) -> bool:
    """Return whether a word beside a stain is known to change nothing of it, or is a name."""
    word = folded(token.text)
    if word == "rabbit":  # alone it may be the serum of a negative reagent control
        return not words.isdisjoint(("anti", "monoclonal"))
    return (
        not re.search(r"[^\W\d_]", word)
        or word in HARMLESS
        or word.rstrip("0123456789") in HARMLESS
        or DEVICES.fullmatch(word) is not None
        or re.fullmatch(r"[a-z]\d{1,2}|[0-9a-f]{8,}|l\d|lvl\d", word) is not None
        or re.fullmatch(r"sg300|vs[12]\d0|nz\d|ss\d{4,}|roi\d{1,2}|id\d+", word) is not None
        or (_is_name(token.text) and not _is_method(word))
    )


def _unknown_words(
    tokens: Sequence[Token], hits: Sequence[Hit], blocks: BlockReading, parts: _Parts
) -> None:
    """Doubt a stain with a word behind it that is not known: it may name another method.

    Between the block and the stain, names of persons and organs are written in any form: a word of
    a method or reagent alone counts. In front of the block a method alone does.
    """
    first, last = min(hit.first for hit in hits), max(hit.stop for hit in hits)
    taken = {number for hit in hits for number in range(hit.first, hit.stop)}
    behind = min((t.start for t in tokens if _begins(t, blocks)), default=len(parts.text))
    words = {folded(token.text) for token in tokens}
    for number, token in enumerate(tokens):
        word = folded(token.text)
        if number < last and token.start <= behind and word not in METHODS:
            continue
        is_phospho = word == "p" and number + 1 == first  # p-HER2 is another antibody
        if number < last and not (_is_method(word) or is_phospho or word == "rabbit"):
            continue
        if (
            number in taken
            or token.start in blocks.used
            or (len(word) < 2 and number > last)
            or _says_nothing(token, words)
            or _is_person(number, tokens, taken)
        ):
            continue
        unknown = f"a word beside the stain is not known: {token.text}"
        parts.doubts.append(Doubt(part="stain", many=False, text=unknown))
        return


def _begins(token: Token, blocks: BlockReading) -> bool:
    """Return whether the block begins with a token."""
    return token.start in blocks.used and blocks.block.startswith(token.text.upper())
