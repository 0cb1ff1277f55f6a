"""Headers as they come: characters, names, dates; what results repeat of them, and what is told.

The rows of ``cases/dicom.md`` that concern headers. ``TANDEM_HEADERS=500`` draws as many headers.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fixtures.headers import LETTERS, Written, legal_headers, put, rewritten
from fixtures.slide_objects import (
    MPP,
    SCANNED,
    her2_label_map,
    identity,
    intensity_map,
    report,
    report_facts,
    segmentation,
    write_svs,
)
from hypothesis import HealthCheck, given, settings
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from appliance.slides.general import pyramid_of
from dicom.characters import CHARACTER_SET, in_unicode
from dicom.encapsulated import build_encapsulated_pdf
from dicom.errors import SourceError
from dicom.header import read_headers, read_volumes, stated_facts, write_header
from dicom.legal import make_legal, told
from dicom.pyramid_source import Pyramid
from dicom.required import fill_required
from dicom.source import convert_slide
from dicom.study import StudyFacts, patient_of, study_of
from dicom.uids import deterministic_uid, is_uid

COUNT = int(os.environ.get("TANDEM_HEADERS", "25"))
OBJECTS = int(os.environ.get("TANDEM_HEADERS", "2"))
"""Headers that are drawn, and those that become objects."""
THREE_GROUPS = "=".join(
    (
        "Yamada-Kobayashi^Tarou Alexander Maria^^Dr.",
        "山田小林^太郎アレク",
        "やまだこばやし^たろうあれくさんだー",
    )
)


def written(terms: tuple[str, ...] = (), **values: Any) -> Dataset:
    """Return a header whose elements are as a file has them."""
    dataset = Dataset()
    dataset.StudyInstanceUID = "1.2.3"
    put(dataset, Written(terms, values))
    return dataset


def again(dataset: Dataset) -> Dataset:
    """Return a data set as it is read after it was written to a file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = BytesIO()
    dataset.save_as(stream)
    stream.seek(0)
    return read_whole(stream)


def read_whole(file: Path | BytesIO) -> Dataset:
    """Read a data set and all its values.

    Without pydicom's check of lengths, which counts the space that pads a text to even length.
    """
    dataset = dcmread(file, force=True, stop_before_pixels=True)
    with disable_value_validation():
        dataset.decode()
    return dataset


@pytest.mark.parametrize("terms", list(LETTERS), ids="\\".join)
def test_every_defined_character_set_is_read(terms: tuple[str, ...]) -> None:
    letters = LETTERS[terms] or "Muster"
    header = written(terms, PatientName=f"Aa^{letters}", StudyDescription=f"x {letters}")
    assert in_unicode(header) == ""
    assert header.SpecificCharacterSet == CHARACTER_SET
    assert (str(header.PatientName), header.StudyDescription) == (f"Aa^{letters}", f"x {letters}")


UTF8, LATIN1 = "Müller^Jörg".encode(), "Müller^Jörg".encode("latin-1")


@pytest.mark.parametrize(
    ("terms", "name", "said"),
    [
        ((), UTF8, "states no character set for letters beyond ASCII; they were read as UTF-8"),
        (("",), LATIN1, "states no character set for letters beyond ASCII; they were read as Lat"),
        (("ISO_IR 100",), UTF8, "not in the character set that it states; they were read as UTF-8"),
        (("ISO_IR 192",), LATIN1, "that it states; they were read as Latin-1: check the names"),
        (("", "ISO 2022 IR 87"), b"M\x1b$B;3E", "they were read as Latin-1"),
        (("ISO-IR 100",), LATIN1, "names its character set as DICOM does not"),
        (("LATIN1 OF MINE",), UTF8, "they were read as UTF-8"),
    ],
)
def test_a_missing_or_wrong_character_set_is_told(
    terms: tuple[str, ...], name: bytes, said: str
) -> None:
    header = written(terms, PatientName=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sentence = in_unicode(header)
    assert said in sentence and sentence.endswith("in the scanner's DICOM export.")
    assert "Müller" not in sentence
    half = "M\x1b$B;3E"  # its escape sequence goes with the control characters
    assert str(header.PatientName) == (half if name.startswith(b"M\x1b") else "Müller^Jörg")


def test_items_may_state_a_character_set_of_their_own() -> None:
    dataset = Dataset()
    put(dataset, Written(("ISO_IR 100",), {"PatientName": "Müller^Jörg"}))
    item = Dataset()
    put(item, Written(("ISO_IR 144",), {"PatientID": "Б-1"}))
    dataset.OtherPatientIDsSequence = [item]
    header = dataset
    assert in_unicode(header) == ""
    assert header.OtherPatientIDsSequence[0].PatientID == "Б-1"
    assert again(header).OtherPatientIDsSequence[0].PatientID == "Б-1"


@pytest.mark.parametrize(
    ("keyword", "given", "kept", "done"),
    [
        ("PatientBirthDate", "1960", None, "leave it out"),
        ("PatientBirthDate", "19600230", None, "leave it out"),
        ("PatientBirthDate", "1960-02-03", "19600203", "carry it corrected"),
        ("PatientBirthDate", "1960.02.03", "19600203", "carry it corrected"),
        ("StudyTime", "09:30:15", "093015", "carry it corrected"),
        ("StudyTime", "25", None, "leave it out"),
        ("PatientSex", "f", "F", "carry it corrected"),
        ("PatientSex", "female", None, "leave it out"),
        ("PatientAge", "65", None, "leave it out"),
        ("PatientSize", "tall", None, "leave it out"),
        ("PatientSize", "1.2345678901234567", "1.23456789012346", "carry it corrected"),
        ("StudyDescription", "x" * 70, "x" * 64, "carry it shortened"),
        ("StudyDescription", "a\x1bb", "ab", "carry it shortened"),
        ("StudyID", "a\\b", "a", "carry it shortened"),
        ("TimezoneOffsetFromUTC", "CET", None, "leave it out"),
        ("PatientSize", "9" * 400, None, "leave it out"),
        ("PatientSize", "1E400", None, "leave it out"),
        ("StudyTime", "0930\n", None, "leave it out"),
        ("AccessionNumber", "S" * 17, None, "leave it out"),
        ("AccessionNumber", "S\\T", None, "leave it out"),
        ("AccessionNumber", "S-1\r", "S-1", "carry it shortened"),
        ("IssuerOfPatientID", "C" * 65, None, "leave it out"),
        ("OtherPatientIDs", f"4711\\{'P' * 65}", None, "leave it out"),
        ("PatientName", "A^B^C^D^E^F=G", "A^B^C^D^E=G", "carry it shortened"),
        ("PatientName", "M" * 70 + "^J=" + "K" * 3, "M" * 64 + "=KKK", "carry it shortened"),
    ],
)
def test_what_dicom_does_not_allow_is_corrected_or_left_out_and_told(
    keyword: str, given: str, kept: str | None, done: str
) -> None:
    header = written(**{keyword: given.encode()})
    in_unicode(header)
    (sentence,) = told(make_legal(header))
    assert f"results {done}. Correct it in the worklist" in sentence
    assert given not in sentence
    value = again(header).get(keyword)
    assert (None if value in (None, "") else str(value)) == kept
    assert make_legal(header) == ()


def test_what_results_must_have_and_the_header_lacks_is_told(
    ihc: list[Path], tmp_path: Path
) -> None:
    def problems(**values: Any) -> list[str]:
        header = dcmread(ihc[0], stop_before_pixels=True)
        (specimen,) = header.SpecimenDescriptionSequence
        for keyword, value in values.items():
            with disable_value_validation():
                setattr(specimen if keyword in specimen else header, keyword, value)
        header.save_as(tmp_path / "header.dcm", enforce_file_format=True)
        return list(stated_facts([tmp_path / "header.dcm"]).problems)

    assert problems() == problems(LossyImageCompression="00") == []
    for lacking, named in (
        ({"ContainerIdentifier": None}, "Container Identifier"),
        ({"SpecimenDescriptionSequence": []}, "Specimen Description Sequence"),
        ({"SpecimenIdentifier": None}, "Specimen Identifier"),
        (
            {"LossyImageCompressionRatio": None, "LossyImageCompressionMethod": None},
            "Lossy Image Compression Ratio, Lossy Image Compression Method",
        ),
    ):
        (sentence,) = problems(**lacking)
        assert f"lacks {named}: results lack that, too" in sentence
        assert sentence.endswith("Complete it in the scanner's DICOM export.")
    (sentence,) = problems(SpecimenUID="1.02.3")
    assert "as Specimen UID: results carry it corrected" in sentence
    unnamed = {"ContainerIdentifier": None, "SpecimenIdentifier": None}
    left_out, sentence = problems(SpecimenUID="1.02.3", **unnamed)
    assert "as Specimen UID: results leave it out" in left_out
    assert "lacks Container Identifier, Specimen Identifier, Specimen UID: results" in sentence


def test_each_of_several_specimens_without_identifier_gets_a_uid_of_its_own(
    ihc_images: list[Dataset],
) -> None:
    (own,) = ihc_images[0].SpecimenDescriptionSequence
    own.SpecimenUID = own.SpecimenIdentifier = None
    alone, header = copy.deepcopy(ihc_images[0]), ihc_images[0]
    header.SpecimenDescriptionSequence = [own, copy.deepcopy(own)]
    again = copy.deepcopy(header)
    assert fill_required(header) == fill_required(again) != fill_required(alone) != ""
    uids = [each.SpecimenUID for each in header.SpecimenDescriptionSequence]
    assert len(set(uids)) == 2 and all(map(is_uid, uids))
    assert fill_required(header) == ""


@pytest.mark.parametrize(
    ("container", "identifier"), [("S26-0042-A1-2", "1"), ("S26-0042", None), (None, "1")]
)
def test_a_specimen_without_uid_gets_that_of_no_other_slide_or_specimen(
    container: str | None, identifier: str | None, ihc_images: list[Dataset]
) -> None:
    """An archive has UIDs that an earlier edition made, also of names that are the case's."""

    def filled(series: str, count: int = 1, *, as_before: bool = False) -> list[str]:
        header = copy.deepcopy(ihc_images[0])
        header.ContainerIdentifier, header.SeriesInstanceUID = container, series
        (own,) = header.SpecimenDescriptionSequence
        own.SpecimenUID, own.SpecimenIdentifier = None, identifier
        header.SpecimenDescriptionSequence = [copy.deepcopy(own) for _ in range(count)]
        fill_required(header, as_before=as_before)
        return [str(each.SpecimenUID) for each in header.SpecimenDescriptionSequence]

    study = str(ihc_images[0].StudyInstanceUID)
    names = "specimen", study, container or "", identifier or ""
    of_before = [deterministic_uid(*names)]
    assert filled("1.2.3", as_before=True) == filled("1.2.4", as_before=True) == of_before
    assert (filled("1.2.3") == of_before) == bool(container and identifier)
    assert (filled("1.2.3") == filled("1.2.4")) == bool(container and identifier)
    assert len(set(filled("1.2.3", 2))) == 2
    places = [()] * 2 if identifier else [("0",), ("1",)]
    of_two = [deterministic_uid(*names, *place) for place in places]
    assert filled("1.2.3", 2, as_before=True) == of_two


@pytest.mark.parametrize("number", [-150, -100, 1, 2_147_483_600, 2**31 - 1])
def test_series_of_any_number_get_overlays(number: int, ihc_images: list[Dataset]) -> None:
    ihc_images[0].SeriesNumber = number
    assert bool(fill_required(ihc_images[0])) == (number != 1)
    made = [segmentation(ihc_images, LABELS, factors=(4,)), intensity_map(ihc_images)]
    found = [int(each.SeriesNumber) for (each,) in made]
    assert all(0 < each < 2**31 for each in found)
    assert found == [101, 151] or number != 1


@pytest.mark.parametrize("number", ["P" * 80, "P\\Q"])
def test_an_identifier_that_no_result_can_carry_is_neither_cut_nor_left_out(
    number: str, ihc: list[Path], tmp_path: Path
) -> None:
    file = rewritten(ihc[0], tmp_path / "a.dcm", Written(values={"PatientID": number.encode()}))
    assert stated_facts([file]).refused == "Patient ID"


def test_another_id_that_is_too_long_is_left_out_and_private_texts_are_not_judged() -> None:
    header = written(OtherPatientIDsSequence=[{"PatientID": "P" * 80}], PatientID="P-1")
    block = header.private_block(0x0011, "LAB", create=True)
    block.add_new(0x01, "LO", "x")
    header[0x0011, 0x1001] = RawDataElement(
        Tag(0x0011, 0x1001), "LO", 2, b"\xff\xfe", 0, False, True, is_raw=True
    )
    assert in_unicode(header) == ""
    (sentence,) = told(make_legal(header))
    assert "as Patient ID: results leave it out" in sentence
    assert header.PatientID == "P-1" and list(header.OtherPatientIDsSequence) == []


def raw(keyword: str, vr: str, value: bytes) -> RawDataElement:
    """Return an element as a file has it."""
    tag = Tag(keyword)
    return RawDataElement(tag, vr, len(value), value, 0, False, True, is_raw=True)


def test_the_rules_are_those_of_the_attribute_whatever_the_file_states_of_it() -> None:
    header = written()
    for keyword, vr, value in (
        ("PatientID", "OB", b"4711"),
        ("PatientName", "LO", b"A^B=C=D=E "),
        ("PatientBirthDate", "LO", b"1960 unknown"),
        ("StudyTime", "FD", bytes(8)),
    ):
        header[keyword] = raw(keyword, vr, value)
    in_unicode(header)
    make_legal(header)
    facts = study_of(header)
    assert (facts.patient_id, facts.patient_name) == ("4711", "A^B=C=D")
    copied = again(header)
    assert (copied.PatientBirthDate, copied["PatientID"].VR) == ("", "LO")


@pytest.mark.parametrize("vr", ["SQ", "UN", "LO"])
def test_a_sequence_that_is_none_is_left_out(vr: str) -> None:
    header = written(PatientID="P-1")
    header["OtherPatientIDsSequence"] = raw("OtherPatientIDsSequence", vr, b"abcd")
    assert in_unicode(header) == ""
    assert patient_of(header)["other_ids"] == ()
    (sentence,) = told(make_legal(header))
    assert "as Other Patient IDs Sequence: results leave it out" in sentence
    assert "OtherPatientIDsSequence" not in header


def test_an_item_whose_code_is_too_long_is_left_out() -> None:
    good, long = {"CodeValue": "P1"}, {"CodeValue": "1234567890123456789"}
    header = written(ProcedureCodeSequence=[good, long])
    outer = Dataset()
    outer.ConceptCodeSequence = copy.deepcopy(header.ProcedureCodeSequence)
    header.ReasonForPerformedProcedureCodeSequence = [outer]
    in_unicode(header)
    make_legal(header)
    (outer,) = header.ReasonForPerformedProcedureCodeSequence
    for items in (header.ProcedureCodeSequence, outer.ConceptCodeSequence):
        assert [item.CodeValue for item in items] == ["P1"]


def test_a_number_that_json_writes_longer_is_written_as_dicom_allows_it() -> None:
    header = written(PatientWeight="1234567890123456")
    in_unicode(header)
    assert make_legal(header) == ()
    written_again = again(study_of(header).further_attributes())
    assert len(str(written_again.PatientWeight)) <= 16


def test_a_name_has_three_groups_of_64_characters() -> None:
    header = written(("ISO_IR 192",), PatientName=THREE_GROUPS)
    in_unicode(header)
    assert make_legal(header) == () and len(THREE_GROUPS) > 64
    facts = study_of(header)
    assert facts.patient_name == THREE_GROUPS
    assert StudyFacts.of_json(facts.as_json()) == facts


Partner = tuple[Path, Pyramid | None]
"""Slide of the other stain, and its levels."""
LABELS = her2_label_map()
FACTS = report_facts(
    measurements=report_facts().measurements[:1],
    texts=report_facts().texts[:1],
    opinions=report_facts().opinions[:1],
)
"""A report with a part of each kind: none of its content depends on the header."""


def all_objects(slide: list[Dataset], partner: Partner, folder: Path) -> list[Dataset]:
    """Write overlays, report, document and the other slide of the study; read them back."""
    segments, heat = segmentation(slide, LABELS, factors=(1,)), intensity_map(slide)
    made = [*segments, *heat, report([], slide, segments, FACTS, heatmaps=heat)]
    made.append(
        build_encapsulated_pdf(
            b"%PDF-1.4\n%%EOF\n",
            assay="HER2",
            ihc_image=slide[0],
            sources=slide,
            created=SCANNED,
            uid_seed="seed",
            software="0.1.0",
        )
    )
    for number, dataset in enumerate(made):
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    other = identity("HE", study=study_of(slide[0]))
    paths = convert_slide(partner[0], folder / "wsm", other, mpp=MPP, pyramid=partner[1]).paths
    return [read_whole(path) for path in (*sorted(folder.glob("[0-9].dcm")), *paths)]


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partner]:
    slide = write_svs(tmp_path_factory.mktemp("partner") / "he.svs", seed=1)
    with pyramid_of(slide) as pyramid:
        yield slide, pyramid


def test_times_are_in_the_zone_that_the_object_states(partner: Partner, tmp_path: Path) -> None:
    facts = {"patient_name": THREE_GROUPS, "zone": "+0530"}
    paths = convert_slide(partner[0], tmp_path, identity("HER2", **facts), mpp=MPP).paths
    slide = read_headers(paths)
    header, result = slide[0], report([], slide, [])
    assert SCANNED.isoformat() == "2026-03-04T05:06:07+00:00"
    assert (header.TimezoneOffsetFromUTC, header.AcquisitionDateTime) == (
        *("+0530", "20260304103607+0530"),
    )
    for made in (header, result):
        assert made.TimezoneOffsetFromUTC == "+0530"
        assert (made.ContentDate, str(made.ContentTime)[:6]) == ("20260304", "103607")
        assert made.PatientName == THREE_GROUPS
        assert (made.StudyDate, str(made.StudyTime)[:6]) == ("20260304", "103607")


@given(drawn=legal_headers())
@settings(max_examples=COUNT, deadline=None)
def test_legal_headers_are_repeated_as_they_are(drawn: Written) -> None:
    header = Dataset()
    put(header, Written(drawn.terms, {"StudyInstanceUID": b"1.2.3", **drawn.values}, drawn.beside))
    assert in_unicode(header) == ""
    assert make_legal(header) == ()
    facts = study_of(header)
    attributes = facts.further_attributes()
    attributes.SpecificCharacterSet = CHARACTER_SET
    repeated = again(attributes)
    for keyword in ("PatientComments", "StudyDescription", "IssuerOfPatientID", "EthnicGroup"):
        if text := drawn.values.get(keyword):
            assert repeated.get(keyword, "") == text.rstrip(), keyword
    assert facts.patient_name == drawn.values.get("PatientName", "").rstrip("=").strip()
    assert facts.patient_id == drawn.values.get("PatientID", "")
    assert facts.zone == drawn.values.get("TimezoneOffsetFromUTC", "")


@given(drawn=legal_headers())
@settings(
    max_examples=OBJECTS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_objects_of_legal_headers_are_written(
    drawn: Written, ihc: list[Path], partner: Partner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("objects")
    values = {"StudyInstanceUID": b"1.2.3", **drawn.values}
    drawn = Written(drawn.terms, values, drawn.beside, drawn.syntax)
    file = rewritten(ihc[0], folder / "slide.dcm", drawn)
    stated = stated_facts([file])
    assert (stated.problems, stated.refused) == ((), "")
    slide = read_headers([file])
    for made in all_objects(slide, partner, folder):
        assert made.SpecificCharacterSet == CHARACTER_SET
        assert made.PatientName == slide[0].PatientName
        assert (made.PatientID or "") == drawn.values.get("PatientID", "")
        assert made.TimezoneOffsetFromUTC == slide[0].TimezoneOffsetFromUTC


def test_a_value_that_cannot_be_repeated_is_named(tmp_path: Path) -> None:
    header = written(AccessionNumber="S26-1")
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.3.4"
    write_header(header, tmp_path / "whole.dcm")
    assert read_whole(tmp_path / "whole.dcm").AccessionNumber == "S26-1"
    with disable_value_validation():
        header.Rows = 70_000  # of two bytes
    with pytest.raises(SourceError, match="repeated: Rows; export") as told:
        write_header(header, tmp_path / "damaged.dcm")
    assert "S26-1" not in str(told.value)


def test_a_place_of_another_form_than_a_sequence_is_refused(real: Path, tmp_path: Path) -> None:
    header = dcmread(real / "slides" / "sm_image.dcm", stop_before_pixels=True)
    for keyword, vr in (("TotalPixelMatrixOriginSequence", "LO"), ("ImageOrientationSlide", "LO")):
        damaged = copy.deepcopy(header)
        damaged[keyword] = DataElement(Tag(keyword), vr, "right here")
        damaged.save_as(tmp_path / "damaged.dcm", enforce_file_format=True)
        with pytest.raises(SourceError, match="not of numbers"):
            read_volumes([tmp_path / "damaged.dcm"])
    damaged = copy.deepcopy(header)
    damaged.add_new(Tag("ConcatenationFrameOffsetNumber"), "LO", "the first")
    damaged.save_as(tmp_path / "damaged.dcm", enforce_file_format=True)
    with pytest.raises(SourceError, match="no readable DICOM"):
        read_volumes([tmp_path / "damaged.dcm"])


def test_a_place_with_a_value_of_an_unknown_kind_is_refused(real: Path, tmp_path: Path) -> None:
    """A damaged file: the value representation of an element within an item is none."""
    header = dcmread(real / "slides" / "sm_image.dcm", stop_before_pixels=True)
    header.save_as(tmp_path / "damaged.dcm", enforce_file_format=True)
    data = (tmp_path / "damaged.dcm").read_bytes()
    element = b"\x40\x00\x2a\x07DS"  # XOffsetInSlideCoordinateSystem
    assert data.count(element) == 1
    (tmp_path / "damaged.dcm").write_bytes(data.replace(element, element[:4] + b"D\xd7"))
    with pytest.raises(SourceError, match="not of numbers"):
        read_volumes([tmp_path / "damaged.dcm"])


def test_an_element_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    header = written(AccessionNumber="S26-1")
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.3.4"
    item = Tag(0xFFFE, 0xE000)  # it stands within sequences alone
    header[item] = RawDataElement(item, "NONE", 2, b"ab", 0, False, True)
    with disable_value_validation():
        header.Rows = 70_000
    with pytest.raises(SourceError, match="repeated: Item, Rows; export"):
        write_header(header, tmp_path / "damaged.dcm")
