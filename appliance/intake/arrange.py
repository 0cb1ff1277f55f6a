"""Order of the scans of a block, by facts alone: which scan of each stain stands for the slide.

The answer depends on the set of scans and not on the order in which they came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from appliance.domain import Stain
from appliance.slides.scan_time import UNKNOWN

DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A scan of a slide.

    `scanned_at` is the wall time of the scan; the start of a day where only the day is known,
    `UNKNOWN` where not even that is.
    `passed`: the scan passed inspection. `came_at` is when Tandem first saw it, `chosen_at` when a
    person chose it among those that were there then; 0.0 where nobody did. `chosen_over` is the
    highest id of these, 0 where it is not known.
    """

    slide_id: int
    stain: Stain
    scanned_at: float
    passed: bool
    came_at: float = 0.0
    chosen_at: float = 0.0
    chosen_over: int = 0

    def was_chosen_over(self, other: Scan) -> bool:
        """Return whether a person chose this scan when the other one was there."""
        if self.chosen_over:
            return other.slide_id <= self.chosen_over
        return other.came_at <= self.chosen_at

    @property
    def day(self) -> int:
        """Number of the day of the scan."""
        return int(self.scanned_at // DAY_S)

    @property
    def has_time(self) -> bool:
        """Return whether the time of day is known."""
        return self.scanned_at % DAY_S != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Scans of one stain of a block.

    `place` is the scan that stands for the slide. `rivals` are scans whose order nothing
    tells; a person chooses, and nothing stands until then. `coming` are scans that did not pass
    inspection yet and may take the place. `replaced` names the scan that took the place of each of
    the others.
    """

    place: int | None = None
    rivals: tuple[int, ...] = ()
    coming: tuple[int, ...] = ()
    replaced: Mapping[int, int] = field(default_factory=dict)


NOTHING = Standing()


def is_newer(scan: Scan, other: Scan) -> bool:
    """Return whether a scan is newer than another for certain."""
    if UNKNOWN in (scan.scanned_at, other.scanned_at):
        return False
    if scan.day != other.day:
        return scan.day > other.day
    return scan.has_time and other.has_time and scan.scanned_at > other.scanned_at


def standings(scans: Iterable[Scan]) -> dict[Stain, Standing]:
    """Return the standing of each stain among the scans of a block."""
    by_stain: dict[Stain, list[Scan]] = defaultdict(list)
    for scan in sorted(scans, key=lambda scan: scan.slide_id):
        by_stain[scan.stain].append(scan)
    return {stain: _standing(group) for stain, group in by_stain.items()}


def _standing(scans: list[Scan]) -> Standing:
    """Return the standing of scans of one stain.

    A person's choice goes first, over all scans that were there then. Of the others, only a scan
    that passed inspection takes the place of an older one.
    """
    passed = [scan for scan in scans if scan.passed]
    chosen = max(
        (scan for scan in passed if scan.chosen_at), key=lambda scan: scan.chosen_at, default=None
    )
    replaced: dict[int, int] = {}
    if chosen is not None:
        for scan in scans:
            if chosen.was_chosen_over(scan) and scan.chosen_at < chosen.chosen_at:
                replaced[scan.slide_id] = chosen.slide_id
    left = [scan for scan in passed if scan.slide_id not in replaced]
    for scan in scans:
        # A scan that a person chose waits for its inspection beside those that it was chosen over.
        rest = [other for other in left if not scan.was_chosen_over(other)]
        newer = [other for other in rest if is_newer(other, scan)]
        if newer and scan.slide_id not in replaced:
            newest = max(newer, key=lambda other: (other.scanned_at, other.slide_id))
            replaced[scan.slide_id] = newest.slide_id
    stands = [scan.slide_id for scan in left if scan.slide_id not in replaced]
    return Standing(
        place=stands[0] if len(stands) == 1 else None,
        rivals=tuple(stands) if len(stands) > 1 else (),
        coming=tuple(s.slide_id for s in scans if not s.passed and s.slide_id not in replaced),
        replaced=replaced,
    )
