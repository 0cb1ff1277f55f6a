"""States of slides, cases and deliveries, and the only code that changes one.

A slide::

    arriving → arrived → identified → inspected → read
        any of them → quarantined → arrived     (the file changed, or a person said retry)
        any of them → arriving                  (the file changed after it was taken)
    arriving → read                         (files of a slide that was read were deleted)
        any of them → superseded                (a rescan of the same slide took its place)
        superseded → arrived                    (a person took it back)
        arrived → other → arrived               (of no assay, a control; a person left it out)
    identified and after it → arrived       (a person said what it is, or retry)

A case (the H&E and the IHC slide of one block)::

    waiting → ready → aligned → scored → written → delivered
    written → unproven → delivered              (sent; a destination cannot say that it has it)
    unproven → written, undelivered             (it turns out that it has not; retry)
    waiting → partnerless → ready               (a late partner reopens it)
    any of them → held → waiting                (its slides contradict each other; a person decides)
    ready, aligned → failed → ready             (a person said retry)
    scored → failed → scored, ready             (a person said retry, rerun)
    written → undelivered → written             (a destination refused for good; retry)
    written and after it → scored               (a person signed the score; an object is damaged)
    scored → ready                              (its findings are damaged)
    written and after it → ready                (a person said rerun: other weights)
    any of them → waiting                       (a rescan replaced one of its slides)

A delivery (one object to one destination)::

    queued → sent → proven
    sent → unproven → proven                    (nobody there can say; asked again)
    sent, unproven → queued                     (it says that it has not: sent again)
    queued, sent → refused → queued             (retry)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from appliance.ledger.events import Event


class SlideState(StrEnum):
    """State of a slide."""

    ARRIVING = "arriving"  #: seen, still growing or not whole yet
    ARRIVED = "arrived"  #: finished on disk, not yet identified
    IDENTIFIED = "identified"  #: accession, block, stain and mpp are known
    INSPECTED = "inspected"  #: thumbnail and tissue are there
    READ = "read"  #: its own networks have run (C on H&E)
    QUARANTINED = "quarantined"  #: set aside with a reason; the file is left alone
    SUPERSEDED = "superseded"  #: a newer scan of the same slide took its place
    OTHER = "other"  #: known, and not for any assay: another stain, a control, excluded


SLIDES_UNDER_WAY = (SlideState.ARRIVED, SlideState.IDENTIFIED, SlideState.INSPECTED)
"""States of slides whose next step is to be done; one with a reason waits for something."""


class CaseState(StrEnum):
    """State of a case."""

    WAITING = "waiting"  #: one of its slides is not there or not read yet
    PARTNERLESS = "partnerless"  #: its partner did not come in time
    HELD = "held"  #: its slides contradict each other; a person decides
    READY = "ready"  #: both slides are read
    ALIGNED = "aligned"  #: one slide is mapped onto the other
    SCORED = "scored"  #: findings exist; a PACS outage never costs this again
    WRITTEN = "written"  #: DICOM objects exist and are in the outbox
    DELIVERED = "delivered"  #: every object is proven to be at every destination
    UNPROVEN = "unproven"  #: all is sent; a destination cannot say that it has it
    UNDELIVERED = "undelivered"  #: a destination refused an object for good
    FAILED = "failed"  #: a step failed; see reason


WITHOUT_RESULT = frozenset({CaseState.WAITING, CaseState.PARTNERLESS, CaseState.HELD})
"""States of cases whose former result, where they had one, does not count any more."""


class DeliveryState(StrEnum):
    """State of one object on its way to one destination."""

    QUEUED = "queued"  #: to be sent, or sent again, when `not_before` has passed
    SENT = "sent"  #: accepted by the destination; not proven yet
    UNPROVEN = "unproven"  #: accepted; the destination cannot say whether it has it
    PROVEN = "proven"  #: committed to, found by query, or on disk with the right bytes
    REFUSED = "refused"  #: refused for good


State = SlideState | CaseState | DeliveryState

_S, _C, _D = SlideState, CaseState, DeliveryState

TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
    {
        (_S.ARRIVING, _S.ARRIVED),
        (_S.ARRIVING, _S.READ),
        (_S.ARRIVED, _S.IDENTIFIED),
        (_S.IDENTIFIED, _S.INSPECTED),
        (_S.INSPECTED, _S.READ),
        (_S.QUARANTINED, _S.ARRIVED),
        (_S.SUPERSEDED, _S.ARRIVED),
        (_S.OTHER, _S.ARRIVED),
        *((state, _S.ARRIVED) for state in (_S.IDENTIFIED, _S.INSPECTED, _S.READ)),
        *((state, _S.OTHER) for state in _S if state not in (_S.OTHER, _S.ARRIVING)),
        *((state, _S.ARRIVING) for state in _S if state is not _S.ARRIVING),
        *((state, _S.QUARANTINED) for state in _S if state not in (_S.QUARANTINED, _S.SUPERSEDED)),
        *((state, _S.SUPERSEDED) for state in _S if state is not _S.SUPERSEDED),
        (_C.WAITING, _C.READY),
        (_C.WAITING, _C.PARTNERLESS),
        (_C.PARTNERLESS, _C.READY),
        (_C.READY, _C.ALIGNED),
        (_C.READY, _C.FAILED),
        (_C.ALIGNED, _C.SCORED),
        (_C.ALIGNED, _C.FAILED),
        (_C.SCORED, _C.WRITTEN),
        (_C.SCORED, _C.FAILED),
        (_C.SCORED, _C.READY),
        (_C.WRITTEN, _C.DELIVERED),
        (_C.WRITTEN, _C.UNDELIVERED),
        (_C.WRITTEN, _C.UNPROVEN),
        (_C.UNPROVEN, _C.WRITTEN),
        (_C.UNPROVEN, _C.DELIVERED),
        (_C.UNPROVEN, _C.UNDELIVERED),
        (_C.UNDELIVERED, _C.WRITTEN),
        (_C.FAILED, _C.READY),
        (_C.FAILED, _C.SCORED),
        *(
            (state, again)
            for state in (_C.WRITTEN, _C.DELIVERED, _C.UNPROVEN, _C.UNDELIVERED)
            for again in (_C.SCORED, _C.READY)
        ),
        *((state, _C.WAITING) for state in _C if state is not _C.WAITING),
        *((state, _C.HELD) for state in _C if state is not _C.HELD),
        (_D.QUEUED, _D.SENT),
        (_D.QUEUED, _D.REFUSED),
        (_D.SENT, _D.PROVEN),
        (_D.SENT, _D.QUEUED),
        (_D.SENT, _D.REFUSED),
        (_D.SENT, _D.UNPROVEN),
        (_D.UNPROVEN, _D.PROVEN),
        (_D.UNPROVEN, _D.QUEUED),
        (_D.UNPROVEN, _D.REFUSED),
        (_D.REFUSED, _D.QUEUED),
    }
)


class InvalidTransitionError(Exception):
    """A state change that `TRANSITIONS` does not list: a defect of the program."""


class Stateful(Protocol):
    """A row with a state; `subject` names it in events (``slide-3``, ``case-1``)."""

    state: str
    changed_at: float

    @property
    def subject(self) -> str: ...


class Journal(Protocol):
    """An open transaction that can append an event."""

    def append_event(self, event: Event) -> None: ...


def advance(
    journal: Journal,
    row: Stateful,
    to: State,
    *,
    now: float,
    code: str = "advanced",
    reason: str = "",
    params: Mapping[str, Any] | None = None,
    by: str = "",
) -> None:
    """Change a row's state and append the event, both in the journal's transaction.

    `code`, `reason`, `params` and `by`, the person who caused it, are the event's. The event of a
    case holds its score, so that the chain of events covers it.

    Raises
    ------
    InvalidTransitionError
        If `TRANSITIONS` has no such arrow.
    """
    old = type(to)(row.state)
    if (old, to) not in TRANSITIONS:
        raise InvalidTransitionError(
            f"{row.subject}: {old} → {to} is not an arrow of the lifecycle"
        )
    row.state = to.value
    row.changed_at = now
    journal.append_event(
        Event(
            at=now,
            subject=row.subject,
            kind="state",
            code=code,
            from_state=old.value,
            to_state=to.value,
            reason=reason,
            score=getattr(row, "score", ""),
            by=by,
            params=params or {},
        )
    )
