"""Dates and times of DICOM attributes: without a zone, hence local (PS3.3 C.12.1.1.8)."""

from __future__ import annotations

from datetime import datetime


def local(time: datetime) -> datetime:
    """Convert to the machine's zone, as the scanner writes; times without a zone stay as they
    are."""
    return time if time.tzinfo is None else time.astimezone()
