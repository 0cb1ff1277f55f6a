"""What was said and what is true, side by side: the input of all figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """N classified things (tiles or images).

    `truth` int (N,), class numbers; `probability` float (N, K); `patient` (N,) of any hashable
    kind: things of one patient are not independent.
    """

    truth: NDArray[np.int64]
    probability: NDArray[np.float64]
    patient: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def found(self) -> NDArray[np.int64]:
        """The likeliest class of each, int (N,)."""
        found: NDArray[np.int64] = self.probability.argmax(axis=1)
        return found

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Judged:
        """Some of them, by mask or by number."""
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
    """Scores of N slides as grades 0-3: `truth` int (N,), `found` int (N,), -1 where there is no
    score, `patient` (N,)."""

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    patient: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.truth)
