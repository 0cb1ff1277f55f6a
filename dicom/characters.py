"""Characters of a header: its texts as Unicode, whatever character set it states (PS3.5 6.1).

All texts of a header are decoded at once, so that a character set that is missing or wrong is seen,
and told.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

from dicom.iso2022 import ASCII, ESCAPE, CharacterSets, decode

CHARACTER_SET = "ISO_IR 192"
"""UTF-8, whatever character set the slide has: texts of Tandem hold µ and ≥."""
SPECIFIC_CHARACTER_SET = 0x00080005
PER_FRAME = 0x52009230
"""Per-frame Functional Groups Sequence: no texts, and as many items as the image has frames."""
ONE_TEXT = ("LT", "ST", "UT")
"""Value representations of text in which a backslash is a character."""
TEXTS = ("LO", "PN", "SH", "UC", *ONE_TEXT)
"""Value representations whose characters depend on the character set (PS3.5 6.1.2.2)."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no value may hold (PS3.5 6.1.3), and those that are none."""
ASCII_TEXTS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR")
"""Value representations of text in the default character set."""
UNREADABLE = (
    *(InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, struct.error),
    *(KeyError, TypeError, AttributeError, NotImplementedError),
)
"""Errors of pydicom for bytes that are no DICOM, or damaged."""
_LATIN = (ASCII, *(f"iso8859_{part}" for part in (1, 2, 3, 4, 9, 15)))
"""Alphabets in which no word of several letters is valid UTF-8: there it is UTF-8 unnamed."""
_ENDS = {"PN": b"\\^=", "LO": b"\\", "SH": b"\\", "UC": b"\\"}
_ENDS_OF_LINES = b"\t\n\f\r"
_REMEDY = "Set Specific Character Set in the scanner's DICOM export."


@dataclass(frozen=True, slots=True)
class _Text:
    """Element of a text whose bytes are as they came; `sets` are those stated for it."""

    dataset: Dataset
    tag: BaseTag
    vr: str
    value: bytes
    sets: CharacterSets


def in_unicode(header: Dataset) -> str:
    """Decode all public texts of a header in place, which states `CHARACTER_SET` then.

    Items of sequences are included. Returns a sentence where its character set is not the stated
    one, or none is stated for letters beyond ASCII: UTF-8 is tried then, else Latin-1 is assumed.
    The sentence does not hold a text of the header (PHI). Empty: nothing is wrong.
    """
    sets = _sets(header, CharacterSets())
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore", UserWarning)  # of sets that pydicom does not know
        texts = list(_texts(header, sets))
        words, problem = _read(texts)
        for text, word in zip(texts, words, strict=True):
            text.dataset[text.tag] = _element(text, word)
        header.SpecificCharacterSet = CHARACTER_SET
    if not sets.is_defined and not problem:
        return f"The header names its character set as DICOM does not. {_REMEDY}"
    return problem


def _read(texts: Sequence[_Text]) -> tuple[list[str], str]:
    """Return the texts as Unicode, and a sentence where that took another character set."""
    stated = [_decoded(text) for text in texts]
    letters = [text for text in texts if not text.value.isascii()]
    is_utf8 = bool(letters) and all(_is_utf8(text.value) for text in letters)
    unnamed = is_utf8 and all(text.sets.codec in _LATIN for text in letters)
    if not unnamed and None not in stated:
        return [word or "" for word in stated], ""
    what = (
        "The header states no character set for letters beyond ASCII"
        if all(text.sets.codec == ASCII for text in letters)
        else "The header's letters are not in the character set that it states"
    )
    if is_utf8:
        words = [text.value.decode() for text in texts]
        return words, f"{what}; they were read as UTF-8. {_REMEDY}"
    assumed = [
        text.value.decode("latin_1") if word is None else word
        for text, word in zip(texts, stated, strict=True)
    ]
    return assumed, f"{what}; they were read as Latin-1: check the names. {_REMEDY}"


def _texts(dataset: Dataset, sets: CharacterSets) -> Iterator[_Text]:
    """Yield the public texts of a data set and its sequences that are not decoded yet."""
    for tag in list(dataset.keys()):
        if tag.is_private:
            continue  # results repeat none, and what is in there follows no rule
        raw = _of_known_vr(dataset, tag)
        vr = vr_of(raw)
        if vr == "SQ" and tag != PER_FRAME:
            for item in items_of(dataset, tag) or ():
                yield from _texts(item, _sets(item, sets))
                if SPECIFIC_CHARACTER_SET in item:
                    item.SpecificCharacterSet = CHARACTER_SET
        elif vr in TEXTS and isinstance(raw, RawDataElement) and raw.value:
            yield _Text(dataset, tag, vr, raw.value, sets)


def items_of(dataset: Dataset, tag: BaseTag) -> list[Dataset] | None:
    """Return the items of a sequence; None where its bytes are no items."""
    try:
        found = list(dataset[tag].value or ())
    except UNREADABLE:
        return None
    return found if all(isinstance(item, Dataset) for item in found) else None


def _of_known_vr(dataset: Dataset, tag: BaseTag) -> DataElement | RawDataElement:
    """Return an element; one of text gets the value representation that DICOM has for it.

    Where a writer states another one, its rules do not hold for the value.
    """
    element = dataset.get_item(tag)
    try:
        known = str(dictionary_VR(tag))
    except KeyError:
        return element
    if isinstance(element, RawDataElement) and known in (*TEXTS, *ASCII_TEXTS):
        dataset[tag] = element = element._replace(VR=known)
    return element


def vr_of(element: DataElement | RawDataElement) -> str:
    """Return the value representation; files in Implicit VR do not state it."""
    if element.VR is None or (element.VR == "UN" and not element.tag.is_private):
        try:
            return str(dictionary_VR(element.tag))
        except KeyError:
            return "UN"
    return str(element.VR)


def _sets(dataset: Dataset, inherited: CharacterSets) -> CharacterSets:
    """Return the character sets that a data set states, else those of the one around it."""
    value = dataset.get("SpecificCharacterSet")
    terms = [value] if isinstance(value, str) else list(value or ())
    stated = [str(term or "").strip() for term in terms]
    return CharacterSets.of(stated) if any(stated) else inherited


def _decoded(text: _Text) -> str | None:
    return decode(text.value, text.sets, ends=_ENDS.get(text.vr, b"") + _ENDS_OF_LINES)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return ESCAPE not in value


def _element(text: _Text, word: str) -> DataElement:
    """Return the element with its text as Unicode, split into its values, without padding."""
    bare = word.rstrip("\0 ")
    values = [bare] if text.vr in ONE_TEXT else [v.rstrip("\0 ") for v in bare.split("\\")]
    made = [PersonName(value) for value in values] if text.vr == "PN" else values
    return DataElement(text.tag, text.vr, made[0] if len(made) == 1 else made)
