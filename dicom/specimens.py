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


def specimen_of_block(header: Dataset, accession: str, block: str) -> Dataset | None:
    """Return the specimen on a slide that is of a case's block.

    One that is alone is it, whatever its identifiers are: laboratories number in many ways. Of
    several, such as of an on-slide control, it is the one whose parent or own identifier is the
    block, or accession and block, whatever follows. None where no identifier is.
    """
    described = specimens_of(header)
    if len(described) < 2:
        return next(iter(described), None)
    own = [str(each.get("SpecimenIdentifier") or "") for each in described]
    for identifiers in (map(parent_of, described), own):
        for identifier, specimen in zip(identifiers, described, strict=True):
            if accession and _names(identifier, accession, block):
                return specimen
    return None


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
    begin = r"[\W_]*".join(map(re.escape, _WORD.findall(accession)))
    found = re.match(rf"\W*{begin}[\W_]+(?=[^\W_])", identifier, re.IGNORECASE)
    rest, wanted = block_key(identifier[found.end() if found else 0 :]), block_key(block)
    if found:
        return bool(re.match(rf"{re.escape(wanted)}(?![^\W_])", rest))
    # A bare number may be that of the specimen on the slide.
    return rest == wanted and not wanted.isdecimal()
