"""Search of patches of H&E structure on the IHC slide; each patch votes for a place."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.registration.mapping import Piece, Points
from appliance.registration.picture import Array, Picture
from appliance.registration.votes import Votes

LIKE = 0.15
"""Correlation from which on a patch counts as found."""
APART = 0.02
"""Least margin of the best place over all others."""
FEW_PATCHES = 16
"""Number of patches side by side below which a piece is searched with overlapping ones."""


def vote(
    moving: Picture,
    fixed: Picture,
    mask: NDArray[np.bool_],
    piece: Piece,
    *,
    patch_um: float,
    reach_um: float,
    least_like: float = LIKE,
    inner: bool = False,
    dense: bool = False,
) -> Votes:
    """Search each patch in `mask` of `moving` within `reach_um` of where `piece` puts it.

    A patch counts as found from a correlation of `least_like` on. With `inner` the outline of the
    tissue is not compared. With `dense` patches overlap, as those of a small piece always do.
    """
    mpp = moving.mpp
    patch, reach = max(12, round(patch_um / mpp)), max(2, round(reach_um / mpp))
    side = patch + 2 * reach
    a, b = (p.inner_detail if inner else p.detail for p in (moving, fixed))
    few = dense or bool(mask.sum() < FEW_PATCHES * patch**2)
    centers = _centers(mask, patch, max(1, patch // 4) if few else patch)
    he_um = (centers + 0.5).astype(np.float64) * mpp
    at_um = piece.forward(he_um)
    # Rotate each window of the IHC slide back into the orientation of the H&E slide.
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
        tried_um=he_um,
        reach_um=reach_um,
        start=piece.affine,
        few=few,
        patch_um=patch * mpp,
        he_um=np.array(found).reshape(-1, 2),
        ihc_um=np.array(places).reshape(-1, 2),
        odd=np.array(odd, dtype=bool),
    )


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
    """Offset (x, y) in px of the template in the window; None where no place stands out."""
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
    # Peak of the parabola through the neighbors.
    fraction = []
    for before, after in (
        (likeness[y, x - 1], likeness[y, x + 1]),
        (likeness[y - 1, x], likeness[y + 1, x]),
    ):
        curve = before - 2 * top + after
        fraction.append(0.5 * float(before - after) / curve if curve < -1e-6 else 0.0)
    offset: Points = np.array([x, y]) + np.clip(fraction, -0.5, 0.5)
    return offset
