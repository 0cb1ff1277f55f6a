"""Places of slides on this machine, where it is not the daemon's.

The path of a slide, in the ledger, in `SlideFacts` and in findings, is the one that the daemon
knows. A worker of a cluster may have mounted the scanner's folder elsewhere: what opens a slide's
file asks `place_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

PathPairs = tuple[tuple[str, str], ...]
"""Folders that lie elsewhere on this machine: the daemon's path, and the one here."""

_elsewhere: PathPairs = ()


def use_places(pairs: PathPairs) -> None:
    """Set where folders of the daemon's machine lie on this one, for the whole process."""
    global _elsewhere
    _elsewhere = pairs


def place_of(path: str | Path) -> Path:
    """Return where a path of the daemon's machine lies on this one."""
    return Path(_moved(path, _elsewhere))


def daemons_path(path: str | Path) -> str:
    """Return the path on the daemon's machine of one on this machine."""
    return _moved(path, [(here, daemons) for daemons, here in _elsewhere])


def _moved(path: str | Path, pairs: Sequence[tuple[str, str]]) -> str:
    found = PurePosixPath(path)
    # The longest folder first: one may be mounted within another.
    for old, new in sorted(pairs, key=lambda pair: -len(pair[0])):
        if found.is_relative_to(old):
            return str(PurePosixPath(new, found.relative_to(old)))
    return str(path)
