"""Files that were in a watched folder at the first start with ``watch.start_from_now``.

They are left alone while they keep their size and time; one that changes later is a new slide.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

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
        self.is_recorded = self._file.is_file()
        """True once the folder was listed at its first start."""
        if self.is_recorded:
            self._known = {int(line, 16) for line in self._file.read_text().split()}

    def __contains__(self, files: Sequence[ListedFile]) -> bool:
        return all(_digest(file) in self._known for file in files)

    def add(self, files: Sequence[ListedFile]) -> None:
        """Leave files alone from now on; `record` keeps that."""
        self._known.update(_digest(file) for file in files)

    def record(self) -> None:
        """Keep what was added: all files that come later are slides."""
        write_whole(self._file, "".join(f"{n:016x}\n" for n in sorted(self._known)).encode())
        self.is_recorded = True


def _digest(file: ListedFile) -> int:
    facts = os.fsencode(file.path) + f"\0{file.size_bytes}\0{file.modified_ns}".encode()
    return int.from_bytes(hashlib.blake2b(facts, digest_size=8).digest(), "big")
