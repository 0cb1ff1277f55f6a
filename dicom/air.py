"""Check of a structured report against IHE AIR: ``python -m dicom.air FILE…``.

IHE Radiology, AI Results (AIR, trial implementation, RAD TF-3 6.5.3), asks that results lie in a
Comprehensive 3D SR with TID 1500 as its root, and names the primitives: qualitative findings,
measurements, locations, regions, parametric maps, tracking identifiers, image references. The items
here are those that a file shows, by the templates of PS3.16 and modules of PS3.3 that hold them. A
table has a line for each; the exit status is 1 if one does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom.sr_tree import SCHEME, Content, code_of, evidence_of, referenced, saying, says
from dicom.uids import is_uid

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
REPORT, LIBRARY, GROUPS, GROUP = "126000", "111028", "126010", "125007"
LANGUAGE, OBSERVER_TYPE, DEVICE_UID, PROCEDURE = "121049", "121005", "121012", "121058"
TRACKING, TRACKING_UID, FINDING = "112039", "112040", "121071"
ALGORITHM, ALGORITHM_VERSION = "111001", "111003"
REGION, SEGMENT, SOURCE = "111030", "121191", "121112"
"""Codes of concept names (DCM, PS3.16)."""
ORDER_NUMBERS = (
    "RequestedProcedureID",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
)
"""Attributes of a request of type 2 (PS3.3 Table C.17-2)."""
_DEVICE = "121007"
_PRIVATE = "99"
_POLYGON_VALUES = 12
"""Fewest numbers of a closed outline: three corners of three, and the first one again."""


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of an item: it holds where there are no faults; `where` tells what was looked at."""

    where: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """Item of the profile, its source, and its check."""

    name: str
    source: str
    check: Callable[[Content], Result]


def check_report(report: Dataset) -> list[tuple[Item, Result]]:
    """Check a structured report item by item."""
    root = Content("1", report)
    return [(item, item.check(root)) for item in ITEMS]


def _each(where: str, contents: Sequence[Content], holds: Callable[[Content], bool]) -> Result:
    """Return a result for several items: those that do not hold are the faults."""
    faults = tuple(content.place for content in contents if not holds(content))
    if not contents:
        return Result(where, ("there is none",))
    return Result(f"{len(contents)} {where}", faults)


def _attribute(keyword: str, *allowed: str) -> Callable[[Content], Result]:
    def check(root: Content) -> Result:
        value = str(root.item.get(keyword) or "").strip()
        fine = value in allowed if allowed else bool(value)
        return Result(keyword, () if fine else (f"is {value!r}" if value else "is missing",))

    return check


def _groups(root: Content) -> list[Content]:
    return [g for container in root.named(GROUPS) for g in container.named(GROUP)]


def _library(root: Content) -> Result:
    images = [
        content
        for library in root.named(LIBRARY)
        for content in library.walk()
        if content.item.get("ValueType") == "IMAGE"
    ]
    return _each("images", images, says)


def _measured(root: Content) -> Result:
    return _each("groups", _groups(root), lambda group: bool(group.children))


def _request(root: Content) -> Result:
    requests = root.item.get("ReferencedRequestSequence") or []
    named = [
        each for each in requests if each.get("AccessionNumber") and each.get("StudyInstanceUID")
    ]
    where = "ReferencedRequestSequence"
    return Result(where, () if named else ("names no accession" if requests else "is missing",))


def _order_numbers(root: Content) -> Result:
    """Check that each request has its order's attributes of type 2, with or without a value."""
    requests = root.item.get("ReferencedRequestSequence") or []
    missing = sorted({key for each in requests for key in ORDER_NUMBERS if key not in each})
    filled = sum(bool(each.get(key)) for each in requests for key in ORDER_NUMBERS)
    return Result(f"{len(requests)} requests, {filled} numbers", tuple(missing))


def _root(root: Content) -> Result:
    template = root.item.get("ContentTemplateSequence")
    number = str(template[0].get("TemplateIdentifier") or "") if template else ""
    fine = number == "1500" and root.concept == REPORT
    return Result("1", () if fine else (f"template {number or 'none'}, concept {root.concept}",))


def _has(concept: str) -> Callable[[Content], Result]:
    def check(root: Content) -> Result:
        found = saying(root, concept)
        return Result(found[0].place if found else "1", () if found else ("there is none",))

    return check


def _device(root: Content) -> Result:
    types = [
        c
        for c in root.named(OBSERVER_TYPE)
        if code_of(c.item, "ConceptCodeSequence", SCHEME) == _DEVICE
    ]
    uids = saying(root, DEVICE_UID)
    missing = [what for what, there in (("type Device", types), ("UID", uids)) if not there]
    where = ", ".join(each.place for each in (*types, *uids)) or "1"
    return Result(where, tuple(f"no observer {what}" for what in missing))


def _tracked(root: Content) -> Result:
    return _each(
        "groups", _groups(root), lambda g: bool(saying(g, TRACKING) and saying(g, TRACKING_UID))
    )


def _own_tracking(root: Content) -> Result:
    uids = [str(t.item.get("UID")) for g in _groups(root) for t in g.named(TRACKING_UID)]
    twice = len(uids) - len(set(uids))
    return Result(f"{len(uids)} UIDs", (f"{twice} used twice",) if twice else ())


def _finding(root: Content) -> Result:
    return _each("groups", _groups(root), lambda g: bool(saying(g, FINDING)))


def _algorithm(root: Content) -> Result:
    def named(group: Content) -> bool:
        return bool(saying(group, ALGORITHM) and saying(group, ALGORITHM_VERSION))

    return _each("groups", _groups(root), named)


def _numbers(root: Content) -> Result:
    def whole(content: Content) -> bool:
        values = content.item.get("MeasuredValueSequence") or []
        why_none = code_of(content.item, "NumericValueQualifierCodeSequence")
        return (
            bool(code_of(content.item, "ConceptNameCodeSequence"))
            and bool(values or why_none)
            and all(
                value.get("NumericValue") is not None
                and code_of(value, "MeasurementUnitsCodeSequence", "UCUM")
                for value in values
            )
        )

    numbers = [c for c in root.walk() if c.item.get("ValueType") == "NUM"]
    return _each("measurements", numbers, whole)


def _evaluations(root: Content) -> Result:
    coded = [
        c
        for group in _groups(root)
        for c in group.children
        if c.item.get("ValueType") == "CODE"
        and c.item.get("RelationshipType") == "CONTAINS"
        and c.concept != FINDING  # has an item of its own
    ]

    def whole(content: Content) -> bool:
        return bool(code_of(content.item, "ConceptNameCodeSequence")) and says(content)

    return _each("coded values", coded, whole)


def _regions(root: Content) -> Result:
    regions = [c for c in root.walk() if c.item.get("ValueType") == "SCOORD3D"]

    def placed(content: Content) -> bool:
        found, kind = content.item.get("GraphicData"), content.item.get("GraphicType")
        data = list(found) if isinstance(found, Sequence) else []
        closed = kind != "POLYGON" or (len(data) >= _POLYGON_VALUES and data[:3] == data[-3:])
        framed = is_uid(str(content.item.get("ReferencedFrameOfReferenceUID") or ""))
        return bool(framed and kind and data and len(data) % 3 == 0 and closed)

    return _each("regions", regions, placed) if regions else Result("no regions")


def _sources(root: Content) -> Result:
    def tied(group: Content) -> bool:
        return any(
            says(c)
            for c in group.children
            if c.item.get("ValueType") == "IMAGE" or c.concept in (REGION, SEGMENT, SOURCE)
        )

    return _each("groups", _groups(root), tied)


def _evidence(root: Content) -> Result:
    named = set(referenced(c.item for c in root.walk()))
    listed = {uid for uid, _ in evidence_of(root.item)}
    missing = named - listed
    faults = [f"{len(missing)} references are no evidence"] if missing else []
    if not named:
        faults.append("there is none")
    return Result(f"{len(named)} references, {len(listed)} instances of evidence", tuple(faults))


def _overlays(root: Content, sop_class: str) -> set[str]:
    """Return the UIDs of the evidence of a class."""
    return {uid for uid, listed in evidence_of(root.item) if listed == sop_class}


def _named(sop_class: str, what: str) -> Callable[[Content], Result]:
    def check(root: Content) -> Result:
        listed = _overlays(root, sop_class)
        if not listed:
            return Result(f"no {what} in the evidence")
        left = len(listed - set(referenced(c.item for c in root.walk())))
        return Result(f"{len(listed)} {what}s", (f"{left} named by no item",) if left else ())

    return check


def _tied(sop_class: str, what: str) -> Callable[[Content], Result]:
    """Check that a measurement of each region names an overlay of a class as its source."""

    def check(root: Content) -> Result:
        listed = _overlays(root, sop_class)
        regions = [g for g in _groups(root) if any(_is_region(c) for c in g.children)]
        if not (listed and regions):
            return Result(f"no {what} in the evidence" if regions else "no regions")

        def tied(group: Content) -> bool:
            sources = (c.item for number in group.children for c in saying(number, SOURCE))
            return not listed.isdisjoint(referenced(sources))

        return _each("regions", regions, tied)

    return check


def _is_region(content: Content) -> bool:
    return content.item.get("ValueType") in ("SCOORD", "SCOORD3D")


def _same_study(root: Content) -> Result:
    studies = {
        str(study.get("StudyInstanceUID"))
        for study in root.item.get("CurrentRequestedProcedureEvidenceSequence") or []
    }
    fine = str(root.item.get("StudyInstanceUID")) in studies
    return Result(f"{len(studies)} studies of evidence", () if fine else ("none is its own",))


def _schemes(root: Content) -> Result:
    used = {
        str(element.value)
        for element in root.item.iterall()
        if element.keyword == "CodingSchemeDesignator"
    }
    private = {scheme for scheme in used if scheme.startswith(_PRIVATE)}
    known = {
        str(item.get("CodingSchemeDesignator"))
        for item in root.item.get("CodingSchemeIdentificationSequence") or []
    }
    missing = sorted(private - known)
    return Result(
        f"{len(private)} private schemes",
        tuple(f"{scheme} is not identified" for scheme in missing),
    )


def _verified(root: Content) -> Result:
    flag = str(root.item.get("VerificationFlag") or "")
    observers = root.item.get("VerifyingObserverSequence") or []
    named = [each for each in observers if str(each.get("VerifyingObserverName") or "").strip("^ ")]
    fine = flag == "UNVERIFIED" or (flag == "VERIFIED" and bool(named))
    return Result(flag or "VerificationFlag", () if fine else ("no verifying observer",))


ITEMS: tuple[Item, ...] = (
    Item("Comprehensive 3D SR", "AIR 6.5.3", _attribute("SOPClassUID", COMPREHENSIVE_3D_SR)),
    Item("root is TID 1500", "AIR 6.5.3, TID 1500", _root),
    Item("complete", "PS3.3 C.17.2", _attribute("CompletionFlag", "COMPLETE")),
    Item("verified by a named observer, or unverified", "PS3.3 C.17.2", _verified),
    Item("language", "TID 1204", _has(LANGUAGE)),
    Item("observer is a device with UID", "TID 1001, 1002, 1004", _device),
    Item("manufacturer", "PS3.3 C.7.5.2", _attribute("Manufacturer")),
    Item("model", "PS3.3 C.7.5.2", _attribute("ManufacturerModelName")),
    Item("serial number", "PS3.3 C.7.5.2", _attribute("DeviceSerialNumber")),
    Item("software version", "PS3.3 C.7.5.2", _attribute("SoftwareVersions")),
    Item("name of the series", "PS3.3 C.7.3.1", _attribute("SeriesDescription")),
    Item("procedure reported", "TID 1500", _has(PROCEDURE)),
    Item("image library", "AIR image references, TID 1600", _library),
    Item("measurement groups", "TID 1500", _measured),
    Item("tracking identifier and UID", "AIR tracking identifiers, TID 1501", _tracked),
    Item("tracking UIDs are not shared", "AIR tracking identifiers", _own_tracking),
    Item("finding of each group", "TID 1501, 1410", _finding),
    Item("algorithm of each group", "TID 4019", _algorithm),
    Item("measurements have name, value, UCUM unit", "AIR measurements, TID 300", _numbers),
    Item("qualitative findings are coded", "AIR qualitative findings, TID 1501", _evaluations),
    Item("regions are closed, with a frame", "AIR locations, regions; TID 1410", _regions),
    Item("each group names image or region", "AIR image references, TID 1501", _sources),
    Item("references are in the evidence", "PS3.3 C.17.2.3", _evidence),
    Item("segmentations are named by items", "AIR regions", _named(SEGMENTATION, "segmentation")),
    Item(
        "parametric maps are named by items",
        "AIR parametric maps",
        _named(PARAMETRIC_MAP, "parametric map"),
    ),
    Item(
        "regions rest on a segmentation",
        "AIR regions; TID 320",
        _tied(SEGMENTATION, "segmentation"),
    ),
    Item(
        "regions rest on a parametric map",
        "AIR parametric maps; TID 320",
        _tied(PARAMETRIC_MAP, "parametric map"),
    ),
    Item("in the study of its evidence", "AIR 6.5.3", _same_study),
    Item("order that it answers", "PS3.3 C.17.2", _request),
    Item("numbers of the order, where known", "PS3.3 C.17.2", _order_numbers),
    Item("private codes are identified", "PS3.3 C.12.1", _schemes),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of each file; return 1 if an item of one does not hold, 2 if it is no SR."""
    parser = argparse.ArgumentParser(
        prog="python -m dicom.air",
        description="Check TID 1500 structured reports against IHE AIR, item by item. "
        "Exit status 1: an item does not hold.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="structured reports")
    status = 0
    for file in parser.parse_args(arguments).files:
        try:
            report = dcmread(file)
        except (InvalidDicomError, OSError) as err:
            sys.stderr.write(f"{file}: no readable DICOM file ({type(err).__name__})\n")
            return 2
        results = check_report(report)
        for line in _table(results):
            sys.stdout.write(f"{line}\n")
        if any(result.faults for _, result in results):
            status = 1
    return status


def _table(results: Sequence[tuple[Item, Result]]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("item", "source", "holds", "where")]
    for item, result in results:
        where = ": ".join(each for each in (result.where, ", ".join(result.faults)) if each)
        rows.append((item.name, item.source, "no" if result.faults else "yes", where))
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)]
        yield "  ".join(cells).rstrip()
    kept = sum(not result.faults for _, result in results)
    yield f"{kept} of {len(results)} items hold"


if __name__ == "__main__":
    sys.exit(main())
