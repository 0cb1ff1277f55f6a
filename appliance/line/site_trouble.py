"""Trouble of the site behind a failed step: held and tried again, and no slide is to blame."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import DiskFullError, FolderAwayError, TransientError
from appliance.intake.presence import KnownFolders, is_away
from appliance.ledger.tables import SlideRow
from appliance.settings.settings import Settings

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def site_trouble(
    err: Exception, settings: Settings, slides: Sequence[SlideRow]
) -> TransientError | None:
    """Return the error that holds the step, or None where the slides are to blame.

    `slides` are those that the step reads. One that is not in its place is no damaged slide while
    its watched folder, or a folder mounted below it, is away.
    """
    if isinstance(err, OSError) and err.errno in _FULL:
        return DiskFullError(
            f"The disk of the state folder {settings.state_dir} is full. Make room; the step is "
            "tried again by itself."
        )
    missing = [slide.path for slide in slides if not _is_there(Path(slide.path))]
    known = KnownFolders(settings.state_dir if missing else None)
    if any(is_away(path, settings.watch, known) for path in missing):
        return FolderAwayError(
            "The scanner's folder is away or empty. Mount it; the step is tried again by itself."
        )
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
