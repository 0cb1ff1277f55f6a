"""Decoder of DICOM's character sets, with and without code extensions (PS3.5 6.1.2, ISO/IEC 2022).

pydicom 3.0 does not decode ISO 2022 IR 58 and ISO_IR 203, and looks for the ends of values and
names within letters of two bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ESCAPE = b"\x1b"
ASCII, UTF8 = "ascii", "utf_8"
_BY_NUMBER = {
    6: ASCII,
    13: "shift_jis",
    58: "gb2312",
    87: ASCII,
    100: "iso8859_1",
    101: "iso8859_2",
    109: "iso8859_3",
    110: "iso8859_4",
    126: "iso8859_7",
    127: "iso8859_6",
    138: "iso8859_8",
    144: "iso8859_5",
    148: "iso8859_9",
    149: "euc_kr",
    159: ASCII,
    166: "iso8859_11",
    192: UTF8,
    203: "iso8859_15",
}
"""Codec of the bytes from 0x80 on before any escape sequence, by the number of a defined term
(PS3.3 C.12.1.1.2). Letters of 87 and 159 come after escape sequences alone."""
_WHOLE = {"GB18030": "gb18030", "GBK": "gbk"}
"""Defined terms without number; like UTF-8 they know no code extensions."""
_NEVER_EXTENDED = (UTF8, *_WHOLE.values())
_NUMBERED = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)")
_LOW = {b"(B": ASCII, b"(J": ASCII, b"$B": "jis_x_0208", b"$(D": "jis_x_0212"}
_HIGH = {
    b")I": "shift_jis",
    b"$)A": "gb2312",
    b"$)C": "euc_kr",
    b"-A": "iso8859_1",
    b"-B": "iso8859_2",
    b"-C": "iso8859_3",
    b"-D": "iso8859_4",
    b"-F": "iso8859_7",
    b"-G": "iso8859_6",
    b"-H": "iso8859_8",
    b"-L": "iso8859_5",
    b"-M": "iso8859_9",
    b"-T": "iso8859_11",
    b"-b": "iso8859_15",
}
"""Sets that an escape sequence puts at bytes below 0x80 (G0) and above (G1): PS3.3 C.12-3, C.12-4.
"""
_PAIRS = ("gb2312", "euc_kr")
_SEQUENCE = re.compile(rb"\$[()]?[A-Z]|[()\-][A-Za-z]")


@dataclass(frozen=True, slots=True)
class CharacterSets:
    """Character sets of a data set: the codec of its first one, and whether its terms are DICOM's.

    `codec` is `ASCII` where none is stated, or only sets that escape sequences switch to.
    """

    codec: str = ASCII
    is_defined: bool = True

    @classmethod
    def of(cls, terms: Sequence[str]) -> CharacterSets:
        """Return the sets of the terms of a Specific Character Set, also in other spellings."""
        first = _codec(terms[0]) if terms else None
        return cls(first or ASCII, all(map(_is_defined, terms)))


def decode(value: bytes, sets: CharacterSets, *, ends: bytes) -> str | None:
    """Return a text as Unicode; None where its bytes are none of the sets.

    `ends` are the ASCII characters after which the first set counts again: ends of values, of a
    name's components and of lines (PS3.5 6.1.2.5.3).
    """
    if value.isascii() and ESCAPE not in value:
        return value.decode(ASCII)
    try:
        if sets.codec in _NEVER_EXTENDED:
            return None if ESCAPE in value else value.decode(sets.codec)
        try:
            return "".join(_letters(value, sets.codec, ends))
        except UnicodeDecodeError:
            # As written by some: a set counts until the next escape sequence.
            return "".join(_letters(value, sets.codec, b""))
    except UnicodeDecodeError:
        return None


def _letters(value: bytes, codec: str, ends: bytes) -> list[str]:
    letters: list[str] = []
    low, high, at = ASCII, codec, 0
    while at < len(value):
        byte = value[at]
        if byte == ESCAPE[0]:
            found = _SEQUENCE.match(value, at + 1)
            name = found[0] if found else b""
            if name not in _LOW and name not in _HIGH:
                raise UnicodeDecodeError(
                    codec, value, at, at + 1, "not an escape sequence of DICOM"
                )
            low, high = _LOW.get(name, low), _HIGH.get(name, high)
            at += 1 + len(name)
            continue
        two = (low != ASCII and 0x20 < byte < 0x7F) or (byte > 0x7F and high in _PAIRS)
        part = value[at : at + 1 + two]
        if len(part) <= two:
            raise UnicodeDecodeError(codec, value, at, at + 1, "half a letter of two bytes")
        letters.append(_letter(part, low, high))
        at += len(part)
        if len(part) == 1 and byte in ends:
            low, high = ASCII, codec
    return letters


def _letter(part: bytes, low: str, high: str) -> str:
    """Return the letter of one or two bytes."""
    if part[0] > 0x7F:
        return part.decode(high)
    if len(part) == 1:
        return part.decode(ASCII)
    # EUC has the same tables with the eighth bit set; 0x8F announces JIS X 0212.
    raised = bytes(byte | 0x80 for byte in part)
    return (b"\x8f" * (low == "jis_x_0212") + raised).decode("euc_jp")


def _codec(term: str) -> str | None:
    """Return the codec of a term, also of one in another spelling; None where it names no set."""
    upper = term.strip().upper()
    numbered = _NUMBERED.fullmatch(upper)
    if numbered:
        return _BY_NUMBER.get(int(numbered[1]))
    if upper in ("UTF-8", "UTF8"):
        return UTF8
    return _WHOLE.get(upper, None if upper else ASCII)


def _is_defined(term: str) -> bool:
    numbered = re.fullmatch(r"ISO(?:_IR| 2022 IR) (\d+)", term)
    return term in ("", *_WHOLE) or (numbered is not None and int(numbered[1]) in _BY_NUMBER)
