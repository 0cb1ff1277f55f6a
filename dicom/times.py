"""Dates and times as DICOM attributes hold them: without a zone, hence local (PS3.3 C.12.1.1.8)."""

from __future__ import annotations

from datetime import datetime


def local(time: datetime) -> datetime:
    """In the machine's zone, as the scanner beside it writes; without a zone as it is."""
    return time if time.tzinfo is None else time.astimezone()
