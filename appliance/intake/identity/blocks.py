"""Reading of the tissue block in the tokens behind an accession."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LETTERS_NUMBER = re.compile(r"(?P<letters>[A-Z]{1,3})(?P<number>\d{1,3})", re.IGNORECASE)
_NUMBER_LETTER = re.compile(r"\d{1,2}[A-Z]", re.IGNORECASE)
_ROMAN = re.compile(r"I{1,3}|IV|VI{0,3}|IX|X", re.IGNORECASE)
_LEVEL = re.compile(r"L\d{1,2}", re.IGNORECASE)
_PARTS = "PART|SPECIMEN|SPEC|TEIL|PROBE|POT|JAR|TOPF|CONTAINER|BOTTLE|VIAL|FLASCHE|GEFÄ(?:SS|ß)"
_PART = re.compile(
    rf"(?i:P|PT|{_PARTS})(?P<number>\d{{1,2}})|(?i:{_PARTS})(?P<letter>[A-DF-MO-RT-Z])"
)
"""Mark of a part in one word; ``Teile``, ``Proben`` and ``Pots`` are none."""
_PART_WORD = re.compile(_PARTS, re.IGNORECASE)
_PREPARATION = re.compile(r"(?i:PRÄPARAT|PRAE?PARAT)(?P<mark>\d{1,2}|[A-DF-MO-RT-Z])?")
"""A word of a part right behind the accession; elsewhere it counts slides."""
_MARK = re.compile(r"\d{1,2}|[A-Z]|I{1,3}|IV|VI{0,3}|IX", re.IGNORECASE)
_ODD = re.compile(
    r"[A-Z]{1,2}\d{4,6}|\d{1,2}(?!of)[A-Z]{1,2}\d{1,2}|[A-Z]{1,2}\d{1,2}[A-Z]{1,2}\d{0,2}",
    re.IGNORECASE,
)
"""Words that may tell a block in a form that is not known: ``A0001``, ``1A1``, ``A1a``."""
_NO_BLOCK = re.compile(
    r"(s60|s210|s360|gt450|at2|cs2|p250|p480|dp\d+|dx\d+|ts\d+|bs\d+|x\d{2}|\d{2}x|v\d{1,2}|nr\d+|no\d+|lvl\d+"
    r"|scan\d*|img\d*|ser\d*|cut\d+|r\d{2}|t\d{2}|sg300|vs[12]\d0|nz\d|ss\d{4,}|roi\d{1,2}|z0|id\d+)",
    re.IGNORECASE,
)
"""Tokens of scanners, magnifications and counters that look like blocks."""
NUMBER = re.compile(r"\d{1,2}")
_PART_ALONE = re.compile(r"PT?\d{1,2}", re.IGNORECASE)
"""Mark of a part that is the block where no other one is there."""
_MORE = re.compile(r"([A-Z])\1?|(?!(?:19|20)\d{2})\d{1,4}|I{1,3}|IV|VI{0,3}|IX", re.IGNORECASE)
"""Word that may be the block of a part in front of it; a year is none."""
_WORD_OF_BLOCK = re.compile(
    r"(?:(?:PARAFFIN)?BLO(?:CK?|K)|BLK?|KAPSEL|[CK]ASSETTE|NR|NO)(?P<number>\d{1,2})?",
    re.IGNORECASE,
)
_AND = re.compile(r"UND|AND|U|ET", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Run of letters and digits; `start` is its place, `before` the separator in front of it."""

    text: str
    start: int
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Part of a name that can be read in two ways (`many`), or in none that is known."""

    part: Literal["accession", "block", "stain"]
    many: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReading:
    """Block, level of its section, part of the specimen as a mark (P2) tells it, doubts, and the
    places of the tokens that were read."""

    block: str = ""
    level: str = ""
    part: str = ""
    doubts: tuple[Doubt, ...] = ()
    used: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    block: str
    tokens: int
    doubt: str = ""


def read_blocks(tokens: Sequence[Token], end: int = 0) -> BlockReading:
    """Read the block in the tokens that are no stain and stand behind the accession.

    `end` is the place behind the accession; 0 where there is none.
    """
    blocks: list[str] = []
    used: list[int] = []
    level, part, loose, odd, more = "", "", "", "", ""
    at = 0
    while at < len(tokens):
        token = tokens[at]
        mark, width = _part_at(tokens, at, end)
        if mark and (blocks or _is_ahead(tokens, at + width)):
            part = mark
            used += [each.start for each in tokens[at : at + width]]
            at += width
            continue
        if _LEVEL.fullmatch(token.text) and (blocks or _is_ahead(tokens, at + 1)):
            level = token.text[1:]
            used.append(token.start)
            at += 1
            continue
        found = _block_at(tokens, at, first=not blocks)
        if found is None:
            if not blocks and _ODD.fullmatch(token.text):
                odd = token.text
            if at == 0 and NUMBER.fullmatch(token.text) and _is_right_behind(token, end):
                loose = _mark(token.text)  # S26-00031-2_A1
            at += 1
            continue
        blocks.append(found.block)
        more = more or _more(tokens, at, found)
        odd = found.doubt or odd
        loose = loose or found.doubt
        used += [each.start for each in tokens[at : at + found.tokens]]
        at += found.tokens
        # A number right behind the block, or behind part and block, counts levels or slides.
        if at < len(tokens) and NUMBER.fullmatch(tokens[at].text):
            level = level or tokens[at].text
            used.append(tokens[at].start)
            at += 1
    distinct = [block for block in dict.fromkeys(blocks) if block]
    doubts: list[Doubt] = []
    if len(distinct) > 1:
        doubts.append(Doubt(part="block", many=True, text=f"two blocks: {', '.join(distinct)}"))
    odd = more if len(distinct) == 1 else odd
    if len(distinct) < 2 and odd:
        doubts.append(Doubt(part="block", many=False, text=f"no usual block: {odd}"))
    block = distinct[0] if len(distinct) == 1 else ""
    return BlockReading(
        block=block,
        level=level,
        part=_apart(part or loose, block) if distinct else part,
        doubts=tuple(doubts),
        used=tuple(used),
    )


def _part_at(tokens: Sequence[Token], at: int, end: int) -> tuple[str, int]:
    """Return the mark of a part that begins with a token, and the number of its tokens."""
    marked = _PART.fullmatch(tokens[at].text)
    if marked:
        return _mark(marked["number"] or marked["letter"]), 1
    is_first = at == 0 and _is_right_behind(tokens[at], end)
    preparation = _PREPARATION.fullmatch(tokens[at].text) if is_first else None
    if preparation and preparation["mark"]:
        return _mark(preparation["mark"]), 1
    is_word = preparation or _PART_WORD.fullmatch(tokens[at].text)
    after = tokens[at + 1] if at + 1 < len(tokens) else None
    if after and is_word and _MARK.fullmatch(after.text):
        return _mark(after.text), 2
    return "", 0


def _is_ahead(tokens: Sequence[Token], at: int) -> bool:
    """Return whether a block begins with one of the tokens from a place on."""
    return any(
        _block_at(tokens, number, first=True) is not None for number in range(at, len(tokens))
    )


def _is_right_behind(token: Token, end: int) -> bool:
    """Return whether a token is the first behind the accession that ends at a place.

    Without an accession none is: a number may count the files of a folder. Nor is one behind a
    date, which was blanked out.
    """
    return end > 0 and token.start - len(token.before) <= end and token.start - end <= 3


def _mark(text: str) -> str:
    return str(int(text)) if text.isdecimal() else text.upper()


def _apart(mark: str, block: str) -> str:
    """Return the mark of a part; none where the block begins with it: A1 of specimen A."""
    letters = _LETTERS_NUMBER.fullmatch(block)
    return "" if letters and letters["letters"] == mark else mark


def _right_behind(tokens: Sequence[Token], at: int) -> Token | None:
    """Return the token behind another one, with nothing but a separator between them."""
    if at + 1 == len(tokens):
        return None
    token, after = tokens[at], tokens[at + 1]
    end = token.start + len(token.text) + len(after.before)
    return after if after.start == end else None


def _more(tokens: Sequence[Token], at: int, found: _Found) -> str:
    """Return a block with what stands behind it where both may be another one; else nothing.

    That is a letter or a number behind a part alone (``1_A``, ``A-001``, ``P2_3``, ``A_Block 2``),
    or a second block (``A1+2``).
    """
    last = at + found.tokens - 1
    after = _right_behind(tokens, last)
    if after is None or len(after.before) > 3:
        return ""
    beyond = _right_behind(tokens, last + 1)
    sign, own = after.before.strip(" "), tokens[at].before.strip(" ")
    marks: list[Token | None] = []
    if sign in ("+", "&") or (sign == "," and own != ","):
        marks.append(after)
    if _AND.fullmatch(after.text):
        marks.append(beyond)
    second = next((m for m in marks if m and _MARK.fullmatch(m.text)), None)
    alone = tokens[at].text
    if (
        second is None
        and found.tokens == 1
        and (_MARK.fullmatch(alone) or _PART_ALONE.fullmatch(alone))
    ):
        word = _WORD_OF_BLOCK.fullmatch(after.text)
        if _MORE.fullmatch(after.text) or (word and word["number"]):
            second = after
        elif word and beyond and _MARK.fullmatch(beyond.text):
            second = beyond
    if second is None or (second is after and _is_initial(after, beyond)):
        return ""
    read = tokens[at : tokens.index(second) + 1]
    return alone + "".join(token.before + token.text for token in read[1:])


def _is_initial(letter: Token, after: Token | None) -> bool:
    """Return whether a letter belongs to a name behind it: ``J. Meier``, ``O'Neil``."""
    if after is None or letter.before.startswith(".") or not letter.text.isalpha():
        return False
    return after.before in ("'", "’", ".", ". ") and len(after.text) > 2 and after.text.istitle()


def _is_block(token: Token) -> bool:
    text = token.text
    if _NO_BLOCK.fullmatch(text) or _LEVEL.fullmatch(text):
        return False
    return bool(_LETTERS_NUMBER.fullmatch(text) or _NUMBER_LETTER.fullmatch(text))


def _block_at(tokens: Sequence[Token], at: int, *, first: bool) -> _Found | None:
    """Return the block that begins with a token; forms of one letter only as the first."""
    token = tokens[at]
    if _is_block(token):
        return _Found(block=token.text.upper(), tokens=1)
    if not first:
        return None
    after = _right_behind(tokens, at)
    joined = (
        after is not None
        and NUMBER.fullmatch(after.text) is not None
        and (after.before in ("-", ".", " ") or at == 0)
    )
    # Part and block: A-1, A;1, A_1, and II-1, which is not II-2.
    is_roman = at == 0 and _ROMAN.fullmatch(token.text)
    is_part = is_roman or re.fullmatch(r"[A-Z]", token.text, re.IGNORECASE)
    if after is not None and joined and is_part:
        return _Found(block=f"{token.text}{int(after.text)}".upper(), tokens=2)
    if at == 0:
        if after is not None and joined and NUMBER.fullmatch(token.text):
            if after.before in ("-", "."):
                return _Found(block=f"{token.text}-{after.text}", tokens=2)
            odd = f"{token.text}{after.before}{after.text}"
            return _Found(block="", tokens=2, doubt=odd)
        is_letter = after is not None and re.fullmatch(r"[A-Z]", after.text, re.IGNORECASE)
        if after is not None and is_letter and after.before == "-" and NUMBER.fullmatch(token.text):
            return _Found(block=f"{token.text}{after.text}".upper(), tokens=2)
        if re.fullmatch(r"[A-Z]", token.text, re.IGNORECASE) or _ROMAN.fullmatch(token.text):
            return _Found(block=token.text.upper(), tokens=1)
        if NUMBER.fullmatch(token.text) and token.before.strip(" ") in ("_", ";", ",", ""):
            return _Found(block=token.text, tokens=1)
    return None
