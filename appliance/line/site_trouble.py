"""Trouble of the site behind a failed step: held and tried again, and no slide is to blame."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from appliance.artifacts import require_usable
from appliance.domain import QuarantineReason
from appliance.errors import (
    DiskFullError,
    FolderAwayError,
    LookAgainError,
    PermanentError,
    SlideError,
    StateFolderError,
    TookTooLongError,
    TransientError,
    WorkerDiedError,
)
from appliance.intake.listing import Identity, identity_of
from appliance.intake.presence import KnownFolders, is_away
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.line.child import Limits
from appliance.line.executors import Slot
from appliance.line.machine import SHORT
from appliance.settings.settings import Settings
from appliance.slides.places import daemons_path

_MAY_COME_BACK = frozenset(
    {
        QuarantineReason.UNREADABLE,
        QuarantineReason.DAMAGED,
        QuarantineReason.VANISHED,
        # What OpenSlide could not open, and what looks whole a moment later.
        QuarantineReason.UNSUPPORTED,
        QuarantineReason.MISSING_TAGS,
        QuarantineReason.NEVER_FINISHED,
    }
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LOOK = Limits(deadline_s=30.0, silent_s=30.0)
"""Limits of a look at the scanner's folder, or at the state folder: a dead mount answers never."""


LOOKED = 2**16
"""Part of `step_tries` that says that a step was tried once more, beside the attempts that exceeded
its deadline: one of either kind takes none of the other."""


def site_trouble(
    err: Exception, settings: Settings, slides: Sequence[SlideRow], slot: Slot
) -> TransientError | None:
    """Return the error that holds the step, or None where the slides are to blame.

    `slides` are those that the step reads. One that is not in its place is no damaged slide while
    its watched folder, or a folder mounted below it, is away. The slot's process looks, because a
    look at a share may hang.
    """
    if isinstance(err, OSError) and err.errno in _FULL:
        return DiskFullError(
            f"The disk of the state folder {settings.state_dir} is full. Make room; the step is "
            "tried again by itself."
        )
    if isinstance(err, OSError):
        try:
            slot.run(LOOK, require_usable, settings.artifacts_dir)
        except StateFolderError as unusable:
            return unusable
        except (TookTooLongError, WorkerDiedError):
            return StateFolderError(
                f"The state folder {settings.state_dir} does not answer. See to its disk; the step "
                "is tried again by itself."
            )
    # As `Path`, so that a worker on another machine looks where the folder lies there.
    paths = tuple(Path(slide.path) for slide in slides)
    try:
        away = slot.run(LOOK, folder_is_away, paths, settings)
    except (TookTooLongError, WorkerDiedError):
        away = True
    if not away:
        return None
    return FolderAwayError(
        "The scanner's folder is away, empty, or does not answer. Mount it; the step is tried "
        "again by itself."
    )


def second_look(err: Exception, row: SlideRow | CaseRow) -> LookAgainError | None:
    """Return the error that has a step tried once more; None where it failed before.

    A share that was away for a moment is there again when `site_trouble` looks, and what it did not
    give in between looks like a damaged file. A result that is damaged just while it is read raises
    whatever its library raises; the next attempt finds it damaged, and makes it anew.
    """
    is_final = isinstance(err, PermanentError)
    if isinstance(err, SlideError):
        is_final = err.reason not in _MAY_COME_BACK
    if is_final or row.step_tries % SHORT >= LOOKED:
        return None
    return LookAgainError(f"A step failed ({type(err).__name__}). It is tried once more.")


def folder_is_away(paths: Sequence[Path], settings: Settings) -> bool:
    """Return whether one of some slides is missing because its folder is away."""
    missing = [str(path) for path in paths if not _is_there(path)]
    state_dir = settings.state_dir if missing else None
    on_worker = bool(settings.cluster.scheduler)
    known = _FoldersOfDaemon(state_dir) if on_worker else KnownFolders(state_dir)
    return any(is_away(path, settings.watch, known) for path in missing)


class _FoldersOfDaemon(KnownFolders):
    """Folders as the daemon saw them, by a worker's paths; each machine numbers its mounts anew."""

    def get(self, path: str) -> Identity | None:
        """Return the identity of a folder, with the number of the device that it has here."""
        before = super().get(daemons_path(path))
        try:
            return None if before is None else (identity_of(path)[0], before[1])
        except OSError:
            return before


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
