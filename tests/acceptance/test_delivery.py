"""Delivery to a PACS and to the archive: once and complete, whichever process dies meanwhile."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from fixtures.daemon import Daemon, case_state, tandem
from fixtures.lis import FhirServer, MllpServer
from fixtures.orthanc import Orthanc
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from pydicom import dcmread

from appliance.ledger.verify import verify
from models.synthesis.slides import SyntheticCase


def pacs_settings(orthanc: Orthanc) -> str:
    return (
        '[[destinations]]\nkind = "dicom"\nname = "pacs"\nhost = "127.0.0.1"\n'
        f'port = {orthanc.dicom_port}\ncalled_aet = "ORTHANC"\ntimeout_seconds = 60\n'
        f'dicomweb_url = "{orthanc.dicomweb_url}"\n'
    )


def pacs_daemon(folder: Path, orthanc: Orthanc) -> Daemon:
    daemon = Daemon(folder)
    # Tables of a TOML array must follow the plain keys, so they are appended.
    daemon.config.write_text(daemon.config.read_text() + pacs_settings(orthanc))
    return daemon


HALF_WAY = """
local objects = 0
function ReceivedInstanceFilter(dicom, origin, info)
  local ending = io.open("MARK")
  if ending then
    ending:close()
    objects = objects + 1
    if objects > 1 then os.execute("kill -9 $PPID") end
  end
  return true
end
"""
"""Script of an Orthanc that ends at the second object, while the file MARK is there."""


def modalities(orthanc: Orthanc, accession: str) -> list[str]:
    found = orthanc.qido("instances", AccessionNumber=accession, includefield="00080060")
    return sorted(item["00080060"]["Value"][0] for item in found)


@pytest.fixture
def laboratory() -> Iterator[tuple[MllpServer, FhirServer]]:
    """Laboratory's systems; the one over MLLP takes the first message and loses its ACK."""
    lis, ehr = MllpServer().start(), FhirServer().start()
    lis.faults = ["mute"]
    yield lis, ehr
    lis.stop()
    ehr.stop()


def laboratory_settings(lis: MllpServer, ehr: FhirServer) -> str:
    # After an ACK that is later than the timeout, a message is sent again.
    return (
        f'[[destinations]]\nkind = "hl7"\nhost = "127.0.0.1"\nport = {lis.port}\n'
        'message = "OUL^R22"\nbefore_sign_off = true\ntimeout_seconds = 300\n'
        '[[destinations]]\nkind = "hl7"\nname = "signed"\nhost = "127.0.0.1"\n'
        f"port = {lis.port}\ntimeout_seconds = 300\n"
        f'[[destinations]]\nkind = "fhir"\nurl = "{ehr.url}"\nbefore_sign_off = true\n'
    )


def check_laboratory(
    lis: MllpServer, ehr: FhirServer, status: dict[str, Any], score: str, log: str
) -> None:
    """Check that each system has the result once, that it is proven, and what it says."""
    sent = [d for d in status["cases"][0]["deliveries"] if d["destination"] in ("lis", "fhir")]
    assert [(d["kind"], d["state"]) for d in sent] == [("SR", "proven")] * 2
    # The lost ACK: the message came twice, byte for byte, and is one result.
    first, second = lis.messages
    assert first == second and len(lis.results) == 1
    parsed = parse_message(first, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert parsed.validate() and parsed.msh.msh_9.to_er7() == "OUL^R22^OUL_R22"
    results = parsed.oul_r22_specimen.oul_r22_order.oul_r22_obxtcdsidnte_suppgrp
    values = [each.obx.obx_5.obx_5_2.to_er7() for each in results if each.obx.obx_2.value == "CWE"]
    assert score in values
    (observation,) = ehr.resources["Observation"].values()
    (report,) = ehr.resources["DiagnosticReport"].values()
    assert observation["valueCodeableConcept"]["text"] == score
    assert observation["status"] == report["status"] == "preliminary"
    (number,) = lis.results
    assert number == report["identifier"][0]["value"] and number not in log


def test_pacs_has_slides_segmentations_and_report_in_one_study(
    tmp_path: Path,
    orthanc: Orthanc,
    small_case: SyntheticCase,
    laboratory: tuple[MllpServer, FhirServer],
) -> None:
    daemon = pacs_daemon(tmp_path / "appliance", orthanc)
    daemon.config.write_text(daemon.config.read_text() + laboratory_settings(*laboratory))
    try:
        daemon.drop(small_case.he_path, small_case.ihc_path)
        daemon.start()
        status = daemon.wait(case_state("delivered"))
        daemon.stop()
    finally:
        daemon.close()
    assert status["cases"][0]["score"] == small_case.score
    studies = orthanc.qido("studies", AccessionNumber=small_case.accession)
    assert len(studies) == 1
    found = modalities(orthanc, small_case.accession)
    assert set(found) == {"SM", "SEG", "OT", "SR", "DOC"}
    deliveries = status["cases"][0]["deliveries"]
    assert len(found) == len([d for d in deliveries if d["destination"] == "pacs"])
    check_laboratory(*laboratory, status, small_case.score, daemon.log)
    frames: dict[str, set[str]] = {"SM": set(), "SEG": set(), "OT": set()}
    study = studies[0]["0020000D"]["Value"][0]
    answer = requests.get(
        f"{orthanc.dicomweb_url}/studies/{study}/metadata",
        headers={"Accept": "application/dicom+json"},
        timeout=300,
    )
    for item in answer.json():
        modality = item["00080060"]["Value"][0]
        if modality in frames:
            frames[modality].add(item["00200052"]["Value"][0])
    assert frames["SEG"] == frames["OT"] == frames["SM"]
    # No log line above DEBUG names the accession.
    assert small_case.accession not in daemon.log


def test_pacs_outage_loses_nothing_and_duplicates_nothing(
    tmp_path: Path, small_case: SyntheticCase, readings: Path
) -> None:
    ending, script = tmp_path / "ending", tmp_path / "half-way.lua"
    script.write_text(HALF_WAY.replace("MARK", str(ending)))
    orthanc = Orthanc(tmp_path / "orthanc", LuaScripts=[str(script)])
    daemon = pacs_daemon(tmp_path / "appliance", orthanc)
    try:
        daemon.drop(small_case.he_path, small_case.ihc_path)
        daemon.has_read(readings).start()
        status = daemon.wait(lambda s: any(d["error"] for c in s["cases"] for d in c["deliveries"]))
        assert status["cases"][0]["state"] == "written"
        # The PACS goes away half way: it ends by itself, as the second object comes.
        ending.touch()
        assert orthanc.run_to_its_end() == -signal.SIGKILL
        ending.unlink()
        halfway = daemon.status()["cases"][0]["deliveries"]
        assert "proven" not in {d["state"] for d in halfway}, halfway
        orthanc.start()
        status = daemon.wait(case_state("delivered"))
        found = orthanc.qido("instances", AccessionNumber=small_case.accession)
    finally:
        daemon.close()
        orthanc.stop()
    deliveries = status["cases"][0]["deliveries"]
    assert {d["state"] for d in deliveries} == {"proven"}
    uids = [item["00080018"]["Value"][0] for item in found]
    assert sorted(uids) == sorted(d["sop_instance_uid"] for d in deliveries)


def test_killed_while_reading_stain_the_case_is_delivered_once(
    daemon: Daemon, small_case: SyntheticCase
) -> None:
    daemon.drop(small_case.he_path, small_case.ihc_path)
    daemon.start()
    # Step 7 writes into a hidden folder first: its presence means that the step is running.
    stain = daemon.state / "artifacts" / "stain"
    deadline = time.monotonic() + 540
    while not (stain.is_dir() and any(p.name.startswith(".") for p in stain.iterdir())):
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.005)
    daemon.kill()
    assert daemon.status()["cases"][0]["state"] == "aligned"
    daemon.start()
    status = daemon.wait(case_state("delivered"))
    daemon.stop()
    files = [dcmread(p, stop_before_pixels=True) for p in daemon.state.rglob("archive/**/*.dcm")]
    uids = [str(f.SOPInstanceUID) for f in files]
    assert len(uids) == len(set(uids)) == len(status["cases"][0]["deliveries"])
    assert sorted(uids) == sorted(d["sop_instance_uid"] for d in status["cases"][0]["deliveries"])
    assert [f.Modality for f in files].count("SR") == 1
    # No step from before the crash ran again, and the chain of events is intact.
    assert verify(daemon.state / "ledger.sqlite").problems == ()
    assert not list(stain.glob(".*"))


def test_stopped_while_reading_it_ends_at_once_and_goes_on_at_the_next_start(
    daemon: Daemon, small_case: SyntheticCase
) -> None:
    daemon.drop(small_case.he_path)
    daemon.start()
    tumor = daemon.state / "artifacts" / "tumor"
    deadline = time.monotonic() + 540
    while not (tumor.is_dir() and any(p.name.startswith(".") for p in tumor.iterdir())):
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.005)
    daemon.stop()
    assert "done again at the next start" in daemon.log
    assert not any(p for p in tumor.iterdir() if not p.name.startswith("."))
    (slide,) = daemon.status()["slides"]
    assert (slide["state"], slide["progress"]) == ("inspected", None)
    with sqlite3.connect(daemon.state / "ledger.sqlite") as connection:
        assert connection.execute("SELECT claimed_by, worker_crashes FROM slide").fetchall() == [
            ("", 0)
        ]
    connection.close()
    daemon.start()
    daemon.wait(lambda s: s["slides"][0]["state"] == "read")
    daemon.stop()


def test_tampered_events_show(daemon: Daemon, small_case: SyntheticCase, readings: Path) -> None:
    daemon.drop(small_case.he_path)
    daemon.has_read(readings).start()
    daemon.wait(lambda s: bool(s["slides"]) and s["slides"][0]["state"] == "read")
    daemon.stop()
    path = daemon.state / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE event SET code = 'nothing-happened' WHERE id = 3")
    connection.close()
    assert "event 3 was changed" in verify(path).problems[0]
    done = tandem("ledger", "verify", "--config", daemon.config, check=False)
    assert (done.returncode, "event 3 was changed" in done.stdout) == (1, True)


def test_doctor_tells_trouble_with_its_remedy(daemon: Daemon, tmp_path: Path) -> None:
    assert tandem("doctor", "--config", daemon.config).returncode == 0
    bad = daemon.config.read_text() + (
        '[[destinations]]\nkind = "dicom"\nname = "pacs"\nhost = "127.0.0.1"\nport = 9\n'
        'called_aet = "NOBODY"\ntimeout_seconds = 2\n'
    )
    config = tmp_path / "bad.toml"
    config.write_text(bad.replace(json.dumps(str(daemon.scans)), '"/nowhere"'))
    done = tandem("doctor", "--config", config, check=False)
    assert done.returncode == 1
    assert "/nowhere is not there" in done.stdout
    assert "cannot be reached" in done.stdout
