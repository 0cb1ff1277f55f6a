"""Patient of the study into which a case's objects go, beside those of its slides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from appliance.delivery.index import patient_in, sound_contents
from appliance.delivery.orders import kept_order
from appliance.domain import Stain
from appliance.errors import CaseHeldError
from appliance.intake.patients import PATIENTS_DIFFER, Patient
from appliance.settings.settings import Settings
from dicom.patients import NamedPatient, another_patient, patient_differences

STUDY_DIFFERS = "study-differs"
"""Reason of a case whose slides and study name different patients."""
IN_ANOTHER_STUDY = (
    "the former results of this case name another patient than its slides do now, and stay as they "
    "are where they were sent: reject them there"
)
"""Note on objects that are written anew for another patient."""
NOT_SIGNED = "who signed the former results of this case has not signed the new ones"
"""Note on such objects, where nobody signed them."""
NAMED_OTHERWISE = (
    "slides, results and order of this case name its patient otherwise (name, birth date or sex), "
    "under the same patient ID"
)
"""Note on objects where the patient's name was corrected without naming another patient."""


def patient_of_study(objects_key: str, settings: Settings) -> NamedPatient | None:
    """Return the patient of the study that a case's objects lie in; None where none is known."""
    return patient_in(sound_contents(objects_key, settings)) if objects_key else None


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

    That is the study of its former objects, else that of the kept order, which must not name
    another patient, either. Where neither is known, writing decides.
    """
    former, _ = written_for(objects_key, patients, settings)
    if order_differs(accession, former, patients, settings):
        return False
    study, kept = patient_of_study(former, settings), kept_order(accession, settings)
    if study is None and kept is not None:
        study = kept.patient()
    merged = settings.patients.merged
    return study is None or not any(
        patient_differences(patient, study, merged) for patient in patients.values()
    )


def order_differs(
    accession: str, objects_key: str, patients: Mapping[Stain, Patient], settings: Settings
) -> dict[str, str]:
    """Return the first slide that the kept order names another patient than; empty for none.

    It is told as the parameters of `STUDY_DIFFERS`. The order is compared with the study of former
    objects, too: a slide that names nobody goes where they lie.
    """
    kept, study = kept_order(accession, settings), patient_of_study(objects_key, settings)
    if kept is None:
        return {}
    order, merged = kept.patient(), settings.patients.merged
    for stain, patient in patients.items():
        for each in (patient, study):
            if each is not None and (found := another_patient(each, order, merged)):
                return {"stain": stain, "what": ", ".join(found), "against": "order"}
    return {}


def is_named_otherwise(
    accession: str, objects_key: str, patients: Mapping[Stain, Patient], settings: Settings
) -> bool:
    """Return whether slides, objects and kept order name one patient otherwise, by one ID.

    An order of another patient, which a person let go, does not.
    """
    kept, study = kept_order(accession, settings), patient_of_study(objects_key, settings)
    order = None if kept is None else kept.patient()
    sources = [each for each in (study, order) if each is not None]
    merged = settings.patients.merged
    pairs = [(one, other) for other in sources for one in (*patients.values(), *sources)]
    return any(patient_differences(*pair, merged) for pair in pairs) and not any(
        another_patient(*pair, merged) for pair in pairs
    )


def require_order(
    accession: str,
    objects_key: str,
    patients: Mapping[Stain, Patient],
    accepted: Sequence[str],
    settings: Settings,
) -> None:
    """Check that the kept order names the patient of both slides, unless a person accepted it.

    The order may have become another one since former objects of the case were written.

    Raises
    ------
    CaseHeldError
    """
    if STUDY_DIFFERS in accepted or PATIENTS_DIFFER in accepted:
        return
    if found := order_differs(accession, objects_key, patients, settings):
        raise CaseHeldError(STUDY_DIFFERS, found)


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


def signed_for_another(
    objects_key: str, patients: Mapping[Stain, Patient], settings: Settings
) -> dict[str, str]:
    """Return how both slides name another patient than a case's former objects; empty if not.

    It is told as the parameters of `STUDY_DIFFERS`. A name that was corrected is the same patient.
    """
    former, merged = patient_of_study(objects_key, settings), settings.patients.merged
    told: dict[str, str] = {}
    for stain, patient in patients.items():
        if former is None or not patient.is_known:
            return {}
        found = another_patient(patient, former, merged)
        if not found:
            return {}
        told = told or {"stain": stain, "what": ", ".join(found)}
    return told
