"""Changes that a scan finds, and their way into the ledger: a few short transactions, or none.

Nothing is read from the scanner's folder while a transaction is open.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import OperationalError

from appliance.domain import QuarantineReason
from appliance.errors import TandemError
from appliance.intake.block import has_other_scan, leave_block, settle
from appliance.intake.completeness import Signature
from appliance.intake.content import lose_slide
from appliance.intake.said import keep_former
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import SlideRow, params_of, set_reason
from appliance.ledger.transaction import Transaction

log = logging.getLogger(__name__)

MOST_TOGETHER = 100
"""Most changes of one transaction: other writers wait for no more than some tenths of a second."""
NO_SIGNATURE = Signature(0, 0)
"""Signature of a change that keeps the row's."""
LESS = "less"
"""Parameter of a row: a slide that was read lost files since, and what is left did not change."""
READ = "read"
"""Parameter of the event by which a slide that was read arrives again: the bytes that were read."""
Kind = Literal[
    "added",
    "changed",
    "came-back",
    "recounted",
    "arrived",
    "not-whole",
    "no-base",
    "gone",
    "part-of",
    "renamed",
    "channel",
]
ENDS: frozenset[Kind] = frozenset(
    {"arrived", "not-whole", "no-base", "gone", "part-of", "renamed", "channel"}
)
"""Changes that end the arrival of a slide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of one slide; `slide` is the path of the slide that it is a part of, or is now.

    `recounted`: its files are as they were, and a former edition counted more of them. `channel`:
    it is one of a set that cannot be read here. `less`: its files are a part of those that it had
    when it was seen as read, and none of them changed.
    """

    kind: Kind
    path: str
    signature: Signature = NO_SIGNATURE
    slide: str = ""
    detail: str = ""
    less: bool = False


def apply_changes(ledger: Ledger, changes: Sequence[Change], now: float) -> list[Change]:
    """Write changes to the ledger and return those that it did not take.

    One transaction holds those of a scan, up to `MOST_TOGETHER`. A change that cannot be written
    costs its own row and no other.

    Raises
    ------
    sqlalchemy.exc.OperationalError, TandemError
        If the ledger cannot be written at all: locked, or on a full disk.
    """
    refused = []
    for first in range(0, len(changes), MOST_TOGETHER):
        part = changes[first : first + MOST_TOGETHER]
        try:
            _write(ledger, part, now)
        except (OperationalError, TandemError):
            raise
        except Exception as err:  # one odd entry must not keep all others out of the ledger
            log.debug("changes are written one by one", exc_info=err)
            refused += [change for change in part if not _is_written(ledger, change, now)]
    return refused


def _write(ledger: Ledger, changes: Sequence[Change], now: float) -> None:
    with ledger.transaction() as tx:
        for change in changes:
            _apply(tx, change, now)


def _is_written(ledger: Ledger, change: Change, now: float) -> bool:
    try:
        _write(ledger, [change], now)
    except (OperationalError, TandemError):
        raise
    except Exception as err:  # the same boundary, for one entry
        log.error("an entry of the scanner's folder cannot be recorded: %s", type(err).__name__)
        log.debug("details", exc_info=err)
        return False
    return True


def _apply(tx: Transaction, change: Change, now: float) -> None:
    row = tx.slide_of_path(change.path)
    if row is None:
        if change.kind in ("added", "changed"):
            _set_signature(tx, tx.add_slide(change.path, now), change.signature)
        return
    if change.kind in ("added", "changed", "came-back"):
        _take_back(tx, row, change, now)
    elif change.kind == "recounted":
        _set_signature(tx, row, change.signature)
    elif row.state == SlideState.ARRIVING or (
        change.kind == "part-of"
        and (row.state, row.reason) == (SlideState.QUARANTINED, QuarantineReason.NEVER_FINISHED)
    ):
        _end_arrival(tx, row, change, now)


def _take_back(tx: Transaction, row: SlideRow, change: Change, now: float) -> None:
    """Let a slide arrive again, whatever its state: facts of the former file no longer hold."""
    is_less = change.less
    if row.state != SlideState.ARRIVING:
        is_less = is_less and row.state == SlideState.READ
        keep_former(row)
        read = {READ: row.fingerprint} if row.state == SlideState.READ else {}
        row.fingerprint = ""
        row.worker_crashes, row.step_tries, row.not_before = 0, 0, 0.0
        set_reason(row, params={LESS: True} if is_less else None)
        code = "came-back" if change.kind == "came-back" else "file-changed"
        tx.advance(row, SlideState.ARRIVING, now=now, code=code, params=read)
    elif not is_less:
        set_reason(row)
    _set_signature(tx, row, change.signature)


OF_THE_ORDER = ("stat", "stat-off")
"""Codes of a person's notes that say nothing of the slide."""


def bytes_read(tx: Transaction, row: SlideRow) -> str:
    """Return the fingerprint that an arrived slide had when it was read; empty where it was not.

    A slide that went through anything else since its file changed was not, nor one of which a
    person said anything since.
    """
    for event in reversed(tx.events(row.subject)):
        if event.to_state in (SlideState.ARRIVING, SlideState.ARRIVED):
            read = str(params_of(event).get(READ, ""))
            if read or event.from_state == SlideState.READ:
                return read
        elif event.kind == "state" or (event.by and event.code not in OF_THE_ORDER):
            return ""
    return ""


def _leave_case(tx: Transaction, row: SlideRow, now: float) -> None:
    """Let the case of a slide whose file changed go on without it: its result is of other bytes."""
    if row.accession:
        leave_block(tx, row, (row.accession, row.block, row.stain), now)


def _end_arrival(tx: Transaction, row: SlideRow, change: Change, now: float) -> None:
    if change.kind in ("part-of", "renamed", "channel"):
        main = tx.slide_of_path(change.slide)
        params = {"slide": "" if main is None else main.subject}
        set_reason(row)
        tx.advance(row, SlideState.SUPERSEDED, now=now, code=change.kind, params=params)
        if change.kind in ("renamed", "channel"):
            # Any file that comes under this path is new, also once the set that names it is gone.
            _set_signature(tx, row, NO_SIGNATURE)
        _leave_case(tx, row, now)
        return
    if change.kind != "arrived" and _is_still_read(tx, row, now):
        return
    if change.kind in ("gone", "no-base"):
        gone = change.kind == "gone"
        reason = QuarantineReason.VANISHED if gone else QuarantineReason.NEVER_FINISHED
        set_reason(row, reason, {"detail": change.detail} if change.detail else {})
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=reason)
        _leave_case(tx, row, now)
        lose_slide(tx, row, now)
        return
    # Opening the file tells more than "not whole": identify names the reason.
    not_whole = {"detail": QuarantineReason.NEVER_FINISHED}
    set_reason(row, params=not_whole if change.kind == "not-whole" else None)
    code = "advanced" if change.kind == "arrived" else "not-whole"
    tx.advance(row, SlideState.ARRIVED, now=now, code=code)


def _is_still_read(tx: Transaction, row: SlideRow, now: float) -> bool:
    """Let a slide be read again that was, and of which files were deleted since; return whether it
    is one. Its results are of the bytes that it had. Another scan of the slide that came meanwhile
    has its place.
    """
    read = bytes_read(tx, row) if params_of(row).get(LESS) else ""
    if not read or has_other_scan(tx, row):
        return False
    set_reason(row)
    row.fingerprint = read
    tx.advance(row, SlideState.READ, now=now, code="files-deleted")
    if row.accession:
        settle(tx, row.accession, row.block, now)
    return True


def _set_signature(tx: Transaction, row: SlideRow, signature: Signature) -> None:
    row.size_bytes, row.modified_ns = signature.size_bytes, signature.modified_ns
    tx.session.add(row)
