"""Content tree of a structured report as it is checked: items, values, references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom import Dataset

from dicom.uids import is_uid

SCHEME = "DCM"


@dataclass(frozen=True, slots=True)
class Content:
    """A content item and its place in the tree: ``1.4.2``, as dsrdump numbers them."""

    place: str
    item: Dataset

    @property
    def concept(self) -> str:
        """Code value of the concept name in DCM; empty for one of another scheme, or without."""
        return code_of(self.item, "ConceptNameCodeSequence", SCHEME)

    @property
    def children(self) -> list[Content]:
        """Items below this one."""
        found = self.item.get("ContentSequence") or []
        return [Content(f"{self.place}.{n}", each) for n, each in enumerate(found, start=1)]

    def walk(self) -> Iterator[Content]:
        """Yield this item and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def named(self, *concepts: str) -> list[Content]:
        """Return the children with one of the concept names."""
        return [child for child in self.children if child.concept in concepts]


def code_of(item: Dataset, keyword: str, scheme: str = "") -> str:
    """Return a code value; empty where it has no scheme, or not this one."""
    found = item.get(keyword)
    if not found:
        return ""
    stated = str(found[0].get("CodingSchemeDesignator") or "")
    if not stated or (scheme and stated != scheme):
        return ""
    values = (found[0].get(each) for each in ("CodeValue", "LongCodeValue", "URNCodeValue"))
    return str(next(filter(None, values), ""))


def says(content: Content) -> bool:
    """Return whether an item has the value that its type asks for (PS3.3 C.17.3)."""
    item = content.item
    match item.get("ValueType"):
        case "TEXT":
            return bool(str(item.get("TextValue") or "").strip())
        case "UIDREF":
            return is_uid(str(item.get("UID") or ""))
        case "CODE":
            return bool(code_of(item, "ConceptCodeSequence"))
        case "IMAGE" | "COMPOSITE":
            return any(True for _ in referenced([item]))
        case "SCOORD" | "SCOORD3D":
            return bool(item.get("GraphicData"))
        case kind:
            return kind == "CONTAINER" and bool(content.children)


def saying(parent: Content, *concepts: str) -> list[Content]:
    """Return the children of a concept that have a value."""
    return [child for child in parent.named(*concepts) if says(child)]


def evidence_of(report: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the SOP Instance UID and class of each object of the evidence (PS3.3 C.17.2.3)."""
    current = report.get("CurrentRequestedProcedureEvidenceSequence") or []
    for study in (*current, *(report.get("PertinentOtherEvidenceSequence") or [])):
        for series in study.get("ReferencedSeriesSequence") or []:
            for item in series.get("ReferencedSOPSequence") or []:
                if uid := item.get("ReferencedSOPInstanceUID"):
                    yield str(uid), str(item.get("ReferencedSOPClassUID") or "")


def referenced(items: Iterable[Dataset]) -> Iterator[str]:
    """Yield the SOP Instance UIDs that items name."""
    for item in items:
        for reference in item.get("ReferencedSOPSequence") or []:
            if uid := reference.get("ReferencedSOPInstanceUID"):
                yield str(uid)
