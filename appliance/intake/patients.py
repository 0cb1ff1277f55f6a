"""Patients: what the sources of two slides say of the patient, and whether they name one.

What a source does not state is unknown, and unknown never differs. A study UID alone tells no
patients apart: scanners open a study for each slide where no order tells them one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from appliance.domain import Stain
from appliance.ledger.blocks import pairing_of
from appliance.ledger.tables import CaseRow, SlideRow
from dicom.patients import (
    NamedPatient,
    ids_of,
    joined_ids,
    known_text,
    patient_differences,
)

PATIENTS_DIFFER = "patients-differ"
"""Reason of a case whose slides, or orders, name different patients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient(NamedPatient):
    """Patient and study as a source names them; empty: unknown. PHI.

    `issuer` and `accession_issuer` are ``NAMESPACE`` or ``NAMESPACE&UNIVERSAL ID&TYPE`` (HL7 HD),
    `other_ids` are ``ID^^^ISSUER`` (HL7 CX). `source` is header, worklist, hl7 or csv; `stains` are
    those that an order asks for. `also` are sources that contradict this one.
    """

    study_uid: str = ""
    accession_issuer: str = ""
    source: str = ""
    stains: tuple[str, ...] = ()
    also: tuple[Patient, ...] = ()

    def as_json(self) -> str:
        """Return the JSON object that a slide's row holds; what is unknown is left out."""
        return json.dumps(_stated(asdict(self)), ensure_ascii=False)

    @classmethod
    def of_json(cls, text: str) -> Patient:
        """Return the patient of a slide's row."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Patient:
        """Return the patient of a JSON object; keys of other versions are ignored."""
        known: dict[str, Any] = {
            field.name: values[field.name] for field in fields(cls) if values.get(field.name)
        }
        for name in ("other_ids", "stains"):
            known[name] = tuple(str(value) for value in known.get(name, ()))
        known["also"] = tuple(cls.of(other) for other in known.get("also", ()))
        return cls(**known)


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in values.items() if value}
    if "also" in found:
        found["also"] = [_stated(other) for other in found["also"]]
    return found


def combined(sources: Sequence[Patient]) -> Patient:
    """Return what several sources of one slide say together, the first one first.

    A source that names the same patient adds what the ones before leave open. One that names
    another patient is kept in `also`, and adds nothing.
    """
    first = next((source for source in sources if _stated(asdict(source))), Patient())
    for other in sources:
        if other is first:
            continue
        if patient_differences(first, other):
            first = replace(first, also=(*first.also, other))
        else:
            first = _completed(first, other)
    return first


def _completed(first: Patient, other: Patient) -> Patient:
    added = {
        name: getattr(other, name)
        for name in ("name", "birth_date", "sex", "study_uid", "accession_issuer")
        if not getattr(first, name) or (name == "name" and not known_text(first.name))
    }
    patient_id, issuer, others = joined_ids((first, other))
    added |= {"patient_id": patient_id, "issuer": issuer, "other_ids": others}
    stains = tuple(dict.fromkeys((*first.stains, *other.stains)))
    return replace(first, stains=stains, **added)


def held_for(
    case: CaseRow, slides: Mapping[Stain, SlideRow], merged: Sequence[Sequence[str]] = ()
) -> tuple[str, dict[str, str]] | None:
    """Return reason and parameters for which a case is held; None where one patient is named.

    `slides` are both slides of the case. A person may have overruled the reason.
    """
    if PATIENTS_DIFFER in json.loads(case.overruled):
        return None
    stains = pairing_of(case).stains
    he, ihc = (Patient.of_json(slides[stain].patient) for stain in stains)
    params = contradiction({stains[0]: he, stains[1]: ihc}, merged)
    return None if params is None else (PATIENTS_DIFFER, params)


def contradiction(
    patients: Mapping[Stain, Patient], merged: Sequence[Sequence[str]] = ()
) -> dict[str, str] | None:
    """Return what tells apart the patients of two slides, or of a slide and its order.

    The parameters are those of `PATIENTS_DIFFER`; `stain` and `source` name slide and order,
    `against` the source that the order contradicts. None where one patient is named.
    """
    he, ihc = patients.values()
    if found := patient_differences(he, ihc, merged):
        return {"he": _told(he, found), "ihc": _told(ihc, found)}
    for stain, patient in patients.items():
        for other in patient.also:
            if found := patient_differences(patient, other, merged):
                params = {"he": _told(patient, found), "ihc": _told(other, found)}
                named = {"stain": stain, "source": other.source, "against": patient.source}
                return params | named
    return None


def _told(patient: Patient, words: Sequence[str]) -> str:
    """Return the differing values of a patient for people."""
    issuer = f" of {patient.issuer}" if patient.issuer else ""
    values = {
        "patient ID": f"ID {patient.patient_id}{issuer}",
        "name": patient.name,
        "birth date": f"born {patient.birth_date}",
        "sex": f"sex {patient.sex}",
    }
    source = f" ({patient.source})" if patient.source else ""
    return ", ".join(values[word] for word in words) + source


def numbers_of(patient: Patient) -> frozenset[str]:
    """Return all IDs by which the sources of a slide name its patient, folded, without issuers.

    Slides that share one may be of one patient: an issuer that one side does not state is no
    difference.
    """
    sources = (patient, *patient.also)
    return frozenset(number for each in sources for number, _ in ids_of(each) if known_text(number))
