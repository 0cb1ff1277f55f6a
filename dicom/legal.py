"""Values of a header as DICOM allows them: corrected by rule, or left out, and told (PS3.5 6.2).

Objects made from a slide repeat what its header says of patient, study and specimen. Scanners write
what a person typed: dates that are none, texts that are too long. Writers of DICOM refuse these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import (
    dictionary_description,
    dictionary_VM,
    dictionary_VR,
    keyword_for_tag,
)
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import MAX_VALUE_LEN, STR_VR_REGEXES, PersonName

from dicom.characters import ASCII_TEXTS, CONTROL, ONE_TEXT, PER_FRAME, TEXTS, items_of, vr_of
from dicom.required import lacks_specimen_uid
from dicom.times import is_zone
from dicom.uids import is_uid

IDENTIFIERS = ("PatientID", "ContainerIdentifier")
"""Attributes of which no part may be missing: a shortened one is another patient's."""
WHOLE = (
    *("AccessionNumber", "OtherPatientIDs", "IssuerOfPatientID", "AdmissionID"),
    *("ClinicalTrialProtocolID", "ClinicalTrialSiteID", "ClinicalTrialSubjectID"),
    *("ClinicalTrialSubjectReadingID", "CodeValue", "CodingSchemeDesignator"),
)
"""Further attributes that are left out rather than shortened: a part of one is another one."""
NAMING = ("CodeValue", "CodingSchemeDesignator", "PatientID", "ReferencedSOPInstanceUID")
"""Attributes without which an item of a sequence names nothing."""
SEXES = ("", "F", "M", "O")
"""Defined terms of PatientSex (PS3.3 C.7.1.1)."""
GROUP_LENGTH, GROUPS, COMPONENTS = 64, 3, 5
"""Most characters of a component group of a name, most groups, and most components of a group
(PS3.5 6.2, PN)."""
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters; texts of paragraphs may hold tabs and ends of lines and pages."""
LEFT_OUT, SHORTENED, CORRECTED, REFUSED = "left out", "shortened", "corrected", "refused"
_DONE = {
    LEFT_OUT: "leave it out",
    SHORTENED: "carry it shortened",
    CORRECTED: "carry it corrected",
}
_SEPARATED = {"DA": re.compile(r"(\d{4})[.\-/](\d\d)[.\-/](\d\d)"), "TM": re.compile(r"[:]")}


@dataclass(frozen=True, slots=True)
class Flaw:
    """Attribute that is not as DICOM allows; `done` is a key of `_DONE`, or `REFUSED`."""

    keyword: str
    name: str
    done: str


def told(flaws: Sequence[Flaw]) -> Iterator[str]:
    """Yield a sentence for each way in which flaws were dealt with, without the values (PHI)."""
    for done, words in _DONE.items():
        names = ", ".join(flaw.name for flaw in flaws if flaw.done == done)
        if names:
            yield (
                f"The header has what DICOM does not allow as {names}: results {words}. Correct it "
                "in the worklist or in the scanner's DICOM export."
            )


def make_legal(header: Dataset) -> tuple[Flaw, ...]:
    """Correct the values of a header in place, those of sequences included; return what was wrong.

    Its texts are Unicode (`characters.in_unicode`). Dates and times that are none, and codes, UIDs
    and numbers that cannot be read, are left out. Dates with separators lose these. Texts and names
    that are too long are shortened, control characters are removed, and of several values where one
    is allowed the first stays. Wrong `IDENTIFIERS` of the header itself stay: callers refuse it.
    A wrong UID of a specimen counts as corrected where results state another one.
    """
    with disable_value_validation():
        flaws = tuple(dict.fromkeys(_flaws(header)))
        if lacks_specimen_uid(header):
            return flaws
    return tuple(
        replace(each, done=CORRECTED) if each.keyword == "SpecimenUID" else each for each in flaws
    )


def _flaws(dataset: Dataset, *, in_item: bool = False) -> Iterator[Flaw]:
    for tag in list(dataset.keys()):
        if tag == PER_FRAME or tag.is_private or tag.group in (0x0002, 0x7FE0):
            continue
        vr = vr_of(dataset.get_item(tag))
        if _is_sequence(tag):
            yield from _flaws_of_items(dataset, tag)
            continue
        if vr not in (*TEXTS, *ASCII_TEXTS):
            continue
        words = _words(dataset.get_item(tag), vr)
        flaw = _corrected(dataset, tag, vr, words)
        if flaw is not None and flaw.done == REFUSED and in_item:
            flaw = _left_out(dataset, tag)  # one of the patient's other IDs
        if flaw is not None:
            yield flaw


def _flaws_of_items(dataset: Dataset, tag: BaseTag) -> Iterator[Flaw]:
    items = items_of(dataset, tag)
    if items is None:
        del dataset[tag]
        yield Flaw(keyword_for_tag(tag), _name(tag), LEFT_OUT)
        return
    kept = []
    for item in items:
        flaws = list(_flaws(item, in_item=True))
        yield from flaws
        left_out = {flaw.keyword for flaw in flaws if flaw.done == LEFT_OUT} & {*NAMING}
        # An item without what names it says nothing, and is not allowed.
        if all(item.get(keyword, "there") for keyword in left_out):
            kept.append(item)
    if len(kept) < len(items):
        dataset[tag] = DataElement(tag, "SQ", kept)


def _is_sequence(tag: BaseTag) -> bool:
    try:
        return str(dictionary_VR(tag)) == "SQ"
    except KeyError:
        return False


def _words(element: DataElement | RawDataElement, vr: str) -> list[str]:
    """Return the values of an element as they are written; pydicom may not be able to read them."""
    if isinstance(element, RawDataElement):
        text = (element.value or b"").decode("latin-1")
        return [text] if vr == "UR" else text.split("\\")
    values = element.value
    if values is None or isinstance(values, str | PersonName | int | float):
        return [str(values or "")]
    return [str(value) for value in values]


def _corrected(dataset: Dataset, tag: BaseTag, vr: str, words: list[str]) -> Flaw | None:
    """Correct one element; None where it was as it is allowed."""
    bare = [word.strip(" \0") if vr not in ONE_TEXT else word.rstrip(" \0") for word in words]
    keyword = keyword_for_tag(tag)
    wanted = bare[:1] if _is_single(tag) else bare
    found = [_value(vr, word, keyword) for word in wanted]
    if keyword in IDENTIFIERS:
        legal = found == bare and len(bare) == 1
        return None if legal else Flaw(keyword, _name(tag), REFUSED)
    if found == bare:
        return None
    kept: list[Any] = [word for word in found if word is not None]
    cut = keyword in WHOLE and len(wanted) < len(bare)
    if not kept or len(kept) < len(found) or cut:
        return _left_out(dataset, tag)
    if vr == "PN":
        kept = [PersonName(word) for word in kept]
    dataset[tag] = DataElement(tag, vr, kept[0] if len(kept) == 1 else kept)
    return Flaw(keyword, _name(tag), SHORTENED if vr in TEXTS else CORRECTED)


def _left_out(dataset: Dataset, tag: BaseTag) -> Flaw:
    # Of type 2 in some modules: an empty value is allowed wherever none is needed.
    dataset[tag] = DataElement(tag, vr_of(dataset.get_item(tag)), None)
    return Flaw(keyword_for_tag(tag), _name(tag), LEFT_OUT)


def _is_single(tag: BaseTag) -> bool:
    try:
        return str(dictionary_VM(tag)) == "1"
    except KeyError:
        return False


def _name(tag: BaseTag) -> str:
    try:
        return str(dictionary_description(tag))
    except KeyError:
        return f"attribute {tag}"


def _value(vr: str, word: str, keyword: str) -> str | None:
    """Return a value as its representation allows it; None where it cannot be corrected."""
    if not word:
        return word
    if keyword == "TimezoneOffsetFromUTC":
        return word if is_zone(word) else None
    match vr:
        case "PN":
            return "=".join(_group(group) for group in word.split("=")[:GROUPS])
        case "DA" | "TM" | "DT":
            return _time(vr, word)
        case "CS":
            return _code(word, SEXES if keyword == "PatientSex" else None)
        case "DS":
            return _decimal(word)
        case "UI":
            return word if is_uid(word) else None
        case "AE" | "AS" | "IS" | "UR":
            fits = len(word) <= MAX_VALUE_LEN.get(vr, len(word)) and _matches(vr, word)
            return word if fits and (vr != "IS" or abs(int(word)) < 2**31) else None
    clean = (_CONTROL_IN_TEXT if vr in ONE_TEXT else CONTROL).sub("", word)
    if keyword in WHOLE and len(clean) > MAX_VALUE_LEN.get(vr, len(clean)):
        return None
    return clean[: MAX_VALUE_LEN.get(vr, len(clean))].rstrip(" ")


def _group(text: str) -> str:
    """Return a component group of a name with as many components and letters as it may have."""
    components = CONTROL.sub("", text).split("^")
    return "^".join(components[:COMPONENTS])[:GROUP_LENGTH]


def _matches(vr: str, word: str) -> bool:
    # The expressions end with "$", which an end of line may follow.
    return STR_VR_REGEXES[vr].match(word) is not None and not word.endswith("\n")


def _time(vr: str, word: str) -> str | None:
    if vr == "DA":
        word = _SEPARATED["DA"].sub(r"\1\2\3", word)
    elif vr == "TM":
        word = _SEPARATED["TM"].sub("", word)
    if not _matches(vr, word) or (vr != "DT" and "-" in word):
        return None  # a range is a query
    day = word[:8] if vr == "DT" else word
    if vr == "DA" or (vr == "DT" and len(re.split(r"[+-]", day)[0]) == 8):
        try:
            datetime.strptime(day, "%Y%m%d")
        except ValueError:
            return None
    return word


def _code(word: str, terms: tuple[str, ...] | None) -> str | None:
    for candidate in (word, word.upper()):
        if terms is not None and candidate not in terms:
            continue
        if len(candidate) <= MAX_VALUE_LEN["CS"] and _matches("CS", candidate):
            return candidate
    return None


def _decimal(word: str) -> str | None:
    if not _matches("DS", word) or not isfinite(float(word)):
        return None
    if len(word) <= MAX_VALUE_LEN["DS"]:
        return word
    for digits in range(15, 0, -1):
        shorter = f"{float(word):.{digits}g}"
        if len(shorter) <= MAX_VALUE_LEN["DS"]:
            return shorter
    return None
