"""A PACS asks for a case by UPS-RS: slides come from Orthanc by WADO-RS, the result goes back."""

from __future__ import annotations

import json
import time
from pathlib import Path

import requests
from fixtures.daemon import Daemon, case_state
from fixtures.orthanc import Orthanc
from fixtures.scanned import scanned_dicom
from fixtures.ups import UpsServer, work_item
from pydicom import dcmread

from dicom.dicomweb import WebAddress, find_instances
from dicom.status import InstanceRef
from models.synthesis.slides import SyntheticCase

UID = "2.25.4711"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
WSM = "1.2.840.10008.5.1.4.1.1.77.1.6"


def test_a_case_that_a_pacs_asked_for_is_scored_and_reported(
    small_case: SyntheticCase, orthanc: Orthanc, tmp_path: Path
) -> None:
    series = []
    for slide, stain in ((small_case.he_path, "HE"), (small_case.ihc_path, "HER2")):
        paths = scanned_dicom(slide, tmp_path / stain, stain)
        first = dcmread(paths[0], stop_before_pixels=True)
        series.append((str(first.StudyInstanceUID), str(first.SeriesInstanceUID)))
        for path in paths:
            stored = requests.post(
                f"http://127.0.0.1:{orthanc.http_port}/instances",
                data=path.read_bytes(),
                timeout=300,
            )
            stored.raise_for_status()
    server = UpsServer()
    spool = tmp_path / "spool"
    spool.mkdir()
    daemon = Daemon(
        tmp_path / "site",
        f"[workitems]\nurl = {json.dumps(server.url)}\nfolder = {json.dumps(str(spool))}\n"
        f"retrieve_url = {json.dumps(orthanc.dicomweb_url)}\npoll_seconds = 0.5\n"
        f'[[destinations]]\nkind = "dicomweb"\nurl = {json.dumps(orthanc.dicomweb_url)}\n',
        watch=f"folders = [{json.dumps(str(spool))}]\nseries_patience_seconds = 2",
    )
    server.items[UID] = work_item(UID, series)
    daemon.start()
    try:
        status = daemon.wait(case_state("delivered"))
        until = time.monotonic() + 360
        while server.state(UID) != "COMPLETED" and time.monotonic() < until:
            time.sleep(0.2)
    finally:
        daemon.close()
        server.close()
    assert server.state(UID) == "COMPLETED", (server.progress, daemon.log[-3000:])
    assert status["cases"][0]["score"] == "2+"
    outputs = server.outputs(UID)
    assert [kind for kind, _ in outputs].count(SR) == 1
    assert WSM not in {kind for kind, _ in outputs}  # the item's input, asked for and found
    images = [d for d in status["cases"][0]["deliveries"] if d["kind"] == "WSM"]
    assert images and {d["state"] for d in images} == {"proven"}
    (performed,) = server.items[UID]["00741216"]["Value"]
    named = [
        InstanceRef(
            study_uid=each["0020000D"]["Value"][0],
            series_uid=each["0020000E"]["Value"][0],
            sop_instance_uid=ref["00081155"]["Value"][0],
            sop_class_uid=ref["00081150"]["Value"][0],
        )
        for each in performed["00404033"]["Value"]
        for ref in each["00081199"]["Value"]
    ]
    found = find_instances(WebAddress(url=orthanc.dicomweb_url), named)
    assert found == {uid: True for _, uid in outputs}
    percents = [int(percent) for _, percent, _ in server.progress]
    assert percents == sorted(percents) and len(set(percents)) >= 3
    said = " ".join(words for _, _, words in server.progress) + daemon.log
    assert "S26-0042" not in said
