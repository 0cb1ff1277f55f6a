"""Signals end the daemon wherever they meet it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading, time
from appliance.line import daemon
from appliance.settings.settings import Settings

def run(self):
    BODY
    sys.exit(0 if self._stop.wait(30) else 1)

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
    done = subprocess.run([sys.executable, "-c", script], timeout=120, check=False)
    assert done.returncode == 0
