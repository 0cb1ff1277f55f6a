"""Tumor cells of a tile: each is counted once, and its stained share equals the drawn one."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.morphology import h_maxima

from appliance.readers.cell_tally import COMPLETE, CellTally, add_up
from appliance.readers.cells import TileCells, map_cells, measure_cells
from appliance.readers.nucleus_shapes import tops
from models.datasets.generated_tiles import GeneratedTile, generated_tile
from models.synthesis.stain import random_style, transmit

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "cells.py"
PX = 512
UM = 1 / 0.2793
"""px per µm."""
TUMOR_TILE = 950_000_021
"""Seed of a generated tile with cells of three classes."""

Point = tuple[float, float]


def drawn(
    centers: list[Point], share: float = 1.0, *, width: int = PX, dab: float = 0.6
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw round cells of 2+ as a tile of textbook stains and its label map.

    `centers` (x, y) in px; each has a nucleus of 3.5 µm and, 7 µm from its center, a membrane of
    which `share` (0-1) is stained.
    """
    y, x = np.mgrid[0:PX, 0:width]
    amounts = np.zeros((PX, width, 3), dtype=np.float32)
    labels = np.zeros((PX, width), dtype=np.uint8)
    for cx, cy in centers:
        radius = np.hypot(x - cx, y - cy) / UM
        arc = (np.arctan2(y - cy, x - cx) + np.pi) / (2 * np.pi) <= share
        amounts[..., 0] += 0.35 * (radius < 3.5) + 0.04 * (radius < 7)
        amounts[..., 2] += dab * np.exp(-(((radius - 7) / 0.6) ** 2)) * arc
        labels[radius < 7.3] = 3
    style = random_style(np.random.default_rng(0), spread=0)
    pixels = transmit(amounts, style, np.random.default_rng(1)).astype(np.float32)
    calibrated = np.clip(pixels * (255 / np.array(style.white)), 0, 255)
    return calibrated.astype(np.uint8), labels[2::4, 2::4]


@cache
def tile() -> GeneratedTile:
    """Return a generated tile; it is drawn once."""
    return generated_tile(TUMOR_TILE)


def test_background_alone_holds_no_cells() -> None:
    pixels, _ = drawn([(256, 256)])
    cells = measure_cells(pixels, np.zeros((128, 128), dtype=np.uint8))
    assert len(cells.number) == 0
    assert cells.tally == CellTally()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_tumor_without_nuclei_holds_no_cells(value: int) -> None:
    pixels = np.full((PX, PX, 3), value, dtype=np.uint8)
    cells = measure_cells(pixels, np.full((128, 128), 4, dtype=np.uint8))
    assert cells.tally == CellTally()
    assert cells.completeness.shape == (0,)
    assert cells.xy_px.shape == (0, 2)


def test_noise_is_no_nucleus() -> None:
    noisy = np.random.default_rng(0).normal(245, 2.5, (PX, PX, 1)).repeat(3, axis=2)
    cells = measure_cells(noisy.astype(np.uint8), np.full((128, 128), 1, dtype=np.uint8))
    assert cells.tally == CellTally()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_stained_share_of_a_lone_cell(share: float) -> None:
    cells = measure_cells(*drawn([(256, 256)], share))
    assert cells.tally.counted == (0, 0, 1, 0)
    assert cells.completeness[0] == pytest.approx(share, abs=0.08)
    assert cells.xy_px[0] == pytest.approx((256, 256), abs=2)
    # The tolerance lengthens an arc: between the two limits either result is allowed.
    if not COMPLETE - 0.1 < share < COMPLETE:
        assert cells.tally.complete[2] == int(share >= COMPLETE)


def test_a_faint_membrane_is_seen_and_one_below_perception_is_not() -> None:
    faint, below = (measure_cells(*drawn([(256, 256)], dab=dab)) for dab in (0.2, 0.04))
    assert faint.completeness[0] > 0.9
    assert below.completeness[0] == 0
    assert below.membrane_od[0] == 0


def test_more_dab_is_a_darker_membrane() -> None:
    weak, strong = (measure_cells(*drawn([(256, 256)], dab=dab)) for dab in (0.3, 1.5))
    assert strong.membrane_od[0] > 3 * weak.membrane_od[0]


def test_dab_in_the_whole_cytoplasm_is_no_membrane() -> None:
    y, x = np.mgrid[0:PX, 0:PX]
    radius = np.hypot(x - 256, y - 256) / UM
    amounts = np.zeros((PX, PX, 3), dtype=np.float32)
    amounts[..., 0] = 0.35 * (radius < 3.5)
    amounts[..., 2] = 0.4  # also around the cell: no edge, no ridge
    style = random_style(np.random.default_rng(0), spread=0)
    pixels = transmit(amounts, style)
    labels = np.where(radius < 7.3, 2, 0).astype(np.uint8)[2::4, 2::4]
    cells = measure_cells((pixels * (255 / np.array(style.white))).astype(np.uint8), labels)
    assert cells.tally.counted == (0, 1, 0, 0)
    assert cells.completeness[0] < 0.05


def test_a_shared_border_stains_both_cells() -> None:
    apart = 14 * UM
    cells = measure_cells(*drawn([(200, 256), (200 + apart, 256)]))
    assert cells.tally.counted == (0, 0, 2, 0)
    assert (cells.completeness > 0.95).all()
    assert cells.tally.cluster == (2, 2, 2, 0)


def test_cells_far_apart_are_no_cluster() -> None:
    cells = measure_cells(*drawn([(100, 256), (256, 256), (400, 256)]))
    assert cells.tally.counted == (0, 0, 3, 0)
    assert cells.tally.cluster == (1, 1, 1, 0)


def test_tiles_side_by_side_count_each_cell_once() -> None:
    centers = [(x, y) for y in (100.0, 200.0, 300.0, 400.0) for x in (100.0, 506.0, 512.0, 700.0)]
    centers = [c for k, c in enumerate(centers) if k % 4 != (1 if k // 4 % 2 else 2)]
    pixels, labels = drawn(centers, width=2 * PX)
    halves = [
        measure_cells(
            np.ascontiguousarray(pixels[:, PX * k : PX * (k + 1)]),
            labels[:, 128 * k : 128 * k + 128],
        )
        for k in range(2)
    ]
    total = add_up(half.tally for half in halves)
    assert sum(total.counted) == len(centers)
    assert sum(total.measured) == len(centers) - 4  # the edge cuts the cells on the seam
    assert np.isnan(np.concatenate([half.completeness for half in halves])).sum() == 4


def test_a_label_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="label map"):
        measure_cells(tile().ihc, np.zeros((100, 100), dtype=np.uint8))


def test_a_cells_class_is_that_of_most_of_its_labels() -> None:
    pixels, labels = drawn([(256, 256)])
    left = labels.copy()
    left[:, :68][left[:, :68] > 0] = 2  # 4 labels beyond its middle
    assert measure_cells(pixels, left).grade.tolist() == [1]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_a_drawn_tile_turns_its_cells(turns: int) -> None:
    pixels, labels = drawn([(150, 150), (250, 180), (330, 350)], 0.6)
    straight = measure_cells(pixels, labels)
    turned = measure_cells(
        np.ascontiguousarray(np.rot90(pixels, turns)), np.ascontiguousarray(np.rot90(labels, turns))
    )
    assert turned.tally.counted == straight.tally.counted
    assert sorted(turned.completeness) == pytest.approx(sorted(straight.completeness), abs=0.05)


def test_turning_a_generated_tile_changes_nothing_essential() -> None:
    straight = measure_cells(tile().ihc, tile().classes)
    turned = measure_cells(
        np.ascontiguousarray(np.rot90(tile().ihc)), np.ascontiguousarray(np.rot90(tile().classes))
    )
    # Other edges cut other nuclei, which belong to other tiles.
    assert len(turned.number) == pytest.approx(len(straight.number), rel=0.1)
    inner = ((straight.xy_px > 40) & (straight.xy_px < PX - 40)).all(axis=1)
    x, y = straight.xy_px[inner].T
    distance, same = cKDTree(turned.xy_px).query(np.stack([y, PX - x], axis=1))
    found = distance < 4
    assert found.mean() > 0.95
    assert (turned.grade[same] == straight.grade[inner])[found].mean() > 0.97
    difference = abs(turned.completeness[same] - straight.completeness[inner])[found]
    assert np.nanmean(difference) < 0.04


def test_the_map_shows_the_cells_that_were_measured() -> None:
    cells, found = measure_cells(tile().ihc, tile().classes), map_cells(tile().ihc, tile().classes)
    assert set(cells.number) <= set(np.unique(found.nuclei))
    assert ((found.nuclei == 0) | (found.cells == found.nuclei)).all()
    at = np.floor(cells.xy_px / 2).astype(int)
    assert (found.cells[at[:, 1], at[:, 0]] == cells.number).mean() > 0.95


@pytest.mark.parametrize("blur", [1.0, 2.5, 6.0])
def test_tops_are_those_of_the_library(blur: float) -> None:
    noise = np.random.default_rng(7).random((256, 256)).astype(np.float32)
    layer = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), blur), None, 0, 4, cv2.NORM_MINMAX)
    layer[layer < 1] = 0  # as between nuclei
    for height, above in ((0.05, 0.8), (0.3, 1.5)):
        theirs = (h_maxima(layer, height) > 0) & (layer > above)
        assert theirs.any()
        assert np.array_equal(tops(layer, height, above), theirs)


def check(cells: TileCells) -> None:
    """Check the properties that hold for every tile."""
    tally, n = cells.tally, len(cells.number)
    assert sum(tally.counted) == n == len(cells.grade)
    assert tally.counted == tuple((cells.grade == k).sum() for k in range(4))
    measured = np.isfinite(cells.completeness)
    assert sum(tally.measured) == measured.sum()
    assert (np.isfinite(cells.membrane_od) == measured).all()
    assert ((cells.completeness[measured] >= 0) & (cells.completeness[measured] <= 1)).all()
    assert sum(tally.percent.values()) == pytest.approx(100 if n else 0)
    assert 0 <= tally.h_score <= 300
    for k in range(4):
        assert tally.complete[k] <= tally.measured[k] <= tally.counted[k]
        assert min(1, sum(tally.counted[k:])) <= tally.cluster[k] <= sum(tally.counted[k:])
    assert list(tally.cluster) == sorted(tally.cluster, reverse=True)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), block=st.sampled_from([1, 4, 32, 128]))
def test_whatever_m_says_the_counts_add_up(seed: int, block: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 5, (128 // block, 128 // block))
    labels = coarse.repeat(block, 0).repeat(block, 1).astype(np.uint8)
    check(measure_cells(tile().ihc, labels))


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1, 2, 8, 64]))
def test_whatever_the_pixels_are_the_counts_add_up(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (PX // size, PX // size, 3)).repeat(size, 0).repeat(size, 1)
    check(measure_cells(pixels.astype(np.uint8), rng.integers(0, 5, (128, 128)).astype(np.uint8)))


four = st.tuples(*[st.integers(0, 1000)] * 4)
tallies = st.builds(
    CellTally, counted=four, measured=four, completeness=four, complete=four,
    cluster=four,
)  # fmt: skip


@given(st.lists(tallies, max_size=5), st.integers(0, 5))
def test_tiles_add_up_in_any_order_and_grouping(several: list[CellTally], cut: int) -> None:
    total = add_up(several)
    assert total == add_up(reversed(several))
    assert total == add_up([add_up(several[:cut]), add_up(several[cut:])])
    assert sum(total.counted) == sum(sum(tally.counted) for tally in several)
    assert total.cluster == tuple(
        max((tally.cluster[k] for tally in several), default=0) for k in range(4)
    )


def test_a_slide_is_scored_by_its_cells() -> None:
    one = CellTally(
        counted=(0, 10, 20, 0), measured=(0, 8, 16, 0), completeness=(0, 4.0, 14.4, 0),
        complete=(0, 0, 12, 0), cluster=(30, 30, 18, 0),
    )  # fmt: skip
    other = CellTally(counted=(10, 0, 0, 0), measured=(5, 0, 0, 0), cluster=(10, 0, 0, 0))
    total = add_up([one, other])
    assert total.percent == {"0": 25.0, "1+": 25.0, "2+": 50.0, "3+": 0.0}
    assert total.h_score == 125.0
    assert total.mean_completeness == {"0": 0.0, "1+": 0.5, "2+": 0.9, "3+": None}
    assert total.complete_percent == {"0": 0.0, "1+": 0.0, "2+": 75.0, "3+": None}
    assert total.cluster == (30, 30, 18, 0)


def test_generated_tiles_are_measured_as_the_documentation_says() -> None:
    options = ["--seed", "950000017", "--tiles", "7", "--json"]  # of every class
    command = [sys.executable, str(BENCHMARK), "figures", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)["true labels"]
    assert found["cell count, median absolute error"] < 0.15
    assert found["found cells with a true one, %"] > 80
    assert found["class accuracy"] > 0.97
    assert found["rho, measured and drawn"] > 0.7
    mean = found["completeness, mean measured"]
    assert mean["0"] < 0.1 < mean["1+"] < 0.6 < 0.85 < mean["2+"] <= mean["3+"] + 0.05
    assert found["AUC 2+ against 1+"] > 0.9
