"""Answers beside their truth: input of all figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Answers for N classified items (tiles or images).

    `truth` int (N,), class numbers; `probability` float (N, K); `patient` (N,) of any hashable
    type: items of one patient are not independent.
    """

    truth: NDArray[np.int64]
    probability: NDArray[np.float64]
    patient: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def found(self) -> NDArray[np.int64]:
        """The most probable class of each item, int (N,)."""
        found: NDArray[np.int64] = self.probability.argmax(axis=1)
        return found

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Judged:
        """Return a subset, by mask or by numbers."""
        return Judged(
            truth=self.truth[chosen],
            probability=self.probability[chosen],
            patient=self.patient[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPixels:
    """Label maps of N images against their masks.

    `matrices` int (N, K, K): pixels per image, rows truth, columns found; `patient` (N,).
    """

    matrices: NDArray[np.int64]
    patient: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.matrices)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSlides:
    """Scores of N slides as grades from 0: `truth` int (N,), `found` int (N,), -1 where there is no
    score, `patient` (N,)."""

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    patient: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.truth)
