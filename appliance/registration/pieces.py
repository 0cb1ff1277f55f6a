"""The pieces of a section: separate areas of tissue, which may lie apart on the other slide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.errors import AlignmentError
from appliance.registration.mapping import Piece, SlideMapping
from appliance.registration.picture import Picture, shrunk_mask

LEAST_PIECE_MM2 = 0.3
"""Area below which tissue belongs to its nearest piece."""
JOIN_UM = 150.0
"""Distance up to which tissue is one piece."""
LEAST_CORE_MM2, ALIKE = 0.1, 0.25
"""Area from which tissue may be a core of a microarray (of 0.4 mm and more), and greatest deviation
of a core's area from their median, as a share of it."""
MOST_PIECES = 100
"""Pieces beyond which slides are taken for a tissue microarray, which holds many patients."""
LABELS_UM = 64.0
"""Target resolution of the labels of a mapping."""


@dataclass(frozen=True, slots=True)
class Part:
    """Mask of a piece: `inside`, bool, lies at px (`top`, `left`) of a picture of `shape` px.

    Only the box is kept: sixty masks of a whole overview would take gigabytes.
    """

    shape: tuple[int, int]
    top: int
    left: int
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Part:
        """Return the part that a mask of the whole picture shows."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return cls(mask.shape, 0, 0, np.zeros((0, 0), dtype=bool))
        top, left = int(rows[0]), int(columns[0])
        inside = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].copy()
        return cls(mask.shape, top, left, inside)

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask of the whole picture."""
        whole = np.zeros(self.shape, dtype=bool)
        rows, columns = self.inside.shape
        whole[self.top : self.top + rows, self.left : self.left + columns] = self.inside
        return whole

    def shrunk(self, step: int) -> Part:
        """Return the part of the picture `step` times as coarse."""
        return Part.of(shrunk_mask(self.mask(), step))


def pieces_of(moving: Picture) -> list[Part]:
    """Return the section's pieces, largest first; crumbs belong to their nearest piece.

    Raises
    ------
    AlignmentError
        If there are more than `MOST_PIECES`.
    """
    step, labels, area = _joined(moving.mask, moving.mpp)
    order = [int(k) for k in np.argsort(-area) if k > 0]
    large = [k for k in order if area[k] >= LEAST_PIECE_MM2]
    alike = _cores(area[1:])
    if max(len(large), alike) > MOST_PIECES:
        raise AlignmentError(
            f"the H&E slide has {max(len(large), alike)} pieces of tissue, more than "
            f"{MOST_PIECES}: is it a tissue microarray? Its cores are of many patients and are not "
            "scored as one block"
        )
    if len(large) <= 1:
        return [Part.of(moving.mask)]
    nearest = _nearest(labels == k for k in large).astype(np.uint8)
    fine = _enlarged(nearest, step, moving.mask.shape)
    return [Part.of(moving.mask & (fine == k)) for k in range(len(large))]


def _joined(
    mask: NDArray[np.bool_], mpp: float
) -> tuple[int, NDArray[np.int32], NDArray[np.float64]]:
    """Numbers, from 1, of the separate areas of tissue, `step` times as coarse, and areas in mm².

    Tissue up to `JOIN_UM` apart is one; the area of number 0, the glass, is not meant. Returns
    `step`, numbers (rows, columns), areas.
    """
    step = max(1, round(JOIN_UM / 8 / mpp))
    small = shrunk_mask(mask, step)
    reach = max(1, round(JOIN_UM / 2 / (mpp * step)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.morphologyEx(small.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(joined)
    area = np.bincount(labels[small], minlength=count) * float(mpp * step) ** 2 / 1e6
    return step, labels.astype(np.int32), area.astype(np.float64)


def _cores(area: NDArray[np.float64]) -> int:
    """Number of areas (mm²) from `LEAST_CORE_MM2` on that are alike; 0 unless they are most tissue.

    The cores of a microarray are punched by one needle; fragments of a curettage, and the islands
    beside a resection, differ.
    """
    large = area[area >= LEAST_CORE_MM2]
    if not len(large):
        return 0
    alike = large[np.abs(large / np.median(large) - 1) <= ALIKE]
    return len(alike) if 2 * alike.sum() > area.sum() else 0


def _enlarged(image: NDArray[Any], step: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """An image `step` times as coarse, at the px of the picture of `shape`."""
    return image.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]


def mapping_of(parts: Sequence[Part], pieces: Sequence[Piece | None], mpp: float) -> SlideMapping:
    """The mapping of pieces with their parts at `mpp`; None: the IHC slide lacks the piece."""
    step = max(1, round(LABELS_UM / mpp))
    nearest = _nearest(part.shrunk(step).mask() for part in parts)
    numbers = np.cumsum([piece is not None for piece in pieces])
    table = np.array(
        [n if piece is not None else 0 for n, piece in zip(numbers, pieces, strict=True)]
    )
    return SlideMapping(
        pieces=tuple(piece for piece in pieces if piece is not None),
        labels=table[nearest].astype(np.uint8),
        labels_mpp=mpp * step,
    )


def _nearest(masks: Iterable[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Index of the mask nearest to each px; of two as near the first one."""
    nearest, least = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    for number, mask in enumerate(masks):
        distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
        if not number:
            nearest, least = np.zeros(mask.shape, dtype=np.int64), distance
        closer = distance < least
        nearest[closer], least[closer] = number, distance[closer]
    return nearest
