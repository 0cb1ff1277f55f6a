"""Rescans, duplicates and a person's word through the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures.daemon import Daemon, case_state, tandem
from pydicom import dcmread

from models.synthesis.slides import SyntheticCase

DATE, TIME = b"Date = 01/01/26", b"Time = 00:00:00"


def scan_of(path: Path, day: int, time: str = "10:00:00") -> bytes:
    """Return a synthetic slide as scanned on another day of January 2026."""
    content = path.read_bytes()
    assert DATE in content and TIME in content
    return content.replace(DATE, f"Date = 01/{day:02d}/26".encode()).replace(
        TIME, f"Time = {time}".encode()
    )


def by_file(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {slide["file"]: slide for slide in status["slides"]}


def say(daemon: Daemon, *arguments: str) -> str:
    word = ("--by", "Meyer^Anna", "--why", "read the label", "--config", daemon.config)
    return tandem("identify", *arguments, *word).stdout


def reports(daemon: Daemon) -> list[Any]:
    files = (daemon.state / "archive").rglob("*.dcm")
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    return [header for header in headers if header.Modality == "SR"]


def test_rescans_and_duplicates(daemon: Daemon, small_case: SyntheticCase) -> None:
    he, ihc = small_case.he_path, small_case.ihc_path
    name = ihc.stem
    (daemon.scans / he.name).write_bytes(scan_of(he, 5))
    (daemon.scans / f"{name}.svs").write_bytes(scan_of(ihc, 5))
    daemon.start()
    daemon.wait(case_state("delivered"))
    first = daemon.status()["cases"][0]["slides"]

    # An older scan, and a copy, that come late: nothing changes.
    (daemon.scans / f"{name}_older.svs").write_bytes(scan_of(ihc, 3))
    (daemon.scans / f"{name}_copy.svs").write_bytes(scan_of(ihc, 5))
    status = daemon.wait(lambda s: _ended(s) and len(s["slides"]) == 4)
    slides = by_file(status)
    assert [slides[f"{name}_{each}.svs"]["state"] for each in ("older", "copy")] == [
        "superseded",
        "superseded",
    ]
    assert status["cases"][0]["slides"] == first
    assert "came in anew" not in str(status["cases"][0]["steps"])

    # A rescan that is no good: the good one stays.
    bad = bytearray(scan_of(ihc, 7))
    bad[len(bad) // 4 : -len(bad) // 8] = bytes(len(bad[len(bad) // 4 : -len(bad) // 8]))
    (daemon.scans / f"{name}_bad.svs").write_bytes(bad)
    status = daemon.wait(lambda s: _ended(s) and len(s["slides"]) == 5)
    assert by_file(status)[f"{name}_bad.svs"]["state"] == "quarantined"
    assert (status["cases"][0]["state"], status["cases"][0]["slides"]) == ("delivered", first)

    # A good rescan takes the place, and the older one can be taken back.
    (daemon.scans / f"{name}_newer.svs").write_bytes(scan_of(ihc, 8))
    status = daemon.wait(lambda s: _delivered_anew(s, f"{name}_newer.svs"))
    assert by_file(status)[f"{name}.svs"]["state"] == "superseded"
    assert "stands for its slide" in say(daemon, "keep", str(daemon.scans / f"{name}.svs"))
    status = daemon.wait(lambda s: _delivered_anew(s, f"{name}.svs"))
    assert by_file(status)[f"{name}_newer.svs"]["state"] == "superseded"
    daemon.stop()
    assert small_case.accession not in daemon.log and "Meyer" not in daemon.log


def test_two_scans_of_a_day_and_two_names_of_a_scan_ask_a_person(
    daemon: Daemon, small_case: SyntheticCase
) -> None:
    he, ihc = small_case.he_path, small_case.ihc_path
    (daemon.scans / he.name).write_bytes(scan_of(he, 5))
    for number in (1, 2):
        content = scan_of(ihc, 5, "00:00:00") + bytes([number])
        (daemon.scans / f"{ihc.stem}_{number}.svs").write_bytes(content)
    daemon.start()
    status = daemon.wait(case_state("held"))
    assert status["cases"][0]["reason"] == "two-scans"
    chosen = by_file(status)[f"{ihc.stem}_2.svs"]["id"]
    assert chosen in status["cases"][0]["remedy"]
    say(daemon, "keep", chosen)
    status = daemon.wait(case_state("delivered"))
    assert status["cases"][0]["slides"]["HER2"] == chosen

    (daemon.scans / "S26-77777_B1_HE.svs").write_bytes(scan_of(he, 5))
    status = daemon.wait(case_state("held"))
    slides = by_file(status)
    assert status["cases"][0]["reason"] == "same-slide"
    for file in ("S26-77777_B1_HE.svs", he.name):
        assert (slides[file]["state"], slides[file]["reason"]) == ("quarantined", "same-slide")
    say(daemon, "exclude", slides["S26-77777_B1_HE.svs"]["id"])
    status = daemon.wait(case_state("delivered"))
    assert by_file(status)["S26-77777_B1_HE.svs"]["state"] == "other"
    daemon.stop()


def test_a_slide_that_was_misidentified_is_set_after_delivery(
    daemon: Daemon, small_case: SyntheticCase, readings: Path
) -> None:
    he, ihc = small_case.he_path, small_case.ihc_path
    right = ihc.name.replace("_HER2", "_HER2_right")
    daemon.drop(he, ihc)
    daemon.has_read(readings).start()
    status = daemon.wait(case_state("delivered"))
    slide = by_file(status)[ihc.name]["id"]
    (before,) = reports(daemon)

    say(daemon, "set", slide, "--accession", "S26-77777", "--block", "B1")
    status = daemon.wait(lambda s: len(s["cases"]) == 2 and _ended(s))
    old, new = status["cases"]
    assert (old["state"], old["score"], old["slides"].keys()) == ("waiting", "", {"HE"})
    assert (new["accession"], new["block"], new["slides"]) == ("S26-77777", "B1", {"HER2": slide})
    assert [step for step in old["steps"] if f"{slide} is no slide of it" in step["text"]]

    # The right slide comes: the next report names the wrong one as its predecessor.
    (daemon.scans / right).write_bytes(scan_of(ihc, 9))
    daemon.wait(case_state("delivered"))
    (after,) = [r for r in reports(daemon) if r.SOPInstanceUID != before.SOPInstanceUID]
    (study,) = after.PredecessorDocumentsSequence
    (instance,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert instance.ReferencedSOPInstanceUID == before.SOPInstanceUID
    daemon.stop()


def _ended(status: dict[str, Any]) -> bool:
    states = {slide["state"] for slide in status["slides"]}
    return states <= {"read", "superseded", "quarantined", "other"}


def _delivered_anew(status: dict[str, Any], file: str) -> bool:
    case = status["cases"][0]
    slide = by_file(status).get(file, {"id": ""})["id"]
    return case["state"] == "delivered" and case["slides"].get("HER2") == slide
