"""The scan of the scanners' folders into the ledger: `arriving` → `arrived`, and back.

A scan reads the ledger through a door of its own, lists the folders, and then writes what changed.
What is known and did not change costs one look at its size and time.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from appliance.intake.changes import ENDS, Change, apply_changes
from appliance.intake.found import FoundSlide, found_file, slides_in
from appliance.intake.known import KnownSlides
from appliance.intake.left_alone import LeftAlone
from appliance.intake.listing import Folder, Listing
from appliance.intake.look import Base, Look
from appliance.intake.path_names import folder_of, suffix_of
from appliance.intake.pending import PendingSlides
from appliance.intake.presence import KnownFolders, leads_away, root_of, why_root_is_away
from appliance.intake.report import ScanReport, read_report, write_report
from appliance.ledger.ledger import Ledger
from appliance.settings.intake import Watch
from appliance.slides.dicom_header import begin_scan
from appliance.slides.files import TIFF_SUFFIXES

log = logging.getLogger(__name__)

_AWAY = {
    "missing": "is not there; is the share mounted?",
    "marker": "lacks its marker file; is the share mounted?",
    "empty": "is empty, as a mount point without its share; is the share mounted?",
}
_UNREADABLE = "cannot be reached (%s); is the share mounted, and may Tandem's user read it?"


class FolderScan:
    """Scan of the watched folders. One thread uses it; the ledger may be written by others.

    `state_dir` keeps hints over a restart; without it they are lost with the process.
    """

    def __init__(self, ledger: Ledger, settings: Watch, state_dir: Path | None = None) -> None:
        self._ledger, self._settings, self._state_dir = ledger, settings, state_dir
        self._roots = [str(root) for root in settings.roots]
        self._known = KnownSlides(ledger.url)
        self._pending = PendingSlides(settings)
        self._presence = KnownFolders(state_dir)
        self._walked: dict[str, tuple[int, int]] = {}
        self._bases: dict[str, Base] = {}
        self._report = ScanReport() if state_dir is None else read_report(state_dir)
        self._left_alone: dict[str, LeftAlone] = {}
        self._first_folders: set[str] = set()
        if settings.start_from_now and state_dir is not None:
            self._left_alone = {root: LeftAlone(state_dir, root) for root in self._roots}

    @property
    def busy(self) -> bool:
        """True while some files are not finished yet."""
        return len(self._pending) > 0

    @property
    def report(self) -> ScanReport:
        """Report of the last full scan."""
        return self._report

    def wait_s(self, monotonic: float) -> float | None:
        """Return the time until `look` is due; None while no file is unfinished."""
        return self._pending.wait_s(monotonic)

    def is_pending(self, path: str) -> bool:
        """Return whether a file is looked at by itself until it is finished."""
        return path in self._pending

    def run(self, *, monotonic: float | None = None, now: float | None = None) -> int:
        """Look at every file once and return how many slides became `arrived`.

        `monotonic` (s) measures the time without change, `now` (s since epoch) dates the events.
        """
        monotonic = time.monotonic() if monotonic is None else monotonic
        now = time.time() if now is None else now
        begin_scan()
        known = self._known.all()
        look = Look(self._settings, known, self._pending, {}, monotonic, former=self._bases)
        listing = self._new_listing()
        away = {}
        for root in self._roots:
            why = self._list_root(root, listing, look)
            if why is not None:
                away[root] = why
        look.finish_series()
        look.end_missing(look.arriving, self._presence, listing, away)
        self._bases, self._walked = look.bases, listing.folders
        self._presence.save()
        self._tell(away, listing, look)
        return self._write(look, now)

    def look(
        self, paths: Collection[str], *, monotonic: float | None = None, now: float | None = None
    ) -> int:
        """Look at `paths`, of which the system reported a change, and at all unfinished slides.

        Returns how many slides became `arrived`.
        """
        monotonic = time.monotonic() if monotonic is None else monotonic
        now = time.time() if now is None else now
        listing = self._new_listing()
        folders, singles = list[Folder](), list[FoundSlide]()
        waiting = self._pending.found_again()
        # Of what is gone, the folder tells what is left of a series, or the new name.
        again = [folder_of(path) for path in waiting.gone]
        for root, path in self._targets([*paths, *again]):
            if path not in self._walked and _is_single(path):
                slide = found_file(path)
                singles += [slide] if slide is not None else []
            else:
                folders += listing.alone(path, root, self._walked)
        files = [file.path for folder in folders for file in folder.files]
        own = [s.path for s in (*singles, *waiting.slides)]
        known = self._known.of([*files, *own, *waiting.gone])
        look = Look(self._settings, known, self._pending, dict(self._bases), monotonic)
        for folder in folders:
            self._take_folder(folder, listing, look)
        for slide in (*singles, *waiting.slides):
            if slide.path not in look.seen and slide.path not in listing.channels:
                look.take(slide, self._is_left_alone(slide))
        look.finish_series()
        ended = [*waiting.gone, *look.parts, *listing.channels]
        look.end_missing(ended, self._presence, listing, {})
        self._bases = look.bases
        self._walked.update(listing.folders)
        return self._write(look, now)

    def close(self) -> None:
        """Close the connection to the ledger."""
        self._known.close()

    def _new_listing(self) -> Listing:
        own = None
        if self._state_dir is not None and self._state_dir.is_dir():
            own = str(self._state_dir)
        return Listing(self._roots, self._settings.ignore, own)

    def _list_root(self, root: str, listing: Listing, look: Look) -> str | None:
        """List one watched folder; return why it counts as away, None where it is there."""
        why = why_root_is_away(root, self._settings.marker, self._presence, unknown=False)
        if why is not None:
            return why
        first = self._left_alone.get(root)
        try:
            for folder in listing.under(root):
                self._take_folder(folder, listing, look, first)
        except OSError as err:
            return err.strerror or type(err).__name__
        if first is not None and not first.is_recorded:
            first.record()
        return None

    def _take_folder(
        self, folder: Folder, listing: Listing, look: Look, first: LeftAlone | None = None
    ) -> None:
        found = False
        # Where the first listing breaks off, what comes later into a folder that it saw is new.
        is_first = first is not None and not first.is_recorded
        is_first = is_first and folder.path not in self._first_folders
        for slide in slides_in(folder, look.known):
            found = True
            if first is not None and is_first:
                first.add(slide.files)
            if slide.unreadable:
                if os.path.isdir(slide.unreadable):  # noqa: PTH112  paths are text here
                    listing.unreadable.add(slide.unreadable)
                if slide.path in look.known and slide.path not in look.arriving:
                    continue  # its size is not known: it did not change
            look.take(slide, self._is_left_alone(slide))
        if is_first:
            self._first_folders.add(folder.path)
        if found:
            self._presence.update(_with_parents(folder.path, listing.folders, self._walked))

    def _is_left_alone(self, slide: FoundSlide) -> bool:
        root = root_of(slide.path, self._settings) if self._left_alone else None
        first = None if root is None else self._left_alone.get(root)
        return first is not None and slide.files in first

    def _targets(self, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield (watched folder, path) to look at: a file that is a slide by itself, or a folder.

        Folders that are not walked, such as that of an MRXS slide, stand for the one above.
        """
        listing = self._new_listing()
        done = set[str]()
        for path in paths:
            root = root_of(path, self._settings)
            if path in self._roots:
                root = path
            if root is None or path in self._pending or listing.is_left_out(path, root):
                continue
            target = path
            while target not in self._walked and target != root:
                if folder_of(target) in self._walked and _is_single(target):
                    break
                target = folder_of(target)
            if target not in done:
                done.add(target)
                yield root, target

    def _tell(self, away: dict[str, str], listing: Listing, look: Look) -> None:
        """Log what is new about the folders, and keep the report where it changed."""
        before = self._report
        for why in (why for root, why in away.items() if root not in before.away):
            log.error("the scanner's folder %s", _AWAY.get(why) or _UNREADABLE % why)
        if any(root not in away for root in before.away):
            log.info("a scanner's folder is back")
        # A link behind which slides were seen leads to a mount point that is gone.
        broken = {path for path in listing.broken if path in self._presence}
        # A slide that is such a link waits for the folder of its file.
        waiting = {path for path in listing.broken & look.arriving if leads_away(path)}
        broken |= {folder_of(os.path.realpath(path)) for path in waiting}
        unreadable = len(listing.unreadable | broken)
        if unreadable > before.unreadable_folders:
            log.warning(
                "%d folders below the scanner's folder cannot be listed; may Tandem's user read "
                "them, and is mounted what links lead to?",
                unreadable,
            )
        formats = dict(sorted(listing.formats.items())) if not away else dict(before.formats)
        new = sorted(set(formats) - set(before.formats))
        if new:
            log.info("files of formats that cannot be read here are left alone: %s", " ".join(new))
        self._report = ScanReport(away=away, unreadable_folders=unreadable, formats=formats)
        if self._state_dir is not None and self._report != before:
            write_report(self._state_dir, self._report)

    def _write(self, look: Look, now: float) -> int:
        changes: list[Change] = look.changes()
        refused = {change.path for change in apply_changes(self._ledger, changes, now)}
        for change in changes:
            if change.kind in ENDS:
                self._pending.forget(change.path)
        for path in refused:
            self._pending.forget(path)
        return sum(
            change.kind in ("arrived", "not-whole") and change.path not in refused
            for change in changes
        )


def _is_single(path: str) -> bool:
    """Return whether a file is a slide by itself: a TIFF, no link, and no channel of a set.

    Of a link, of NDPI, and of SVS beside an AFI file, only the whole folder tells that.
    """
    suffix = suffix_of(path)
    if suffix not in TIFF_SUFFIXES - {".ndpi"} or (suffix == ".svs" and _has_sets(path)):
        return False
    return os.path.isfile(path) and not os.path.islink(path)  # noqa: PTH113, PTH114  paths are text


def _has_sets(path: str) -> bool:
    """Return whether an AFI file lies beside a file."""
    try:
        return any(suffix_of(name) == ".afi" for name in os.listdir(folder_of(path)))  # noqa: PTH208
    except OSError:
        return False


def _with_parents(
    path: str, listed: dict[str, tuple[int, int]], before: dict[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """Return the identity of a folder and of the folders above it, as far as they were listed."""
    found = {}
    while (identity := listed.get(path) or before.get(path)) is not None:
        found[path] = identity
        path = folder_of(path)
    return found
