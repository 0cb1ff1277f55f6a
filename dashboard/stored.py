"""Stored results as pages show them: damaged bytes are told, and never shown as figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import file_is_as_written, read_sums
from appliance.findings.codec import load_findings, load_pictures
from appliance.findings.findings import Findings

DAMAGED_OVERVIEW = (
    "The stored overview of this slide is damaged, or cannot be read. It is made again when the "
    "slide is read again."
)


class ResultDamagedError(ValueError):
    """Error where a file of a stored result is gone, or is not what was written."""


def sound_findings(folder: Path) -> Findings:
    """Load the findings of an artifact; its pictures are not looked at.

    Raises
    ------
    ResultDamagedError
        If another file of it is not what was written.
    ValueError
        If another version of Tandem wrote them.
    """
    # An edition that wrote no checksums has none to compare with.
    for name in read_sums(folder):
        if not name.endswith(".png"):
            require_sound(folder / name)
    return load_findings(folder)


def sound_pictures(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Load the overview pictures of findings, of H&E and IHC, each uint8 (H, W, 3).

    Raises
    ------
    ResultDamagedError
        If one of them is not what was written.
    """
    require_sound_pictures(folder)
    return load_pictures(folder)


def require_sound_pictures(folder: Path) -> None:
    """Compare the overview pictures of findings with their checksums, as `require_sound` does."""
    for name in read_sums(folder):
        if name.endswith(".png"):
            require_sound(folder / name)


def require_sound(file: Path) -> None:
    """Compare a file of an artifact with its checksum; raise ResultDamagedError where it differs.

    An artifact without checksums passes.
    """
    if file.name in read_sums(file.parent) and not file_is_as_written(file):
        raise ResultDamagedError(f"{file.name} is not what was written")


def is_sound(file: Path) -> bool:
    """Return whether a file of an artifact can be read and is what was written, as `require_sound`
    compares."""
    try:
        require_sound(file)
    except (ResultDamagedError, OSError):
        return False
    return True
