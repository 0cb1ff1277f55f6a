"""Listing of the scanners' folders: which files may stand for a slide, without what servers leave.

Only names and facts of the file system are looked at, and the first bytes of files that may be
DICOM. Links to files and to folders are followed, also those that lead outside. Each real folder
counts once, so that loops end, and a link to a file that is listed by itself counts as that file.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from appliance.intake.formats import (
    OTHER,
    SETS,
    UNREADABLE_FOLDERS,
    UNREADABLE_SUFFIXES,
    channels_of,
)
from appliance.intake.path_names import is_below, name_of, suffix_of
from appliance.slides.dicom_header import header_of
from appliance.slides.files import DICOM_SUFFIXES, SLIDE_SUFFIXES, may_be_dicom, modified_ns
from appliance.slides.junk import is_junk

DICOM_START_BYTES = 132
"""Bytes that tell whether a file is DICOM (PS3.10 section 7.1)."""
Identity = tuple[int, int]
"""Device and inode of a folder or file."""


class ListedFile(NamedTuple):
    """A file of a folder; size in bytes, time of last change in ns."""

    path: str
    size_bytes: int
    modified_ns: int


@dataclass(slots=True)
class Folder:
    """Files of one folder that may belong to a slide, sorted."""

    path: str
    files: list[ListedFile] = field(default_factory=list)


class Listing:
    """One look at the watched folders `roots`; what is left out and cannot be read is counted.

    The folder `own` is left out: it holds what Tandem writes.
    """

    def __init__(
        self, roots: Sequence[str], ignore: Sequence[str] = (), own: str | None = None
    ) -> None:
        self._real_roots = [os.path.realpath(root) for root in roots]
        self._patterns = tuple(pattern for pattern in ignore if "/" in pattern)
        self._names = tuple(pattern for pattern in ignore if "/" not in pattern)
        self._links: list[tuple[str, str]] = []
        self._taken: set[Identity] = set() if own is None else {identity_of(own)}
        self.folders: dict[str, Identity] = {}
        """Folders that were listed."""
        self.unreadable: set[str] = set()
        """Folders that could not be listed."""
        self.broken: set[str] = set()
        """Links that lead nowhere."""
        self.channels: set[str] = set()
        """Files that are channels of a set, which cannot be read here."""
        self.formats: Counter[str] = Counter()
        """Files that cannot be read here, by suffix; `OTHER` counts those of no known format."""

    def under(self, root: str) -> Iterator[Folder]:
        """Yield the folders of a root and below it.

        Raises
        ------
        OSError
            If the root itself cannot be listed.
        """
        self._links = []
        yield from self._walk(root, root, must=True)
        while self._links:  # what is there by itself comes first
            path, base = self._links.pop()
            yield from self._walk(path, base)

    def alone(self, path: str, root: str, known: dict[str, Identity]) -> Iterator[Folder]:
        """Yield one folder of a root, and those of its subfolders that are not among `known`."""
        self._links = []
        yield from self._walk(path, root, known=known)

    def is_left_out(self, path: str, root: str) -> bool:
        """Return whether one of a path's names below the root is left out."""
        below = path[len(root) :].strip("/")
        return any(is_junk(name) for name in below.split("/")) or self._is_ignored(path, root)

    def _walk(
        self, start: str, root: str, *, must: bool = False, known: dict[str, Identity] | None = None
    ) -> Iterator[Folder]:
        waiting = [start]
        while waiting:
            path = waiting.pop()
            try:
                identity = identity_of(path)
                if identity in self._taken:
                    continue
                with os.scandir(path) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as err:
                if must and path == start:
                    raise
                if not isinstance(err, FileNotFoundError):  # gone since its name was listed
                    self.unreadable.add(path)
                continue
            self._taken.add(identity)
            self.folders[path] = identity
            folder, below = self._sorted(path, root, listed)
            yield folder
            if known is not None:
                below = [name for name in below if name not in known]
            waiting += reversed(below)

    def _sorted(
        self, path: str, root: str, entries: Sequence[os.DirEntry[str]]
    ) -> tuple[Folder, list[str]]:
        """Part a folder's entries: files that may belong to a slide, and subfolders to list."""
        folder, below = Folder(path), list[str]()
        files = {suffix: _files_of(entries, suffix) for suffix in (".mrxs", ".vsi")}
        data = {name[:-5] for name in files[".mrxs"]}
        data |= {f"_{name[:-4]}_" for name in files[".vsi"]}
        channels = self._channels(entries)
        for entry in entries:
            name = entry.name
            if is_junk(name) or self._is_ignored(entry.path, root):
                continue
            suffix = suffix_of(name)
            try:
                if entry.is_dir(follow_symlinks=False):
                    if suffix in UNREADABLE_FOLDERS:
                        self.formats[suffix] += 1
                    elif name not in data:
                        below.append(entry.path)
                elif suffix in UNREADABLE_SUFFIXES:
                    self.formats[suffix] += entry.is_file()
                elif name.casefold() in channels:
                    self.channels.add(entry.path)
                elif suffix in SLIDE_SUFFIXES or may_be_dicom(name):
                    self._take(folder, entry, root)
                elif entry.is_symlink() and stat.S_ISDIR(entry.stat().st_mode):  # broken: raises
                    self._links.append((entry.path, root))
            except OSError:  # gone, or not readable, since it was listed
                if entry.is_symlink():
                    self.broken.add(entry.path)
        return folder, below

    def _take(self, folder: Folder, entry: os.DirEntry[str], root: str) -> None:
        facts = entry.stat()
        if entry.is_symlink():
            if stat.S_ISDIR(facts.st_mode):
                self._links.append((entry.path, root))
                return
            target = os.path.realpath(entry.path)
            # A slide whose bytes lie under a name that is no slide's is known by its link alone.
            named_here = suffix_of(entry.name) in SLIDE_SUFFIXES - DICOM_SUFFIXES
            if self._lists(target) and (not named_here or suffix_of(target) in SLIDE_SUFFIXES):
                return
        if stat.S_ISREG(facts.st_mode):
            file = ListedFile(entry.path, facts.st_size, modified_ns(facts))
            folder.files.append(file)
            if _is_of_no_format(file):
                self.formats[OTHER] += 1

    def _lists(self, path: str) -> bool:
        """Return whether a file without links in its path is listed by itself."""
        return any(
            is_below(path, root) and not self.is_left_out(path, root) for root in self._real_roots
        )

    def _channels(self, entries: Sequence[os.DirEntry[str]]) -> set[str]:
        """Names of files that are channels of a set, which cannot be read here."""
        sets = [entry.path for entry in entries if suffix_of(entry.name) in SETS]
        return {name for path in sets for name in channels_of(path)}

    def _is_ignored(self, path: str, root: str) -> bool:
        if not (self._patterns or self._names):
            return False
        below = "/" + path[len(root) :].strip("/")
        return any(fnmatchcase(name_of(below), p) for p in self._names) or any(
            fnmatchcase(below, p) or fnmatchcase(below + "/", p) for p in self._patterns
        )


def _files_of(entries: Sequence[os.DirEntry[str]], suffix: str) -> list[str]:
    """Return the names of the entries of a suffix that are no folders."""
    return [e.name for e in entries if suffix_of(e.name) == suffix and not _is_folder(e)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_of_no_format(file: ListedFile) -> bool:
    """Return whether a file is no slide by its suffix, and not DICOM by its first bytes."""
    if suffix_of(file.path) in SLIDE_SUFFIXES or file.size_bytes < DICOM_START_BYTES:
        return False
    return header_of(*file) is None


def identity_of(path: str) -> Identity:
    """Device and inode of a folder or file; raises OSError where it cannot be told."""
    facts = os.stat(path)  # noqa: PTH116  paths are text here, for speed
    return facts.st_dev, facts.st_ino
