"""Files that were in a watched folder at the first start with ``watch.start_from_now``.

They are left alone while they keep their size and time; one that changes later is a new slide.
Times that two mounts of a share may tell of one file count as equal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.intake.completeness import MOUNTS_DIFFER_NS
from appliance.intake.listing import ListedFile
from appliance.intake.presence import write_whole


class LeftAlone:
    """Files of one watched folder that are left alone; kept in a file of the state folder.

    The file holds one hash a line: names may hold accessions, and 100,000 of them would be large.
    """

    def __init__(self, state_dir: Path, root: str) -> None:
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
        self._file = state_dir / f"left_alone-{name}.txt"
        self._known: set[int] = set()
        self._was_recorded = self._file.is_file()
        if self._was_recorded:
            self._known = {int(line, 16) for line in self._file.read_text().split()}
        self._kept = len(self._known)
        self.is_recorded = False
        """True once the folder was listed since the start."""

    def __contains__(self, files: Sequence[ListedFile]) -> bool:
        return all(not self._known.isdisjoint(_digests(file)) for file in files)

    def add(self, files: Sequence[ListedFile]) -> None:
        """Leave files alone from now on; `record` keeps that.

        After the first start, only the record of those that are left alone grows: a former edition
        kept no time that another mount tells, too.
        """
        if self._was_recorded:
            files = [file for file in files if _exact(file) in self._known]
        for file in files:
            self._known |= {_exact(file), _rounded(file)}

    def record(self) -> None:
        """Keep what was added: all files that come later are slides."""
        if not self._was_recorded or len(self._known) > self._kept:
            write_whole(self._file, "".join(f"{n:016x}\n" for n in sorted(self._known)).encode())
        self._was_recorded = self.is_recorded = True


def _digests(file: ListedFile) -> Iterator[int]:
    yield _exact(file)
    for more in (0, -1, 1):  # a rounded time may fall into the next period
        yield _rounded(file, more)


def _exact(file: ListedFile) -> int:
    return _digest(file, f"{file.modified_ns}")


def _rounded(file: ListedFile, more: int = 0) -> int:
    return _digest(file, f"about {file.modified_ns // MOUNTS_DIFFER_NS + more}")


def _digest(file: ListedFile, time: str) -> int:
    facts = os.fsencode(file.path) + f"\0{file.size_bytes}\0{time}".encode()
    return int.from_bytes(hashlib.blake2b(facts, digest_size=8).digest(), "big")
