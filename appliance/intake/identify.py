"""Sidecars: facts that a person wrote beside a slide."""

from __future__ import annotations

import errno
import tomllib
from dataclasses import dataclass
from pathlib import Path

from appliance.domain import QuarantineReason
from appliance.errors import SlideError

MOST_SIDECAR_BYTES = 65536
"""Largest sidecar that is read; a person writes a few lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """Facts that a person wrote beside a slide, in ``NAME.tandem.toml``; they take precedence.

    `organ` and `specimen` choose the guideline (`appliance.assays.her2.guideline`).
    """

    mpp: float | None = None
    accession: str = ""
    block: str = ""
    stain: str = ""
    organ: str = ""
    specimen: str = ""


def sidecar_path(slide: Path) -> Path:
    """Path of the sidecar of a slide, whether or not it is there."""
    return slide.with_name(f"{slide.stem}.tandem.toml")


def has_sidecar(slide: Path) -> bool:
    """Return whether a slide has a sidecar; a name of 255 bytes leaves no room for one."""
    try:
        return sidecar_path(slide).is_file()
    except OSError as err:
        if err.errno != errno.ENAMETOOLONG:
            raise
        return False


def read_sidecar(slide: Path) -> Sidecar:
    """Read the sidecar of a slide; an empty one where there is none.

    Raises
    ------
    SlideError
        UNREADABLE, if the sidecar is not TOML or has unknown keys.
    """
    if not has_sidecar(slide):
        return Sidecar()
    path = sidecar_path(slide)
    try:
        if path.stat().st_size > MOST_SIDECAR_BYTES:
            raise ValueError("larger than any sidecar")
        return Sidecar(**tomllib.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as err:
        raise SlideError(QuarantineReason.UNREADABLE, f"sidecar {path.name}: {err}") from err
