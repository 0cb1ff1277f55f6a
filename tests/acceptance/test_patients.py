"""Two patients in one case: held with a sentence; issuers in every object of a mixed study."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.case_objects import true_findings, write_case
from fixtures.daemon import Daemon, case_state, tandem
from fixtures.judges import entity_warnings
from fixtures.scanned import issuers, scanned_dicom
from fixtures.worklist import WorklistServer
from pydicom import dcmread

from appliance.settings.identify import Identify
from appliance.settings.settings import Settings
from models.synthesis.slides import SyntheticCase

JANE: dict[str, Any] = {
    "PatientID": "PAT-0001",
    "PatientName": "Müller^Jana",
    "PatientBirthDate": "19610203",
    "PatientSex": "F",
}
EVA = JANE | {"PatientID": "PAT-0002", "PatientName": "Maier^Eva"}
BOTH = "ID PAT-0001, Müller^Jana (header) and ID PAT-0002, Maier^Eva"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WorklistServer]:
    made = WorklistServer(tmp_path / "worklist")
    made.orthanc.start()
    yield made
    made.orthanc.stop()


def test_dicom_of_two_patients_is_held_until_the_settings_merge_them(
    small_case: SyntheticCase, tmp_path: Path, daemon: Daemon
) -> None:
    for stain, path, patient in (
        ("HE", small_case.he_path, JANE),
        ("HER2", small_case.ihc_path, EVA | {"PatientName": "MUELLER^JANA"}),
    ):
        scanned_dicom(path, tmp_path / stain, stain, **patient)
        shutil.copytree(tmp_path / stain, daemon.scans / stain)
    daemon.start()
    case = daemon.wait(case_state("held"))["cases"][0]
    assert (case["score"], case["reason"], case["deliveries"]) == ("", "patients-differ", [])
    assert case["remedy"].startswith(
        "The two slides name different patients: ID PAT-0001 (header) and ID PAT-0002 (header)."
    )
    assert "tandem identify keep case-1" in case["remedy"]
    assert {slide["state"] for slide in daemon.status()["slides"]} == {"read"}
    daemon.stop()
    assert "PAT-0001" not in daemon.log and "Jana" not in daemon.log
    config = daemon.config.read_text()
    daemon.config.write_text(f'{config}[patients]\nmerged = [["PAT-0001", "PAT-0002"]]\n')
    daemon.start()
    done = daemon.wait(case_state("delivered"))["cases"][0]
    assert done["score"] == small_case.score
    assert "declare these patient IDs to be one" in " ".join(s["text"] for s in done["steps"])


def test_an_svs_whose_order_names_another_patient_is_held(
    small_case: SyntheticCase, tmp_path: Path, server: WorklistServer
) -> None:
    server.order("one", "S26-0042", **EVA)
    daemon = Daemon(tmp_path / "appliance", server.toml())
    he = scanned_dicom(small_case.he_path, tmp_path / "HE", "HE", **JANE)
    shutil.copytree(he[0].parent, daemon.scans / "HE")
    shutil.copy(small_case.ihc_path, daemon.scans / "S26-0042_A1_HER2.svs")
    daemon.start()
    try:
        case = daemon.wait(case_state("held"))["cases"][0]
        assert case["score"] == ""
        assert BOTH in case["remedy"] and "tandem identify keep case-1" in case["remedy"]
        assert "PAT-0002" not in daemon.log
    finally:
        daemon.close()


def test_process_refuses_two_patients_in_one_line(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    he = scanned_dicom(small_case.he_path, tmp_path / "HE", "HE", **JANE)[0]
    ihc = scanned_dicom(small_case.ihc_path, tmp_path / "HER2", "HER2", **EVA)[0]
    done = tandem("process", he, ihc, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert BOTH in line and "patients.merged" in line
    assert not list((tmp_path / "out").iterdir())


def test_an_order_brings_issuers_and_other_ids_into_every_object(
    small_case: SyntheticCase, tmp_path: Path, server: WorklistServer
) -> None:
    order = issuers()
    server.order("one", small_case.accession, **JANE, **order, StudyInstanceUID="1.2.276.0.99.1")
    settings = Settings.model_validate(
        {
            "state_dir": tmp_path / "state",
            "worklist": {
                "host": "127.0.0.1",
                "port": server.orthanc.dicom_port,
                "called_aet": "ORTHANC",
            },
        }
    )
    made = write_case(true_findings(small_case), settings)
    written = [made.root / item.path for item in made.objects]
    for header in (dcmread(path, stop_before_pixels=True) for path in written):
        assert header.IssuerOfPatientID == "HOSP"
        assert header.OtherPatientIDsSequence[0].PatientID == "0815"
        assert header.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "LAB"
    assert entity_warnings(written) == []


def test_slides_without_patient_get_a_stand_in_or_are_set_aside(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    findings, stand_ins = true_findings(small_case), []
    for installation in ("one", "two"):
        settings = Settings(
            state_dir=tmp_path / installation, identify=Identify(without_patient="stand-in")
        )
        for block in ("A1", "B2"):
            made = write_case(replace(findings, block=block), settings)
            paths = [made.root / item.path for item in made.objects]
            headers = [dcmread(path, stop_before_pixels=True) for path in paths]
            stand_ins.append({(h.PatientID, h.StudyInstanceUID) for h in headers})
    assert stand_ins[0] == stand_ins[1] and stand_ins[2] == stand_ins[3]
    ((one, study),), ((two, other),) = stand_ins[0], stand_ins[2]
    assert one.startswith("TANDEM-") and one != two and study != other
    assert small_case.accession not in one

    daemon = Daemon(tmp_path / "appliance", '[identify]\nwithout_patient = "hold"\n')
    daemon.drop(small_case.he_path)
    daemon.start()
    try:
        status = daemon.wait(
            lambda s: bool(s["slides"]) and s["slides"][0]["state"] == "quarantined"
        )
    finally:
        daemon.close()
    (slide,) = status["slides"]
    assert slide["reason"] == "no-patient"
    assert "Enter the order in the worklist" in slide["remedy"]
