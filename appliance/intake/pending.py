"""Slides that are not finished: since when they have not changed, and whether they are whole."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from appliance.intake.completeness import is_whole
from appliance.intake.found import FoundSlide, found_again
from appliance.intake.identity.names import read_name
from appliance.intake.identity.vocabulary import Vocabulary
from appliance.intake.listing import Identity, identity_of
from appliance.intake.path_names import name_of
from appliance.settings.intake import Watch
from appliance.slides.untouched import open_untouched

LOOK_SECONDS, SLOW_LOOK_SECONDS = 1.0, 5.0
"""Period of looks at unfinished slides: until they could be finished, and after that."""
HEAD_BYTES = 65536
"""Bytes at the start of a file by which it is known again under another name."""
CHECK_SECONDS = 10.0
"""Period of the check of a slide that did not change and was not whole."""


class _Head(NamedTuple):
    """First bytes of a file: how many, and their digest."""

    size_bytes: int
    digest: bytes


@dataclass(slots=True)
class _Pending:
    slide: FoundSlide
    since: float
    checked: float | None = None
    identity: Identity | None = None
    head: _Head | None = None


@dataclass(frozen=True, slots=True)
class FoundAgain:
    """Unfinished slides as they are now, and the paths of those of which a file has gone."""

    slides: tuple[FoundSlide, ...]
    gone: tuple[str, ...]


class PendingSlides:
    """Unfinished slides by path; times are monotonic seconds, passed in."""

    def __init__(self, settings: Watch) -> None:
        self._settings = settings
        self._slides: dict[str, _Pending] = {}
        # Hashes of the files of slides that were read: eight bytes a file.
        self._read: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self._slides)

    def __contains__(self, path: str) -> bool:
        return path in self._slides

    def quiet_seconds(self, slide: FoundSlide, monotonic: float) -> float:
        """Return for how long a slide has had its signature; 0 where it is new or has changed."""
        known = self._slides.get(slide.path)
        if known is None or known.slide.signature != slide.signature:
            new = _Pending(slide, monotonic, identity=_identity(slide.path))
            new.head = _head(slide.path)
            self._slides[slide.path] = new
            return 0.0
        known.slide = slide
        return monotonic - known.since

    def is_due(self, slide: FoundSlide, monotonic: float) -> bool:
        """Return whether a slide is to be checked: quiet, and not found incomplete just now."""
        known = self._slides[slide.path]
        if monotonic - known.since < self._settings.stable_seconds:
            return False
        return known.checked is None or monotonic - known.checked >= CHECK_SECONDS

    def is_whole(self, slide: FoundSlide, monotonic: float) -> bool:
        """Compare a slide's files with their index."""
        self._slides[slide.path].checked = monotonic
        files = [Path(file.path) for file in slide.files]
        return not slide.unreadable and is_whole(Path(slide.path), files)

    def is_renamed(self, path: str, new: str) -> bool:
        """Return whether a file that is gone is the one that lies under another path now.

        A file that was made in its place may have its number. It has other bytes, or is named for
        another accession.
        """
        old, now = self._slides.get(path), self._slides.get(new)
        if old is None or now is None or old.identity is None or old.identity != now.identity:
            return False
        was, is_now = old.slide.signature, now.slide.signature
        if was.size_bytes > is_now.size_bytes or was.modified_ns > is_now.modified_ns:
            return False
        if old.head is None or old.head != _head(new, old.head.size_bytes):
            return False
        named = {_accession(path), _accession(new)} - {""}
        return len(named) < 2

    def forget(self, path: str) -> None:
        """Stop following a slide."""
        self._slides.pop(path, None)

    def keep_read(self, slide: FoundSlide, *, is_read: bool) -> None:
        """Remember the files of a slide that was read, where it has several."""
        if is_read and len(slide.files) > 1:
            self._read[slide.path] = array("q", _hashes(slide))
        else:
            self._read.pop(slide.path, None)

    def is_less(self, slide: FoundSlide) -> bool:
        """Return whether a slide that was read only lost files: the others are as they were."""
        return set(_hashes(slide)) < set(self._read.get(slide.path, ()))

    def is_other(self, slide: FoundSlide) -> bool:
        """Return whether a slide that was read has files that it had not then, or all of them."""
        return slide.path in self._read and not self.is_less(slide)

    def found_again(self) -> FoundAgain:
        """Look at the files of all unfinished slides."""
        slides, gone = list[FoundSlide](), list[str]()
        for path, pending in self._slides.items():
            try:
                again = found_again(pending.slide)
            except OSError:
                continue  # not readable for now; the full scan tells why
            if again is None:
                gone.append(path)
            else:
                slides.append(again)
        return FoundAgain(tuple(slides), tuple(gone))

    def wait_s(self, monotonic: float) -> float | None:
        """Return the time until the next look; None where no slide is unfinished."""
        if not self._slides:
            return None
        window_s = self._settings.stable_seconds
        ages_s = [monotonic - pending.since for pending in self._slides.values()]
        if min(ages_s) > window_s + LOOK_SECONDS:
            return SLOW_LOOK_SECONDS
        due_s = [window_s - age_s for age_s in ages_s if age_s < window_s]
        return min([LOOK_SECONDS, *due_s])


def _hashes(slide: FoundSlide) -> list[int]:
    """Return a number for each file: its series, path, size and time."""
    return [hash((slide.series, file)) for file in slide.files]


def _head(path: str, size_bytes: int = HEAD_BYTES) -> _Head | None:
    """Return the first bytes of a file; None where they cannot be read, or are all zeros."""
    try:
        with open_untouched(path) as stream:
            data = stream.read(size_bytes)
    except OSError:
        return None
    return _Head(len(data), hashlib.sha256(data).digest()) if data.strip(b"\0") else None


def _accession(path: str) -> str:
    """Return the accession in a file's name, in a form that is known without settings."""
    return read_name(name_of(path).rpartition(".")[0], Vocabulary({})).accession


def _identity(path: str) -> Identity | None:
    try:
        return identity_of(path)
    except OSError:
        return None
