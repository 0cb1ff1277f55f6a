"""Specimens on a slide, as its header describes them (PS3.3 C.7.6.22): which one is the case's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom import Dataset

from dicom import codes
from dicom.order import block_key

_WORD = re.compile(r"[^\W_]+")


def specimens_of(header: Dataset) -> Sequence[Dataset]:
    """Return the specimens that a header describes."""
    return header.get("SpecimenDescriptionSequence") or []


def specimen_of_block(
    header: Dataset, accession: str, block: str, *, first: bool = False
) -> Dataset | None:
    """Return the specimen on a slide that is of a case's block.

    One that is alone is it, whatever its identifiers are: laboratories number in many ways. Of
    several, such as of an on-slide control, a specimen is judged by its parent where it states one
    that is more than the accession, and by its own identifier otherwise. It is the one that is of
    accession and block, whatever follows; of pieces of one such parent, the first. Where none is,
    it is the one of the bare block: none of several, and none beside one that is of the accession
    and of an unknown block, since a store of controls has a block A1, too. `first`: the first one
    is taken, by parents before others, as an earlier edition did.
    """
    described = specimens_of(header)
    if len(described) < 2:
        return next(iter(described), None)
    if not accession:
        return None
    parents = [parent_of(each) for each in described]
    own = [str(each.get("SpecimenIdentifier") or "") for each in described]
    if first:
        ordered = ((name, place) for names in (parents, own) for place, name in enumerate(names))
        places = [place for name, place in ordered if _names(name, accession, block)]
        return described[places[0]] if places else None
    names = [
        mine if not parent or _behind(parent, accession) == "" else parent
        for parent, mine in zip(parents, own, strict=True)
    ]
    of_case = [_behind(name, accession) for name in names]
    found = [place for place, name in enumerate(names) if _names(name, accession, block)]
    whole = [place for place in found if of_case[place] is not None]
    if whole:
        is_one = len(whole) == 1 or (parents[whole[0]] and len({names[k] for k in whole}) == 1)
        return described[whole[0]] if is_one else None
    return described[found[0]] if len(found) == 1 and "" not in of_case else None


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


def _names(identifier: str, accession: str, block: str) -> bool:
    """Return whether an identifier is of a block, with the accession before it or without."""
    rest, wanted = _behind(identifier, accession), block_key(block)
    if rest is not None:
        return bool(re.match(rf"{re.escape(wanted)}(?![^\W_])", block_key(rest)))
    # A bare number may be that of the specimen on the slide.
    return block_key(identifier) == wanted and not wanted.isdecimal()


def _behind(identifier: str, accession: str) -> str | None:
    """Return what follows the accession in an identifier; None where that does not begin so."""
    begin = r"[\W_]*".join(map(re.escape, _WORD.findall(accession)))
    found = re.match(rf"\W*{begin}(?:[\W_]+|$)", identifier, re.IGNORECASE)
    return identifier[found.end() :] if found else None
