"""Patients: what the sources of two slides say of the patient, and whether they name one.

What a source does not state is unknown, and unknown never differs. A study UID alone tells no
patients apart: scanners open a study for each slide where no order tells them one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import zip_longest
from typing import Any

from appliance.domain import Stain
from appliance.ledger.blocks import pairing_of
from appliance.ledger.tables import CaseRow, SlideRow
from dicom.person_names import components_agree, words_agree

PATIENTS_DIFFER = "patients-differ"
"""Reason of a case whose slides, or orders, name different patients."""
STUDY = "study"
"""The one difference that is no difference of the patient."""
_WORDS = """
unknown unk notknown unknownpatient patientunknown unknownname unbekannt nichtbekannt
unbekannterpatient anonymous anonymized anonymised anonym anonymisiert anonyme anonymouspatient
none null nil na notavailable notapplicable unspecified notspecified notstated notprovided
undefined missing noname noid nopatient nopatientid ka keineangabe keineangaben ohneangabe
inconnu sconosciuto desconocido onbekend
"""
_PLACEHOLDERS = frozenset(_WORDS.split())
"""Texts that scanners and labs write where they know nothing: their letters and digits."""
_LEAST_COMPONENT = 5
"""Fewest letters of a placeholder beside a name: Na and Null are names of families."""
_IDEOGRAPHIC = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Patient and study as a source names them; empty: unknown. PHI.

    `issuer` and `accession_issuer` are ``NAMESPACE`` or ``NAMESPACE&UNIVERSAL ID&TYPE`` (HL7 HD),
    `other_ids` are ``ID^^^ISSUER`` (HL7 CX). `source` is header, worklist, hl7 or csv; `stains` are
    those that an order asks for. `also` are sources that contradict this one.
    """

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    other_ids: tuple[str, ...] = ()
    study_uid: str = ""
    accession_issuer: str = ""
    source: str = ""
    stains: tuple[str, ...] = ()
    also: tuple[Patient, ...] = ()

    @property
    def is_known(self) -> bool:
        """Return whether the source names a patient by an ID."""
        return bool(_known(_parsed(self.patient_id)[0]))

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
    same_id = not first.patient_id or _id_of(first)[0] == _id_of(other)[0]
    added = {
        name: getattr(other, name)
        for name in ("name", "birth_date", "sex", "other_ids", "study_uid", "accession_issuer")
        if not getattr(first, name) or (name == "name" and not _known(first.name))
    }
    if other.is_known and not first.is_known:
        added |= {"patient_id": other.patient_id, "issuer": other.issuer}
    elif same_id:
        # An issuer goes with its own ID.
        added["patient_id"] = first.patient_id or other.patient_id
        added["issuer"] = first.issuer or other.issuer
    stains = tuple(dict.fromkeys((*first.stains, *other.stains)))
    return replace(first, stains=stains, **added)


def differences(first: Patient, second: Patient, merged: Sequence[Sequence[str]] = ()) -> list[str]:
    """Return what differs between two sources: patient ID, name, birth date, sex, study.

    `merged` are groups of IDs (``ID`` or ``ID^^^ISSUER``) that the site declares to be one patient;
    of these the study alone can differ.
    """
    pairs = {
        "patient ID": not _ids_agree(first, second),
        "name": not _names_agree(first.name, second.name),
        "birth date": not _days_agree(first.birth_date, second.birth_date),
        "sex": {_sex(first.sex), _sex(second.sex)} == {"F", "M"},
    }
    found = [word for word, differs in pairs.items() if differs]
    if found and _is_merged(first, second, merged):
        found = []
    if first.study_uid and second.study_uid and first.study_uid != second.study_uid:
        found.append(STUDY)
    return found


def patient_differences(
    first: Patient, second: Patient, merged: Sequence[Sequence[str]] = ()
) -> list[str]:
    """Return the differences that tell two patients apart."""
    return [word for word in differences(first, second, merged) if word != STUDY]


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


# identifiers


def _ids_agree(first: Patient, second: Patient) -> bool:
    """Return whether the ID of one is an ID of the other; true where one is unknown."""
    if not (first.is_known and second.is_known):
        return True
    return any(_is_same_id(_id_of(first), other) for other in _ids(second)) or any(
        _is_same_id(_id_of(second), other) for other in _ids(first)
    )


def _is_merged(first: Patient, second: Patient, merged: Sequence[Sequence[str]]) -> bool:
    if not (first.is_known and second.is_known):
        return False
    groups = [[_parsed(text) for text in group] for group in merged]
    return any(
        all(any(_is_same_id(_id_of(p), each) for each in group) for p in (first, second))
        for group in groups
    )


def _ids(patient: Patient) -> list[tuple[str, str]]:
    return [_id_of(patient), *(_parsed(text) for text in patient.other_ids)]


def _id_of(patient: Patient) -> tuple[str, str]:
    number, issuer = _parsed(patient.patient_id)
    return number, _folded(patient.issuer) or issuer


def _parsed(text: str) -> tuple[str, str]:
    """Return ID and issuer of ``ID^^^ISSUER``, folded."""
    number, *more = text.split("^")
    return _folded(number), _folded(more[2]) if len(more) > 2 else ""


def _is_same_id(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Return whether two IDs are one; an issuer that one side does not state is no difference."""
    issuers = zip(one[1].split("&"), other[1].split("&"), strict=False)
    return one[0] == other[0] and all(a == b for a, b in issuers if a and b)


def numbers_of(patient: Patient) -> frozenset[str]:
    """Return all IDs by which the sources of a slide name its patient, folded, without issuers.

    Slides that share one may be of one patient: an issuer that one side does not state is no
    difference.
    """
    sources = (patient, *patient.also)
    return frozenset(number for each in sources for number, _ in _ids(each) if _known(number))


# names, days, sex


def _names_agree(one: str, other: str) -> bool:
    """Return whether two names agree in each group of components that both state."""
    pairs = zip_longest(_groups(one), _groups(other), fillvalue="")
    return all(_group_agrees(a, b) for a, b in pairs if _known(a) and _known(b))


def _groups(name: str) -> list[str]:
    """Return the alphabetic, the ideographic and the phonetic group of a name."""
    groups = [group.strip("^ ") for group in _folded(name).split("=")]
    if len(groups) == 1 and _IDEOGRAPHIC.search(groups[0]):
        # Some systems write ideographs in the alphabetic group.
        return ["", groups[0]]
    return groups


def _group_agrees(one: str, other: str) -> bool:
    parts = [[part.strip() for part in group.split("^")] for group in (one, other)]
    if min(map(len, parts)) == 1:
        # Not divided into components: "Muster, Anna".
        words = [filter(_is_stated, re.split(r"[\s,^]+", group)) for group in (one, other)]
        return words_agree(*words)
    stated = [[part if _is_stated(part) else "" for part in each] for each in parts]
    return components_agree(*stated)


def _is_stated(component: str) -> bool:
    """Return whether a component of a name is there, and no placeholder beside others."""
    letters = _letters(component)
    return component != "" and (letters not in _PLACEHOLDERS or len(letters) < _LEAST_COMPONENT)


def _days_agree(one: str, other: str) -> bool:
    """Return whether two birth dates agree as far as both are known."""
    days = [_day(one), _day(other)]
    shortest = min(map(len, days))
    return days[0][:shortest] == days[1][:shortest]


def _day(text: str) -> str:
    """Return a date as YYYYMMDD, YYYYMM or YYYY; empty where it is unknown."""
    german = re.fullmatch(r"\s*(\d{1,2})\.(\d{1,2})\.(\d{4})\s*", text)
    if german:
        day, month, year = german.groups()
        return f"{year}{month:0>2}{day:0>2}"
    digits = re.sub(r"[-./\s]", "", text)[:8]
    if not digits.isdecimal() or len(digits) < 4 or not digits.strip("0"):
        return ""
    return digits[: 8 if len(digits) == 8 else 6 if len(digits) >= 6 else 4]


def _sex(text: str) -> str:
    """Return F or M; empty for anything else, which tells no patients apart."""
    folded = text.strip().upper()
    return folded if folded in ("F", "M") else ""


def _known(text: str) -> str:
    """Return a text, folded; empty where all its components are placeholders or zeros."""
    folded = _folded(text).strip("^= ")
    told = (_letters(component) for component in re.split(r"[\^=]", folded))
    return folded if any(each.strip("0") and each not in _PLACEHOLDERS for each in told) else ""


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _folded(text: str) -> str:
    """Return a text without case, padding and variants of its characters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
