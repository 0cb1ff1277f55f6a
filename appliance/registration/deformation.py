"""How a section is bent: patches of H&E structure, found again on the IHC slide.

Each patch votes for a place. Votes that fit no neighbour's are dropped (RANSAC, then the local
median); the rest give a piece's affine map and a smooth displacement over it. Half of the patches
take no part in a fit and measure its error instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from appliance.geometry import Affine
from appliance.registration.mapping import LATTICE_UM, Piece, Points, gentle
from appliance.registration.rigid import SCALE_RANGE, Array, Picture

LIKE = 0.15
"""Correlation from which a patch counts as found."""
APART = 0.02
"""By so much the best place must beat all others."""
AGREE = 0.25
"""Neighbouring patches of one piece move alike within this share of how far each is looked for."""
NEIGHBOURS = 9
FEWEST = 6
"""Patches that a piece needs for a map of its own."""
FEW_PATCHES = 16
"""Where fewer fit side by side they overlap."""
SMOOTHING = 1.0
"""Of the splines; votes are some µm off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """`tried` patches, each looked for within `reach_um` of where `start` puts it; those found
    again: `he_um`, `ihc_um` (n, 2), and `odd` bool (n,), the half that measures. `few`: too small a
    piece for patches side by side; they overlap."""

    tried: int
    reach_um: float
    start: Affine
    few: bool
    he_um: Points
    ihc_um: Points
    odd: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_]) -> Votes:
        """Those chosen."""
        return Votes(
            tried=self.tried,
            reach_um=self.reach_um,
            start=self.start,
            few=self.few,
            he_um=self.he_um[chosen],
            ihc_um=self.ihc_um[chosen],
            odd=self.odd[chosen],
        )

    def __len__(self) -> int:
        return len(self.he_um)


def vote(
    moving: Picture,
    fixed: Picture,
    mask: NDArray[np.bool_],
    piece: Piece,
    *,
    patch_um: float,
    reach_um: float,
    least_like: float = LIKE,
) -> Votes:
    """Look for each patch in `mask` of `moving` within `reach_um` of where `piece` puts it.

    It counts as found from a correlation of `least_like` on.
    """
    mpp = moving.mpp
    patch, reach = max(12, round(patch_um / mpp)), max(2, round(reach_um / mpp))
    side = patch + 2 * reach
    a, b = moving.detail, fixed.detail
    few = bool(mask.sum() < FEW_PATCHES * patch**2)
    centers = _centers(mask, patch, max(1, patch // 4) if few else patch)
    he_um = (centers + 0.5).astype(np.float64) * mpp
    at_um = piece.forward(he_um)
    # A patch of the IHC slide, turned back to lie as the H&E does.
    linear = np.array(piece.affine.matrix).reshape(2, 2)
    found, places, odd = [], [], []
    for k, (center, goal) in enumerate(zip(centers, at_um / mpp - 0.5, strict=True)):
        x, y = (int(v) - patch // 2 for v in center)
        template = a[y : y + patch, x : x + patch]
        middle = np.array([side // 2, side // 2])
        to_fixed = np.column_stack([linear, goal - linear @ middle])
        window = cv2.warpAffine(
            b, to_fixed, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        offset = _find(template, window, patch, least_like)
        if offset is None:
            continue
        found.append(he_um[k])
        places.append(at_um[k] + linear @ (offset - reach) * mpp)
        odd.append(bool((center[0] // patch + center[1] // patch) % 2))
    return Votes(
        tried=len(centers),
        reach_um=reach_um,
        start=piece.affine,
        few=few,
        he_um=np.array(found).reshape(-1, 2),
        ihc_um=np.array(places).reshape(-1, 2),
        odd=np.array(odd, dtype=bool),
    )


def agreeing(votes: Votes) -> Votes:
    """Votes that one affine map and their neighbours bear out.

    A small piece has too few votes for that: there the start itself must be borne out.
    """
    if votes.few:
        off = _apart(votes.ihc_um, votes.start.apply(votes.he_um))
        return votes.where(off < AGREE * votes.reach_um)
    if len(votes) < FEWEST:
        return votes.where(np.zeros(len(votes), dtype=bool))
    affine, inside = _affine(votes)
    if affine is None:
        return votes.where(np.zeros(len(votes), dtype=bool))
    votes = votes.where(inside)
    for _ in range(2):
        if len(votes) < FEWEST:
            return votes.where(np.zeros(len(votes), dtype=bool))
        rest = votes.ihc_um - affine.apply(votes.he_um)
        _, near = cKDTree(votes.he_um).query(votes.he_um, k=min(NEIGHBOURS, len(votes)))
        usual = np.median(rest[np.asarray(near)[:, 1:]], axis=1)
        votes = votes.where(np.hypot(*(rest - usual).T) < AGREE * votes.reach_um)
    return votes


def fitted(votes: Votes, size_um: tuple[float, float]) -> Piece:
    """The piece that takes `votes` to their places; `size_um` of the H&E slide.

    Where votes are few, or lie on one line, it stays where it started: they only measure.
    """
    if votes.few or len(votes) < FEWEST:
        return Piece.rigid(votes.start)
    affine, _ = _affine(votes)
    if affine is None:
        return Piece.rigid(votes.start)
    piece = Piece.rigid(affine)
    if len(votes) < 2 * FEWEST:
        return piece
    rest = votes.ihc_um - affine.apply(votes.he_um)
    columns, rows = (int(np.ceil(s / LATTICE_UM)) + 2 for s in size_um)
    x, y = np.meshgrid(np.arange(columns) * LATTICE_UM, np.arange(rows) * LATTICE_UM)
    nodes = np.stack([x.ravel(), y.ravel()], axis=1)
    # Beyond the tissue the nearest votes' displacement holds on; splines would run away there.
    far = np.asarray(cKDTree(votes.he_um).query(nodes)[0])
    spline = RBFInterpolator(
        votes.he_um / LATTICE_UM,
        rest,
        neighbors=min(40, len(votes)),
        smoothing=SMOOTHING,
        kernel="thin_plate_spline",
        degree=1,
    )
    within = far < 2 * LATTICE_UM
    values = np.zeros((len(nodes), 2))
    values[within] = spline(nodes[within] / LATTICE_UM)
    if (~within).any() and within.any():
        nearest = cKDTree(nodes[within]).query(nodes[~within])[1]
        values[~within] = values[within][nearest]
    lattice = gentle(values.reshape(rows, columns, 2).astype(np.float32))
    return Piece(affine=affine, lattice=lattice)


def held_out_errors(votes: Votes, size_um: tuple[float, float]) -> Points:
    """Distances (µm) between where the odd patches are and where a fit to the even ones puts them,
    and the other way round."""
    if votes.few:
        return _apart(votes.ihc_um, votes.start.apply(votes.he_um))
    errors = []
    for half in (votes.odd, ~votes.odd):
        if half.sum() < 3 or (~half).sum() < FEWEST:
            continue
        piece = fitted(votes.where(~half), size_um)
        errors.append(_apart(piece.forward(votes.he_um[half]), votes.ihc_um[half]))
    return np.concatenate(errors) if errors else np.zeros(0)


def _apart(a: Points, b: Points) -> Points:
    distance: Points = np.linalg.norm(a - b, axis=1)
    return distance


def _affine(votes: Votes) -> tuple[Affine | None, NDArray[np.bool_]]:
    """The map on which most votes agree; a bent section may be off by half of their reach."""
    cv2.setRNGSeed(1)
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
    if not low < abs(a * d - b * c) < high:  # votes nearly on one line
        return None, np.zeros(len(votes), dtype=bool)
    return Affine((a, b, c, d), (x, y)), inside.ravel().astype(bool)


def _centers(mask: NDArray[np.bool_], patch: int, step: int) -> NDArray[np.int64]:
    """Centers (column, row) of a grid of patches that are mostly tissue."""
    rows, columns = mask.shape
    x = np.arange(patch // 2, columns - patch // 2, step)
    y = np.arange(patch // 2, rows - patch // 2, step)
    if len(x) == 0 or len(y) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    share = cv2.boxFilter(mask.astype(np.float32), -1, (patch, patch))
    r, c = np.nonzero(share[np.ix_(y, x)] > 0.6)
    return np.stack([x[c], y[r]], axis=1).astype(np.int64)


def _find(template: Array, window: Array, patch: int, least_like: float) -> Points | None:
    """Offset (x, y) in px of the template in the window; None where nothing stands out."""
    likeness = cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED)
    _, top, _, (x, y) = cv2.minMaxLoc(likeness)
    if top < least_like or not np.isfinite(top):
        return None
    rows, columns = likeness.shape
    if x in (0, columns - 1) or y in (0, rows - 1):
        return None
    others = likeness.copy()
    near = max(2, patch // 6)
    others[max(0, y - near) : y + near + 1, max(0, x - near) : x + near + 1] = -1
    if top - float(others.max()) < APART:
        return None
    # The peak of the parabola through the neighbours.
    fraction = []
    for before, after in (
        (likeness[y, x - 1], likeness[y, x + 1]),
        (likeness[y - 1, x], likeness[y + 1, x]),
    ):
        curve = before - 2 * top + after
        fraction.append(0.5 * float(before - after) / curve if curve < -1e-6 else 0.0)
    offset: Points = np.array([x, y]) + np.clip(fraction, -0.5, 0.5)
    return offset
