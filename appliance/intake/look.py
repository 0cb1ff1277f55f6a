"""One look at slides: comparison of what lies in the folders with what the ledger knows."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from appliance.intake.changes import Change, Kind
from appliance.intake.completeness import UNTIL_PATIENCE, Signature, is_rounded
from appliance.intake.found import FoundSlide, former_signature
from appliance.intake.known import Known
from appliance.intake.listing import Listing
from appliance.intake.path_names import folder_of, is_below, suffix_of
from appliance.intake.pending import PendingSlides
from appliance.intake.presence import KnownFolders, is_away, leads_away, root_of
from appliance.intake.series import Specimen
from appliance.ledger.lifecycle import SlideState
from appliance.settings.intake import Watch


class Base(NamedTuple):
    """Slide with level 0 of a DICOM series."""

    path: str
    specimen: Specimen


NO_BASE = "level 0 of the DICOM series did not come"


class Look:
    """Slides that were seen at one time, and the changes that follow.

    `known` are rows of the ledger; `bases` the DICOM series whose level 0 is somewhere, `former`
    those whose level 0 the look before found.
    """

    def __init__(
        self,
        settings: Watch,
        known: Mapping[str, Known],
        pending: PendingSlides,
        bases: dict[str, Base],
        monotonic: float,
        former: Mapping[str, Base] | None = None,
    ) -> None:
        self._settings, self._pending, self._monotonic = settings, pending, monotonic
        self._changes: list[Change] = []
        self._due: list[tuple[FoundSlide, float]] = []
        self._coarse: list[FoundSlide] = []
        self._came: dict[str, list[str]] = defaultdict(list)
        self.parts: dict[str, str] = {}
        """Paths that belong to another slide, with the path of that slide."""
        self.known, self.bases, self._former = known, bases, former or {}
        self.arriving = {
            path for path, row in known.items() if row.state == SlideState.ARRIVING.value
        }
        self.seen = set[str]()

    def take(self, slide: FoundSlide, left_alone: bool) -> None:
        """Compare a slide with its row."""
        row = self.known.get(slide.path)
        if row is None and left_alone:
            return
        if slide.series:
            mine = (f.path for f in slide.files)
            self.parts |= {p: slide.path for p in mine if p in self.arriving or self._is_ghost(p)}
            if not slide.has_base:
                self._coarse.append(slide)
                return
            self.bases[slide.series] = Base(slide.path, slide.specimen)
        self._compare(slide, row)

    def finish_series(self) -> None:
        """Compare the DICOM series of which only parts without level 0 lie in a folder.

        Parts of a series whose level 0 lies in another folder are no slide: level 0 alone is read.
        Of several folders without it, one stands for the slide, until level 0 comes. A label in a
        series of its own belongs to the slide beside it that names the same specimen. What is left
        of a series that was taken in, and whose level 0 was deleted, is no other slide.
        """
        stands: dict[str, FoundSlide] = {}
        for slide in sorted(self._coarse, key=lambda s: (s.path not in self.known, s.path)):
            main = stands.setdefault(slide.series, slide)
            base = self._base_of(slide)
            if base is not None:
                self.bases[slide.series] = base
                self.parts[slide.path] = base.path
            elif slide.is_beside and len(near := self._slides_beside(slide)) == 1:
                self.parts[slide.path] = near[0]
            elif main is slide:
                self._compare(slide, self.known.get(slide.path))
            else:
                self.parts[slide.path] = main.path

    def _base_of(self, slide: FoundSlide) -> Base | None:
        """Return the slide that has the level 0 of a series; in its folder also one that had it."""
        base = self.bases.get(slide.series)
        former = self._former.get(slide.series)
        if base is None and former is not None and self._is_whole(former.path):
            base = former if folder_of(former.path) == folder_of(slide.path) else None
        return None if base is None or base.path == slide.path else base

    def _slides_beside(self, slide: FoundSlide) -> list[str]:
        """Return the slides of a specimen with a level 0 in the folder of a slide."""
        folder = folder_of(slide.path)
        return [
            base.path
            for base in self.bases.values()
            if folder_of(base.path) == folder and base.specimen == slide.specimen != ("", "")
        ]

    def _is_whole(self, path: str) -> bool:
        """Return whether a slide has arrived, and is neither gone nor unfinished."""
        row = self.known.get(path)
        arriving = SlideState.ARRIVING.value
        return row is not None and row.state != arriving and not (row.gone or row.unfinished)

    def _is_ghost(self, path: str) -> bool:
        """Return whether a row was set aside as never finished."""
        row = self.known.get(path)
        return row is not None and row.unfinished

    def _compare(self, slide: FoundSlide, row: Known | None) -> None:
        self.seen.add(slide.path)
        signature = slide.signature
        if row is None:
            self._change("added", slide)
            self._came[folder_of(slide.path)].append(slide.path)
        elif row.state != SlideState.ARRIVING.value:
            same = _is_of(row, signature)
            if not same and _is_of(row, former_signature(slide)):
                same = True
                if not row.gone:
                    self._change("recounted", slide)
            if same and not row.gone:
                self._pending.forget(slide.path)
                self._pending.keep_read(slide, is_read=row.state == SlideState.READ.value)
                return
            self._change("came-back" if same else "changed", slide)
            self._came[folder_of(slide.path)].append(slide.path)
        elif self._pending.is_other(slide) or (
            (row.size_bytes, row.modified_ns) != (signature.size_bytes, signature.modified_ns)
        ):
            self._change("changed", slide)
        quiet = self._pending.quiet_seconds(slide, self._monotonic)
        if self._pending.is_due(slide, self._monotonic):
            self._due.append((slide, quiet))

    def end_missing(
        self,
        paths: Iterable[str],
        presence: KnownFolders,
        listing: Listing,
        away: Mapping[str, str],
    ) -> None:
        """End those of `paths` that were arriving and were not seen; not those that are away."""
        for path, main in self.parts.items():
            if path not in self.seen and self._is_ghost(path) and self._is_whole(main):
                self._changes.append(Change(kind="part-of", path=path, slide=main))
        missing = {path for path in paths if path in self.arriving and path not in self.seen}
        if not missing:
            return
        empty = self._emptied(missing)
        for path in missing:
            root = root_of(path, self._settings)
            if path in self.parts:
                main = self.parts[path]
                self._changes.append(Change(kind="part-of", path=path, slide=main))
            elif path in listing.channels:
                self._changes.append(Change(kind="channel", path=path))
            elif root is None:
                self._gone(path, "it lies outside the watched folders")
            elif os.path.lexists(path) and not (_is_hidden(path, listing) or leads_away(path)):
                self._gone(path, "it is left out, or no file")
            elif not (
                root in away
                or root in empty
                or _is_hidden(path, listing)
                or is_away(path, self._settings, presence, unknown=False)
            ):
                self._gone(path, "")

    def _emptied(self, missing: Collection[str]) -> set[str]:
        """Watched folders that lost several slides at once and are empty now.

        A person who clears a folder of unfinished scans is rarer than a share that is away.
        """
        if self._settings.marker:
            return set()
        roots = [root_of(path, self._settings) for path in missing]
        return {
            root
            for root in set(roots)
            if root is not None and roots.count(root) > 1 and _is_empty(root)
        }

    def changes(self) -> list[Change]:
        """Check the quiet slides, and return all changes; reads files, and takes its time."""
        for slide, quiet in self._due:
            wait_s = self._settings.patience_seconds
            if not slide.has_base:
                wait_s = self._settings.series_patience_seconds
            is_over = quiet >= self._settings.stable_seconds + wait_s
            may_change = suffix_of(slide.path) in UNTIL_PATIENCE or self._pending.is_less(slide)
            if may_change and not is_over:
                continue  # what is left may be whole; more of it may be deleted
            if self._pending.is_whole(slide, self._monotonic):
                self._change("arrived", slide)
            elif is_over:
                if slide.has_base:
                    self._change("not-whole", slide)
                else:
                    self._changes.append(Change(kind="no-base", path=slide.path, detail=NO_BASE))
        return self._changes

    def _gone(self, path: str, detail: str) -> None:
        for new in self._came.get(folder_of(path), ()):
            if self._pending.is_renamed(path, new):
                self._changes.append(Change(kind="renamed", path=path, slide=new))
                return
        self._changes.append(Change(kind="gone", path=path, detail=detail))

    def _change(self, kind: Kind, slide: FoundSlide) -> None:
        less = kind == "changed" and self._pending.is_less(slide)
        if kind == "changed" and not less:
            self._pending.keep_read(slide, is_read=False)
        change = Change(kind=kind, path=slide.path, signature=slide.signature, less=less)
        self._changes.append(change)


def _is_of(row: Known, signature: Signature | None) -> bool:
    """Return whether a row has a signature; another mount of the share rounds times differently."""
    return (
        signature is not None
        and row.size_bytes == signature.size_bytes
        and is_rounded(row.modified_ns, signature.modified_ns)
    )


def _is_hidden(path: str, listing: Listing) -> bool:
    """Return whether a path lies in a folder that could not be listed."""
    return any(is_below(path, folder) for folder in listing.unreadable)


def _is_empty(root: str) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return True
