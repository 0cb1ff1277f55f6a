"""Stored results as pages show them: damaged bytes are told, and never shown as figures."""

from __future__ import annotations

from pathlib import Path

from appliance.artifacts import file_is_as_written, read_sums
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings


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


def require_sound(file: Path) -> None:
    """Compare a file of an artifact with its checksum; raise ResultDamagedError where it differs.

    An artifact without checksums passes.
    """
    if file.name in read_sums(file.parent) and not file_is_as_written(file):
        raise ResultDamagedError(f"{file.name} is not what was written")
