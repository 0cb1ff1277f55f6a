"""Slides that are not what they are named for: through the daemon, and ``tandem process``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures.daemon import Daemon, case_state, tandem
from fixtures.scanned import scanned_dicom

from models.synthesis.slides import SyntheticCase


def _swapped(case: SyntheticCase, folder: Path) -> tuple[Path, Path]:
    """Copy both slides, each under the other's name."""
    folder.mkdir(exist_ok=True)
    he, ihc = folder / case.he_path.name, folder / case.ihc_path.name
    shutil.copy(case.ihc_path, he)
    shutil.copy(case.he_path, ihc)
    return he, ihc


def _as_dicom(daemon: Daemon, tmp_path: Path, **slides: Path) -> None:
    """Put slides into the scanner's folder as DICOM of one patient, by the stain that they name."""
    for stain, path in slides.items():
        scanned_dicom(path, tmp_path / stain, stain, PatientID="PAT-0001", PatientName="Weiß^Jana")
        shutil.copytree(tmp_path / stain, daemon.scans / stain)


@pytest.mark.parametrize("form", ["svs", "dicom"])
def test_exchanged_slides_are_set_aside_with_the_remedy(
    daemon: Daemon, small_case: SyntheticCase, tmp_path: Path, form: str
) -> None:
    if form == "svs":
        daemon.drop(*_swapped(small_case, tmp_path / "swapped"))
    else:
        _as_dicom(daemon, tmp_path, HE=small_case.ihc_path, HER2=small_case.he_path)
    daemon.start()
    status = daemon.wait(lambda s: [e["state"] for e in s["slides"]] == ["quarantined"] * 2)
    assert {slide["reason"] for slide in status["slides"]} == {"wrong-picture"}
    told = " ".join(str(slide) for slide in status["slides"])
    assert "looks like an H&E slide" in told and "tandem identify" in told
    assert [case["score"] for case in status["cases"]] in ([], [""])
    daemon.stop()


def test_one_slide_in_both_slots_gets_no_score(
    daemon: Daemon, small_case: SyntheticCase, tmp_path: Path
) -> None:
    twice = tmp_path / small_case.ihc_path.name
    shutil.copy(small_case.he_path, twice)
    daemon.drop(small_case.he_path, twice)
    daemon.start()

    def settled(status: dict[str, Any]) -> bool:
        return [slide["state"] for slide in status["slides"]] == ["quarantined"] * 2

    status = daemon.wait(settled)
    assert {slide["reason"] for slide in status["slides"]} == {"same-slide"}
    assert {case["score"] for case in status["cases"]} <= {""}
    daemon.stop()


def test_one_section_scanned_twice_gets_no_score_though_a_person_keeps_its_picture(
    daemon: Daemon, small_case: SyntheticCase, tmp_path: Path
) -> None:
    _as_dicom(daemon, tmp_path, HE=small_case.he_path, HER2=small_case.he_path)
    daemon.start()
    status = daemon.wait(lambda s: "wrong-picture" in {e["reason"] for e in s["slides"]})
    (wrong,) = (slide for slide in status["slides"] if slide["reason"] == "wrong-picture")
    assert wrong["stain"] == "HER2" and "looks like an H&E slide" in str(wrong)
    keep = ("identify", "keep", wrong["id"], "--by", "Meyer", "--why", "the label says so")
    tandem(*keep, "--config", daemon.config)
    case = daemon.wait(case_state("held"))["cases"][0]
    assert (case["score"], case["reason"], case["deliveries"]) == ("", "same-section", [])
    assert "Both slides show the same section" in str(case) and case["remedy"]
    daemon.stop()
    assert not any(word in daemon.log for word in ("S26-0042", "PAT-0001", "Jana", "Meyer"))


def test_process_refuses_exchanged_slides_in_one_line(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = tandem("process", small_case.ihc_path, small_case.he_path, "--out", out, check=False)
    assert done.returncode == 1
    assert "looks like IHC with brown membranes" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(out.glob("*.dcm")) and not (out / "findings.json").exists()
