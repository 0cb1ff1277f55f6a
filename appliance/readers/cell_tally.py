"""Tally of tumor cells: shares and H-score by cells, completeness and clusters per class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.findings.classes import CLASS_NAMES, h_score, percent_of_tumor
from appliance.findings.measured import CellFacts

COMPLETE = 0.8
"""Stained share (0-1) of the outline from which a membrane is complete. Guidelines say "complete"
and give no number. A fifth is allowed for the tolerance in µm and for oblique sections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTally:
    """Sums over tumor cells, one number per class 0, 1+, 2+, 3+; add tallies of tiles with ``+``.

    `counted` is the number of cells, `measured` that of cells wholly on their tile. Over measured
    cells, `completeness` is the sum of stained shares and `complete` the number of cells with a
    share of at least `COMPLETE`. `cluster` is the number of cells in the largest group of touching
    cells of this class *or a higher one*, within a tile: a cluster across a tile's edge counts as
    its larger part. Gastric biopsies require at least 5 cells (WJG 2014 v20 i16 p4526); a 3+ cell
    among 2+ cells does not break their cluster.
    """

    counted: tuple[int, ...] = (0, 0, 0, 0)
    measured: tuple[int, ...] = (0, 0, 0, 0)
    completeness: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    complete: tuple[int, ...] = (0, 0, 0, 0)
    cluster: tuple[int, ...] = (0, 0, 0, 0)

    def __add__(self, other: CellTally) -> CellTally:
        """Add two tallies; the largest cluster is the larger of the two."""

        def both(name: str) -> tuple[Any, ...]:
            return tuple(
                a + b for a, b in zip(getattr(self, name), getattr(other, name), strict=True)
            )

        sums = {name: both(name) for name in self.__slots__ if name != "cluster"}
        largest = tuple(max(a, b) for a, b in zip(self.cluster, other.cluster, strict=True))
        return CellTally(**sums, cluster=largest)

    @property
    def percent(self) -> dict[str, float]:
        """Share (0-100) of the tumor cells in each class; zeros without cells."""
        return percent_of_tumor(np.array([0, *self.counted], dtype=np.int64))

    @property
    def h_score(self) -> float:
        """H-score by cells: Σ intensity (0-3) x % of tumor cells, 0-300."""
        return h_score(self.percent)

    @property
    def mean_completeness(self) -> dict[str, float | None]:
        """Mean stained share (0-1) of the outline per class; None where no cell was measured."""
        return self._mean(self.completeness)

    @property
    def complete_percent(self) -> dict[str, float | None]:
        """Share (0-100) of each class's measured cells with a complete membrane; None if none."""
        return {
            name: None if share is None else 100 * share
            for name, share in self._mean(self.complete).items()
        }

    @property
    def facts(self) -> CellFacts:
        """Tally in the form that findings hold."""
        return CellFacts(
            counted=sum(self.counted),
            measured=sum(self.measured),
            percent=self.percent,
            h_score=self.h_score,
            completeness=self.mean_completeness,
            complete_percent=self.complete_percent,
            largest_cluster=self.largest_cluster,
        )

    @property
    def largest_cluster(self) -> dict[str, int]:
        """Cells in the largest cluster of each class or a higher one."""
        return dict(zip(CLASS_NAMES, self.cluster, strict=True))

    @property
    def cluster_cells(self) -> dict[str, int] | None:
        """`largest_cluster` as guidelines take it: None where no cell was counted."""
        return self.largest_cluster if any(self.counted) else None

    def _mean(self, sums: tuple[float, ...]) -> dict[str, float | None]:
        return {
            name: float(total / n) if n else None
            for name, total, n in zip(CLASS_NAMES, sums, self.measured, strict=True)
        }


def add_up(tallies: Iterable[CellTally]) -> CellTally:
    """Add up the tallies of a slide's tiles; zeros without tiles."""
    return sum(tallies, start=CellTally())


def tally_cells(
    grade: NDArray[np.uint8],
    completeness: NDArray[np.float32],
    cluster: tuple[int, ...],
) -> CellTally:
    """Tally the cells of a tile.

    `grade` (0-3) and `completeness` (stained share, NaN: not measured) are (n,) each; `cluster` is
    the largest cluster per class.
    """
    whole = np.isfinite(completeness)

    def per_class(weights: NDArray[Any]) -> list[Any]:
        found: list[Any] = np.bincount(grade[whole], weights=weights[whole], minlength=4).tolist()
        return found

    return CellTally(
        counted=tuple(np.bincount(grade, minlength=4).tolist()),
        measured=tuple(np.bincount(grade[whole], minlength=4).tolist()),
        completeness=tuple(per_class(completeness)),
        complete=tuple(int(v) for v in per_class(completeness >= COMPLETE)),
        cluster=cluster,
    )
