"""Forecast of the disk: a line through the samples of the last days."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.operations.disk import forecast, take_sample
from appliance.settings.settings import Settings

GIB = 2**30
HOUR = 3600.0


def sampled(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, hours: int, per_day_gib: float
) -> float:
    """Take a sample each half hour while the disk fills; return the time of the last."""
    now = 1_780_000_000.0
    for half in range(2 * hours + 1):
        free = int((105 - per_day_gib * half / 48) * GIB)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        take_sample(settings, now + half * HOUR / 2)
    return now + hours * HOUR


def test_days_left_are_those_until_the_least_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path, low_disk_gib=5.0)
    now = sampled(settings, monkeypatch, 48, 2.0)
    found = forecast(settings, now)
    assert found.per_day == pytest.approx(2 * GIB, rel=0.01)
    assert found.days == pytest.approx((105 - 4 - 5) / 2, rel=0.01)
    assert "48 days left at 2.00 GiB a day" in found.sentence


@pytest.mark.parametrize(
    ("hours", "per_day", "words"),
    [(5, 2.0, "needs a day of samples"), (25, -1.0, "does not fill"), (25, 0.0, "does not fill")],
)
def test_a_disk_that_does_not_fill_and_one_just_met_have_no_days_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int, per_day: float, words: str
) -> None:
    settings = Settings(state_dir=tmp_path)
    now = sampled(settings, monkeypatch, hours, per_day)
    assert forecast(settings, now).days is None
    assert words in forecast(settings, now).sentence


def test_damaged_samples_are_begun_anew(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    (tmp_path / "disk.json").write_text('{"free": [[1')
    take_sample(settings, 1_780_000_000.0)
    assert "needs a day" in forecast(settings, 1_780_000_001.0).sentence
