"""Votes of patches for the place of a piece, and the choice of those that agree.

Votes that fit no neighbor's are dropped (RANSAC, then the local median).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import Affine
from appliance.registration.mapping import Points
from appliance.registration.rigid import SCALE_RANGE

AGREE = 0.25
"""Largest difference between neighboring patches of a piece, as a share of the search radius."""
NEIGHBORS = 9
ON_A_LINE = 0.5
"""Spread of votes across their line, as a share of the search radius, below which they show no
affine map. Two rows of patches side by side have more."""
FEWEST = 6
"""Patches that a piece needs for a map of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """Patches of a piece, and the places at which they were found.

    The patches at `tried_um` (m, 2) were searched within `reach_um` of where `start` puts them.
    Those found have `he_um` and `ihc_um` (n, 2), and `odd` bool (n,): the half that measures the
    error of a fit. `patch_um` is the side of a patch. `few`: the piece is too small for patches
    side by side, so they overlap.
    """

    tried_um: Points
    reach_um: float
    start: Affine
    few: bool
    patch_um: float
    he_um: Points
    ihc_um: Points
    odd: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_]) -> Votes:
        """The votes at which `chosen`, bool (n,), is true."""
        return Votes(
            tried_um=self.tried_um,
            reach_um=self.reach_um,
            start=self.start,
            few=self.few,
            patch_um=self.patch_um,
            he_um=self.he_um[chosen],
            ihc_um=self.ihc_um[chosen],
            odd=self.odd[chosen],
        )

    @property
    def tried(self) -> int:
        """Number of patches that were searched."""
        return len(self.tried_um)

    def __len__(self) -> int:
        return len(self.he_um)


def agreeing(votes: Votes) -> Votes:
    """The votes that fit one affine map and their neighbors.

    A small piece has too few votes for that; its votes must fit the start pose.
    """
    if votes.few:
        return fitting_start(votes)
    from scipy.spatial import cKDTree  # slow to load; the daemon does not need it

    if len(votes) < FEWEST:
        return votes.where(np.zeros(len(votes), dtype=bool))
    affine, inside = common_affine(votes)
    if affine is None:
        return votes.where(np.zeros(len(votes), dtype=bool))
    votes = votes.where(inside)
    for _ in range(2):
        if len(votes) < FEWEST:
            return votes.where(np.zeros(len(votes), dtype=bool))
        rest = votes.ihc_um - affine.apply(votes.he_um)
        _, near = cKDTree(votes.he_um).query(votes.he_um, k=min(NEIGHBORS, len(votes)))
        usual = np.median(rest[np.asarray(near)[:, 1:]], axis=1)
        votes = votes.where(np.hypot(*(rest - usual).T) < AGREE * votes.reach_um)
    return votes


def fitting_start(votes: Votes) -> Votes:
    """The votes that fit the start pose."""
    off = distances(votes.ihc_um, votes.start.apply(votes.he_um))
    return votes.where(off < AGREE * votes.reach_um)


def common_affine(votes: Votes) -> tuple[Affine | None, NDArray[np.bool_]]:
    """The affine map on which most votes agree, and which ones do, bool (n,).

    The threshold is half of the search radius, because a bent section deviates from any affine map.
    None where there is no map. Votes on one line, as of a needle core one patch wide, say nothing
    of what lies beside them: they get a similarity that keeps the face of the start pose.
    """
    cv2.setRNGSeed(1)
    if across_um(votes.he_um)[1] < ON_A_LINE * votes.reach_um:
        return _common_similarity(votes)
    matrix, inside = cv2.estimateAffine2D(
        votes.he_um,
        votes.ihc_um,
        method=cv2.RANSAC,
        ransacReprojThreshold=votes.reach_um / 2,
        maxIters=2000,
        confidence=0.999,
    )
    if matrix is None:
        return None, np.zeros(len(votes), dtype=bool)
    (a, b, x), (c, d, y) = matrix.tolist()
    low, high = (scale**2 for scale in SCALE_RANGE)
    if not low < abs(a * d - b * c) < high:  # votes nearly on one line, or on wrong places
        return None, np.zeros(len(votes), dtype=bool)
    return Affine((a, b, c, d), (x, y)), inside.ravel().astype(bool)


def _common_similarity(votes: Votes) -> tuple[Affine | None, NDArray[np.bool_]]:
    """Return the start pose with a rotation, a scale and a shift after it, and the votes of it."""
    matrix, inside = cv2.estimateAffinePartial2D(
        votes.start.apply(votes.he_um),
        votes.ihc_um,
        method=cv2.RANSAC,
        ransacReprojThreshold=votes.reach_um / 2,
        maxIters=2000,
        confidence=0.999,
    )
    if matrix is None or not SCALE_RANGE[0] < np.hypot(*matrix[:, 0]) < SCALE_RANGE[1]:
        return None, np.zeros(len(votes), dtype=bool)
    (a, b), (c, d) = (matrix[:, :2] @ np.array(votes.start.matrix).reshape(2, 2)).tolist()
    x, y = (matrix[:, :2] @ votes.start.shift_um + matrix[:, 2]).tolist()
    return Affine((a, b, c, d), (x, y)), inside.ravel().astype(bool)


def across_um(places: Points) -> tuple[Points, float]:
    """Unit vector (2,) across the line along which places (n, 2) lie, and their spread on it."""
    centered = places - places.mean(axis=0)
    spread, axes = np.linalg.eigh(centered.T @ centered / len(places))
    across: Points = axes[:, 0]
    return across, float(np.sqrt(max(0.0, spread[0])))


def distances(a: Points, b: Points) -> Points:
    """Euclidean distances (n,) between points (n, 2)."""
    distance: Points = np.linalg.norm(a - b, axis=1)
    return distance
