"""Tiles of a slide as the network is given them: in one order, with anchors and their geometry."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from models.errors import DataSetError
from models.interim.shape import InterimShape

Features = NDArray[np.float32]
Whole = NDArray[np.int64]
KMEANS_ROUNDS = 20
KMEANS_SEED = 0
"""Anchors of a slide are the same at each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFeatures:
    """Tiles of one slide: `places` int (N, 2), column and row on the slide's grid of tiles, and
    `features` float32 (N, F).

    Raises
    ------
    DataSetError
        If there is no tile, a place has two tiles, or the shapes do not fit.
    """

    places: Whole
    features: Features

    def __post_init__(self) -> None:
        if len(self.places) == 0:
            raise DataSetError("slide without a tile: no tissue was found on it")
        if self.places.shape != (len(self.features), 2) or self.features.ndim != 2:
            raise DataSetError(
                f"places {self.places.shape} do not fit features {self.features.shape}"
            )
        if len(np.unique(self.places, axis=0)) < len(self.places):
            raise DataSetError("two tiles of a slide lie at one place")

    def in_order(self) -> TileFeatures:
        """Return the tiles row by row: answers must not depend on the order of reading."""
        order = np.lexsort((self.places[:, 0], self.places[:, 1]))
        return self.take(order)

    def some(self, most: int, rng: np.random.Generator) -> TileFeatures:
        """Return at most `most` tiles, drawn without replacement; all where there are no more."""
        if len(self.places) <= most:
            return self
        return self.take(np.sort(rng.permutation(len(self.places))[:most]))

    def take(self, rows: NDArray[np.integer]) -> TileFeatures:
        """Return the tiles of some rows."""
        return TileFeatures(places=self.places[rows], features=self.features[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Anchors of a slide with N tiles, and where each tile lies relative to them.

    Attributes
    ----------
    cluster
        Anchor of each tile, int (N,).
    tokens
        Mean feature of the tiles of each anchor, float32 (A, F): K_HE before the first block. The
        paper does not say what an anchor's token is; this is ours.
    distance, angle
        D and P of Eq. 2, int (A, N): step of the distance, and of the polar angle, from an anchor
        to a tile.
    """

    cluster: Whole
    tokens: Features
    distance: Whole
    angle: Whole


def find_anchors(tiles: TileFeatures, shape: InterimShape) -> Anchors:
    """Cluster the tiles' places by k-means, and measure distances and angles.

    Distances grow by their logarithm: half an octave, in tiles, per step. Both are 0 where the tile
    lies on the anchor itself. `tiles` are in order (`TileFeatures.in_order`).
    """
    places = tiles.places.astype(np.float64)
    centers, cluster = _clustered(places, min(shape.anchors, len(places)))
    away = places[None] - centers[:, None]  # (A, N, 2)
    length = np.hypot(away[..., 0], away[..., 1])
    step = np.floor(2 * np.log2(1 + length)).astype(np.int64)
    turn = np.arctan2(away[..., 1], away[..., 0]) % (2 * np.pi)
    sector = np.floor(turn * (shape.angle_bins / (2 * np.pi))).astype(np.int64)
    count = np.bincount(cluster, minlength=len(centers))
    tokens = np.zeros((len(centers), tiles.features.shape[1]), dtype=np.float64)
    np.add.at(tokens, cluster, tiles.features)
    return Anchors(
        cluster=cluster,
        tokens=(tokens / count[:, None]).astype(np.float32),
        distance=np.minimum(step, shape.distance_bins - 1),
        angle=np.minimum(sector, shape.angle_bins - 1),
    )


def _clustered(places: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], Whole]:
    """Centers (A, 2) and the cluster of each place (N,); A <= count, no cluster is empty."""
    if count == len(places):
        return places, np.arange(count)
    with warnings.catch_warnings():
        # A cluster that became empty is left out below.
        warnings.simplefilter("ignore", UserWarning)
        centers, found = kmeans2(
            places, count, iter=KMEANS_ROUNDS, minit="++", rng=np.random.default_rng(KMEANS_SEED)
        )
    used, cluster = np.unique(found, return_inverse=True)
    return centers[used], cluster.astype(np.int64)
