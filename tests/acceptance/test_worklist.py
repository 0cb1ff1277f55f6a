"""Slides that are not DICOM take patient and study from a worklist server, by C-FIND."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.case_objects import CaseObjects, true_findings, write_case
from fixtures.daemon import Daemon, case_state
from fixtures.judges import dicom_errors
from fixtures.worklist import WorklistServer
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from appliance.delivery.orders import check_worklist, order_of
from appliance.errors import WorklistUnavailableError
from appliance.findings.findings import Findings
from appliance.line.ordered import ordered_for
from appliance.settings.settings import Settings
from appliance.settings.tls import Worklist
from dicom.air import check_report
from dicom.association import PacsAddress
from dicom.worklist import find_orders
from models.synthesis.slides import SyntheticCase

JANE = {
    "PatientName": "Müller^Jana",
    "PatientID": "P-4711",
    "PatientBirthDate": "19610203",
    "PatientSex": "F",
    "ReferringPhysicianName": "Weiß^Karl",
    "StudyInstanceUID": "1.2.276.0.99.1",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WorklistServer]:
    made = WorklistServer(tmp_path / "worklist")
    made.orthanc.start()
    yield made
    made.orthanc.stop()


@pytest.fixture
def settings(server: WorklistServer, tmp_path: Path) -> Settings:
    worklist = Worklist(host="127.0.0.1", port=server.orthanc.dicom_port, called_aet="ORTHANC")
    return Settings(state_dir=tmp_path / "state", worklist=worklist)


@pytest.fixture(scope="module")
def findings(small_case: SyntheticCase) -> Findings:
    return true_findings(small_case)


def headers(made: CaseObjects) -> list[Dataset]:
    return [dcmread(made.root / item.path, stop_before_pixels=True) for item in made.objects]


def test_every_object_names_the_orders_patient_and_study(
    server: WorklistServer, settings: Settings, findings: Findings
) -> None:
    order = server.order("one", findings.accession, **JANE)
    server.order("same, another step", findings.accession, **JANE)
    server.order("another's", "S26-9999999", **(JANE | {"PatientID": "P-1"}))
    made = write_case(findings, settings)
    written = headers(made)
    assert {item.kind for item in made.objects} == {"WSM", "SEG", "PM", "SR", "PDF"}
    for keyword, value in JANE.items():
        assert {str(header[keyword].value) for header in written} == {value}
    assert {header.StudyID for header in written} == {"RP-7"}
    assert {header.AccessionNumber for header in written} == {findings.accession}
    assert len({(header.StudyDate, header.StudyTime) for header in written}) == 1
    paths = [made.root / item.path for item in made.objects]
    assert {path.name: dicom_errors(path) for path in paths} == {path.name: [] for path in paths}
    # Worklists drop an order when it is done; another block of the order is still in the same
    # study.
    order.unlink()
    (server.orders / "same, another step.wl").unlink()
    later = write_case(replace(findings, block="B2"), settings)
    assert {(h.StudyInstanceUID, h.PatientID) for h in headers(later)} == {
        (JANE["StudyInstanceUID"], "P-4711")
    }


@pytest.mark.parametrize("orders", [0, 2])
def test_no_order_or_two_that_contradict_name_no_patient(
    orders: int, server: WorklistServer, settings: Settings, findings: Findings
) -> None:
    for number in range(orders):
        server.order(str(number), findings.accession, **(JANE | {"PatientID": f"P-{number}"}))
    made = write_case(findings, settings)
    assert {str(header.PatientID or "") for header in headers(made)} == {""}
    known = "no order" if not orders else "orders of several patients"
    (note,) = made.notes
    assert f"the worklist knows {known}" in note


def test_two_orders_of_one_patient_name_the_patient(
    server: WorklistServer, settings: Settings, findings: Findings
) -> None:
    server.order("he", findings.accession, **(JANE | {"RequestedProcedureID": "RP-8"}))
    server.order("ihc", findings.accession, **JANE)
    order, note = order_of(findings.accession, settings)
    assert order is not None
    assert (order.uid, order.study_id, note) == (JANE["StudyInstanceUID"], "RP-7", "")
    other = {"StudyInstanceUID": "1.2.276.0.99.2"}
    server.order("he", "S26-7", **JANE)
    server.order("ihc", "S26-7", **(JANE | other))
    order, note = order_of("S26-7", settings)
    assert order is not None
    assert (order.patient_id, order.study_id) == ("P-4711", "")
    assert order.uid.startswith("2.25.")
    assert "several studies" in note
    assert order_of("S26-7", settings) == (order, note)


def test_an_order_that_cannot_be_used_is_no_silence(
    server: WorklistServer, settings: Settings, findings: Findings
) -> None:
    long = {"RequestedProcedureID": "A-LONG-PROCEDURE-1", "ReferringPhysicianName": "x" * 65}
    server.order("fine", "S26-8", **(JANE | long | {"StudyInstanceUID": "1.2.03"}))
    order, note = order_of("S26-8", settings)
    assert order is not None
    assert (order.patient_id, order.study_id, order.referring_physician) == ("P-4711", "", "")
    assert (order.uid.startswith("2.25."), note) == (True, "")
    server.order("nobody's", "S26-9", StudyInstanceUID="1.2.3")
    order, note = order_of("S26-9", settings)
    assert order is None and "cannot be read" in note
    # The patient of the other order is unknown, so it may be a different patient.
    server.order("one", findings.accession, **JANE)
    server.order("other", findings.accession, **(JANE | {"PatientName": "y" * 65}))
    order, note = order_of(findings.accession, settings)
    assert order is None
    assert "cannot be read" in note


def test_an_order_is_of_the_very_accession_and_may_name_no_study(server: WorklistServer) -> None:
    address = PacsAddress(host="127.0.0.1", port=server.orthanc.dicom_port, called_aet="ORTHANC")
    server.order("one", "S26-1", **(JANE | {"StudyInstanceUID": ""}))
    server.order("other", "S26-12", **JANE)
    # "*" is a wildcard for the server and a plain character for Tandem.
    assert find_orders(address, "S26-*") == []
    (order,) = find_orders(address, "S26-1")
    assert order is not None
    assert (order.uid, order.patient_name) == ("", "Müller^Jana")


def items(*values: dict[str, Any]) -> list[Dataset]:
    """Return the items of a sequence."""
    made = []
    for each in values:
        item = Dataset()
        for keyword, value in each.items():
            setattr(item, keyword, value)
        made.append(item)
    return made


def code(meaning: str) -> dict[str, str]:
    return {"CodeValue": "1", "CodingSchemeDesignator": "99LAB", "CodeMeaning": meaning}


def test_an_order_tells_issuers_specimens_and_stains_at_identify(
    server: WorklistServer, settings: Settings, findings: Findings
) -> None:
    accession, block = findings.accession, findings.block
    stain = {
        "ValueType": "CODE",
        "ConceptNameCodeSequence": items(code("Using substance")),
        "ConceptCodeSequence": items(code("HER2 IHC")),
    }
    prepared = {"SpecimenPreparationStepContentItemSequence": items(stain)}
    specimen = {
        "SpecimenIdentifier": f"{accession};{block}",
        "SpecimenPreparationSequence": items(prepared),
    }
    glass = {
        "ContainerIdentifier": f"{accession};{block};2",
        "SpecimenDescriptionSequence": items(specimen),
    }
    qualifiers = {"UniversalEntityID": "1.2.3", "UniversalEntityIDType": "ISO"}
    server.order(
        "one",
        accession,
        {
            "ScheduledSpecimenSequence": items(glass),
            "ScheduledProtocolCodeSequence": items(code("H&E")),
        },
        **JANE,
        IssuerOfPatientID="KLINIK",
        IssuerOfPatientIDQualifiersSequence=items(qualifiers),
        OtherPatientIDsSequence=items({"PatientID": "77", "IssuerOfPatientID": "KASSE"}),
        IssuerOfAccessionNumberSequence=items({"LocalNamespaceEntityID": "LIS"}),
        RequestedProcedureDescription="Ki-67",
        RequestedProcedureCodeSequence=items(code("Ki-67") | {"CodingSchemeVersion": "3"}),
        PlacerOrderNumberImagingServiceRequest="A-71",
        FillerOrderNumberImagingServiceRequest="F-2",
        OrderFillerIdentifierSequence=items(qualifiers),
    )
    words = {"HE": ("H&E",), "HER2": ("HER2",)}
    (patient,) = ordered_for(accession, settings, words).patients
    told = json.loads(patient.as_json())
    assert told == {
        "patient_id": "P-4711",
        "issuer": "KLINIK&1.2.3&ISO",
        "name": "Müller^Jana",
        "birth_date": "19610203",
        "sex": "F",
        "other_ids": ["77^^^KASSE"],
        "study_uid": JANE["StudyInstanceUID"],
        "accession_issuer": "LIS",
        "stains": ["Ki-67", "HE", "HER2"],
        "source": "worklist",
    }
    made = write_case(findings, settings)
    written = headers(made)
    for header in written:
        assert header.IssuerOfPatientID == "KLINIK"
        assert header.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.3"
        assert header.OtherPatientIDsSequence[0].IssuerOfPatientID == "KASSE"
        assert header.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "LIS"
    (report,) = (header for header in written if header.Modality == "SR")
    (request,) = report.ReferencedRequestSequence
    assert request.PlacerOrderNumberImagingServiceRequest == "A-71"
    assert request.FillerOrderNumberImagingServiceRequest == "F-2"
    assert request.OrderFillerIdentifierSequence[0].UniversalEntityID == "1.2.3"
    assert request.RequestedProcedureID == "RP-7"
    (procedure,) = request.RequestedProcedureCodeSequence
    assert (procedure.CodeValue, procedure.CodingSchemeDesignator) == ("1", "99LAB")
    assert (procedure.CodeMeaning, procedure.CodingSchemeVersion) == ("Ki-67", "3")
    (path,) = (made.root / item.path for item in made.objects if item.kind == "SR")
    assert dicom_errors(path) == []
    assert [item.name for item, result in check_report(dcmread(path)) if result.faults] == []
    slides = [header for header in written if header.SOPClassUID.name.startswith("VL Whole Slide")]
    parents = {
        content.TextValue
        for header in slides
        for step in header.SpecimenDescriptionSequence[0].SpecimenPreparationSequence
        for content in step.SpecimenPreparationStepContentItemSequence
        if content.get("TextValue")
    }
    assert f"{accession};{block}" in parents
    assert {str(header.ContainerIdentifier) for header in slides} == {
        f"{accession}-{block}-HE",
        f"{accession};{block};2",
    }


def test_a_code_that_a_report_cannot_repeat_is_left_out(server: WorklistServer) -> None:
    unlike = [
        [code("HER2") | {"CodeValue": "12345678901234567"}],
        [code("HER2") | {"CodingSchemeDesignator": ""}],
        [code("HER2"), code("H&E")],
    ]
    for number, told in enumerate(unlike):
        with disable_value_validation():
            sequence = items(*told)
        server.order(str(number), f"S26-{number}", **JANE, RequestedProcedureCodeSequence=sequence)
    address = PacsAddress(host="127.0.0.1", port=server.orthanc.dicom_port, called_aet="ORTHANC")
    for number in range(len(unlike)):
        (order,) = find_orders(address, f"S26-{number}")
        assert order is not None and "HER2" in order.asked
        assert [request.procedure_codes for request in order.requests] == [()]


def test_a_worklist_that_is_away_holds_the_slides_and_blames_none(
    tmp_path: Path, small_case: SyntheticCase, readings: Path
) -> None:
    server = WorklistServer(tmp_path / "worklist")
    server.order("one", small_case.accession, **JANE)
    daemon = Daemon(
        tmp_path / "appliance", f'destinations = [{{kind = "folder"}}]\n{server.toml()}'
    )
    daemon.drop(small_case.he_path, small_case.ihc_path)
    daemon.has_read(readings).start()
    try:
        waiting = daemon.wait(
            lambda status: (
                len(status["slides"]) == 2
                and all("worklist" in slide["steps"][-1]["text"] for slide in status["slides"])
            )
        )
        assert {slide["state"] for slide in waiting["slides"]} == {"arrived"}
        assert {slide["reason"] for slide in waiting["slides"]} == {"worklist-away"}
        assert waiting["cases"] == []
        address = Worklist(host="127.0.0.1", port=server.orthanc.dicom_port, called_aet="ORTHANC")
        with pytest.raises(WorklistUnavailableError, match="cannot be reached"):
            check_worklist(address)
        server.orthanc.start()
        assert "answered" in check_worklist(address)
        done = daemon.wait(case_state("delivered"))
        for slide in done["slides"]:
            assert slide["reason"] == ""
            assert sum("worklist" in step["text"] for step in slide["steps"]) == 1
        files = list((daemon.state / "archive").rglob("*.dcm"))
        assert {str(dcmread(f, stop_before_pixels=True).PatientID) for f in files} == {"P-4711"}
        assert small_case.accession not in daemon.log
        assert "P-4711" not in daemon.log
    finally:
        daemon.close()
        server.orthanc.stop()
