"""SR: valid, readable, in place on the slide, and marked as for research use."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.judges import dicom_errors, require_judge
from fixtures.slide_objects import (
    ALGORITHM,
    SCANNED,
    her2_label_map,
    identity,
    intensity_map,
    report,
    report_facts,
    segmentation,
    write_svs,
)
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from dicom import codes
from dicom.errors import ObjectError
from dicom.placement import to_frame_of_reference
from dicom.report_facts import CorrectionFacts, RoiFacts, VerifierFacts
from dicom.source import convert_slide, read_headers
from dicom.specimens import specimen_of_block

Save = Callable[[Dataset], Path]


def dump(path: Path) -> str:
    """Text of a report as dcmtk shows it, UTF-8."""
    command = [require_judge("dsrdump"), "+Pl", "+U8", str(path)]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def items(node: Dataset) -> list[Dataset]:
    """All content items below `node`, in order."""
    below = list(node.get("ContentSequence") or [])
    return [found for item in below for found in (item, *items(item))]


def named(node: Dataset, name: Code) -> list[Dataset]:
    names = [(item, item.get("ConceptNameCodeSequence")) for item in items(node)]
    return [item for item, found in names if found and found[0].CodeValue == name.value]


@pytest.fixture
def made(
    he_images: list[Dataset], ihc_images: list[Dataset], save: Save
) -> Callable[..., tuple[Dataset, Path]]:
    def make(**changes: Any) -> tuple[Dataset, Path]:
        segs = segmentation(ihc_images, her2_label_map())
        dataset = report(he_images, ihc_images, segs, report_facts(**changes))
        return dataset, save(dataset)

    return make


@pytest.mark.parametrize("score", ["0", "1+", "2+", "3+"])
def test_score_is_coded_and_readable(score: str, made: Callable[..., Any]) -> None:
    _, path = made(said=score, score=codes.SCORES[score])
    assert dicom_errors(path) == []
    dataset = dcmread(path)
    coded = named(dataset, codes.HER2_SCORE)
    assert {c.ConceptCodeSequence[0].CodeValue for c in coded if "ConceptCodeSequence" in c} == {
        codes.SCORES[score].value
    }
    assert dataset.SeriesDescription == f"HER2 {score} (research use only)"
    text = dump(path)
    assert f'{codes.SCORES[score].value},LN,"{score}"' in text


def test_report_tells_people_what_they_need(made: Callable[..., Any]) -> None:
    _, path = made()
    text = dump(path)
    for words in (
        "For research use only",
        "2018, affirmed 2023",
        "The registration error is 31 µm, ≥ 30 µm.",
        "ISH is needed",
        ALGORITHM.weights_sha256,
        "Tandem HER2",
        "PRELIMINARY",
        "UNVERIFIED",
        "COMPLETE",
    ):
        assert words in text, words
    dataset = dcmread(path)
    assert (dataset.CompletionFlag, dataset.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "research use only" in dataset.SeriesDescription
    share = named(dataset, codes.TUMOR_SHARE["2+"])[0].MeasuredValueSequence[0]
    assert float(share.NumericValue) == 65.5
    assert named(dataset, codes.H_SCORE)[0].MeasuredValueSequence[0].NumericValue == 164.5
    assert named(dataset, codes.PAPER_SCORE)[0].ConceptCodeSequence[0].CodeValue == "LA11843-2"


def test_a_category_stands_beside_the_score(made: Callable[..., Any]) -> None:
    category = "positive after retest and ISH"
    _, path = made(said="3+", score=codes.SCORES["3+"], category=category)
    assert dicom_errors(path) == []
    dataset = dcmread(path)
    assert dataset.SeriesDescription == f"HER2 3+, {category} (research use only)"
    assert len(dataset.SeriesDescription) <= 64  # LO


def test_a_long_name_of_a_score_leaves_the_notice_its_room(made: Callable[..., Any]) -> None:
    _, path = made(title="Claudin 18.2, clone 43-14A", category="positive after retest and ISH")
    assert dicom_errors(path) == []
    description = dcmread(path).SeriesDescription
    assert description.startswith("Claudin 18.2, clone 43-14A 2+, positive")
    assert description.endswith(" (research use only)") and len(description) == 64


def test_content_is_written_in_its_order(made: Callable[..., Any]) -> None:
    """Names, values and units are the assay's; the score comes first of what is evaluated."""
    measurements = [
        (codes.H_SCORE, 12.5, codes.NO_UNITS),
        (codes.COMPLETENESS["3+"], 93.5, codes.PERCENT),
        (codes.COMPLETE_INTENSE_SHARE, 3.2, codes.PERCENT),
    ]
    low = codes.LOW_CLASSES["HER2-low"]
    texts = [(codes.RULE, "weak staining"), (codes.CATEGORY, "equivocal"), (codes.RULE, "again")]
    _, path = made(
        measurements=measurements,
        evaluations=[(codes.LOW_CLASS, low)],
        texts=texts,
        rois=[],
        opinions=[],
    )
    assert dicom_errors(path) == []
    found = items(dcmread(path))
    # Those of the image library are sizes of images.
    numbers = [i for i in found if i.ValueType == "NUM" and i.RelationshipType == "CONTAINS"]
    assert [
        (item.ConceptNameCodeSequence[0].CodeValue, float(measured.NumericValue), unit.CodeValue)
        for item in numbers
        for measured in item.MeasuredValueSequence
        for unit in measured.MeasurementUnitsCodeSequence
    ] == [(name.value, value, unit.value) for name, value, unit in measurements]
    coded = [
        (item.ConceptNameCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeValue)
        for item in found
        if item.ValueType == "CODE"
    ]
    at = coded.index((codes.HER2_SCORE.value, codes.SCORES["2+"].value))
    assert coded[at + 1] == (codes.LOW_CLASS.value, low.value)
    (private,) = named(dcmread(path), codes.LOW_CLASS)
    assert private.ConceptCodeSequence[0].CodingSchemeDesignator == "99TANDEM"
    names = {name.value for name, _ in texts}
    assert [
        item.TextValue
        for item in found
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue in names
    ] == [text for _, text in texts]


def test_the_specimen_is_the_slides(made: Callable[..., Any], ihc_images: list[Dataset]) -> None:
    dataset, _ = made()
    uids = [item.UID for item in items(dataset) if item.ValueType == "UIDREF"]
    assert ihc_images[0].SpecimenDescriptionSequence[0].SpecimenUID in uids
    assert ihc_images[0].ContainerIdentifier in {
        item.TextValue for item in items(dataset) if item.ValueType == "TEXT"
    }


@pytest.mark.parametrize(
    ("identifier", "block", "is_of_it"),
    [
        ("S26-0042-A1-HER2", "A1", True),
        ("s26/0042 Block A-01", "A1", True),
        ("S26-0042;A1;2", "A1", True),
        ("a 1", "A1", True),
        ("S26-0042-1-2", "1", True),
        ("S26-0042-1A", "1A", True),
        ("S26-0042-A1-A3", "A1", True),
        ("S26-0042-A1-A3", "A2", False),
        ("S26-0042-A10", "A1", False),
        ("S26-0042-A2", "A1", False),
        ("S26-0042-B1-A1", "A1", False),
        ("S26-0042-S1", "A1", False),
        ("S26-00421-A1", "A1", False),
        ("S26-0099-A1", "A1", False),
        ("S26-0042-A", "A1", False),
        ("S26-0042", "A1", False),
        ("1", "1", False),  # the number of the specimen, perhaps
        ("", "A1", False),
    ],
)
def test_of_several_specimens_the_one_that_names_the_block_is_the_slides(
    identifier: str, block: str, is_of_it: bool
) -> None:
    """One that is alone is it, whatever it is called, also where no accession is known."""
    header, own, other = Dataset(), Dataset(), Dataset()
    own.SpecimenIdentifier, other.SpecimenIdentifier = identifier, "CTRL-07"
    assert specimen_of_block(header, "S26-0042", block) is None
    header.SpecimenDescriptionSequence = [own]
    for accession in ("S26-0042", "S26-0099", ""):
        assert specimen_of_block(header, accession, block) is own
    header.SpecimenDescriptionSequence = [other, own]
    assert specimen_of_block(header, "S26-0042", block) is (own if is_of_it else None)
    assert specimen_of_block(header, "", block) is None


def test_a_correction_names_who_and_why_and_its_predecessor(
    made: Callable[..., Any], he_images: list[Dataset], ihc_images: list[Dataset], save: Save
) -> None:
    first, _ = made()
    facts = report_facts(
        said="1+",
        score=codes.SCORES["1+"],
        texts=[(codes.CORRECTION, "Cytoplasmic staining only.")],
        correction=CorrectionFacts(by="Müller^Jörg", why="Cytoplasmic staining only.", was="2+"),
    )
    segs = segmentation(ihc_images, her2_label_map())
    second = report(he_images, ihc_images, segs, facts, predecessors=[first])
    path = save(second)
    assert dicom_errors(path) == []
    text = dump(path)
    for words in (
        "Cytoplasmic staining only.",
        "Müller^Jörg",
        "UNVERIFIED",
    ):
        assert words in text, words
    (study,) = dcmread(path).PredecessorDocumentsSequence
    (instance,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID


def test_people_who_stand_for_a_report_verify_it(
    made: Callable[..., Any], ihc_images: list[Dataset], save: Save
) -> None:
    """Corrector and confirmer, one of them with a family name alone, and the slide's time zone."""
    ihc_images[0].TimezoneOffsetFromUTC = "-0330"
    people = [
        VerifierFacts(by="Müller^Jörg", organization="Lab Ω", at=SCANNED),
        VerifierFacts(by="Bono", organization="", at=SCANNED + timedelta(days=1)),
    ]
    _, path = made(
        correction=CorrectionFacts(by="Müller^Jörg", why="Looked.", was="1+"), verifiers=people
    )
    assert dicom_errors(path) == []
    text = dump(path)
    for words in ("COMPLETE", "FINAL", "VERIFIED", "Müller^Jörg", "Bono", "Lab Ω", "Verifying"):
        assert words in text, words
    assert "UNVERIFIED" not in text
    written = dcmread(path)
    assert [
        (str(each.VerifyingObserverName), str(each.VerifyingOrganization))
        for each in written.VerifyingObserverSequence
    ] == [("Müller^Jörg", "Lab Ω"), ("Bono", "not stated")]
    times = [
        datetime.strptime(str(each.VerificationDateTime), "%Y%m%d%H%M%S%z")
        for each in written.VerifyingObserverSequence
    ]
    assert times == [person.at for person in people]
    assert {each.utcoffset() for each in times} == {-timedelta(hours=3, minutes=30)}
    # Who gave the score has no part but that; who confirmed it verified.
    roles = named(written, Code("121011", "DCM", ""))
    assert [role.ConceptCodeSequence[0].CodeValue for role in roles] == [codes.VERIFYING.value]
    owners = named(written, Code("121009", "DCM", ""))
    assert [owner.TextValue for owner in owners] == ["Lab Ω"]


def test_unscored_case_is_indeterminate(made: Callable[..., Any]) -> None:
    _, path = made(said=None, score=codes.INDETERMINATE, evaluations=[], measurements=[], rois=[])
    assert dicom_errors(path) == []
    assert dcmread(path).SeriesDescription == "HER2 not scored (research use only)"
    text = dump(path)
    assert '82334004,SCT,"Indeterminate"' in text


def test_rois_lie_on_the_slide(made: Callable[..., Any], ihc_images: list[Dataset]) -> None:
    dataset, _ = made()
    base = ihc_images[0]
    regions = [item for item in items(dataset) if item.ValueType == "SCOORD3D"]
    assert len(regions) == 1
    assert regions[0].ReferencedFrameOfReferenceUID == base.FrameOfReferenceUID
    points = np.array(regions[0].GraphicData, dtype=float).reshape(-1, 3)
    assert np.array_equal(points[0], points[-1])
    origin = base.TotalPixelMatrixOriginSequence[0]
    x = float(origin.XOffsetInSlideCoordinateSystem)
    y = float(origin.YOffsetInSlideCoordinateSystem)
    # Orientation 0\-1\0\-1\0\0: along a row -y, down a column -x; the first px's center is origin.
    half_px = 0.000125
    expected = [x - 0.060 + half_px, y - 0.050 + half_px, 0]
    assert points[0] == pytest.approx(expected, abs=1e-6)
    area = named(dataset, codes.AREA)[0].MeasuredValueSequence[0]
    assert float(area.NumericValue) == pytest.approx(0.01)
    shares = named(dataset, codes.TUMOR_SHARE["2+"])  # of the slide, of the ROI
    assert [s.MeasuredValueSequence[0].NumericValue for s in shares] == [65.5, 80.0]


def test_frame_of_reference_agrees_with_highdicom(ihc_images: list[Dataset]) -> None:
    """An independent reckoning of the same point, on pixels that are not quite square."""
    from highdicom.spatial import PixelToReferenceTransformer

    base = ihc_images[0]
    measures = base.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [0.000249, 0.000251]
    origin = base.TotalPixelMatrixOriginSequence[0]
    transformer = PixelToReferenceTransformer(
        image_position=[
            float(origin.XOffsetInSlideCoordinateSystem),
            float(origin.YOffsetInSlideCoordinateSystem),
            0.0,
        ],
        image_orientation=[float(v) for v in base.ImageOrientationSlide],
        pixel_spacing=[0.000249, 0.000251],
    )
    px = np.array([[0, 0], [1399, 0], [700, 1099]])
    ours = to_frame_of_reference((px + 0.5) * 0.25, base)
    assert ours == pytest.approx(transformer(px), abs=1e-7)


def test_report_refers_to_slides_and_segmentations(
    made: Callable[..., Any], he_images: list[Dataset], ihc_images: list[Dataset]
) -> None:
    dataset, _ = made()
    referenced = {
        instance.ReferencedSOPInstanceUID
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in dataset.get(keyword, [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    segs = segmentation(ihc_images, her2_label_map())
    assert referenced == {d.SOPInstanceUID for d in (*he_images, *ihc_images, *segs)}


def test_a_negative_nucleus_is_no_negative_slide() -> None:
    """Classes of nuclei have names of a slide's status; only a question for it has such codes."""
    assert codes.opinion_class("negative", "status") == codes.STATUSES["negative"]
    assert codes.opinion_class("negative", "score").scheme_designator == "99TANDEM"
    assert codes.opinion_class("2+", "score") == codes.SCORES["2+"]


def test_each_readers_opinion_is_coded_with_its_own_algorithm(made: Callable[..., Any]) -> None:
    """Reader by reader: question, answer, shares of classes, certainty, network, slide."""
    nothing = replace(report_facts().opinions[1], reader="plain", shares=(("0", 0.0), ("3+", 0.0)))
    _, path = made(opinions=[*report_facts().opinions, nothing])
    assert dicom_errors(path) == []
    read = dcmread(path)
    tumor, stain, silent = (
        group
        for group in named(read, Code("125007", "DCM", ""))
        if named(group, codes.OPINION_ABOUT)
    )
    other = codes.opinion_class("other", "tumor")
    for group, question, answer, network, version in (
        (tumor, codes.OPINION_QUESTIONS["tumor"], other, "C: ViT", "2.0"),
        (stain, codes.OPINION_QUESTIONS["score"], codes.SCORES["2+"], "M: SegFormer", "1.0"),
        (silent, codes.OPINION_QUESTIONS["score"], codes.INDETERMINATE, "M: SegFormer", "1.0"),
    ):
        assert coded(group, codes.OPINION_ABOUT) == question
        assert coded(group, codes.OPINION) == answer
        (name,) = named(group, Code("111001", "DCM", ""))
        (stated,) = named(group, Code("111003", "DCM", ""))
        assert (name.TextValue, stated.TextValue) == (f"Tandem {network}", version)
        (weights,) = named(group, Code("111002", "DCM", ""))
        assert ALGORITHM.weights_sha256 in weights.TextValue
    assert shares_in(tumor) == {"class-other": 70.0, "class-tumor": 30.0}
    assert shares_in(stain) == dict(
        zip([code.value for code in codes.SCORES.values()], (10.0, 20.0, 65.5, 4.5), strict=True)
    )
    assert shares_in(silent) == {}
    (certainty,) = named(tumor, codes.CERTAINTY)
    assert certainty.MeasuredValueSequence[0].NumericValue == 94
    assert not named(stain, codes.CERTAINTY)
    he, ihc = (
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for group in (tumor, stain)
        for item in named(group, Code("121112", "DCM", ""))
    )
    assert (
        he
        != ihc
        == named(silent, Code("121112", "DCM", ""))[0]
        .ReferencedSOPSequence[0]
        .ReferencedSOPInstanceUID
    )


def coded(group: Dataset, name: Code) -> Code:
    (item,) = named(group, name)
    found = item.ConceptCodeSequence[0]
    return Code(found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning)


def shares_in(group: Dataset) -> dict[str, float]:
    """Shares of an opinion by the code values of their classes."""
    return {
        coded(number, codes.OPINION_CLASS).value: float(
            number.MeasuredValueSequence[0].NumericValue
        )
        for number in named(group, codes.OPINION_SHARE)
    }


def test_measurements_of_a_region_name_the_overlays_that_they_rest_on(
    he_images: list[Dataset], ihc_images: list[Dataset], save: Save
) -> None:
    segs, maps = segmentation(ihc_images, her2_label_map()), intensity_map(ihc_images)
    path = save(report(he_images, ihc_images, segs, heatmaps=maps))
    assert dicom_errors(path) == []
    read = dcmread(path)
    of_slide, of_region = named(read, codes.TUMOR_SHARE["2+"])
    (intensity,) = named(read, codes.STAIN_INTENSITY)
    for number in (of_slide, of_region):
        (source,) = number.ContentSequence
        (reference,) = source.ReferencedSOPSequence
        assert source.RelationshipType == "INFERRED FROM"
        assert reference.ReferencedSOPInstanceUID == segs[0].SOPInstanceUID
        assert segs[0].SegmentSequence[reference.ReferencedSegmentNumber - 1].SegmentLabel == (
            "HER2 2+"
        )
    (reference,) = intensity.ContentSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == maps[0].SOPInstanceUID
    assert "ReferencedSegmentNumber" not in reference


def test_the_library_of_images_states_the_modality_of_each(
    ihc_images: list[Dataset], save: Save
) -> None:
    maps = intensity_map(ihc_images)

    def listed(**changes: Any) -> set[str]:
        made = report([], ihc_images, [], report_facts(**changes), heatmaps=maps)
        assert dicom_errors(save(made)) == []
        return {coded(each, codes.MODALITY).value for each in images(made, maps[0])}

    def images(made: Dataset, image: Dataset) -> list[Dataset]:
        uid = image.SOPInstanceUID
        found = [each for each in items(made) if "ReferencedSOPSequence" in each]
        named = [each for each in found if each.get("ContentSequence")]
        return [e for e in named if e.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid]

    assert listed() == {maps[0].Modality} == {"OT"}
    assert listed(described_as_before=True) == {"SM"}


def test_report_lies_in_the_ihc_slides_study(ihc_images: list[Dataset], tmp_path: Path) -> None:
    """Scanners open a study per slide; the report belongs to the slide that it scores."""
    slide = write_svs(tmp_path / "he.svs", seed=1)
    elsewhere = identity("HE", uid="2.25.7002")
    he = read_headers(convert_slide(slide, tmp_path, elsewhere, mpp=0.25).paths)
    dataset = report(he, ihc_images, segmentation(ihc_images, her2_label_map()))
    assert dataset.StudyInstanceUID == ihc_images[0].StudyInstanceUID


def test_equal_facts_are_equal_bytes(made: Callable[..., Any]) -> None:
    first, path = made()
    content = path.read_bytes()
    again, path = made()
    assert path.read_bytes() == content
    changed, _ = made(measurements=[(codes.H_SCORE, 165.0, codes.NO_UNITS)])
    assert changed.SOPInstanceUID != first.SOPInstanceUID == again.SOPInstanceUID


def test_names_and_texts_survive_a_latin1_slide(
    he_images: list[Dataset], ihc_images: list[Dataset], save: Save, tmp_path: Path
) -> None:
    """Texts of ours need UTF-8 even where the scanner wrote Latin-1."""
    scanned = []
    for number, image in enumerate((he_images[0], ihc_images[0])):
        image.SpecificCharacterSet = "ISO_IR 100"
        image.PatientName = "Müller^Jörg"
        image.SpecimenDescriptionSequence[0].SpecimenShortDescription = "Blöck"
        file = tmp_path / f"{number}.dcm"
        image.save_as(file, enforce_file_format=True)
        scanned += read_headers([file])
    he, ihc = scanned
    segs = segmentation([ihc], her2_label_map())
    paths = [save(d) for d in (*segs, report([he], [ihc], segs))]
    assert [dicom_errors(path) for path in paths] == [[] for _ in paths]
    written = [dcmread(path) for path in paths]
    assert {str(dataset.PatientName) for dataset in written} == {"Müller^Jörg"}
    overlay = written[0].SpecimenDescriptionSequence[0]
    assert overlay.SpecimenShortDescription == "Blöck"
    assert "≥ 30 µm" in dump(paths[-1])


def test_a_careless_export_without_type_2_attributes(
    he_images: list[Dataset], ihc_images: list[Dataset], save: Save, tmp_path: Path
) -> None:
    scanned = []
    for number, image in enumerate((he_images[0], ihc_images[0])):
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"):
            del image[keyword]
        image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        scanned += read_headers([tmp_path / f"{number}.dcm"])
    he, ihc = scanned
    segs = segmentation([ihc], her2_label_map())
    paths = [save(d) for d in (*segs, report([he], [ihc], segs))]
    assert [dicom_errors(path) for path in paths] == [[] for _ in paths]
    assert {dcmread(path).PatientID for path in paths} == {""}


def test_another_name_of_the_score_is_the_only_one(made: Callable[..., Any]) -> None:
    dataset, path = made(score_name=codes.HER2_IN_TISSUE)
    assert dicom_errors(path) == []
    assert not named(dataset, codes.HER2_SCORE)
    assert named(dataset, codes.HER2_IN_TISSUE)[-1].ConceptCodeSequence[0].CodeValue == "LA11842-4"
    assert codes.HER2_SCORE.value not in dump(path)


def test_another_assay_is_called_by_its_title(made: Callable[..., Any]) -> None:
    name = Code("10480-2", "LN", "Estrogen+Progesterone receptor Ag [Presence] in Tissue")
    value = Code("10828004", "SCT", "Positive")
    dataset, path = made(title="ER", said="80 %", score_name=name, score=value)
    assert dicom_errors(path) == []
    assert dataset.SeriesDescription == "ER 80 % (research use only)"
    assert "ER A1" in dump(path)
    assert named(dataset, name)[-1].ConceptCodeSequence[0].CodeValue == "10828004"
    assert not named(dataset, codes.HER2_SCORE)


def test_report_on_scanner_dicom(real: Path, save: Save) -> None:
    headers = read_headers([real / "slides" / "sm_image.dcm"])
    labels = np.ones((25, 25), dtype=np.uint8)
    segs = segmentation(headers, labels, mpp=0.998)
    assert dicom_errors(save(report(headers, headers, segs))) == []


def test_an_outline_that_is_no_polygon_is_refused(made: Callable[..., Any]) -> None:
    with pytest.raises(ObjectError, match="no polygon"):
        made(rois=[RoiFacts(outline_um=np.zeros((2, 2)), measurements=[])])
