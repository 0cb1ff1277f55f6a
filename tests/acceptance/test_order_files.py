"""Orders as files through the daemon: a table and HL7 messages, good ones and bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.daemon import Daemon, case_state
from fixtures.judges import dicom_errors
from fixtures.lis import MllpServer
from pydicom import dcmread

from dicom.air import main
from models.synthesis.slides import SyntheticCase


def test_a_table_fills_the_objects_and_bad_input_stops_nothing(
    tmp_path: Path,
    small_case: SyntheticCase,
    readings: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    accession = small_case.accession
    table, messages = tmp_path / "Aufträge.csv", tmp_path / "hl7"
    messages.mkdir()
    (messages / "broken.hl7").write_text("MSH|^~\\&|LIS\rPID|1||\rhalf a mess")
    (messages / "other.hl7").write_text(
        "MSH|^~\\&|LIS|LAB|||20261120||ORM^O01|1|P|2.5\r"
        "PID|1||P-1||Huber^Anna\rORC|NW|1\rOBR|1|1|S26-9999999\r"
    )
    table.write_text(
        "Fallnummer;Pat.-Nr.;Nachname;Vorname;Geb.-Datum;Geschlecht;Färbung;"
        "Placer Number;Filler Number;Accession Issuer\r\n"
        ";P-1;Huber;Anna;;;;;;\r\n"
        f"{accession};P-4711;Müller;Jana;03.02.1961;w;HE;A-70;F-1;LIS\r\n"
        f"{accession};P-4711;Müller;Jana;03.02.1961;w;HER2 IHC;A-71;F-2;LIS\r\n",
        encoding="cp1252",
    )
    lis = MllpServer().start()
    daemon = Daemon(
        tmp_path / "appliance",
        f"[orders]\ncsv = '{table}'\nhl7 = '{messages}'\n"
        '[[destinations]]\nkind = "folder"\n'
        f'[[destinations]]\nkind = "hl7"\nhost = "127.0.0.1"\nport = {lis.port}\n'
        # After an ACK that is later than the timeout, the message is sent again.
        'before_sign_off = true\nfiller_number = "order"\ntimeout_seconds = 300\n',
    )
    daemon.drop(small_case.he_path, small_case.ihc_path)
    daemon.has_read(readings).start()
    try:
        done = daemon.wait(case_state("delivered"))
        told = [step["text"] for slide in done["slides"] for step in slide["steps"]]
        for file in ("broken.hl7, line 1", "Aufträge.csv, line 2"):
            assert sum(file in text for text in told) == 1, told
        files = list((daemon.state / "archive").rglob("*.dcm"))
        written = [dcmread(file, stop_before_pixels=True) for file in files]
        for keyword, value in {
            "PatientID": "P-4711",
            "PatientName": "Müller^Jana",
            "PatientBirthDate": "19610203",
            "PatientSex": "F",
        }.items():
            assert {str(header[keyword].value) for header in written} == {value}
        assert len({header.StudyInstanceUID for header in written}) == 1
        assert {file.name: dicom_errors(file) for file in files} == {
            file.name: [] for file in files
        }
        (report,) = (file for file in files if dcmread(file).Modality == "SR")
        (request,) = dcmread(report).ReferencedRequestSequence
        assert request.PlacerOrderNumberImagingServiceRequest == "A-71"
        assert request.FillerOrderNumberImagingServiceRequest == "F-2"
        assert request.RequestedProcedureDescription == "HER2 IHC"
        assert request.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "LIS"
        assert main([str(report)]) == 0
        assert "1 requests, 2 numbers" in capsys.readouterr().out
        (message,) = lis.messages
        assert "\rORC|RE|A-71|F-2\rOBR|1|A-71|F-2|85319-2^" in message
        words = (accession, "P-4711", "Müller", "Huber", "A-71")
        assert not any(word in daemon.log for word in words)
    finally:
        daemon.close()
        lis.stop()


def test_orders_that_name_two_patients_hold_the_case(
    tmp_path: Path, small_case: SyntheticCase, readings: Path
) -> None:
    accession = small_case.accession
    table, messages = tmp_path / "orders.csv", tmp_path / "hl7"
    messages.mkdir()
    (messages / "one.hl7").write_text(
        "MSH|^~\\&|LIS|LAB|||20261120||ORM^O01|1|P|2.5\r"
        f"PID|1||P-1||Huber^Anna\rORC|NW|1\rOBR|1|1|{accession}|HER2\r"
    )
    table.write_text(f"Accession,Patient ID,Name\n{accession},P-4711,Müller^Jana\n")
    daemon = Daemon(
        tmp_path / "appliance",
        f'destinations = [{{kind = "folder"}}]\n[orders]\ncsv = "{table}"\nhl7 = "{messages}"\n',
    )
    daemon.drop(small_case.he_path, small_case.ihc_path)
    daemon.has_read(readings).start()
    try:
        case = daemon.wait(case_state("held"))["cases"][0]
        assert (case["score"], case["reason"], case["deliveries"]) == ("", "patients-differ", [])
        for word in ("P-1", "Huber^Anna", "P-4711", "Müller^Jana", "csv"):
            assert word in case["remedy"]
        assert not any(word in daemon.log for word in (accession, "P-4711", "Huber"))
    finally:
        daemon.close()
