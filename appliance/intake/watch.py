"""The scanner's folder, always read-only: the periodic scan decides, file events only hasten it."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from appliance.domain import QuarantineReason
from appliance.intake.completeness import (
    SLIDE_SUFFIXES,
    Signature,
    StabilityTracker,
    is_whole,
    signature_of,
)
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import set_reason
from appliance.ledger.transaction import Transaction
from appliance.settings.intake import Watch
from appliance.slides.files import slide_files

log = logging.getLogger(__name__)

JUNK_NAMES = frozenset(
    {
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "lost+found",
        "network trash folder",
        "system volume information",
        "thumbs.db",
        "~snapshot",
    }
)
"""Names that file servers and desktops leave in shared folders."""


def candidates(folder: Path) -> Iterator[Path]:
    """Yield the files under `folder` that may stand for a slide, sorted, without hidden and junk.

    One file of a DICOM series stands for the slide: see `slide_files`. Special files (pipes,
    sockets, devices) are left out: opening one can wait for ever. A subfolder that cannot be
    listed is left out; raises OSError where `folder` itself cannot be.
    """

    def cannot_list(err: OSError) -> None:
        if err.filename == str(folder):
            raise err
        log.debug("a subfolder cannot be listed", exc_info=err)

    for root, folders, names in os.walk(folder, onerror=cannot_list):
        here = Path(root)
        # An MRXS slide's own folder holds data, not slides.
        folders[:] = sorted(
            name for name in folders if not _is_junk(name) and not (here / f"{name}.mrxs").is_file()
        )
        taken: set[Path] = set()
        for name in sorted(names):
            path = here / name
            if _is_junk(name) or path.suffix.lower() not in SLIDE_SUFFIXES or path in taken:
                continue
            if not _is_regular(path):
                continue
            if path.suffix.lower() == ".dcm":
                taken.update(slide_files(path))
            yield path


def is_away(folder: Path) -> bool:
    """Return whether the scanner's folder cannot be listed, or is empty as a bare mount point."""
    try:
        return next(folder.iterdir(), None) is None
    except OSError:
        return True


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _is_junk(name: str) -> bool:
    return name.startswith((".", "~", "._")) or name.lower() in JUNK_NAMES


class FolderScan:
    """Scan of the folder into the ledger: `arriving` → `arrived`, and back when a file changes."""

    def __init__(self, ledger: Ledger, settings: Watch) -> None:
        self._ledger = ledger
        self._settings = settings
        self._tracker = StabilityTracker()
        self._unreachable = False

    @property
    def busy(self) -> bool:
        """True while some files are not finished yet."""
        return len(self._tracker) > 0

    def run(self, *, monotonic: float | None = None, now: float | None = None) -> int:
        """Look at every file once and return how many slides became `arrived`.

        `monotonic` (s) measures the time without change, `now` (s since epoch) dates the events.
        """
        monotonic = time.monotonic() if monotonic is None else monotonic
        now = time.time() if now is None else now
        try:
            paths = list(candidates(self._settings.folder))
        except OSError as err:
            if not self._unreachable:
                log.error(
                    "the scanner's folder cannot be reached (%s); is the share mounted, and may "
                    "Tandem's user read it?",
                    err.strerror or type(err).__name__,
                )
            self._unreachable = True
            return 0
        self._unreachable = False
        changed = 0
        for path in paths:
            try:
                changed += self._look(path, monotonic, now)
            except OSError:
                self._tracker.forget(path)  # gone, or not readable, since it was listed
        return changed

    def _look(self, path: Path, monotonic: float, now: float) -> bool:
        files = slide_files(path)
        signature = signature_of(files)
        with self._ledger.transaction() as tx:
            row = tx.slide_of_path(str(path))
            if row is None:
                row = tx.add_slide(str(path), now)
            known = Signature(row.size_bytes, row.modified_ns)
            if row.state == SlideState.SUPERSEDED and known == signature:
                return False
            if row.state != SlideState.ARRIVING:
                if known == signature:
                    return False
                # Of a slide in any state: facts of the former file no longer hold.
                row.fingerprint = ""
                set_reason(row)
                tx.advance(row, SlideState.ARRIVING, now=now, code="file-changed")
            quiet = self._tracker.quiet_seconds(path, signature, monotonic)
            row.size_bytes, row.modified_ns = signature.size_bytes, signature.modified_ns
            tx.session.add(row)
            if quiet < self._settings.stable_seconds:
                return False
        # Outside the transaction: reading an index can be slow on a network share.
        whole = is_whole(path, files)
        if not whole and quiet < self._settings.stable_seconds + self._settings.patience_seconds:
            return False
        with self._ledger.transaction() as tx:
            self._finish(tx, path, whole, now)
        self._tracker.forget(path)
        return True

    def _finish(self, tx: Transaction, path: Path, whole: bool, now: float) -> None:
        row = tx.slide_of_path(str(path))
        if row is None or row.state != SlideState.ARRIVING:
            return
        if not whole:
            # Opening the file tells more than "not whole": identify names the reason.
            set_reason(row, params={"detail": QuarantineReason.NEVER_FINISHED})
        tx.advance(row, SlideState.ARRIVED, now=now, code="advanced" if whole else "not-whole")


class FolderEvents:
    """Watch of the folder: calls `wake` when something happens in it."""

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._observer = Observer()

    def start(self) -> bool:
        """Start watching; return False, with a line in the log, where the system has no events."""

        class Handler(FileSystemEventHandler):
            def __init__(self, wake: Callable[[], None]) -> None:
                self._wake = wake

            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type in ("created", "modified", "moved", "closed"):
                    self._wake()

        self._observer.schedule(Handler(self._wake), str(self._folder), recursive=True)
        try:
            self._observer.start()
        except OSError as err:
            log.warning("no folder events (%s); the periodic scan finds slides instead", err)
            return False
        return True

    def stop(self) -> None:
        """Stop watching."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
