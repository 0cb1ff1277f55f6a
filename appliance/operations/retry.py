"""The action of ``tandem retry``."""

from __future__ import annotations

import time

from appliance.delivery.index import read_index, read_scanned
from appliance.delivery.left_out import NO_DESTINATION, lacks_signature, leave_out, stays_out
from appliance.delivery.queueing import enqueue_case
from appliance.delivery.weighed import is_said_to_be_there
from appliance.errors import SettingsError
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.queries import NOT_WANTED
from appliance.ledger.tables import CaseRow, DeliveryRow, SlideRow, id_named, id_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings

ONLY_SIGNED, TOOK_SIGNED = "{} only gets signed results", "{} took a signed result of the case"


def retry_subject(settings: Settings, subject: str) -> str:
    """Put a quarantined slide, a failed or an undelivered case back into the line.

    Returns what happens next, for people.

    Raises
    ------
    SettingsError
        If there is no such subject, or nothing about it to try again.
    """
    ledger = open_ledger(settings)
    slide_id, case_id = id_named(subject, "slide"), id_named(subject, "case")
    now = time.time()
    try:
        with ledger.transaction() as tx:
            if slide_id is not None and (slide := tx.slide(slide_id)):
                return _retry_slide(tx, slide, now)
            if case_id is not None and (case := tx.case(case_id)):
                return retry_case(tx, case, settings, now)
    finally:
        ledger.close()
    raise SettingsError(f"no {subject!r}. `tandem status` lists ids such as slide-3 and case-1.")


def _retry_slide(tx: Transaction, slide: SlideRow, now: float) -> str:
    if slide.state != SlideState.QUARANTINED:
        raise SettingsError(
            f"{slide.subject} is {slide.state}: only quarantined slides are retried."
        )
    set_reason(slide)
    slide.worker_crashes, slide.step_tries, slide.not_before = 0, 0, 0.0
    tx.advance(slide, SlideState.ARRIVED, now=now, code="retry")
    return f"{slide.subject} goes through the line again"


def retry_case(tx: Transaction, case: CaseRow, settings: Settings, now: float) -> str:
    """Try a case again whose step or delivery failed, or that waits for the site.

    Raises
    ------
    SettingsError
        If nothing about it failed.
    """
    if case.state == CaseState.FAILED:
        case.worker_crashes, case.step_tries, case.not_before = 0, 0, 0.0
        set_reason(case)
        if case.findings_key:  # it failed when its objects were written
            tx.advance(case, CaseState.SCORED, now=now, code="retry")
            return f"{case.subject} is written again"
        tx.advance(case, CaseState.READY, now=now, code="retry")
        return f"{case.subject} is analyzed again"
    if case.state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED) and case.reason:
        case.not_before = 0.0
        tx.session.add(case)
        return f"{case.subject} is tried again now"
    sending = (CaseState.UNDELIVERED, CaseState.UNPROVEN, CaseState.WRITTEN)
    waiting = _waiting(tx, case, settings) if case.state in sending else []
    if case.state not in sending or not waiting:
        raise SettingsError(
            f"{case.subject} is {case.state}: only waiting, failed, written, unproven and "
            "undelivered cases are retried."
        )
    left_out, why = _leave_out(tx, case, waiting, settings, now)
    for row in waiting:
        if row in left_out:
            continue
        row.not_before = 0.0
        set_reason(row)
        # Reset to 1, not 0, so that delivery queries before it resends.
        row.attempts = min(row.attempts, 1)
        # One that its destination says to have, and does not find, has no other way to it.
        said_there = row.state == DeliveryState.UNPROVEN and is_said_to_be_there(tx, row)
        if row.state == DeliveryState.REFUSED or said_there:
            tx.advance(row, DeliveryState.QUEUED, now=now, code="retry")
        tx.session.add(row)
    # Cases that share one of these objects go on with this one.
    for case_id in {case.id or 0, *tx.cases_of_deliveries(waiting)}:
        sharing = tx.case(case_id)
        if sharing is not None and sharing.state == CaseState.UNDELIVERED:
            set_reason(sharing)
            tx.advance(sharing, CaseState.WRITTEN, now=now, code="retry")
    told = f"{case.subject}: {len(waiting) - len(left_out)} deliveries are tried again now"
    return f"{told}; {len(left_out)} are left out, as {why}" if left_out else told


def _leave_out(
    tx: Transaction, case: CaseRow, waiting: list[DeliveryRow], settings: Settings, now: float
) -> tuple[list[DeliveryRow], str]:
    """Leave out what was to go to destinations that are gone, or get signed results alone by now,
    or took one of the case that nobody has signed now.

    Returns it, and why. Destinations that are gone may have another name by now: those of today get
    the case's objects.
    """
    there = {section.name for section in settings.destinations}
    gone = [row for row in waiting if row.reason == NO_DESTINATION and row.destination not in there]
    unsigned = [
        row
        for row in waiting
        if row.state == DeliveryState.REFUSED and lacks_signature(tx, row, settings)
    ]
    if not gone and not unsigned:
        return [], ""
    alone = {section.name for section in settings.destinations if section.signed_only}
    reasons = {
        "the settings have no {}": gone,
        ONLY_SIGNED: [row for row in unsigned if row.destination in alone],
        TOOK_SIGNED: [row for row in unsigned if row.destination not in alone],
    }
    why = " and ".join(
        text.format(", ".join(sorted({f"'{row.destination}'" for row in rows})))
        for text, rows in reasons.items()
        if rows
    )
    for row in (*gone, *unsigned):
        leave_out(tx, row, now)
    enqueue_case(tx, case, settings, now)
    current = {item.sop_instance_uid for item in read_index(case.objects_key, settings)}
    has = (DeliveryState.SENT, DeliveryState.UNPROVEN, DeliveryState.PROVEN)
    if not any(
        row.state in has or row.destination in there
        for row in tx.deliveries(id_of(case))
        if row.sop_instance_uid in current and row.reason not in NOT_WANTED
    ):
        raise SettingsError(
            f"{case.subject}: {why}, and no destination has its objects or gets them as it is. "
            "Add a destination, or sign the result where one waits for that."
        )
    return [*gone, *unsigned], why


def _waiting(tx: Transaction, case: CaseRow, settings: Settings) -> list[DeliveryRow]:
    """Deliveries of the case's objects of today: a report that was replaced is not sent again.

    What was left out is no part of them, unless the settings want it again.
    """
    try:
        index = read_index(case.objects_key, settings) + read_scanned(case.objects_key, settings)
    except (OSError, ValueError, LookupError) as err:
        raise SettingsError(
            f"{case.subject}: the list of its objects cannot be read ({type(err).__name__}). "
            "Restore artifacts/ of the state folder."
        ) from err
    current = {item.sop_instance_uid for item in index}
    return [
        row
        for row in tx.deliveries(id_of(case))
        if row.state != DeliveryState.PROVEN
        and row.sop_instance_uid in current
        and not stays_out(tx, row, settings)
    ]
