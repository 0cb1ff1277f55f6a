"""References to instances, and the table of what each DIMSE status means.

The table serves C-STORE, C-FIND, C-ECHO and storage commitment, and the reasons of failure and
warning in answers of STOW-RS. HTTP statuses: `dicom.http_status`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import TypeAlias

SUCCESS = 0x0000
MAX_LOST = 2
"""Number of lost connections in a row that counts as trouble of the PACS, not of an object."""
HAS_IT, HAS_NOTE, HAS_SAME = 0x0111, 0xA770, 0xB00E
"""Statuses that say that the object, or this note of rejection, is there already.

`HAS_SAME` is so in the conformance statement of Microsoft's DICOM service, which names it among
what failed.
"""
HAS_ALREADY = (HAS_IT, HAS_NOTE, HAS_SAME)
FILE_GONE = (
    "has not got it: its file is gone or cannot be read. Mount its folder, or put the file back; "
    "it is tried again."
)
"""Text of an object whose file went away after it was looked for, as that of a share may."""
UNAVAILABLE = "UNAVAILABLE"
"""Instance Availability of an object that an archive knows, and cannot give (PS3.3 C.4.23.1.1)."""
SEE_ITS_LOG = "Look into its log; after a change there: tandem retry."
"""Remedy for a refusal whose cause only the other side knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRef:
    """Reference to one instance."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


NOBODY = InstanceRef(
    study_uid="2.25.1", series_uid="2.25.1", sop_instance_uid="2.25.1", sop_class_uid=""
)
"""Reference to an instance that exists nowhere, for tests of services."""


class Found(Enum):
    """Answer to a query for an instance, beside True and False."""

    ELSEWHERE = "elsewhere"  #: there, in another study than it was sent in


class Failed(str):
    """Words of a query on one instance that failed, where a query on another is answered."""

    __slots__ = ()


Said: TypeAlias = bool | Found | str
"""Answer on an instance: it is there, or not, or elsewhere; words where the peer says neither."""
NOT_AVAILABLE = "it knows the object, and declares it unavailable: look into the archive"
"""Words on an object of which an archive has no more than its entry."""
NAMES_NO_STUDY = "it has it, and does not say in which study: look for it there"
"""Words on an object that is not found in its study, where the answer names none."""


def said_of(answers: Sequence[tuple[str, bool]], study_uid: str = "") -> Said:
    """Return what answers on one instance say: the study that each names, and whether it is to be
    had there. With `study_uid` the query named no study, and the instance should be in this one.

    One that an archive declares unavailable is neither proven nor missing.
    """
    studies = {study for study, is_available in answers if is_available}
    if not studies:
        return NOT_AVAILABLE if answers else False
    if not study_uid or study_uid in studies:
        return True
    return Found.ELSEWHERE if any(studies) else NAMES_NO_STUDY


class Verdict(StrEnum):
    """Result of sending one object."""

    STORED = "stored"  #: delivered
    WARNED = "stored with a warning"  #: delivered; `Outcome.text` says what a person should know
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


class Service(StrEnum):
    """Service whose answer has a status."""

    STORE = "C-STORE"
    STOW = "STOW-RS"
    FIND = "C-FIND"
    ECHO = "C-ECHO"
    COMMIT = "N-ACTION"  #: request for storage commitment
    REPORT = "N-EVENT-REPORT"  #: failure reason of one object in a commitment report


_STORING = frozenset({Service.STORE, Service.STOW})
_QUERY = frozenset({Service.FIND})
_ALL = frozenset(Service)


@dataclass(frozen=True, slots=True)
class Status:
    """Row of the table: statuses `first` to `last`, for the services that they concern."""

    first: int
    last: int
    services: frozenset[Service]
    verdict: Verdict
    sentence: str
    remedy: str = ""


_ALLOW_CLASS = "Allow it in the PACS, or leave it out by `objects`; then: tandem retry."
_TRIED_AGAIN = "It is tried again."
_RESOURCES = "Look for free disk space and the load there; it is tried again."
_COMPARE = "Compare patient and accession with those in the PACS; after a correction: tandem retry."
_LATER, _NEVER, _WARNED = Verdict.LATER, Verdict.NEVER, Verdict.WARNED

STATUSES: tuple[Status, ...] = (
    Status(0x0000, 0x0000, _ALL, Verdict.STORED, ""),
    # PS3.4 B.2.3 (C-STORE), PS3.4 C.4.1 (C-FIND), PS3.18 I.2 (STOW-RS). The standard gives all of
    # A7xx to "out of resources"; archives use codes of the range for refusals of their own.
    Status(0xA700, 0xA702, _ALL, _LATER, "it is out of resources", _RESOURCES),
    # A770 to A779 as dcm4chee-arc uses them.
    Status(HAS_NOTE, HAS_NOTE, _STORING, _WARNED, "it has this rejection note already"),
    Status(
        *(0xA771, 0xA771, _STORING, _NEVER, "it has rejected or deleted the object before"),
        "Undo the rejection in the PACS; then: tandem retry.",
    ),
    # It keeps no such note, and rejects nothing that the note names.
    Status(
        *(0xA772, 0xA773, _STORING, _NEVER, "it lacks an object that the note of rejection names"),
        "Reject the replaced result there by hand.",
    ),
    Status(
        *(0xA774, 0xA774, _STORING, _NEVER, "it has rejected an object of the note by another"),
        "Look there whether the replaced result is rejected; if not, reject it by hand.",
    ),
    Status(
        *(0xA775, 0xA776, _STORING, _NEVER, "its rules of rejection and retention forbid it"),
        "Look into these rules in the PACS; after a change there: tandem retry.",
    ),
    Status(
        *(0xA777, 0xA777, _STORING, _NEVER, "the object names no Patient ID"),
        "Let the PACS take objects without Patient ID, then: tandem retry. A source of orders or "
        "identify.without_patient gives one to later cases; a written case stays in its study.",
    ),
    Status(
        *(0xA778, 0xA778, _STORING, _NEVER, "the Patient ID is another patient's there"),
        _COMPARE,
    ),
    Status(
        *(0xA779, 0xA779, _STORING, _NEVER, "the patient's data differ from those there"),
        _COMPARE,
    ),
    Status(0xA703, 0xA7FF, _ALL, _NEVER, "a rule of its own forbids it", SEE_ITS_LOG),
    Status(
        *(0xA900, 0xA9FF, _STORING, _NEVER, "it finds that the object does not fit its SOP class"),
        SEE_ITS_LOG,
    ),
    Status(0xA900, 0xA9FF, _QUERY, _NEVER, "the keys of the query do not fit its SOP class"),
    Status(
        *(0xB000, 0xB000, _STORING, _WARNED, "it changed values of the object (coercion)"),
        "Compare patient and accession of its copy.",
    ),
    Status(
        *(0xB006, 0xB006, _STORING, _WARNED, "it discarded elements of the object"),
        "Let the PACS keep all elements.",
    ),
    Status(
        *(0xB007, 0xB007, _STORING, _WARNED, "it finds that the object does not fit its SOP class"),
        "It keeps the object all the same.",
    ),
    Status(
        *(HAS_SAME, HAS_SAME, frozenset({Service.STOW}), _WARNED),
        *("it has the object already, in the same study and series", "Nothing needs to be done."),
    ),
    Status(
        *(0xC122, 0xC122, frozenset({Service.STOW}), _NEVER, "it takes no such transfer syntax"),
        _ALLOW_CLASS,
    ),
    Status(0xC000, 0xCFFF, _STORING, _NEVER, "it cannot understand the object", SEE_ITS_LOG),
    Status(0xC000, 0xCFFF, _QUERY, _NEVER, "it is unable to process the query", SEE_ITS_LOG),
    # PS3.7 C.5: statuses of every service.
    Status(0x0105, 0x0106, _ALL, _NEVER, "an attribute or its value is not allowed", SEE_ITS_LOG),
    Status(0x0107, 0x0107, _ALL, _WARNED, "it did not take over some attributes"),
    Status(0x0110, 0x0110, _ALL, _LATER, "it failed while processing it", _TRIED_AGAIN),
    Status(
        *(HAS_IT, HAS_IT, _STORING, _WARNED, "it has an object of this UID already"),
        # Equal UIDs mean equal bytes here, so what it has is the object.
        "Nothing needs to be done.",
    ),
    Status(0x0112, 0x0112, _ALL, _NEVER, "it has no such object", SEE_ITS_LOG),
    Status(0x0113, 0x0115, _ALL, _NEVER, "it does not know an argument", SEE_ITS_LOG),
    Status(0x0116, 0x0116, _ALL, _WARNED, "a value is out of its range"),
    Status(0x0117, 0x0117, _ALL, _NEVER, "it takes the object's UID for invalid", SEE_ITS_LOG),
    Status(0x0118, 0x0118, _ALL, _NEVER, "it does not know this SOP class", _ALLOW_CLASS),
    Status(
        *(0x0119, 0x0119, _ALL, _NEVER, "it has an object of another SOP class under this UID"),
        "Remove that object from the PACS; then: tandem retry.",
    ),
    Status(0x0120, 0x0121, _ALL, _NEVER, "an attribute or its value is missing", SEE_ITS_LOG),
    Status(0x0122, 0x0122, _ALL, _NEVER, "it does not take this SOP class", _ALLOW_CLASS),
    Status(0x0123, 0x0123, _ALL, _NEVER, "it does not know this action", SEE_ITS_LOG),
    Status(
        *(0x0124, 0x0124, _ALL, _NEVER, "it does not authorize this AE title"),
        "Allow calling_aet in the PACS; then: tandem retry.",
    ),
    Status(
        *(0x0131, 0x0131, frozenset({Service.COMMIT, Service.REPORT}), _LATER),
        *("it takes the transaction for an earlier one", "It is asked again under a new UID."),
    ),
    Status(0x0210, 0x0210, _ALL, _LATER, "it takes the message for an earlier one", _TRIED_AGAIN),
    Status(0x0211, 0x0212, _ALL, _NEVER, "it does not know this operation", SEE_ITS_LOG),
    Status(0x0213, 0x0213, _ALL, _LATER, "it has reached a limit of its resources", _RESOURCES),
    Status(0xFE00, 0xFE00, _ALL, _LATER, "it canceled the operation", _TRIED_AGAIN),
    # PS3.7 C.2 to C.4: the classes of all other statuses.
    Status(0x0001, 0x0001, _ALL, _WARNED, "a warning of no further meaning"),
    Status(0xB000, 0xBFFF, _ALL, _WARNED, "a warning that is its own"),
    Status(0x0100, 0x02FF, _ALL, _NEVER, "a failure that is its own", SEE_ITS_LOG),
    Status(0xA000, 0xAFFF, _ALL, _NEVER, "a failure that is its own", SEE_ITS_LOG),
    Status(0xC000, 0xCFFF, _ALL, _NEVER, "a failure that is its own", SEE_ITS_LOG),
    Status(0x0000, 0xFFFF, _ALL, _NEVER, "a status outside of the standard", SEE_ITS_LOG),
)
"""What each status means; the first row that fits counts."""


def find_status(status: int, service: Service) -> Status:
    """Return the row of a status of 16 bits; of any other number, that of unknown ones."""
    fitting = (row for row in STATUSES if row.first <= status <= row.last)
    return next((row for row in fitting if service in row.services), STATUSES[-1])


def classify(status: int, comment: str = "", service: Service = Service.STORE) -> Outcome:
    """Return the outcome for a DICOM status; `comment` is what the PACS adds to it."""
    row = find_status(status, service)
    if row.verdict is Verdict.STORED:
        return Outcome(verdict=row.verdict, status=status)
    said = f"0x{status:04X}{f', {comment}' if comment else ''}"
    text = sentence_of(row.verdict, row.sentence, said, row.remedy, service)
    return Outcome(verdict=row.verdict, text=text, status=status)


def sentence_of(
    verdict: Verdict, sentence: str, said: str, remedy: str, service: Service = Service.STORE
) -> str:
    """Return what follows the name of a PACS in a message: verdict, cause, its words, remedy."""
    object_heads = {
        Verdict.STORED: "stored it",
        Verdict.WARNED: "stored it with a warning",
        Verdict.LATER: "cannot take it now",
        Verdict.NEVER: "refused it",
    }
    request_heads = {
        Verdict.STORED: f"answered {service}",
        Verdict.WARNED: f"answered {service} with a warning",
        Verdict.LATER: f"cannot answer {service} now",
        Verdict.NEVER: f"refused {service}",
    }
    heads = object_heads if service in _STORING else request_heads
    if service is Service.REPORT:
        heads[verdict] = "does not commit itself to keep it"
    return f"{heads[verdict]}: {sentence} ({said}). {remedy}".rstrip()
