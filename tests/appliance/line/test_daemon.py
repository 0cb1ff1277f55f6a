"""Signals end the daemon wherever they meet it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, sys
from appliance.line import daemon
from appliance.settings.settings import Settings

def run(self):
    with self._stop._cond:  # as inside of Event.wait and Event.set
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(0 if self._stop.wait(30) else 1)

daemon.Daemon.run = run
daemon.run_daemon(Settings())
"""


def test_signals_while_the_main_thread_holds_the_lock_of_its_stop() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], timeout=120, check=False)
    assert done.returncode == 0
