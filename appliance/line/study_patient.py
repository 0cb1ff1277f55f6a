"""Patient of the study into which a case's objects go, beside those of its slides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from appliance.delivery.index import sound_contents
from appliance.delivery.orders import kept_order
from appliance.delivery.sources import STAND_IN
from appliance.domain import Stain
from appliance.errors import CaseHeldError
from appliance.intake.patients import PATIENTS_DIFFER, Patient
from appliance.settings.settings import Settings
from dicom.patients import patient_differences
from dicom.study import StudyFacts

STUDY_DIFFERS = "study-differs"
"""Reason of a case whose slides and study name different patients."""
IN_ANOTHER_STUDY = (
    "the former results of this case name another patient than its slides do now, and stay as they "
    "are where they were sent: reject them there"
)
"""Note on objects that are written anew for another patient."""


def patient_of_study(objects_key: str, settings: Settings) -> Patient | None:
    """Return the patient of the study that a case's objects lie in; None where none is known.

    Where both slides are the scanner's DICOM, the objects lie in the slides' own study.
    """
    contents = sound_contents(objects_key, settings) if objects_key else None
    if contents is None or contents["study"] is None:
        return None
    return _patient_of(StudyFacts.of_json(contents["study"]))


def _patient_of(study: StudyFacts) -> Patient:
    born = study.patient_birth_date
    is_stand_in = study.patient_id.startswith(STAND_IN)
    return Patient(
        patient_id="" if is_stand_in else study.patient_id,
        issuer=study.issuer,
        name=study.patient_name,
        birth_date="" if born is None else born.strftime("%Y%m%d"),
        sex=study.patient_sex,
        other_ids=study.other_ids,
        source="study",
    )


def written_for(
    objects_key: str, patients: Mapping[Stain, Patient], settings: Settings
) -> tuple[str, str]:
    """Return the key of the objects that new ones replace, and the patient whom they are made for.

    The patient is a digest; it is empty for the first one of a case. Objects of another patient
    than both slides name now are not replaced: they lie in that patient's study.
    """
    contents = sound_contents(objects_key, settings) if objects_key else None
    made_for = "" if contents is None else str(contents["made_from"].get("patient", ""))
    former = patient_of_study(objects_key, settings)
    merged = settings.patients.merged
    others = [
        each
        for each in patients.values()
        if each.is_known and former is not None and patient_differences(each, former, merged)
    ]
    if not others or len(others) < len(patients):
        return objects_key, made_for
    named = "\n".join(f"{each.patient_id}|{each.issuer}" for each in patients.values())
    return "", hashlib.sha256(named.encode()).hexdigest()[:16]


def goes_to_own_study(
    accession: str, objects_key: str, patients: Mapping[Stain, Patient], settings: Settings
) -> bool:
    """Return whether the objects of a case would go to the study of its slides' patient.

    That is the study of its former objects, else that of the kept order. Where neither is known,
    writing decides.
    """
    former, _ = written_for(objects_key, patients, settings)
    study = patient_of_study(former, settings)
    if study is None and (order := kept_order(accession, settings)) is not None:
        study = _patient_of(order.study())
    merged = settings.patients.merged
    return study is None or not any(
        patient_differences(patient, study, merged) for patient in patients.values()
    )


def require_patient(
    objects_key: str,
    patients: Mapping[Stain, Patient],
    accepted: Sequence[str],
    settings: Settings,
) -> None:
    """Check that the study names the patient of both slides, unless a person accepted otherwise.

    The order of an accession may have become another one since its slides were identified.

    Raises
    ------
    CaseHeldError
    """
    study = patient_of_study(objects_key, settings)
    if study is None or STUDY_DIFFERS in accepted or PATIENTS_DIFFER in accepted:
        return
    for stain, patient in patients.items():
        if found := patient_differences(patient, study, settings.patients.merged):
            raise CaseHeldError(STUDY_DIFFERS, {"stain": stain, "what": ", ".join(found)})
