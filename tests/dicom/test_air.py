"""Check of a report against IHE AIR: ours holds every item, and each fault is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.slide_objects import her2_label_map, intensity_map, report, segmentation
from pydicom import Dataset

from dicom.air import PARAMETRIC_MAP, SEGMENTATION, check_report, main
from dicom.header import read_headers


@pytest.fixture(scope="module")
def made(he: list[Path], ihc: list[Path]) -> Dataset:
    slide = read_headers(ihc)
    segmentations = segmentation(slide, her2_label_map())
    return report(read_headers(he), slide, segmentations, heatmaps=intensity_map(slide))


def group(report: Dataset, number: int) -> Dataset:
    """Return a measurement group."""
    (groups,) = (c for c in report.ContentSequence if code(c) == "126010")
    found: Dataset = groups.ContentSequence[number]
    return found


def code(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def without(item: Dataset, concept: str) -> None:
    item.ContentSequence = [each for each in item.ContentSequence if code(each) != concept]


def open_outline(report: Dataset) -> None:
    (region,) = (c for c in group(report, 1).ContentSequence if "GraphicData" in c)
    region.GraphicData = list(region.GraphicData)[:-3]


def other_unit(report: Dataset) -> None:
    number = next(c for c in group(report, 0).ContentSequence if c.ValueType == "NUM")
    units = number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence
    units[0].CodingSchemeDesignator = "99LAB"


def fewer_evidence(report: Dataset) -> None:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    study.ReferencedSeriesSequence = study.ReferencedSeriesSequence[:1]


def without_sources(report: Dataset, sop_class: str) -> None:
    """Take the references to a class of overlays from the region's measurements."""
    for number in group(report, 1).ContentSequence:
        number.ContentSequence = [
            each
            for each in number.get("ContentSequence", [])
            if each.ReferencedSOPSequence[0].ReferencedSOPClassUID != sop_class
        ]


def unnamed(report: Dataset, sop_class: str) -> None:
    """Take all references to a class of overlays from the content; the evidence stays."""
    for item in [report, *report.ContentSequence, *walk(report)]:
        if "ContentSequence" in item:
            item.ContentSequence = [
                each for each in item.ContentSequence if not names(each, sop_class)
            ]


def walk(item: Dataset) -> list[Dataset]:
    return [found for each in item.get("ContentSequence", []) for found in (each, *walk(each))]


def names(item: Dataset, sop_class: str) -> bool:
    found = item.get("ReferencedSOPSequence") or []
    return any(each.ReferencedSOPClassUID == sop_class for each in found)


FAULTS: dict[str, Callable[[Dataset], object]] = {
    "Comprehensive 3D SR": lambda r: setattr(r, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.33"),
    "root is TID 1500": lambda r: delattr(r, "ContentTemplateSequence"),
    "verified by a named observer, or unverified": lambda r: setattr(
        r, "VerificationFlag", "VERIFIED"
    ),
    "observer is a device with UID": lambda r: without(r, "121012"),
    "image library": lambda r: without(r, "111028"),
    "tracking identifier and UID": lambda r: without(group(r, 0), "112040"),
    "tracking UIDs are not shared": lambda r: group(r, 1).ContentSequence.append(
        next(c for c in group(r, 0).ContentSequence if code(c) == "112040")
    ),
    "algorithm of each group": lambda r: without(group(r, 1), "111001"),
    "measurements have name, value, UCUM unit": other_unit,
    "regions are closed, with a frame": open_outline,
    "references are in the evidence": fewer_evidence,
    "order that it answers": lambda r: delattr(r, "ReferencedRequestSequence"),
    "numbers of the order, where known": lambda r: delattr(
        r.ReferencedRequestSequence[0], "FillerOrderNumberImagingServiceRequest"
    ),
    "segmentations are named by items": lambda r: unnamed(r, SEGMENTATION),
    "parametric maps are named by items": lambda r: unnamed(r, PARAMETRIC_MAP),
    "regions rest on a segmentation": lambda r: without_sources(r, SEGMENTATION),
    "regions rest on a parametric map": lambda r: without_sources(r, PARAMETRIC_MAP),
    "private codes are identified": lambda r: delattr(r, "CodingSchemeIdentificationSequence"),
}
VALUES = ("TextValue", "UID", "ConceptCodeSequence", "ReferencedSOPSequence")
"""Attributes that hold what a content item says."""


def child(item: Dataset, concept: str) -> Dataset:
    found: Dataset = next(each for each in item.ContentSequence if code(each) == concept)
    return found


def emptied(item: Dataset) -> None:
    """Take from a content item, and from all below it, what it says; the item stays."""
    for each in item.get("ContentSequence", []):
        emptied(each)
    for keyword in VALUES:
        if keyword in item:
            delattr(item, keyword)


def emptied_evaluation(report: Dataset) -> None:
    emptied(next(c for c in group(report, 0).ContentSequence if code(c) == "paper-score"))


def emptied_number(report: Dataset) -> None:
    number = next(c for c in group(report, 0).ContentSequence if c.ValueType == "NUM")
    del number.MeasuredValueSequence


def corner_alone(report: Dataset) -> None:
    region = next(c for c in group(report, 1).ContentSequence if "GraphicData" in c)
    region.GraphicData = list(region.GraphicData)[:3]


def nobody(report: Dataset) -> None:
    report.VerificationFlag, report.VerifyingObserverSequence = "VERIFIED", [Dataset()]


EMPTIED: dict[str, Callable[[Dataset], object]] = {
    "complete": lambda r: setattr(r, "CompletionFlag", ""),
    "verified by a named observer, or unverified": nobody,
    "language": lambda r: emptied(child(r, "121049")),
    "observer is a device with UID": lambda r: setattr(child(r, "121012"), "UID", ""),
    "manufacturer": lambda r: setattr(r, "Manufacturer", " "),
    "procedure reported": lambda r: emptied(child(r, "121058")),
    "image library": lambda r: emptied(child(r, "111028")),
    "measurement groups": lambda r: setattr(child(r, "126010"), "ContentSequence", []),
    "tracking identifier and UID": lambda r: emptied(child(group(r, 0), "112039")),
    "finding of each group": lambda r: emptied(child(group(r, 0), "121071")),
    "algorithm of each group": lambda r: emptied(child(group(r, 0), "111003")),
    "measurements have name, value, UCUM unit": emptied_number,
    "qualitative findings are coded": emptied_evaluation,
    "regions are closed, with a frame": corner_alone,
    "each group names image or region": lambda r: emptied(child(group(r, 0), "121112")),
    "order that it answers": lambda r: setattr(
        r.ReferencedRequestSequence[0], "AccessionNumber", ""
    ),
}
"""Faults of reports whose items are there and say nothing."""
BESIDE = {
    "image library": {"segmentations are named by items"},
    "segmentations are named by items": {"regions rest on a segmentation"},
    "parametric maps are named by items": {"regions rest on a parametric map"},
    "measurements have name, value, UCUM unit": {"private codes are identified"},
}
"""Other items that a fault breaks, too."""


def test_our_report_holds_every_item(
    made: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [item.name for item, result in check_report(made) if result.faults] == []
    made.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert main([str(tmp_path / "sr.dcm")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["item", "source", "holds", "where"]
    assert lines[-1] == f"{len(lines) - 2} of {len(lines) - 2} items hold"


@pytest.mark.parametrize("name", list(FAULTS))
def test_each_fault_is_found(name: str, made: Dataset) -> None:
    broken = copy.deepcopy(made)
    FAULTS[name](broken)
    found = {item.name for item, result in check_report(broken) if result.faults}
    assert found == {name} | BESIDE.get(name, set())


@pytest.mark.parametrize("name", list(EMPTIED))
def test_an_item_that_says_nothing_is_found(name: str, made: Dataset) -> None:
    broken = copy.deepcopy(made)
    EMPTIED[name](broken)
    found = {item.name for item, result in check_report(broken) if result.faults}
    assert name in found and (
        name == "measurement groups" or found <= {name} | BESIDE.get(name, set())
    )


def test_the_code_of_another_scheme_is_no_name(made: Dataset) -> None:
    broken = copy.deepcopy(made)
    child(group(broken, 0), "121071").ConceptNameCodeSequence[0].CodingSchemeDesignator = "99LAB"
    found = {item.name for item, result in check_report(broken) if result.faults}
    assert "finding of each group" in found


def test_the_exit_status_tells(
    made: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copy.deepcopy(made)
    without(broken, "111028")
    broken.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert main([str(tmp_path / "sr.dcm")]) == 1
    assert "images: there is none" in capsys.readouterr().out
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert main([str(tmp_path / "text.dcm")]) == 2
    assert "no readable DICOM file" in capsys.readouterr().err
