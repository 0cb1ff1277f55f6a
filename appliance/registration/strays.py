"""Parts of a piece that do not lie where the rest of it indicates: a torn half, a drifted crumb.

The pieces are those of the H&E slide. On the IHC slide a piece may be torn, and small crumbs swim
away on their own; the votes of the rest say nothing of their place.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.registration.mapping import Piece, Points
from appliance.registration.picture import Picture
from appliance.registration.pieces import LEAST_PIECE_MM2, Part, components
from appliance.registration.votes import Votes, distances

LEAST_PATCHES = 8
"""Patches side by side, none of them where the piece's map has it, that make a torn region
(0.6 mm²): some beside each other find nothing in sections that are whole, too."""
LEAST_DETAIL = 0.35
"""Least standard deviation of a patch's detail, as a share of that of the whole tissue: where
nothing is to be seen (mucin, fat, edema), a patch that is not found is no evidence."""

Mask = NDArray[np.bool_]


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
    count, labels, stats, _ = cv2.connectedComponentsWithStats(lost.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    regions = [k for k in np.argsort(-areas[1:]) + 1 if areas[k] >= LEAST_PATCHES]
    if count < 2 or not regions:
        return []
    # Tissue between the patches goes with the nearest one.
    from scipy.ndimage import distance_transform_edt  # slow to load; the daemon does not need it

    nearest = distance_transform_edt(tried == 0, return_distances=False, return_indices=True)
    near = labels[tuple(nearest)].repeat(patch, axis=0).repeat(patch, axis=1)
    near = near[: mask.shape[0], : mask.shape[1]]
    return [mask & (near == k) for k in regions]


def crumbs_of(part: Part, mpp: float) -> NDArray[np.int32] | None:
    """Numbers, from 1, of the crumbs of a piece, over the whole picture; 0 is the rest.

    A crumb is smaller than the least piece, and no more than half of the piece. None: it has none.
    """
    labels, area = components(part.inside, mpp)
    small = (area < LEAST_PIECE_MM2) & (area <= area[1:].sum() / 2)
    small[0] = False
    crumbs = np.where(part.inside & small[labels], labels, 0)
    if not crumbs.any():
        return None
    found = np.zeros(part.shape, dtype=np.int32)
    rows, columns = crumbs.shape
    found[part.top : part.top + rows, part.left : part.left + columns] = crumbs
    return found


def drifted(crumbs: NDArray[np.int32], votes: Votes, mpp: float, least: float) -> Mask:
    """Return the mask of the crumbs of which less than a share `least` of the patches agrees.

    `votes` are those that agree, of overlapping patches of the crumbs. A crumb too small for a
    patch has none.
    """
    tried, agree = (
        np.bincount(crumbs[row, column], minlength=int(crumbs.max()) + 1)
        for column, row in (_px(places, mpp).T for places in (votes.tried_um, votes.he_um))
    )
    lost = agree < np.maximum(1, least * tried)
    lost[0] = False
    found: Mask = lost[crumbs]
    return found


def near(votes: Votes, piece: Piece) -> Votes:
    """The votes within half of the search radius of where `piece` takes them."""
    return votes.where(distances(votes.ihc_um, piece.forward(votes.he_um)) < votes.reach_um / 2)


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
