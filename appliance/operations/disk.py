"""Free space of the state folder: samples by the daemon, and how long it lasts at that rate."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from appliance.artifacts import write_whole
from appliance.settings.settings import Settings

NAME = "disk.json"
"""File of the samples, in the state folder: for figures, no record of anything."""
SAMPLE_SECONDS = 3600.0
KEPT_SECONDS = 7 * 86400.0
"""Time over which the rate is taken: a week has its quiet days."""
LEAST_SECONDS = 86400.0
"""Time that samples must span: a night is no rate."""
FAR_DAYS = 3650.0
"""Days from which a forecast says nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Memory of the disk: times (s) with free bytes, and what is known of retention.

    `retained_at` is its last run that removed all that was over, `tried_at` its last run (s);
    `trouble` says what that one could not do.
    """

    free: tuple[tuple[float, float], ...] = field(default_factory=tuple)
    retained_at: float = 0.0
    tried_at: float = 0.0
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Free bytes now, bytes used up in a day, and the days until ``low_disk_gib`` is reached.

    `days` is None where the disk does not fill, or too few samples are there to say.
    """

    free: float
    per_day: float | None
    days: float | None

    @property
    def sentence(self) -> str:
        """Return what people read."""
        room = f"{self.free / 2**30:.1f} GiB free"
        if self.per_day is None:
            return f"{room}; a forecast needs a day of samples"
        if self.days is None:
            return f"{room}; the disk does not fill at the rate of the last days"
        return (
            f"{room}; {self.days:.0f} days left at {self.per_day / 2**30:.2f} GiB a day, the rate "
            "of the last days"
        )


def read_samples(settings: Settings) -> Samples:
    """Return what is remembered; nothing where the file is not there or damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        found: dict[str, Any] = json.loads(_path(settings).read_text())
        free = tuple((float(at), float(left)) for at, left in found["free"])
        retained_at = float(found["retained_at"])
        return Samples(
            free=free,
            retained_at=retained_at,
            tried_at=float(found.get("tried_at", retained_at)),  # earlier editions wrote none
            trouble=str(found.get("trouble", "")),
        )
    return Samples()


def take_sample(settings: Settings, now: float) -> None:
    """Remember the free space, at most once in an hour."""
    known = read_samples(settings)
    # Samples of the future were taken under a wrong clock.
    kept = tuple((at, left) for at, left in known.free if now - KEPT_SECONDS <= at <= now)
    if kept and now - kept[-1][0] < SAMPLE_SECONDS:
        return
    free = float(shutil.disk_usage(settings.state_dir).free)
    _write(settings, replace(known, free=(*kept, (now, free))))


def set_tried(settings: Settings, now: float) -> None:
    """Remember that retention begins, where there is room: a full disk needs retention most."""
    with suppress(OSError):
        _write(settings, replace(read_samples(settings), tried_at=now))


def set_retained(settings: Settings, now: float, trouble: str = "") -> None:
    """Remember that retention ended, and what it could not do; where there is room for it."""
    known = read_samples(settings)
    retained_at = known.retained_at if trouble else now
    with suppress(OSError):
        _write(settings, replace(known, retained_at=retained_at, tried_at=now, trouble=trouble))


def retention_trouble(settings: Settings) -> str:
    """Return the sentence that the last retention did not remove all; empty where it did."""
    known = read_samples(settings)
    if not known.trouble:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(known.tried_at))
    return (
        f"The removal of old working data failed at {when}: {known.trouble}. It is tried again the "
        "next night; to try now: tandem retain."
    )


def forecast(settings: Settings, now: float | None = None) -> Forecast:
    """Return how long the free space lasts: a line through the samples of the last seven days.

    Raises
    ------
    OSError
        If the state folder is not there.
    """
    now = time.time() if now is None else now
    free = float(shutil.disk_usage(settings.state_dir).free)
    samples = [(at, left) for at, left in read_samples(settings).free if at <= now]
    recent = [(at, left) for at, left in samples if at >= now - KEPT_SECONDS]
    if len(recent) < 2 or recent[-1][0] - recent[0][0] < LEAST_SECONDS:
        return Forecast(free=free, per_day=None, days=None)
    at_days = (np.array([at for at, _ in recent]) - now) / 86400
    slope = float(np.polyfit(at_days, np.array([left for _, left in recent]), 1)[0])
    room = free - settings.low_disk_gib * 2**30
    days = max(room, 0.0) / -slope if slope < 0 else None
    return Forecast(
        free=free, per_day=-slope, days=None if days is None or days > FAR_DAYS else days
    )


def _path(settings: Settings) -> Path:
    return settings.state_dir / NAME


def _write(settings: Settings, samples: Samples) -> None:
    write_whole(_path(settings), json.dumps(asdict(samples)).encode())
