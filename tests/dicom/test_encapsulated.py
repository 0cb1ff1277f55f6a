"""Encapsulated PDF: valid, in the slide's study, the document unchanged."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.judges import dicom_errors, require_judge
from fixtures.slide_objects import SCANNED, STUDY_UID, her2_label_map, report, segmentation
from pydicom import Dataset, dcmread

from dicom.encapsulated import build_encapsulated_pdf
from dicom.errors import ObjectError

Save = Callable[[Dataset], Path]
PDF = b"%PDF-1.4\n" + bytes(range(256)) * 41 + b"\n%%EOF\n\n"
assert len(PDF) % 2 == 1  # the case that needs a byte of padding


def pdf_object(images: list[Dataset], sources: list[Dataset], pdf: bytes = PDF) -> Dataset:
    return build_encapsulated_pdf(
        pdf,
        ihc_image=images[0],
        sources=sources,
        created=SCANNED,
        uid_seed="seed",
        software="0.1.0",
    )


def test_object_is_valid_and_gives_the_document_back(
    he_images: list[Dataset], ihc_images: list[Dataset], save: Save, tmp_path: Path
) -> None:
    sr = report(he_images, ihc_images, segmentation(ihc_images, her2_label_map()))
    path = save(pdf_object(ihc_images, [ihc_images[0], he_images[0], sr]))
    assert dicom_errors(path) == []
    dataset = dcmread(path)
    assert dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength] == PDF
    out = tmp_path / "out.pdf"
    subprocess.run([require_judge("dcm2pdf"), path, out], check=True)
    assert out.read_bytes() == PDF
    assert dataset.StudyInstanceUID == STUDY_UID
    assert dataset.AccessionNumber == ihc_images[0].AccessionNumber
    assert dataset.BurnedInAnnotation == "YES"
    assert dataset.VerificationFlag == "UNVERIFIED"
    assert "research use only" in dataset.DocumentTitle
    assert "research use only" in dataset.SeriesDescription
    assert [item.ReferencedSOPInstanceUID for item in dataset.SourceInstanceSequence] == [
        source.SOPInstanceUID for source in (ihc_images[0], he_images[0], sr)
    ]


def test_equal_documents_are_equal_bytes_and_others_have_another_uid(
    ihc_images: list[Dataset], save: Save
) -> None:
    first = pdf_object(ihc_images, ihc_images)
    content = save(first).read_bytes()
    again = pdf_object(ihc_images, ihc_images)
    assert save(again).read_bytes() == content
    changed = pdf_object(ihc_images, ihc_images, PDF + b"\n")
    assert changed.SOPInstanceUID != first.SOPInstanceUID


def test_a_latin1_patient_keeps_the_name(
    ihc_images: list[Dataset], save: Save, tmp_path: Path
) -> None:
    image = ihc_images[0]
    image.SpecificCharacterSet = "ISO_IR 100"
    image.PatientName = "Müller^Jörg"
    image.save_as(tmp_path / "latin1.dcm", enforce_file_format=True)
    path = save(pdf_object([dcmread(tmp_path / "latin1.dcm")], ihc_images))
    assert dicom_errors(path) == []
    assert str(dcmread(path).PatientName) == "Müller^Jörg"


def test_what_is_no_pdf_is_refused(ihc_images: list[Dataset]) -> None:
    with pytest.raises(ObjectError):
        pdf_object(ihc_images, ihc_images, b"<html>")
