"""Progress of a running step, from the worker process to ``tandem status`` and the dashboard.

One small file per slide or case, replaced at most twice a second. No decision depends on it; a
file that is lost or stale is not shown.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.settings.settings import Settings

PERIOD_SECONDS = 0.5
STALE_SECONDS = 60.0
"""Age from which progress is not shown any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """Progress of `what`: `done` of `total` tiles, `per_second` since it began.

    `at` is in seconds since the epoch.
    """

    what: str
    done: int
    total: int
    per_second: float
    at: float

    @property
    def percent(self) -> float:
        """Percent done, 0-100."""
        return 100 * self.done / max(1, self.total)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end; None as long as there is no rate."""
        return (self.total - self.done) / self.per_second if self.per_second > 0 else None


class ProgressFile:
    """Writer of progress: called with (what, done, total) in the worker process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._what = ""
        self._first: tuple[float, int] = (0.0, 0)
        self._written = 0.0

    @classmethod
    def of(cls, settings: Settings, subject: str) -> ProgressFile:
        """Return the file of a slide or case (``slide-3``, ``case-1``)."""
        return cls(_path(settings, subject))

    def __call__(self, what: str, done: int, total: int) -> None:
        """Write the progress, unless it was written less than `PERIOD_SECONDS` ago."""
        now = time.time()
        if what != self._what:
            self._what, self._first, self._written = what, (now, done), 0.0
        if now - self._written < PERIOD_SECONDS and done < total:
            return
        began, first = self._first
        rate = (done - first) / (now - began) if now > began else 0.0
        said = StepProgress(what=what, done=done, total=total, per_second=rate, at=now)
        # A full disk or a folder that went away must not stop the step.
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            temporary = self._path.with_suffix(".part")
            temporary.write_text(json.dumps(asdict(said)))
            temporary.replace(self._path)
        self._written = now

    def clear(self) -> None:
        """Remove the file at the end of the step."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_progress(settings: Settings, subject: str) -> StepProgress | None:
    """Return the progress of a slide or case, or None."""
    try:
        said = StepProgress(**json.loads(_path(settings, subject).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return said if time.time() - said.at < STALE_SECONDS else None


def _path(settings: Settings, subject: str) -> Path:
    return settings.state_dir / "progress" / f"{subject}.json"
