"""Corrected results: a new result names the wrong one, and nothing is overwritten."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from fixtures.daemon import Daemon, tandem
from fixtures.judges import dicom_errors
from pydicom import Dataset, dcmread

from models.synthesis.slides import SyntheticCase


def archived(daemon: Daemon) -> dict[Path, Dataset]:
    files = (daemon.state / "archive").rglob("*.dcm")
    return {path: dcmread(path, stop_before_pixels=True) for path in files}


def reports(daemon: Daemon) -> list[Dataset]:
    """Return the structured reports in the order of the ledger's deliveries."""
    (case,) = daemon.status()["cases"]
    order = [d["sop_instance_uid"] for d in case["deliveries"] if d["kind"] == "SR"]
    found = {h.SOPInstanceUID: h for h in archived(daemon).values() if h.Modality == "SR"}
    return [found[uid] for uid in order]


def predecessor(report: Dataset) -> str:
    (study,) = report.PredecessorDocumentsSequence
    (instance,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    uid: str = instance.ReferencedSOPInstanceUID
    return uid


def delivered(count: int) -> Any:
    def is_so(status: dict[str, Any]) -> bool:
        (case,) = status["cases"] or [None]
        if case is None or case["state"] != "delivered":
            return False
        return [d["kind"] for d in case["deliveries"]].count("SR") == count

    return is_so


def ended_again(after: str) -> Any:
    """Return a condition: the case is delivered, after an event with these words."""

    def is_so(status: dict[str, Any]) -> bool:
        (case,) = status["cases"]
        words = [event["text"] for event in case["steps"]]
        return any(after in text for text in words) and "→ delivered" in words[-1]

    return is_so


def was_touched(status: dict[str, Any]) -> bool:
    """Return whether a slide's file changed, and the slide is read again."""
    slides = [slide for slide in status["slides"] if slide["stain"] == "HER2"]
    return all(
        any("changed" in event["text"] for event in slide["steps"]) and slide["state"] == "read"
        for slide in slides
    )


def test_a_persons_score_and_a_rerun_are_new_reports(
    daemon: Daemon, small_case: SyntheticCase, readings: Path
) -> None:
    daemon.drop(small_case.he_path, small_case.ihc_path)
    daemon.has_read(readings).start()
    before = daemon.wait(delivered(1))["cases"][0]
    bytes_before = {p: hashlib.sha256(p.read_bytes()).digest() for p in archived(daemon)}
    other = "1+" if before["score"] != "1+" else "2+"
    arguments = ("--by", "Meyer^Anna", "--why", "Only cytoplasm is stained.")
    said = tandem(
        "correct", "case-1", "--score", other, *arguments, "--config", daemon.config
    ).stdout
    assert f"corrected from {before['score']} to {other}" in said
    after = daemon.wait(delivered(2))["cases"][0]
    assert (after["score"], after["review"]) == (other, [])
    first, second = reports(daemon)
    assert predecessor(second) == first.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in first
    assert f"HER2 {other}" in second.SeriesDescription
    (path,) = [p for p, h in archived(daemon).items() if h.SOPInstanceUID == second.SOPInstanceUID]
    assert dicom_errors(path) == []
    # The objects delivered first are still there, byte for byte; the SEG too, beside a new one.
    assert bytes_before == {p: hashlib.sha256(p.read_bytes()).digest() for p in bytes_before}
    series = {h.SeriesInstanceUID for h in archived(daemon).values() if h.Modality == "SEG"}
    assert len(series) == 4

    # The same findings again: the person's correction stands and nothing new is written. A touched
    # slide does not undo it either.
    count = len(archived(daemon))
    tandem("rerun", "case-1", "--config", daemon.config)
    daemon.wait(ended_again("rerun"))
    os.utime(daemon.scans / small_case.ihc_path.name)
    again = daemon.wait(was_touched)["cases"][0]
    assert (again["state"], again["score"], len(archived(daemon))) == ("delivered", other, count)

    # The scanner's folder is emptied: a correction is still possible.
    for slide in daemon.scans.iterdir():
        slide.unlink()
    tandem("correct", "case-1", "--score", "0", *arguments, "--config", daemon.config)
    assert daemon.wait(delivered(3))["cases"][0]["score"] == "0"
    third = reports(daemon)[2]
    assert predecessor(third) == second.SOPInstanceUID
    (path,) = [p for p, h in archived(daemon).items() if h.SOPInstanceUID == third.SOPInstanceUID]
    assert b"ultralow" not in path.read_bytes()

    # Another pathologist agrees: a report that both stand for.
    said = tandem("confirm", "case-1", "--by", "Ito^Bert", "--config", daemon.config).stdout
    assert said == "case-1: score 0 confirmed by Ito^Bert; a new report is written and sent\n"
    assert daemon.wait(delivered(4))["cases"][0]["score"] == "0"
    fourth = reports(daemon)[3]
    assert predecessor(fourth) == third.SOPInstanceUID
    assert [str(each.VerifyingObserverName) for each in fourth.VerifyingObserverSequence] == [
        "Meyer^Anna",
        "Ito^Bert",
    ]
    assert [each.VerificationFlag for each in reports(daemon)] == ["UNVERIFIED", *3 * ["VERIFIED"]]
    (path,) = [p for p, h in archived(daemon).items() if h.SOPInstanceUID == fourth.SOPInstanceUID]
    assert dicom_errors(path) == []
    daemon.stop()
    assert small_case.accession not in daemon.log
    assert "Meyer" not in daemon.log and "Ito" not in daemon.log


def test_what_cannot_be_corrected_says_why(daemon: Daemon, small_case: SyntheticCase) -> None:
    daemon.drop(small_case.he_path)
    daemon.start()
    daemon.wait(lambda s: bool(s["cases"]))
    daemon.stop()
    arguments = ("--score", "1+", "--by", "Meyer^Anna", "--why", "x", "--config", daemon.config)
    for case, words in (("case-1", "no delivered result yet"), ("case-7", "no 'case-7'")):
        done = tandem("correct", case, *arguments, check=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
