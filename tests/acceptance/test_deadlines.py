"""Steps that hang: the line goes on, the slide is set aside in words, no process is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fixtures.cluster import wait_for
from fixtures.daemon import TANDEM, Daemon, tandem

from models.synthesis.slides import SyntheticCase

LANES = "[lanes]\ndeadline_factor = 0.05\nsilent_seconds = 5\n"
"""Identify may take 3 s and 15 s per GiB."""


def processes_of(parent: int) -> dict[int, str]:
    """Return the states of a process's children and theirs, by process id."""
    found = dict[int, str]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found[int(entry.name)] = fields[0]
                found |= processes_of(int(entry.name))
    return found


def test_a_file_that_hangs_its_step_is_set_aside_and_the_line_goes_on(
    tmp_path: Path, real: Path, small_case: SyntheticCase
) -> None:
    """OpenSlide opens every file of a DICOM file's folder, a pipe too, and waits for its writer."""
    daemon = Daemon(tmp_path, LANES)
    folder = daemon.scans / "series"
    folder.mkdir()
    shutil.copy(real / "slides" / "sm_image.dcm", folder / "S26-00021_A1_HE.dcm")
    os.mkfifo(folder / "status")
    daemon.start()
    try:
        # Its deadline may be over before anyone looks.
        daemon.wait(
            lambda s: (
                len(s["slides"]) == 1 and s["slides"][0]["state"] in ("arrived", "quarantined")
            )
        )
        daemon.drop(small_case.he_path)
        told = {"quarantined": "took-too-long", "read": ""}
        daemon.wait(
            lambda s: (
                len(s["slides"]) == 2
                and all(told.get(slide["state"]) == slide["reason"] for slide in s["slides"])
            )
        )
        # A sign of life counts for some seconds only, and the next may come late.
        wait_for(
            lambda: "Tandem runs." in tandem("status", "--config", daemon.config).stdout,
            "no sign of life",
        )
        daemon.stop()
        assert "it received SIGTERM" in tandem("status", "--config", daemon.config).stdout
    finally:
        daemon.close()


def test_a_daemon_that_is_killed_is_told_with_its_workers_gone(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.start()
    try:
        daemon.wait(lambda s: s.get("appliance", {}).get("alive", False))
        parent = daemon._process
        assert parent is not None
        end = time.monotonic() + 720
        while len(workers := processes_of(parent.pid)) < 2:
            assert time.monotonic() < end, "no worker was started"
            time.sleep(0.1)
        daemon.kill()
        began = time.monotonic()
        while daemon.status()["appliance"]["alive"]:
            assert time.monotonic() - began < 240
        assert "Its process is gone" in daemon.status()["appliance"]["sentence"]
        doctor = tandem("doctor", "--config", daemon.config, check=False)
        assert doctor.returncode == 1
        assert "Its process is gone" in doctor.stdout
        assert not [pid for pid in workers if Path(f"/proc/{pid}/fd").exists() and _runs(pid)]
    finally:
        daemon.close()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_evaluation_that_is_ended_leaves_no_process(tmp_path: Path, number: int) -> None:
    out = tmp_path / "out"
    command = [str(TANDEM), "evaluate", "--synthetic", "--pairs", "4", "--out", str(out)]
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log)
    workers = dict[int, str]()
    end = time.monotonic() + 720
    while len(workers) < 3 and started.poll() is None and time.monotonic() < end:
        workers |= processes_of(started.pid)
        time.sleep(0.2)
    assert started.poll() is None, (tmp_path / "log").read_text()
    os.kill(started.pid, number)
    started.wait(720)
    end = time.monotonic() + 720
    while any(_runs(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in workers if _runs(pid)]
