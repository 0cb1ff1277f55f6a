"""Signals end the daemon wherever they meet it; it does not start beside another one."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.daemon import Daemon, tandem

from appliance.ledger.heartbeat import Sign, life, write_sign
from appliance.settings.settings_file import load_settings

SCRIPT = """
import os, signal, sys, threading, time
from appliance.line import daemon
from appliance.settings.settings import Settings

def run(self):
    BODY
    sys.exit(0 if self._stop.wait(600) else 1)

daemon.Daemon.run = run
daemon.run_daemon(Settings())
"""


HOLDS_THE_LOCK = """with self._stop._cond:  # as inside of Event.wait and Event.set
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGTERM)
"""
WAITS_WITHOUT_WAKING = """# The thread that meets the signal is not the one that waits.
    def meet():
        time.sleep(0.5)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Thread(target=meet).start()
"""


@pytest.mark.parametrize("body", [HOLDS_THE_LOCK, WAITS_WITHOUT_WAKING])
def test_a_signal_ends_the_daemon_whatever_its_main_thread_does(body: str) -> None:
    script = SCRIPT.replace("BODY", body)
    done = subprocess.run([sys.executable, "-c", script], timeout=900, check=False)
    assert done.returncode == 0


def test_a_daemon_does_not_start_while_one_on_another_machine_gives_signs(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    settings = load_settings(daemon.config)
    settings.state_dir.mkdir()
    sign = Sign(at=1.0, monotonic=1.0, boot="of another machine", pid=1, born=1, started=1.0)
    ended = threading.Event()

    def beat() -> None:
        """Give signs as that machine does, whose clock is wrong."""
        for second in itertools.count():
            write_sign(settings, replace(sign, at=float(second)))
            if ended.wait(0.5):
                return

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        refused = tandem("run", "--config", daemon.config, check=False)
    finally:
        ended.set()
        beating.join()
    assert refused.returncode == 1
    assert "tandem run on another machine uses this state folder" in refused.stderr
    assert not settings.ledger_file.exists()
    daemon.start()  # the other one is gone: its last sign stays as it is
    try:
        daemon.wait(lambda _: settings.ledger_file.exists() and life(settings).alive)
    finally:
        daemon.close()
