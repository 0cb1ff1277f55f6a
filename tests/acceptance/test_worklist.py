"""Slides that are not DICOM take patient and study from a worklist server, by C-FIND."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.case_objects import CaseObjects, true_findings, write_case
from fixtures.daemon import Daemon, case_state, tandem
from fixtures.judges import dicom_errors
from fixtures.worklist import WorklistServer
from pydicom import Dataset, dcmread

from appliance.delivery.orders import check_worklist, order_of
from appliance.errors import WorklistUnavailableError
from appliance.findings.findings import Findings
from appliance.settings.settings import Settings
from appliance.settings.tls import Worklist
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
    assert order.uid.startswith("2.25.")
    assert order.patient_name == "Müller^Jana"


def test_a_worklist_that_is_away_holds_the_case_and_says_so(
    tmp_path: Path, small_case: SyntheticCase
) -> None:
    server = WorklistServer(tmp_path / "worklist")
    server.order("one", small_case.accession, **JANE)
    daemon = Daemon(
        tmp_path / "appliance", f'destinations = [{{kind = "folder"}}]\n{server.toml()}'
    )
    daemon.drop(small_case.he_path, small_case.ihc_path)
    daemon.start()
    try:
        waiting = daemon.wait(
            lambda status: bool(status["cases"]) and "worklist" in status["cases"][0]["remedy"]
        )["cases"][0]
        assert waiting["state"] == "scored"
        assert "cannot be reached" in waiting["remedy"]
        address = Worklist(host="127.0.0.1", port=server.orthanc.dicom_port, called_aet="ORTHANC")
        with pytest.raises(WorklistUnavailableError, match="cannot be reached"):
            check_worklist(address)
        server.orthanc.start()
        assert "answered" in check_worklist(address)
        tandem("retry", "case-1", "--config", daemon.config)
        done = daemon.wait(case_state("delivered"))["cases"][0]
        assert done["remedy"] == ""
        assert sum("worklist" in step["text"] for step in done["steps"]) == 1
        files = list((daemon.state / "archive").rglob("*.dcm"))
        assert {str(dcmread(f, stop_before_pixels=True).PatientID) for f in files} == {"P-4711"}
        assert small_case.accession not in daemon.log
        assert "P-4711" not in daemon.log
    finally:
        daemon.close()
        server.orthanc.stop()
