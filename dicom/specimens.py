"""Specimens on a slide, as its header describes them (PS3.3 C.7.6.22): which one is the case's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom import Dataset

from dicom import codes
from dicom.order import are_others, block_in, block_key

_WORD = re.compile(r"[^\W\d_]+|\d+")
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


def specimens_of(header: Dataset) -> Sequence[Dataset]:
    """Return the specimens that a header describes."""
    return header.get("SpecimenDescriptionSequence") or []


def specimen_of_block(header: Dataset, accession: str, block: str) -> Dataset | None:
    """Return the specimen on a slide that is of a case's block; None where none surely is.

    A specimen whose identifiers name neither accession nor block contradicts nothing, and is the
    one meant where it is alone. Beside it may lie a control.
    """
    described = specimens_of(header)
    if not accession:
        return described[0] if len(described) == 1 else None
    stated = str(header.get("AccessionNumber") or "").strip()
    answers = [_is_of(each, accession, block, stated) for each in described]
    if True in answers:
        return described[answers.index(True)]
    return described[0] if answers == [None] else None


def parent_of(specimen: Dataset) -> str:
    """Return the specimen from which another one was sampled (TID 8002); empty if not stated."""
    for step in specimen.get("SpecimenPreparationSequence") or []:
        texts = {
            str(name.get("CodeValue", "")): str(item.get("TextValue") or "").strip()
            for item in step.get("SpecimenPreparationStepContentItemSequence") or []
            for name in item.get("ConceptNameCodeSequence") or []
        }
        parent = texts.get(codes.PARENT_SPECIMEN_ID.value, "")
        if parent and texts.get(codes.SPECIMEN_ID.value) == specimen.get("SpecimenIdentifier"):
            return parent
    return ""


def _is_of(specimen: Dataset, accession: str, block: str, stated: str) -> bool | None:
    """Return whether a specimen is of a block; None where its identifiers do not tell.

    `stated` is the accession in the header. The parent is the block itself: its word counts first.
    """
    for identifier in (parent_of(specimen), str(specimen.get("SpecimenIdentifier") or "").strip()):
        answer = _names(identifier, accession, block, stated)
        if answer is not None:
            return answer
    return None


def _names(identifier: str, accession: str, block: str, stated: str) -> bool | None:
    """Return whether an identifier names the block of an accession; None if it names none."""
    rest, wanted = _after(identifier, accession), block_key(block)
    if rest is None:
        if stated != accession and _is_of_another(identifier, accession, stated):
            return False
        is_block = block_in(identifier, accession) or block_key(identifier) == wanted
        rest = identifier if is_block else ""
    words = re.findall(r"[^\W_]+", key := block_key(_EDGES.sub("", rest)))
    if not words:
        return None
    if re.match(rf"{re.escape(wanted)}(?![^\W_])", key):
        return True
    # Of A1 and A the one may be a part of the other; a bare number may be that of the slide.
    is_block = _form(words[0]) == _form(wanted) or (
        bool(block_in(words[0], "")) and wanted not in words
    )
    return False if is_block and are_others((words[0],), block) else None


def _form(block: str) -> str:
    return re.sub(r"\d+", "0", re.sub(r"[^\W\d_]", "A", block))


def _after(identifier: str, number: str) -> str | None:
    """Return what follows a number in an identifier, whatever its separators and leading zeros are;
    None where the identifier does not begin with it."""
    words, wanted = list(_WORD.finditer(identifier)), _WORD.findall(number)
    begin = words[: len(wanted)]
    if not wanted or [_plain(each[0]) for each in begin] != [_plain(each) for each in wanted]:
        return None
    return identifier[begin[-1].end() :]


def _is_of_another(identifier: str, accession: str, stated: str) -> bool:
    """Return whether an identifier begins with another accession than the case's: that in the
    header, or one of the same form before a block."""
    if stated and _after(identifier, stated) is not None:
        return True
    words, wanted = list(_WORD.finditer(identifier)), _WORD.findall(accession)
    begin = words[: len(wanted)]
    alike = len(begin) == len(wanted) and all(
        _plain(one[0]) == _plain(two)
        or (one[0].isdecimal() and two.isdecimal() and len(one[0]) == len(two))
        for one, two in zip(begin, wanted, strict=True)
    )
    return alike and bool(block_in(_EDGES.sub("", identifier[begin[-1].end() :]), ""))


def _plain(word: str) -> str:
    return (word.lstrip("0") or "0") if word.isdecimal() else word.casefold()
