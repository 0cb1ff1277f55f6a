"""Parts of a piece that do not lie where the rest of it indicates, as a torn half.

The pieces are those of the H&E slide. On the IHC slide a piece may be torn; the votes of the rest
say nothing of the place of the other part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.registration.mapping import Piece, Points
from appliance.registration.picture import Picture
from appliance.registration.pieces import Part
from appliance.registration.votes import Votes, distances

LEAST_PATCHES = 8
"""Patches side by side, none of them where the piece's map has it, that make a torn region
(0.6 mm²): some beside each other find nothing in sections that are whole, too."""
LEAST_DETAIL = 0.35
"""Least standard deviation of a patch's detail, as a share of that of the whole tissue: where
nothing is to be seen (mucin, fat, edema), a patch that is not found is no evidence."""
SPREAD_UM = 60.0
"""Distance of the places by which the places of two parts are compared."""

Mask = NDArray[np.bool_]
At = tuple[Part, Piece]
"""A part of the H&E slide, and the piece that takes it onto the IHC slide."""


def torn_regions(moving: Picture, part: Part, votes: Votes, coarse: Votes) -> list[Mask]:
    """Return the masks of the regions of a piece in which no patch agrees, largest first.

    `votes` are those that agree, of patches side by side in `part`. A patch that agrees while none
    beside it does counts as chance. Where one of the `coarse` votes agrees, which see more, fine
    patches that find nothing are no evidence: stroma and necrosis have little that stays the same.
    """
    mask, patch = part.mask(), max(1, round(votes.patch_um / moving.mpp))
    rows, columns = (-(-n // patch) for n in mask.shape)
    tried, agree, held = np.zeros((3, rows, columns), dtype=np.uint8)
    cells = _px(votes.tried_um, moving.mpp) // patch
    for column, row in cells.tolist():
        corner = np.s_[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        tried[row, column] = moving.detail[corner].std(axis=(0, 1)).mean() >= LEAST_DETAIL
    if len(coarse) and len(cells):
        from scipy.spatial import cKDTree  # slow to load; the daemon does not need it

        seen = cKDTree(coarse.he_um).query(votes.tried_um, p=np.inf)[0] <= coarse.patch_um / 2
        tried[cells[seen, 1], cells[seen, 0]] = held[cells[seen, 1], cells[seen, 0]] = 1
    column, row = (_px(votes.he_um, moving.mpp) // patch).T
    tried[row, column] = agree[row, column] = 1
    beside = cv2.boxFilter(agree, cv2.CV_16S, (3, 3), normalize=False, borderType=0)
    held[(agree > 0) & (beside > 1)] = 1
    lost = (tried > 0) & (held == 0)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lost.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    regions = [k for k in np.argsort(-areas[1:]) + 1 if areas[k] >= LEAST_PATCHES]
    if not regions:
        return []
    # Tissue between the patches goes with the nearest one.
    from scipy.ndimage import distance_transform_edt  # slow to load; the daemon does not need it

    nearest = distance_transform_edt(tried == 0, return_distances=False, return_indices=True)
    near = labels[tuple(nearest)].repeat(patch, axis=0).repeat(patch, axis=1)
    near = near[: mask.shape[0], : mask.shape[1]]
    return [mask & (near == k) for k in regions]


def near(votes: Votes, piece: Piece) -> Votes:
    """The votes within half of the search radius of where `piece` takes them."""
    return votes.where(distances(votes.ihc_um, piece.forward(votes.he_um)) < votes.reach_um / 2)


def lies_elsewhere(
    moving: Picture,
    away: Mask,
    piece: Piece,
    there: Piece,
    others: Sequence[At],
    least_um: float,
) -> bool:
    """Return whether `there` takes a part off the place that `piece` has for it, by `least_um` at
    the median, and not onto the place of the `others`, which is their own.
    """
    from scipy.spatial import cKDTree  # slow to load; the daemon does not need it

    part = _spread(away, moving.mpp)
    if not len(part):
        return False
    placed = there.forward(part)
    moved = float(np.median(distances(placed, piece.forward(part))))
    taken = _places(moving, others)
    if moved < least_um or not len(taken):
        return moved >= least_um
    return float(np.median(cKDTree(taken).query(placed)[0])) >= SPREAD_UM


def share_a_place(moving: Picture, one: Sequence[At], other: Sequence[At]) -> bool:
    """Return whether the smaller of two pieces lies on the other on the IHC slide, at the median:
    two levels of the H&E slide, of which the IHC slide shows one."""
    from scipy.spatial import cKDTree  # slow to load; the daemon does not need it

    fewer, more = sorted((_places(moving, one), _places(moving, other)), key=len)
    return len(fewer) > 0 and float(np.median(cKDTree(more).query(fewer)[0])) < SPREAD_UM


def _places(moving: Picture, placed: Sequence[At]) -> Points:
    """Return places of the IHC slide all over the tissue of some pieces."""
    spread = [piece.forward(_spread(part.mask(), moving.mpp)) for part, piece in placed]
    return np.concatenate([*spread, np.zeros((0, 2))])


def _spread(mask: Mask, mpp: float) -> Points:
    """Return places (x, y) in µm all over a mask, `SPREAD_UM` apart."""
    step = max(1, round(SPREAD_UM / mpp))
    row, column = np.nonzero(mask[::step, ::step])
    found: Points = (np.column_stack([column, row]) * step + 0.5).astype(np.float64) * mpp
    return found


def split(votes: Votes, away: Mask, mpp: float) -> tuple[Votes, Votes]:
    """The votes of the rest of a piece, and those of its part `away`, none of which agrees."""
    column, row = _px(votes.tried_um, mpp).T
    gone = away[row, column]
    column, row = _px(votes.he_um, mpp).T
    stays = votes.where(~away[row, column])
    return (
        replace(stays, tried_um=votes.tried_um[~gone]),
        replace(votes.where(np.zeros(len(votes), dtype=bool)), tried_um=votes.tried_um[gone]),
    )


def _px(places_um: Points, mpp: float) -> NDArray[np.int64]:
    """Px (column, row) of patch centers, (n, 2)."""
    return np.floor(places_um / mpp).astype(np.int64)
