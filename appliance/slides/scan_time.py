"""Time of a slide's scan, from its header.

Headers state the wall time of the scanner, mostly without a zone. It is counted here as if it were
UTC, so that scans of one site compare. The start of a day (00:00:00) stands for a day whose time is
not told, `UNKNOWN` for a date of which the header does not tell which number is the month.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

EARLIEST_YEAR = 1990
"""Earlier dates are those of a clock that was never set."""
UNKNOWN = -1.0
"""Time of a scan whose day can be one of two: it has no order among other scans."""
AHEAD_S = 86400.0
"""Time by which the clock of a file may be ahead."""
_DAY_FIRST = ("mirax.GENERAL.SLIDE_CREATIONDATETIME",)
_ONE_TEXT = (
    "dicom.AcquisitionDateTime",
    "philips.DICOM_ACQUISITION_DATETIME",
    "leica.creation-date",
    "ventana.ScanDate",
    "hamamatsu.Created",
    "hamamatsu.Updated",
    "tiff.DateTime",
)
"""OpenSlide's properties of date and time in one text; the first that can be read counts."""
_TWO_TEXTS = (
    ("aperio.Date", "aperio.Time"),
    ("dicom.AcquisitionDate", "dicom.AcquisitionTime"),
    ("dicom.ContentDate", "dicom.ContentTime"),
)
_MONTH_FIRST = ("aperio.Date",)
_YEAR_FIRST = re.compile(
    r"(?P<year>\d{4})(?:(?P<month>\d{2})(?P<day>\d{2})"
    r"|(?P<mark>[-:/.]) ?(?P<m>\d{1,2})(?P=mark) ?(?P<d>\d{1,2})(?!\d))"
)
_YEAR_LAST = re.compile(
    r"(?P<a>\d{1,2})(?P<mark>[-/.]) ?(?P<b>\d{1,2})(?P=mark) ?(?P<year>\d{4}|\d{2})(?!\d)"
)
_TIME = re.compile(
    r"(?P<hour>\d{2}|\d(?=:)):?(?P<minute>\d{2})(?::?(?P<second>\d{2}))?(?:[.,]\d*)?\s*(?P<rest>.*)"
)
_HALF = re.compile(r"([AaPp])\.?\s?[Mm]\.?")
_DOTTED_HALF = re.compile(r"[AaPp]\.\s?[Mm]\.?\s*$")
"""AM or PM as it is written in countries of which most write the day first."""
_ZONE = re.compile(r"\b(?:Z|UTC|GMT|[A-Z]{2,3}T|[A-Za-z]+/[A-Za-z_/]+|Uhr|h)(?![^\W\d_])")
"""Words behind a time that are no marker of the half of the day."""


def scan_time(properties: Mapping[str, str], *, day_first: bool = False) -> float:
    """Return the time of the scan in seconds since the epoch; 0.0 where the header tells none.

    `UNKNOWN` where day and month cannot be told apart. `properties` are OpenSlide's. `day_first`:
    the site's scanners write the day first, also with slashes.
    """
    texts = [(key, properties.get(key, "")) for key in _DAY_FIRST + _ONE_TEXT]
    two = [
        (a, f"{properties[a]} {properties.get(b, '')}") for a, b in _TWO_TEXTS if a in properties
    ]
    # The scanner's own words come before those that any program writes into a TIFF file.
    told = [(key, text.strip()) for key, text in [*texts[:-1], *two, texts[-1]]]
    other = any(_is_day_first(text) for _, text in told)
    for key, text in told:
        found = _moments(text, key, day_first=day_first, other=other)
        if found and found[0].year >= EARLIEST_YEAR:
            return found[0].timestamp() if len(found) == 1 else UNKNOWN
    return 0.0


def day_of_file(modified_ns: int, now: float) -> float:
    """Return the start of the day on which a file was modified, as `scan_time` counts.

    The time of day is that of a copy as often as that of the scan, so it tells no order. A day
    before 1970 is the first of 1970. One that is still to come by `now` is `UNKNOWN`.
    """
    if modified_ns / 1e9 > now + AHEAD_S:
        return UNKNOWN
    local = datetime.fromtimestamp(modified_ns / 1e9)
    return max(0.0, datetime(local.year, local.month, local.day, tzinfo=UTC).timestamp())


def _is_day_first(text: str) -> bool:
    """Return whether the day comes first in a date with slashes, for certain."""
    date = _YEAR_LAST.match(text)
    return date is not None and date["mark"] == "/" and int(date["a"]) > 12


def _moments(text: str, key: str, *, day_first: bool, other: bool) -> list[datetime]:
    """Return what a text can mean: nothing, one moment, or two where its order is not known.

    With slashes the month comes first, unless a sign speaks against it: a dotted ``p. m.``, or
    `other`, that another date of the file has the day first.
    """
    date = _YEAR_FIRST.match(text) or _YEAR_LAST.match(text)
    if date is None:
        return []
    parts = date.groupdict()
    year = int(parts["year"])
    rest = text[date.end() :].lstrip(" Tt.,")
    if "a" in parts:
        year += 2000 * (year < 100)
        a, b = int(parts["a"]), int(parts["b"])
        days = [(a, b), (b, a)]  # month and day
        if key in _DAY_FIRST or a > 12:
            days = days[1:]
        elif b > 12 or a == b:
            days = days[:1]
        elif key in _MONTH_FIRST:  # which are written with slashes; others may be a program's
            days = days[:1] if parts["mark"] == "/" else days
        elif parts["mark"] != "/" or day_first:  # no locale has the month before points or dashes
            days = days[1:]
        elif not (other or _DOTTED_HALF.search(rest)):
            days = days[:1]
    else:
        days = [(int(parts["month"] or parts["m"]), int(parts["day"] or parts["d"]))]
    hour, minute, second = _clock(rest)
    try:
        return [datetime(year, *day, hour, minute, second, tzinfo=UTC) for day in days]
    except ValueError:
        return []


def _clock(text: str) -> tuple[int, int, int]:
    """Return hour, minute and second; zeros where no time is told, or not which half of the day."""
    time = _TIME.match(text)
    if time is None:
        return 0, 0, 0
    hour, minute, second = int(time["hour"]), int(time["minute"]), int(time["second"] or 0)
    half = _HALF.match(time["rest"])
    if half is not None:
        hour = hour % 12 + 12 * (half[1].lower() == "p")
    elif hour <= 12 and any(each.isalpha() for each in _ZONE.sub("", time["rest"])):
        return 0, 0, 0
    return hour, minute, second
