"""The daemon as a service: under its unit's restrictions, with words for the service manager."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fixtures import confine
from fixtures.cluster import wait_for
from fixtures.daemon import Daemon, case_state, tandem_here
from fixtures.manager import Manager

from models.synthesis.slides import SyntheticCase

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "tandem.service"
GROUP_AND_OTHERS = 0o077


def why_not_confined() -> str:
    """Return why a process cannot be confined here as systemd confines it; empty where it can."""
    if os.geteuid() != 0:
        return "only root can make a file system read-only to one process"
    if shutil.which("systemd-analyze") is None or ctypes.util.find_library("seccomp") is None:
        return "systemd-analyze or libseccomp is not there (apt install systemd)"
    probe = ["unshare", "--mount", "mount", "--make-rprivate", "/"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        return "this machine allows no mount namespaces"
    return ""


def within(unit: Path, *writable: Path) -> list[str]:
    """Return the command that runs another one under the restrictions of a unit."""
    return [sys.executable, confine.__file__, str(unit), ":".join(str(path) for path in writable)]


def says_alive(daemon: Daemon) -> tuple[int, str]:
    done = tandem_here("status", "--alive", "--config", daemon.config, check=False)
    return done.returncode, done.stdout


def test_a_service_waits_for_a_late_partner_and_delivers(
    tmp_path: Path, small_case: SyntheticCase, readings: Path
) -> None:
    """Confined as by systemd, where that can be done here."""
    daemon = Daemon(tmp_path / "appliance", extra="[pair]\npartner_timeout_hours = 0.001\n")
    run, scratch = TemporaryDirectory(), tmp_path / "tmp"  # a socket's path may not be long
    for folder in (scratch, daemon.state):
        folder.mkdir(mode=0o700)
    manager = Manager(Path(run.name))
    confined = [] if why_not_confined() else within(UNIT, daemon.state, Path(run.name), scratch)
    try:
        daemon.has_read(readings).drop(small_case.ihc_path)
        daemon.start(confined, manager.environment | {"TMPDIR": str(scratch)})
        manager.wait("READY=1")
        status = daemon.wait(case_state("partnerless"))
        assert "No HE slide" in status["cases"][0]["remedy"]
        daemon.drop(small_case.he_path)  # a late partner reopens the case
        daemon.wait(case_state("delivered"))
        assert "WATCHDOG=1" in manager.words and "STOPPING=1" not in manager.words
        # A sign of life counts for some seconds only, and the next may come late.
        wait_for(lambda: says_alive(daemon) == (0, "Tandem runs.\n"), "no sign of life")
        daemon.stop()
        manager.wait("STOPPING=1")
    finally:
        daemon.close()
        manager.close()
        run.cleanup()
    stopped = tandem_here("status", "--alive", "--config", daemon.config, check=False)
    assert (stopped.returncode, "was stopped" in stopped.stdout) == (1, True)
    files = [daemon.state, *daemon.state.rglob("*")]
    assert sum(path.suffix == ".dcm" for path in files) > 3
    assert not [path for path in files if path.stat().st_mode & GROUP_AND_OTHERS]


def test_the_confinement_confines() -> None:
    if why := why_not_confined():
        pytest.skip(why)
    with TemporaryDirectory() as folder:  # not below /dev, which the unit leaves as it is
        check_confined(Path(folder))


def check_confined(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    script = (
        "import mmap, os, socket, sys\n"
        "def refused(call):\n"
        "    try: call()\n"
        "    except OSError: return True\n"
        f"assert not refused(lambda: open('{tmp_path}/state/a', 'w'))\n"
        f"assert refused(lambda: open('{tmp_path}/b', 'w'))\n"
        f"assert refused(lambda: os.chown('{tmp_path}/state/a', 1, 1))\n"
        "assert refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))\n"
        "assert refused(lambda: mmap.mmap(-1, 4096, prot=7)) is WXE\n"
    )
    for unit, told in ((UNIT, "None"), (UNIT.with_name("tandem-dashboard.service"), "True")):
        run = [sys.executable, "-c", script.replace("WXE", told)]
        command = [*within(unit, tmp_path / "state"), *run]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
