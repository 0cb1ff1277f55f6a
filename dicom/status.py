"""Objects on the wire: how one is named, and what an answer to it means (PS3.4 B.2.3, PS3.7 C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pynetdicom.status import STATUS_SUCCESS, STATUS_WARNING, code_to_category

SUCCESS = 0x0000
DUPLICATE = 0x0111
"""Duplicate SOP instance. Equal UIDs are equal bytes here, so it says: there already."""
COME_BACK = frozenset({0x0110, 0x0213, *range(0xA700, 0xA800)})
"""Trouble of the PACS's own: processing failure, resource limitation (PS3.7 C), out of resources
(PS3.4 B.2.3)."""
MAX_LOST = 2
"""So many lost lines in a row are the PACS's trouble, not an object's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRef:
    """Names one instance."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


class Verdict(StrEnum):
    """What became of one object."""

    STORED = "stored"  #: accepted, perhaps with a warning
    LATER = "later"  #: not now; trying again may succeed
    NEVER = "never"  #: refused for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer to one object; `status` is its DICOM status, 0 where none came.

    `text` may quote the PACS, which may quote the patient: it is for the ledger, not for logs.
    """

    verdict: Verdict
    text: str = ""
    status: int = SUCCESS


Before = Callable[[Path], None]
"""Called just before a file goes on the wire."""
After = Callable[[Path, Outcome], None]
"""Called with what became of a file; one that is never put on the wire had no `Before`."""


def classify(status: int, comment: str = "") -> Outcome:
    """The outcome that a DICOM status means."""
    said = f"0x{status:04X}{f', {comment}' if comment else ''}"
    if status == DUPLICATE or code_to_category(status) in (STATUS_SUCCESS, STATUS_WARNING):
        text = "" if status == SUCCESS else f"stored with a warning ({said})"
        return Outcome(verdict=Verdict.STORED, text=text, status=status)
    if status in COME_BACK:
        return Outcome(verdict=Verdict.LATER, text=f"cannot take it now ({said})", status=status)
    text = f"refused it ({said}). Look into its log; after a change there: tandem retry."
    return Outcome(verdict=Verdict.NEVER, text=text, status=status)
