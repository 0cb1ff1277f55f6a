"""Slides that are not what they are named for: through the daemon, and ``tandem process``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fixtures.daemon import Daemon, tandem

from models.synthesis.slides import SyntheticCase


def _swapped(case: SyntheticCase, folder: Path) -> tuple[Path, Path]:
    """Copy both slides, each under the other's name."""
    folder.mkdir(exist_ok=True)
    he, ihc = folder / case.he_path.name, folder / case.ihc_path.name
    shutil.copy(case.ihc_path, he)
    shutil.copy(case.he_path, ihc)
    return he, ihc


def test_exchanged_slides_are_set_aside_with_the_remedy(
    daemon: Daemon, small_case: SyntheticCase, tmp_path: Path
) -> None:
    daemon.drop(*_swapped(small_case, tmp_path / "swapped"))
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


def test_process_refuses_exchanged_slides_in_one_line(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = tandem("process", small_case.ihc_path, small_case.he_path, "--out", out, check=False)
    assert done.returncode == 1
    assert "looks like IHC with brown membranes" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(out.glob("*.dcm")) and not (out / "findings.json").exists()
