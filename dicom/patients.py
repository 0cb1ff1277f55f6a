"""Patient as a source names it, and whether two sources name one.

What a source does not state is unknown, and unknown never differs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from dicom.person_names import components_agree, have_common_word, words_agree

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
ACCOUNT_TYPES = frozenset({"AC", "ACSN", "AN", "ANC", "AND", "ANT", "VN"})
"""Types of numbers (HL7 table 0203) of a patient's accounts, visits and orders."""
_IDEOGRAPHIC = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPatient:
    """Patient as a source names it; empty: unknown. PHI.

    `issuer` is ``NAMESPACE`` or ``NAMESPACE&UNIVERSAL ID&TYPE`` (HL7 HD), `other_ids` are
    ``ID^^^ISSUER`` (HL7 CX).
    """

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    other_ids: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Return whether the source names a patient by an ID."""
        return bool(known_text(_parsed(self.patient_id)[0]))


def patient_differences(
    first: NamedPatient, second: NamedPatient, merged: Sequence[Sequence[str]] = ()
) -> list[str]:
    """Return what tells two patients apart: patient ID, name, birth date, sex.

    `merged` are groups of IDs (``ID`` or ``ID^^^ISSUER``) that the site declares to be one patient.
    """
    pairs = {
        "patient ID": not _ids_agree(first, second),
        "name": not _names_agree(first.name, second.name),
        "birth date": not _days_agree(first.birth_date, second.birth_date),
        "sex": {_sex(first.sex), _sex(second.sex)} == {"F", "M"},
    }
    found = [word for word, differs in pairs.items() if differs]
    return [] if found and _is_merged(first, second, merged) else found


def another_patient(
    first: NamedPatient, second: NamedPatient, merged: Sequence[Sequence[str]] = ()
) -> list[str]:
    """Return what tells apart two patients that are not one by an ID which both state.

    Where both state the ID's issuer, two of name, birth date and sex that differ are a correction;
    a name of which nothing is left counts as two, unless both state one day of birth. Without it
    two hospitals may have given one number: then only the sex may differ, or the name beside one
    day of birth.
    """
    found = patient_differences(first, second, merged)
    if not (first.is_known and second.is_known) or "patient ID" in found:
        return found
    days = _day(first.birth_date), _day(second.birth_date)
    is_day = days[0] == days[1] and len(days[0]) == len("19610203")
    if not _share_an_issuer(first, second):
        return [] if found == ["sex"] or (found == ["name"] and is_day) else found
    far = "name" in found and not is_day and not _share_a_word(first.name, second.name)
    return [] if len(found) + far <= 2 else found


# identifiers


def joined_ids(sources: Sequence[NamedPatient]) -> tuple[str, str, tuple[str, ...]]:
    """Return ID, issuer and other IDs that sources of one patient state together.

    The ID is the first one. An issuer goes with its own ID: it is that of a source, or of another
    ID, with the same number; none where these name two.
    """
    first = next((each for each in sources if each.patient_id), sources[0])
    first = next((each for each in sources if each.is_known), first)
    number, within = id_of(first)
    named = [(each.patient_id, each.issuer) for each in sources if each.is_known]
    also = [text for each in sources for text in each.other_ids]
    stated = [*named, *((text, _issuer_in(text)) for text in also)]
    issuers = [issuer for text, issuer in stated if issuer and _parsed(text)[0] == number]
    is_one = all(is_same_id(("", _folded(a)), ("", _folded(b))) for a in issuers for b in issuers)
    issuer = first.issuer or (issuers[0] if issuers and is_one and not within else "")
    own = number, _folded(issuer) or within
    # A main ID that holds "^" states its issuer itself.
    texts = [f"{text}^^^{who}" if who and "^" not in text else text for text, who in named]
    others = {
        text
        for text in (*texts, *also)
        if not is_same_id(_parsed(text), own) or (_parsed(text)[1] and not own[1])
    }
    return first.patient_id, issuer, tuple(sorted(others))


def without_given_up(
    former: NamedPatient,
    stated: NamedPatient,
    merged: Sequence[Sequence[str]] = (),
    typed: Sequence[str] = (),
) -> NamedPatient:
    """Return a patient without the IDs in whose place a later source states another one.

    That one is new and of the same issuer and type, and `merged` does not join both. `typed` are
    the IDs that have a type (``ID^^^ISSUER^TYPE``). A patient has many accounts and visits: their
    numbers correct none. One with other leading zeros is the same number.
    """
    now, before = ids_of(stated), ids_of(former)
    told = [each for each in now if known_text(each[0])]  # a placeholder corrects nothing
    new = [each for each in told if not any(is_same_id(each, known) for known in before)]
    groups = [[_parsed(text) for text in group] for group in merged]

    def is_given_up(one: tuple[str, str]) -> bool:
        others = [each for each in new if _is_same_issuer(one[1], each[1])]
        others = [each for each in others if each[0].lstrip("0") != one[0].lstrip("0")]
        types = _types_of(one, typed)
        others = [each for each in others if _may_correct(_types_of(each, typed), types)]
        joined = any(
            all(any(is_same_id(each, member) for member in group) for each in (one, other))
            for other in others
            for group in groups
        )
        return bool(others) and not joined and not any(is_same_id(one, each) for each in now)

    others = tuple(text for text in former.other_ids if not is_given_up(_parsed(text)))
    if is_given_up(id_of(former)):
        return replace(former, patient_id="", issuer="", other_ids=others)
    return replace(former, other_ids=others)


def _types_of(one: tuple[str, str], typed: Sequence[str]) -> set[str]:
    """Return the types of an ID; none where none is known."""
    return {text.rpartition("^")[2].upper() for text in typed if is_same_id(_parsed(text), one)}


def _may_correct(new: set[str], former: set[str]) -> bool:
    """Return whether an ID of some types may take the place of another one.

    An unknown type is any of a person's: tables and orders of earlier editions state none.
    """
    if new and former:
        return bool(new & former - ACCOUNT_TYPES)
    return not ACCOUNT_TYPES & (new | former)


def _is_same_issuer(one: str, other: str) -> bool:
    """Return whether two issuers, folded, have the name or the universal ID in common."""
    pairs = [*zip(one.split("&")[:2], other.split("&")[:2], strict=False)]
    return any(a == b != "" for a, b in pairs) and all(a == b for a, b in pairs if a and b)


def _issuer_in(text: str) -> str:
    """Issuer of ``ID^^^ISSUER`` as it is written."""
    return [*text.split("^"), "", "", ""][3].strip()


def _ids_agree(first: NamedPatient, second: NamedPatient) -> bool:
    """Return whether the ID of one is an ID of the other; true where one is unknown."""
    if not (first.is_known and second.is_known):
        return True
    return any(
        is_same_id(id_of(one), other) for one, two in _both(first, second) for other in ids_of(two)
    )


def _both(
    first: NamedPatient, second: NamedPatient
) -> tuple[tuple[NamedPatient, NamedPatient], tuple[NamedPatient, NamedPatient]]:
    return (first, second), (second, first)


def _share_an_issuer(first: NamedPatient, second: NamedPatient) -> bool:
    """Return whether both state one issuer of an ID by which they are one."""
    pairs = [(id_of(one), its) for one, two in _both(first, second) for its in ids_of(two)]
    return any(is_same_id(one, its) and _is_same_issuer(one[1], its[1]) for one, its in pairs)


def _is_merged(first: NamedPatient, second: NamedPatient, merged: Sequence[Sequence[str]]) -> bool:
    if not (first.is_known and second.is_known):
        return False
    groups = [[_parsed(text) for text in group] for group in merged]
    return any(
        all(any(is_same_id(id_of(p), each) for each in group) for p in (first, second))
        for group in groups
    )


def ids_of(patient: NamedPatient) -> list[tuple[str, str]]:
    """Return all IDs of a patient with their issuers, folded; that of the source first."""
    return [id_of(patient), *(_parsed(text) for text in patient.other_ids)]


def numbers_of(patient: NamedPatient, merged: Sequence[Sequence[str]] = ()) -> list[str]:
    """Return all IDs of a patient without issuers, folded, with those that are merged with it."""
    groups = [[_parsed(text) for text in group] for group in merged]
    also = [g for g in groups if any(is_same_id(id_of(patient), each) for each in g)]
    ids = [*ids_of(patient), *(each for group in also for each in group)]
    return list(dict.fromkeys(number for number, _ in ids))


def id_of(patient: NamedPatient) -> tuple[str, str]:
    """Return a patient's ID and its issuer, folded."""
    number, issuer = _parsed(patient.patient_id)
    return number, _folded(patient.issuer) or issuer


def _parsed(text: str) -> tuple[str, str]:
    """Return ID and issuer of ``ID^^^ISSUER``, folded."""
    number, *more = text.split("^")
    return _folded(number), _folded(more[2]) if len(more) > 2 else ""


def is_same_id(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Return whether two IDs are one; an issuer that one side does not state is no difference."""
    issuers = zip(one[1].split("&"), other[1].split("&"), strict=False)
    return one[0] == other[0] and all(a == b for a, b in issuers if a and b)


# names, days, sex


def _names_agree(one: str, other: str) -> bool:
    """Return whether two names agree in each group of components that both state."""
    pairs = zip_longest(_groups(one), _groups(other), fillvalue="")
    return all(_group_agrees(a, b) for a, b in pairs if known_text(a) and known_text(b))


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


def _share_a_word(one: str, other: str) -> bool:
    """Return whether two names have a word of family's, given or middle names in common."""
    groups = [[group.split("^")[:3] for group in _groups(name)] for name in (one, other)]
    return have_common_word(
        *([part for parts in each for part in parts if _is_stated(part)] for each in groups)
    )


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


def known_text(text: str) -> str:
    """Return a text, folded; empty where all its components are placeholders or zeros."""
    folded = _folded(text).strip("^= ")
    told = (_letters(component) for component in re.split(r"[\^=]", folded))
    return folded if any(each.strip("0") and each not in _PLACEHOLDERS for each in told) else ""


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _folded(text: str) -> str:
    """Return a text without case, padding and variants of its characters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
