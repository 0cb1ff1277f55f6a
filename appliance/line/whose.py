"""Patient of a slide by header and order at identify, and cases held for what these say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sqlmodel import col, select

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.intake.block import make_ready
from appliance.intake.patients import PATIENTS_DIFFER, Patient, combined, held_for
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.tables import CaseRow, set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.settings import Settings
from dicom.header import StatedFacts, stated_facts


def stated_by(headers: Sequence[Path]) -> StatedFacts:
    """Return what the frozen headers of a slide state; nothing where it is no DICOM.

    Raises
    ------
    SlideError
        INVALID_HEADER, where they have an identifier that no result can carry.
    """
    stated = stated_facts(headers)
    if stated.refused:
        raise SlideError(QuarantineReason.INVALID_HEADER, stated.refused)
    return stated


def whose_slide(stated: StatedFacts, orders: Sequence[Patient], settings: Settings) -> Patient:
    """Return what the header of a slide and its orders say of patient and study.

    Raises
    ------
    SlideError
        NO_PATIENT, where nobody names a patient and the settings hold such slides.
    """
    of_header = Patient(**stated.patient, source="header") if stated.patient else Patient()
    patient = combined([of_header, *orders])
    if settings.identify.without_patient == "hold" and not patient.is_known:
        raise SlideError(QuarantineReason.NO_PATIENT)
    return patient


def let_merged_go(tx: Transaction, settings: Settings, now: float) -> None:
    """Let held cases go on whose patients the settings declare to be one.

    The difference is overruled in the case, as by a person, until a slide of it comes in anew.
    """
    if not settings.patients.merged:
        return
    held = tx.session.exec(
        select(CaseRow).where(
            col(CaseRow.state) == CaseState.HELD, col(CaseRow.reason) == PATIENTS_DIFFER
        )
    ).all()
    for case in held:
        stains = pairing_of(case).stains
        slides = tx.current_slides(case.accession, case.block, stains)
        if len(slides) < len(stains) or held_for(case, slides, settings.patients.merged):
            continue
        case.overruled = json.dumps(sorted({*json.loads(case.overruled), PATIENTS_DIFFER}))
        set_reason(case)
        tx.advance(case, CaseState.WAITING, now=now, code="merged")
        make_ready(tx, case, now)
