"""Lanes: threads that claim steps and run them in slots; what is cheap never waits for networks."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from appliance.errors import StoppedError, TransientError, text_of
from appliance.ledger.heartbeat import LaneSign
from appliance.line.child import Limits
from appliance.line.claiming import Work, claim_work
from appliance.line.closing import release_work, set_aside
from appliance.line.context import StepContext
from appliance.line.dispatcher import OF_THE_LEDGER, do_work
from appliance.line.executors import Executor, Resource
from appliance.line.steps import warm_up

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""Longest pause of an idle lane; the end of a step in another lane ends it."""
TROUBLE_SECONDS = 10.0
"""Pause of a lane whose ledger fails in a way that nobody foresaw."""
WARM_UP = Limits(deadline_s=300.0, silent_s=60.0)


class Lanes:
    """All lanes of a daemon."""

    def __init__(self, context: StepContext, executor: Executor, stop: threading.Event) -> None:
        self._stop = stop
        self._bell = Bell()
        self._threads = [
            LaneThread(f"{lane} {number + 1}", lane, context, executor, stop, self._bell)
            for lane, count in executor.threads.items()
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the threads, after `stop` was set; running steps are abandoned."""
        self._bell.ring()
        end = time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                log.warning("lane %s does not end; it is left", thread.name)

    def signs(self) -> Mapping[str, LaneSign]:
        """Return what each lane does; the trouble that threads of a lane share is told once."""
        found: dict[str, LaneSign] = {}
        told: set[tuple[str, str]] = set()
        for thread in self._threads:
            sign = thread.sign
            if thread.ident is not None and not thread.is_alive() and not self._stop.is_set():
                sign = replace(sign, trouble="its thread ended; restart Tandem")
            if (thread.lane, sign.trouble) in told:
                sign = replace(sign, trouble="")
            told.add((thread.lane, sign.trouble))
            found[thread.name] = sign
        return found


class Bell:
    """Wakes the idle lanes when a step has ended and another one may have become possible."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._count = 0

    def ring(self) -> None:
        """Wake all."""
        with self._rung:
            self._count += 1
            self._rung.notify_all()

    def wait(self, heard: int, seconds: float) -> int:
        """Wait until it rang more often than `heard` times; return how often it rang."""
        with self._rung:
            self._rung.wait_for(lambda: self._count != heard, seconds)
            return self._count


class LaneThread(threading.Thread):
    """One thread of a lane: it claims, runs and closes one step at a time."""

    def __init__(
        self,
        name: str,
        lane: Resource,
        context: StepContext,
        executor: Executor,
        stop: threading.Event,
        bell: Bell,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.sign = LaneSign(doing="", since=time.time())
        self.lane: Resource = lane
        self._context, self._executor = context, executor
        self._stop_event, self._bell = stop, bell
        self._claims = 0
        self._warm = False
        self._failures: Counter[str] = Counter()
        self._open: Work | None = None  # claimed, and not closed in the ledger

    def run(self) -> None:
        """Work until `stop` is set."""
        heard = 0
        while not self._stop_event.is_set():
            try:
                if self.lane == "intake" and not self._warm:
                    self._warm_up()
                worked = self._turn()
            except StoppedError:
                return
            except TransientError as err:  # the ledger's: locked, or its disk is full
                self._tell(trouble=text_of(err))
                self._stop_event.wait(err.wait_seconds)
                continue
            except Exception as err:  # noqa: BLE001  boundary of the lane: the line goes on
                self._fail(err)
                continue
            if worked:
                self._bell.ring()
            else:
                heard = self._bell.wait(heard, IDLE_SECONDS)

    def _turn(self) -> bool:
        """Do one step; return False where there is none, or no slot."""
        if self._open is not None:  # its end could not be written
            release_work(self._context, self._open)
            self._open = None
        with self._executor.slot(self.lane) as slot:
            if slot is None:
                self._tell(trouble=self._executor.trouble(self.lane))
                return False
            every = self._context.settings.lanes.oldest_every
            oldest = self._claims % every == every - 1
            self._open = claim_work(self._context, self.lane, oldest=oldest)
            if self._open is None:
                self._tell()
                return False
            self._claims += 1
            self._tell(f"{self._open.step.name} {self._open.job.row.subject}")
            do_work(self._context, slot, self._open)
            self._open = None
        self._tell()
        return True

    def _tell(self, doing: str = "", trouble: str = "") -> None:
        if (doing, trouble) != (self.sign.doing, self.sign.trouble):
            self.sign = LaneSign(doing=doing, since=time.time(), trouble=trouble)

    def _warm_up(self) -> None:
        """Let the process load its libraries now, and not when the first slide waits for it."""
        self._warm = True
        with self._executor.slot(self.lane) as slot:
            if slot is not None:
                slot.run(WARM_UP, warm_up)

    def _fail(self, err: Exception) -> None:
        """Tell of an error that nobody foresaw; a step that raises it again and again ends.

        Trouble of the ledger ends no step: the row waits longer each time, and holds up no other.
        """
        log.error("lane %s failed: %s; it goes on", self.name, type(err).__name__)
        log.debug("details", exc_info=err)
        self._tell(trouble=f"{type(err).__name__}, see the log")
        work, self._open = self._open, None
        try:
            if work is not None:
                subject = work.job.row.subject
                self._failures[subject] += 1
                most = self._context.settings.worker_deaths
                if isinstance(err, OF_THE_LEDGER) or self._failures[subject] < most:
                    wait_s = TROUBLE_SECONDS * 2 ** self._failures[subject]
                    release_work(self._context, work, wait_s)
                else:
                    set_aside(self._context, work, err)
                    del self._failures[subject]
        except Exception:  # noqa: BLE001  the ledger's: the claim is released at the next turn
            self._open = work
        self._stop_event.wait(TROUBLE_SECONDS if work is None else 0.1)
