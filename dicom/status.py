"""References to instances, and outcomes of answers about them (PS3.4 B.2.3, PS3.7 C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pynetdicom.status import STATUS_SUCCESS, STATUS_WARNING, code_to_category

SUCCESS = 0x0000
DUPLICATE = 0x0111
"""Duplicate SOP instance. Equal UIDs mean equal bytes here: the object is already stored."""
COME_BACK = frozenset({0x0110, 0x0213, *range(0xA700, 0xA800)})
"""Trouble of the PACS itself: processing failure, resource limitation (PS3.7 C), out of resources
(PS3.4 B.2.3)."""
MAX_LOST = 2
"""Number of lost connections in a row that counts as trouble of the PACS, not of an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRef:
    """Reference to one instance."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


class Verdict(StrEnum):
    """Result of sending one object."""

    STORED = "stored"  #: accepted, perhaps with a warning
    LATER = "later"  #: not now; trying again may succeed
    NEVER = "never"  #: refused for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Answer for one object; `status` is its DICOM status, 0 without an answer.

    `text` may quote the PACS, which may quote PHI: for the ledger, not for logs.
    """

    verdict: Verdict
    text: str = ""
    status: int = SUCCESS


Before = Callable[[Path], None]
"""Called before a file is sent."""
After = Callable[[Path, Outcome], None]
"""Called with the outcome of a file; without a preceding `Before` if it was never sent."""


def classify(status: int, comment: str = "") -> Outcome:
    """Return the outcome for a DICOM status."""
    said = f"0x{status:04X}{f', {comment}' if comment else ''}"
    if status == DUPLICATE or code_to_category(status) in (STATUS_SUCCESS, STATUS_WARNING):
        text = "" if status == SUCCESS else f"stored with a warning ({said})"
        return Outcome(verdict=Verdict.STORED, text=text, status=status)
    if status in COME_BACK:
        return Outcome(verdict=Verdict.LATER, text=f"cannot take it now ({said})", status=status)
    text = f"refused it ({said}). Look into its log; after a change there: tandem retry."
    return Outcome(verdict=Verdict.NEVER, text=text, status=status)
