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
    "are where they were sent: reject them there. Who signed them has not signed the new ones"
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

    That is the study of its former objects, else that of the kept order, which names the patient,
    too. Where neither is known, writing decides.
    """
    former, _ = written_for(objects_key, patients, settings)
    return _other_patient(accession, former, patients, settings) is None


def _other_patient(
    accession: str, objects_key: str, patients: Mapping[Stain, Patient], settings: Settings
) -> dict[str, str] | None:
    """Return the first slide whose patient is not that of the study, or of the kept order.

    It is told as the parameters of `STUDY_DIFFERS`. The study of former objects is compared with
    the order for each slide, too: a slide that names nobody goes where they lie.
    """
    merged, study = settings.patients.merged, patient_of_study(objects_key, settings)
    kept = kept_order(accession, settings)
    order = None if kept is None else kept.patient()
    for stain, patient in patients.items():
        if study is not None and (found := patient_differences(patient, study, merged)):
            return {"stain": stain, "what": ", ".join(found)}
        for each in (patient, study):
            if order and each and (found := patient_differences(each, order, merged)):
                return {"stain": stain, "what": ", ".join(found), "against": "order"}
    return None


def require_patient(
    accession: str,
    objects_key: str,
    patients: Mapping[Stain, Patient],
    accepted: Sequence[str],
    settings: Settings,
) -> None:
    """Check that study and order name the patient of both slides, unless a person accepted it.

    The order of an accession may have become another one since its slides were identified, or since
    former objects of the case were written.

    Raises
    ------
    CaseHeldError
    """
    if STUDY_DIFFERS in accepted or PATIENTS_DIFFER in accepted:
        return
    if (found := _other_patient(accession, objects_key, patients, settings)) is not None:
        raise CaseHeldError(STUDY_DIFFERS, found)
