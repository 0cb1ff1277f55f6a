"""Likeness of a tile to the tiles that trained a network: stain and focus, without torch.

Two groups of statistics, each with a Mahalanobis distance from the training tiles:

- *stain*: optical density of the tissue (mean, spread) and its chroma (van der Laak's
  hue-saturation-density plane, Cytometry 39:275, 2000: it does not depend on the amount of stain):
  mean and spread of both axes. More DAB relative to hematoxylin moves a tile along that plane.
- *focus*: variance of the Laplacian at full resolution, and its ratio to that after a 4 x
  reduction.

Cost: about 2 ms per tile on one core. Stain is measured on the tile reduced 4 x, focus on its green
channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import DataSetError
from models.spec import ModelSpec

GROUPS: dict[str, tuple[str, ...]] = {
    "stain": ("density", "density_spread", "chroma_x", "chroma_y", "spread_x", "spread_y"),
    "focus": ("sharpness", "fine_share"),
}
"""Statistics per group, in the order in which `measure` gives them."""
DESCRIBED_TILES = 2000
"""Most training tiles, evenly chosen, that are described."""
REDUCTION = 4
TISSUE_DENSITY = 0.02
"""Mean optical density above which a px of the reduced tile is tissue; glass stays below."""
MIN_TISSUE = 0.1
"""Least share of tissue. A tile with less is not judged: too few px."""
INSIDE = 99.5
"""Percentage of the training tiles within each group's limit: at most 1 % exceed any limit."""
SHRINKAGE = 0.05
"""Shrinkage towards uncorrelated statistics: few or equal tiles keep a width in each direction."""
_SQRT_3 = float(np.sqrt(3))
_LOG_FLOOR = 1e-6


def measure(tile: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Return the statistics of a tile, uint8 RGB (T, T, 3) at 0.2793 µm/px with glass at 255.

    Shape (8,), named by `GROUPS`. None if the tile holds too little tissue.
    """
    rows, columns = tile.shape[0] // REDUCTION, tile.shape[1] // REDUCTION
    small = cv2.resize(tile, (columns, rows), interpolation=cv2.INTER_AREA)
    density = cv2.LUT(small, _DENSITY)  # float32 (h, w, 3)
    mean = density.mean(axis=2)
    tissue = mean > TISSUE_DENSITY
    share = float(tissue.mean())
    if share < MIN_TISSUE:
        return None
    r, g, b = density[tissue].T  # each (n,), n px of tissue
    total = (r + g + b) / 3
    x, y = r / total - 1, (g - b) / (_SQRT_3 * total)
    weight = total / total.sum()  # pale px have hardly any chroma
    x_mean, y_mean = float(weight @ x), float(weight @ y)
    fine = float(cv2.Laplacian(tile[..., 1], cv2.CV_32F).var())
    coarse = float(cv2.Laplacian(small[..., 1], cv2.CV_32F).var())
    return np.array(
        [
            np.log(total.mean()),
            np.log(total.std() + _LOG_FLOOR),
            x_mean,
            y_mean,
            np.sqrt(weight @ (x - x_mean) ** 2),
            np.sqrt(weight @ (y - y_mean) ** 2),
            np.log(fine / share + _LOG_FLOOR),
            np.log((fine + _LOG_FLOOR) / (coarse + _LOG_FLOOR)),
        ],
        dtype=np.float64,
    )


_DENSITY = (-np.log10(np.maximum(np.arange(256), 1) / 255)).astype(np.float32)


def with_statistics(spec: ModelSpec, images: Iterable[NDArray[np.uint8]]) -> ModelSpec:
    """Return the spec with the appearance of its training tiles, uint8 (T, T, 3) each; JSON-ready.

    Per group: `center` (medians), `spread` (half the range of the middle 68 %), `whiten` (rows:
    uncorrelated directions of unit width) and `limit`, the distance within which `INSIDE` % lie.

    Raises
    ------
    DataSetError
        If no tile holds tissue.
    """
    found = [m for image in images if (m := measure(image)) is not None]
    if not found:
        raise DataSetError("none of the training tiles holds tissue: nothing to describe.")
    statistics: dict[str, Any] = {"tiles": len(found)}
    for name, values in _grouped(np.stack(found)).items():
        low, center, high = np.percentile(values, (16, 50, 84), axis=0)
        group = {
            "measures": list(GROUPS[name]),
            "center": _plain(center),
            "spread": _plain(np.maximum((high - low) / 2, 1e-3)),
        }
        # Clip: a torn or empty training tile must not widen the usual range.
        scaled = np.clip((values - group["center"]) / group["spread"], -4, 4)
        correlation = scaled.T @ scaled / len(scaled)
        correlation += SHRINKAGE * np.eye(len(correlation))
        group["whiten"] = _plain(np.linalg.inv(np.linalg.cholesky(correlation)))
        # Round up, and after rounding the rest: the limit must hold for the stored numbers.
        limit = np.percentile(_distance(group, values), INSIDE, method="higher")
        group["limit"] = float(np.round(limit + 1e-4, 4))
        statistics[name] = group
    return replace(spec, appearance=statistics)


def differs(statistics: Mapping[str, Any], measured: NDArray[np.float64]) -> str | None:
    """Return the group in which a tile differs from the training tiles, None if it does not differ.

    `measured` comes from `measure`, `statistics` is a spec's `appearance`. The group is ``stain``
    or ``focus``; if both differ, the one farther beyond its limit.
    """
    ratio = {
        name: float(_distance(statistics[name], values[None])[0]) / statistics[name]["limit"]
        for name, values in _grouped(measured).items()
    }
    farthest = max(ratio, key=lambda name: ratio[name])
    return farthest if ratio[farthest] > 1 else None


def _distance(group: Mapping[str, Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mahalanobis distances (N,) of values (N, statistics)."""
    scaled = (values - group["center"]) / group["spread"]
    distances: NDArray[np.float64] = np.linalg.norm(scaled @ np.transpose(group["whiten"]), axis=1)
    return distances


def _grouped(values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Split values (…, 8) into (…, statistics) per group."""
    edge = len(GROUPS["stain"])
    return {"stain": values[..., :edge], "focus": values[..., edge:]}


def _plain(values: NDArray[np.float64]) -> Any:
    return np.round(values, 5).tolist()
