"""Files of orders: what was read of them, what could not be, and how their text is decoded."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TypeVar

from appliance.settings.identify import Writing
from dicom.order import Order
from dicom.request import TakenBack

_Each = TypeVar("_Each")

MOST_PROBLEMS = 100
"""Number of problems of a file that are kept."""
MOST_BYTES = 32 * 2**20
"""Largest file of orders that is read: some 300,000 rows, within the time that identify has."""
WRITING_S = 2.0
"""Age in seconds below which a file may be half written."""
UNENDED_S = 60.0
"""Age in seconds below which a last line without an end is not used: systems write with pauses."""
FIRST_YEAR = 1850
"""First year of a date of birth: one before it was read wrong."""
FIRST_TODAY = date(2021, 1, 1)
"""Day before which a clock is wrong."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Letter in place of bytes that are no letter."""
_JOINED = re.compile(r"%[dmyY]%[dmyY]")
"""Numbers of a format of dates with no sign between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderProblem:
    """A row or a message that is not used, or used without one of its values.

    `file` is the file's name, which may hold an accession (PHI). `whole`: nothing of the file can
    be used. `used`: the row is used as it stands.
    """

    file: str
    line: int
    text: str
    whole: bool = False
    used: bool = False

    @property
    def sentence(self) -> str:
        """Sentence for people; it holds no value of the file."""
        return f"{self.file}, line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdersRead:
    """Orders of a source by accession, case-folded, and what could not be used.

    `canceled` are the requests of orders that were taken back.
    """

    orders: Mapping[str, tuple[Order, ...]]
    problems: tuple[OrderProblem, ...]
    canceled: Mapping[str, tuple[TakenBack, ...]] = field(default_factory=dict)

    def of(self, accession: str, writing: Writing | None = None) -> tuple[Order, ...]:
        """Return the orders of an accession by the site's rule of writing; case never counts."""
        return _of(self.orders, accession, writing)

    def canceled_of(self, accession: str, writing: Writing) -> tuple[TakenBack, ...]:
        """Return the requests of an accession that were taken back."""
        return _of(self.canceled, accession, writing)


def _of(
    known: Mapping[str, tuple[_Each, ...]], accession: str, writing: Writing | None
) -> tuple[_Each, ...]:
    wanted = accession.casefold()
    if writing is None or (writing.separators, writing.leading_zeros) == ("keep", "keep"):
        return known.get(wanted, ())
    found = (
        each
        for written, each in known.items()
        if writing.of_accession(written).casefold() == wanted
    )
    return tuple(one for each in found for one in each)


def decoded(data: bytes) -> str:
    """Decode the text of a file as Windows and Linux write it: UTF-8, UTF-16 or Windows-1252."""
    return decoded_lines(data)[0]


def decoded_lines(data: bytes) -> tuple[str, tuple[int, ...]]:
    """Return the text of a file, and the numbers of lines that are not in UTF-8 as the others are.

    One letter that was cut makes no other letter wrong: UTF-8 is told by most lines that are no
    ASCII.
    """
    if (text := marked(data)) is not None:
        return text, ()
    with suppress(UnicodeDecodeError):
        return data.decode("utf-8-sig"), ()
    lines = data.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    told = [_is_utf8(line) for line in lines if not line.isascii()]
    if 2 * sum(told) < len(told) and not data.startswith(codecs.BOM_UTF8):
        return data.decode("cp1252", errors="replace"), ()
    texts, odd = list[str](), list[int]()
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.decode())
        except UnicodeDecodeError:
            odd.append(number)
            texts.append(line.decode("utf-8" if _is_utf8(line) else "cp1252", errors="replace"))
    return "".join(texts), tuple(odd)


def _is_utf8(line: bytes) -> bool:
    """Return whether a line holds no more broken letters of UTF-8 than whole ones."""
    text = line.decode(errors="replace")
    broken = text.count(REPLACEMENT)
    return broken <= sum(not letter.isascii() for letter in text) - broken


def day_of_birth(text: str, form: str, today: date) -> date | None:
    """Return a date of birth; None for one that cannot be read, or that nobody living has.

    Numbers without signs between them have all their digits: `strptime` would read 196112 as the
    second of January. A year of two digits is none of the future. A day after `today` may be that
    of another zone, and a clock that lost its time decides nothing.
    """
    with suppress(ValueError):
        day = datetime.strptime(text, form).date()
        whole = not _JOINED.search(form) or day.strftime(form) == text
        if "%y" in form and day > max(today, FIRST_TODAY) + timedelta(days=1):
            day = day.replace(year=day.year - 100)
        late = today >= FIRST_TODAY and day > today + timedelta(days=366)
        if whole and day.year >= FIRST_YEAR and not late:
            return day
    return None


def marked(data: bytes) -> str | None:
    """Decode a text that is surely Unicode: of UTF-16, or with a byte order mark; else None."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    start = data[:400]
    for encoding, zero in (("utf-16-le", 1), ("utf-16-be", 0)):
        # Without a mark: every second byte of plain letters is zero.
        if start[zero::2].count(0) * 3 > len(start):
            return data.decode(encoding, errors="replace")
    if data.startswith(codecs.BOM_UTF8):
        with suppress(UnicodeDecodeError):
            return data.decode("utf-8-sig")
    return None
