"""Outlines of rasters: filled, they give the raster back."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from appliance.findings.outlines import polygons_of, thinned

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans())


def filled(polygons: list[list[NDArray[np.int64]]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Fill polygons by the even-odd rule: count the edges to the left of each px's center."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        for ring in polygon:
            for (x0, y0), (x1, y1) in pairwise(ring):
                assert x0 == x1 or y0 == y1
                inside ^= (x0 < columns) & (min(y0, y1) < rows) & (rows < max(y0, y1))
    return inside


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_filled_outlines_are_the_mask(mask: NDArray[np.bool_]) -> None:
    polygons = polygons_of(mask)
    assert (filled(polygons, mask.shape) == mask).all()
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    assert len(polygons) == count - 1
    for polygon in polygons:
        for ring in polygon:
            assert (ring[0] == ring[-1]).all() and len(ring) >= 5
            # Corners alone: each edge turns.
            along = np.diff(np.vstack([ring, ring[1:2]]), axis=0) != 0
            assert (along[1:] != along[:-1]).all()


def test_a_ring_in_a_ring_has_the_hole_of_its_own() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[0:9, 0:9], mask[1:8, 1:8], mask[2:7, 2:7], mask[3:6, 3:6] = True, False, True, False
    sizes = [[len(ring) for ring in polygon] for polygon in polygons_of(mask)]
    assert sizes == [[5, 5], [5, 5]]
    assert polygons_of(np.zeros((3, 3), dtype=bool)) == []


def test_the_px_in_the_middle_of_each_block_stands_for_it() -> None:
    labels = np.arange(600 * 7, dtype=np.int64).reshape(600, 7).astype(np.uint8)
    found = thinned(labels, 4)
    rows, columns = [*range(2, 600, 4)], [2, 6]
    assert (found == labels[np.ix_(rows, columns)]).all()
