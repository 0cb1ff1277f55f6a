"""The daemon's sign of life: a thread that says every two seconds what each lane does.

The service manager hears of each sign, so that its watchdog ends a daemon that gives none.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping

from appliance.ledger.heartbeat import BEAT_SECONDS, LaneSign, Sign, boot_id, born, write_sign
from appliance.settings.logs import log_place
from appliance.settings.service import ALIVE, READY, STARTING, tell_manager
from appliance.settings.settings import Settings

SLOW_TURN_SECONDS = 60.0
"""Age of an open turn from which its loop counts as held up."""


class Turns:
    """Turns of a loop, each of which should end within `slow_s`: the scan, the delivery."""

    def __init__(self, trouble: str, slow_s: float = SLOW_TURN_SECONDS) -> None:
        self._trouble, self._slow_s, self._more_s = trouble, slow_s, 0.0
        self._began: float | None = None
        self._since = time.time()

    def __enter__(self) -> None:
        self.step()

    def __exit__(self, *_: object) -> None:
        self._began = None

    def step(self, more_s: float = 0.0) -> None:
        """Note that the turn goes on, with something that may take `more_s` longer than others."""
        self._more_s = more_s
        self._began, self._since = time.monotonic(), time.time()

    def sign(self) -> LaneSign:
        """Return the loop's sign; its trouble where a turn goes on for long."""
        began = self._began
        slow = began is not None and time.monotonic() - began > self._slow_s + self._more_s
        return LaneSign(doing="", since=self._since, trouble=self._trouble if slow else "")


class Pulse:
    """Writer of the sign; `signs` returns those of all lanes."""

    def __init__(self, settings: Settings, signs: Callable[[], Mapping[str, LaneSign]]) -> None:
        self._settings, self._signs = settings, signs
        self._started = time.time()
        self._log = log_place()
        self._ready = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Give the first sign and go on."""
        self._give("")
        self._thread.start()

    def ready(self) -> None:
        """Tell the service manager, once, that the start is over."""
        if not self._ready:
            tell_manager(READY)
            self._ready = True

    def end(self, why: str) -> None:
        """Give the last sign, which says why the daemon ended."""
        self._end.set()
        self._thread.join()
        self._give(why)

    def _run(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            self._give("")

    def _give(self, ended: str) -> None:
        sign = Sign(
            at=time.time(),
            monotonic=time.monotonic(),
            boot=boot_id(),
            pid=os.getpid(),
            born=born(os.getpid()),
            started=self._started,
            ended=ended,
            log=self._log,
            lanes={} if ended else self._signs(),
        )
        write_sign(self._settings, sign)
        tell_manager(ALIVE if self._ready else STARTING)
