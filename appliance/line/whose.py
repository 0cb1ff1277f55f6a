"""Patient of a slide by header and order at identify, and cases held for what these say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlmodel import col, select

from appliance.domain import QuarantineReason, Stain
from appliance.errors import ArtifactDamagedError, SlideError
from appliance.intake.block import make_ready, reopen
from appliance.intake.patients import PATIENTS_DIFFER, Patient, combined, held_for
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction
from appliance.line.study_patient import STUDY_DIFFERS, goes_to_own_study
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

    A difference of its slides is overruled in the case, as by a person, until a slide of it comes
    in anew. One of its study is not: its objects are written, and compared, again. A case whose
    score is a person's stays held for it, as it would be analyzed anew.
    """
    if not settings.patients.merged:
        return
    held = tx.session.exec(
        select(CaseRow).where(
            col(CaseRow.state) == CaseState.HELD,
            col(CaseRow.reason).in_((PATIENTS_DIFFER, STUDY_DIFFERS)),
        )
    ).all()
    for case in held:
        stains = pairing_of(case).stains
        slides = tx.current_slides(case.accession, case.block, stains)
        if len(slides) < len(stains) or held_for(case, slides, settings.patients.merged):
            continue
        overruled = set(json.loads(case.overruled))
        if case.reason == PATIENTS_DIFFER:
            overruled.add(PATIENTS_DIFFER)
        else:
            try:
                if not _is_written_again(tx, case, slides, settings):
                    continue
            except ArtifactDamagedError:  # the kept order of one case stops no other
                continue
        reopen(tx, case, "merged", {}, now)
        case.overruled = json.dumps(sorted(overruled))
        make_ready(tx, case, now)


def _is_written_again(
    tx: Transaction, case: CaseRow, slides: Mapping[Stain, SlideRow], settings: Settings
) -> bool:
    """Return whether a case that is held for its study goes to that of its slides' patient now."""
    patients = {stain: Patient.of_json(slide.patient) for stain, slide in slides.items()}
    return tx.scored_by(case.subject) in ("", "advanced") and goes_to_own_study(
        case.accession, case.objects_key, patients, settings
    )
