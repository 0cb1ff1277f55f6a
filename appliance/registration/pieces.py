"""The pieces of a section: separate areas of tissue, which may lie apart on the other slide."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.registration.mapping import Piece, SlideMapping
from appliance.registration.picture import Picture, shrunk_mask

LEAST_PIECE_MM2 = 0.3
"""Area below which tissue belongs to its nearest piece."""
JOIN_UM = 150.0
"""Distance up to which tissue is one piece."""
LABELS_UM = 64.0
"""Target resolution of the labels of a mapping."""


def pieces_of(moving: Picture) -> list[NDArray[np.bool_]]:
    """Masks of the section's pieces, largest first; crumbs belong to their nearest piece."""
    step = max(1, round(JOIN_UM / 8 / moving.mpp))
    small = moving.shrunk(step)
    reach = max(1, round(JOIN_UM / 2 / small.mpp))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.morphologyEx(small.mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(joined)
    area = np.bincount(labels[small.mask], minlength=count) * small.mpp**2 / 1e6
    order = [int(k) for k in np.argsort(-area) if k > 0]
    large = [k for k in order if area[k] >= LEAST_PIECE_MM2]
    if len(large) <= 1:
        return [moving.mask]
    nearest = _nearest([labels == k for k in large]).astype(np.uint8)
    rows, columns = moving.mask.shape
    fine = nearest.repeat(step, axis=0).repeat(step, axis=1)[:rows, :columns]
    return [moving.mask & (fine == k) for k in range(len(large))]


def mapping_of(
    masks: Sequence[NDArray[np.bool_]], pieces: Sequence[Piece | None], mpp: float
) -> SlideMapping:
    """The mapping of pieces with their masks at `mpp`; None: the IHC slide lacks the piece."""
    step = max(1, round(LABELS_UM / mpp))
    nearest = _nearest([shrunk_mask(mask, step) for mask in masks])
    numbers = np.cumsum([piece is not None for piece in pieces])
    table = np.array(
        [n if piece is not None else 0 for n, piece in zip(numbers, pieces, strict=True)]
    )
    return SlideMapping(
        pieces=tuple(piece for piece in pieces if piece is not None),
        labels=table[nearest].astype(np.uint8),
        labels_mpp=mpp * step,
    )


def _nearest(masks: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Index of the mask nearest to each px."""
    distances = [cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) for mask in masks]
    nearest: NDArray[np.int64] = np.argmin(distances, axis=0)
    return nearest
