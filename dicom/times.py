"""Dates and times of DICOM attributes: in the zone that the object states, else local.

They have no zone of their own (PS3.3 C.12.1.1.8).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_ZONE = re.compile(r"(?!-0000)([+-])(0\d|1[0-4])([0-5]\d)", re.ASCII)


def local(time: datetime) -> datetime:
    """Convert to the machine's zone, as the scanner writes; times without a zone stay as they
    are."""
    return time if time.tzinfo is None else time.astimezone()


def is_zone(text: str) -> bool:
    """Return whether a text is a Timezone Offset From UTC: ``+0100`` (PS3.3 C.12.1)."""
    return _ZONE.fullmatch(text) is not None


def offset_of(zone: str) -> timezone:
    """Return the zone of a Timezone Offset From UTC.

    Raises
    ------
    ValueError
        If the text is none.
    """
    found = _ZONE.fullmatch(zone)
    if found is None:
        raise ValueError("no Timezone Offset From UTC")
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset)


def in_zone(time: datetime, zone: str) -> datetime:
    """Convert to a Timezone Offset From UTC, to the machine's zone where that is empty.

    Times without a zone stay as they are.
    """
    if not is_zone(zone) or time.tzinfo is None:
        return local(time)
    return time.astimezone(offset_of(zone))


def zone_at(time: datetime) -> str:
    """Return the machine's Timezone Offset From UTC at a time; empty for one without a zone."""
    return "" if time.tzinfo is None else f"{local(time):%z}"[:5]
