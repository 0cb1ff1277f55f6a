"""The scanners' folders, always read-only: the full scan decides, file events only hasten it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from appliance.errors import StoppedError
from appliance.intake.scan import FolderScan
from appliance.ledger.ledger import Ledger
from appliance.settings.intake import Watch

log = logging.getLogger(__name__)

MOST_EVENTS = 2000
"""Most paths that wait for one look; with more, everything is looked at."""
LEAST_PAUSE_SECONDS = 0.2
"""Shortest pause between two looks, so that a storm of events does not fill a core."""
PAUSE_FACTOR = 4.0
"""Pause after a full scan, in durations of that scan."""
TROUBLE_SECONDS = 10.0
"""Pause after a scan that failed: the ledger may be locked for a while."""


class FolderWatch:
    """Watch of the scanners' folders: `run` is the loop of the thread that scans.

    `settings.roots` need not be there: a folder that is away is looked for at each full scan.
    """

    def __init__(self, ledger: Ledger, settings: Watch, state_dir: Path | None = None) -> None:
        self.scan = FolderScan(ledger, settings, state_dir)
        self._settings = settings
        self._wake = threading.Event()
        self._events = FolderEvents(self._wake.set, self.scan.is_pending)
        self._next_full = 0.0

    def wake(self) -> None:
        """End the pause of the loop, also to let it see that it shall stop."""
        self._wake.set()

    def run(self, stop: threading.Event, turn: AbstractContextManager[None] | None = None) -> None:
        """Scan until `stop` is set; call `wake` after setting it. Each scan is within `turn`.

        A scan that fails is tried again: the trouble may be the ledger's, or the share's.
        """
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    with turn or nullcontext():
                        pause_s = self._turn()
                except StoppedError:
                    break
                except Exception as err:  # boundary of the scan's thread: the watch goes on
                    log.error("the scan failed: %s; it is tried again", type(err).__name__)
                    log.debug("details", exc_info=err)
                    self._next_full = 0.0
                    stop.wait(TROUBLE_SECONDS)
                    continue
                if not self._wake.wait(pause_s):
                    continue
                stop.wait(LEAST_PAUSE_SECONDS)
        finally:
            self._events.stop()
            self.scan.close()

    def _turn(self) -> float:
        """Scan what is due, and return the time until the next turn."""
        start = time.monotonic()
        paths = self._events.take()
        if start >= self._next_full or len(paths) > MOST_EVENTS:
            self.scan.run()
            there = [root for root in self._settings.roots if str(root) not in self._away()]
            seen = not self._settings.polling and self._events.follow(there)
            period_s = self._settings.rescan_seconds
            if not seen:
                period_s = min(period_s, self._settings.poll_seconds)
            end = time.monotonic()
            self._next_full = end + max(period_s, PAUSE_FACTOR * (end - start))
        elif paths or self.scan.busy:
            self.scan.look(paths)
        now = time.monotonic()
        wait_s = self.scan.wait_s(now)
        until_full_s = max(0.0, self._next_full - now)
        # A look at very many unfinished slides takes its time too.
        return until_full_s if wait_s is None else min(max(wait_s, now - start), until_full_s)

    def _away(self) -> set[str]:
        return set(self.scan.report.away)


class FolderEvents:
    """Paths of which the system reports a change. Calls `wake` for each that no one follows yet."""

    def __init__(self, wake: Callable[[], None], is_pending: Callable[[str], bool]) -> None:
        self._wake, self._is_pending = wake, is_pending
        self._paths: set[str] = set()
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._followed: dict[Path, tuple[int, int]] = {}
        self._refused: dict[Path, tuple[int, int]] = {}

    def follow(self, folders: list[Path]) -> bool:
        """Follow the folders that are there; return False where the system has no events.

        A share that was away and is back is another folder, of which the old watch tells nothing.
        """
        wanted = {}
        for folder in folders:
            try:
                facts = folder.stat()
            except OSError:
                continue
            wanted[folder] = facts.st_dev, facts.st_ino
        if wanted in (self._followed, self._refused):
            return wanted == self._followed
        self.stop()
        observer = Observer()
        try:
            for folder in wanted:
                observer.schedule(self._handler(), str(folder), recursive=True)
            observer.start()
        except OSError as err:
            self._refused = wanted
            log.warning("no folder events (%s); periodic scans find slides instead", err.strerror)
            return False
        self._observer, self._followed = observer, wanted
        return True

    def take(self) -> set[str]:
        """Return the paths that were reported since the last call."""
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths

    def stop(self) -> None:
        """Stop following."""
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        self._observer, self._followed = None, {}

    def _handler(self) -> FileSystemEventHandler:
        report = self._report

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type == "modified" and event.is_directory:
                    return  # each of its entries has an event of its own
                if event.event_type in ("created", "modified", "moved", "closed"):
                    report(os.fsdecode(event.src_path))
                    if event.event_type == "moved":
                        report(os.fsdecode(event.dest_path))

        return Handler()

    def _report(self, path: str) -> None:
        if self._is_pending(path):
            return  # an unfinished slide is looked at by itself
        with self._lock:
            if path in self._paths:
                return
            self._paths.add(path)
        self._wake()
