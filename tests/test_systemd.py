"""The units of systemd: their exposure by systemd's own figure, and what they have in common."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fixtures.confine import settings_of
from fixtures.judges import require_judge

SYSTEMD = Path(__file__).resolve().parents[1] / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.glob("*.service"))
MOST_EXPOSED, MOST_EXPOSED_WITH_GPU = 2.0, 2.5


def analyze(*arguments: str) -> str:
    command = [require_judge("systemd-analyze"), *arguments, "--no-pager"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def exposure(unit: Path) -> float:
    found = re.search(
        r"exposure level.*: ([\d.]+)", analyze("security", "--offline=true", str(unit))
    )
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_hardened(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    shutil.copy(SYSTEMD / name, unit)
    assert exposure(unit) <= MOST_EXPOSED
    (tmp_path / f"{name}.d").mkdir()
    shutil.copy(SYSTEMD / "gpu.conf", tmp_path / f"{name}.d")
    with_gpu = exposure(unit)
    assert MOST_EXPOSED_WITH_GPU >= with_gpu > exposure(SYSTEMD / name)  # the drop-in was read


def test_the_figure_can_be_worse(tmp_path: Path) -> None:
    (tmp_path / "bare.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(tmp_path / "bare.service") > 9


@pytest.mark.parametrize("name", UNITS)
def test_systemd_knows_every_line(name: str) -> None:
    said = analyze("verify", str(SYSTEMD / name)).splitlines()
    # The program is not installed where the tests run, nor are its pages.
    assert not [line for line in said if "is not executable" not in line and name in line]


@pytest.mark.parametrize("name", UNITS)
def test_each_service_tells_that_it_lives(name: str) -> None:
    values = settings_of(SYSTEMD / name)
    assert values["Type"] == ["notify"] and int(values["WatchdogSec"][0]) >= 30
    assert values["UMask"] == ["0077"] and values["User"] == ["tandem"]
    assert values["CapabilityBoundingSet"] == [""]
