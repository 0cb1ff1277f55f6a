"""Time of a slide's scan, from its header.

Headers state the wall time of the scanner, mostly without a zone. It is counted here as if it were
UTC, so that scans of one site compare. The start of a day (00:00:00) stands for a day whose time is
not told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

EARLIEST_YEAR = 1990
"""Earlier dates are those of a clock that was never set."""
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
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})[-:/.]?(?P<month>\d{2})[-:/.]?(?P<day>\d{2})")
_YEAR_LAST = re.compile(r"(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?P<year>\d{4}|\d{2})(?!\d)")
_TIME = re.compile(
    r"(?P<hour>\d{2}|\d(?=:)):?(?P<minute>\d{2})(?::?(?P<second>\d{2}))?(?:\.\d*)?\s*(?P<half>[AaPp][Mm])?"
)


def scan_time(properties: Mapping[str, str]) -> float:
    """Return the time of the scan in seconds since the epoch; 0.0 where the header tells none.

    `properties` are OpenSlide's.
    """
    texts = [(key, properties.get(key, "")) for key in _DAY_FIRST + _ONE_TEXT]
    two = [
        (a, f"{properties[a]} {properties.get(b, '')}") for a, b in _TWO_TEXTS if a in properties
    ]
    # The scanner's own words come before those that any program writes into a TIFF file.
    for key, text in [*texts[:-1], *two, texts[-1]]:
        found = _moment(text.strip(), day_first=key in _DAY_FIRST)
        if found is not None and found.year >= EARLIEST_YEAR:
            return found.timestamp()
    return 0.0


def day_of_file(modified_ns: int) -> float:
    """Return the start of the day on which a file was modified, as `scan_time` counts.

    The time of day is that of a copy as often as that of the scan, so it tells no order.
    """
    local = datetime.fromtimestamp(modified_ns / 1e9)
    return datetime(local.year, local.month, local.day, tzinfo=UTC).timestamp()


def _moment(text: str, *, day_first: bool) -> datetime | None:
    date = _YEAR_FIRST.match(text) or _YEAR_LAST.match(text)
    if date is None:
        return None
    parts = date.groupdict()
    year = int(parts["year"])
    if "month" in parts:
        month, day = int(parts["month"]), int(parts["day"])
    else:
        year += 2000 * (year < 100)
        month, day = int(parts["a"]), int(parts["b"])
        if day_first or month > 12:
            month, day = day, month
    time = _TIME.match(text[date.end() :].lstrip(" Tt"))
    hour, minute, second = 0, 0, 0
    if time is not None:
        hour, minute = int(time["hour"]), int(time["minute"])
        second = int(time["second"] or 0)
        if time["half"]:
            hour = hour % 12 + 12 * (time["half"].lower() == "pm")
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
