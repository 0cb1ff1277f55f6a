"""Progress: written by a worker process, read by the status and the dashboard."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from appliance.ledger.progress import ProgressFile, StepProgress, read_progress
from appliance.line.child import Child, Limits
from appliance.settings.logs import Logging
from appliance.settings.settings import Settings
from dashboard.wording import progress_words


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def test_rate_and_time_left(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    progress = ProgressFile.of(settings, "slide-3")
    progress("stain on IHC", 10, 410)
    now = 1000.1
    progress("stain on IHC", 20, 410)  # too soon to be written
    found = read_progress(settings, "slide-3")
    assert found is not None
    assert (found.done, found.seconds_left) == (10, None)
    now = 1010.0
    progress("stain on IHC", 210, 410)
    found = read_progress(settings, "slide-3")
    assert found == StepProgress(
        what="stain on IHC", done=210, total=410, per_second=20.0, at=1010.0
    )
    assert found.seconds_left == 10
    assert progress_words(found) == "stain on IHC 51 %, 20 tiles/s, 10 s left"
    now = 1010.1
    progress("stain on IHC", 410, 410)  # the last value is always written
    found = read_progress(settings, "slide-3")
    assert found is not None
    assert found.percent == 100


def test_a_worker_process_tells_it(settings: Settings) -> None:
    progress = ProgressFile.of(settings, "case-1")
    child = Child(Logging())
    child.run(Limits(deadline_s=300, silent_s=300), progress, "stain on IHC", 3, 12)
    child.close()
    found = read_progress(settings, "case-1")
    assert found is not None
    assert (found.what, found.done, found.total) == ("stain on IHC", 3, 12)


def test_what_is_over_stale_or_damaged_is_not_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_progress(settings, "case-1") is None
    progress = ProgressFile.of(settings, "case-1")
    progress("tumor on H&E", 1, 2)
    progress.clear()
    assert read_progress(settings, "case-1") is None
    progress = ProgressFile.of(settings, "case-1")
    progress("tumor on H&E", 1, 2)
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    assert read_progress(settings, "case-1") is None
    path = settings.state_dir / "progress" / "case-1.json"
    for text in ("", "{", json.dumps({"what": "x"}), "[1]"):
        path.write_text(text)
        assert read_progress(settings, "case-1") is None


def test_a_folder_that_cannot_be_written_stops_no_step(tmp_path: Path) -> None:
    (tmp_path / "progress").write_text("a file where the folder should be")
    ProgressFile.of(Settings(state_dir=tmp_path), "case-1")("x", 1, 2)
