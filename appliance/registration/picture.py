"""The structure of a section that both stains show, which registration compares.

Serial sections lie differently on their slides and are stained differently. Both show tissue and
nuclei: the red channel's optical density, because hematoxylin absorbs red in both stains, eosin
hardly does, and DAB does less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.slides.tissue import Tissue

DETAIL_UM = 5.0
"""Width of the finest structure that is alike in both stains, whatever lies between the cuts."""
RIM_UM = 15.0
"""Width of the tissue's rim that belongs to its outline."""
SOLID_DENSITY = 0.3
"""Density, summed over red, green and blue, of all tissue; lumens and clefts have less."""

Array = NDArray[np.float32]
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Structure of a slide at `mpp`.

    `layers` is float32 (rows, cols, 2), 0-1, 0 on glass: nuclei (red optical density), and presence
    of tissue. `mask` is bool, lumens filled. `detail_um` is the width of the finest structure that
    is compared.
    """

    layers: Array
    mask: NDArray[np.bool_]
    mpp: float
    detail_um: float = DETAIL_UM

    @cached_property
    def structure(self) -> Array:
        """Mean of both layers, float32 (rows, cols)."""
        mean: Array = self.layers.mean(axis=2)
        return mean

    @cached_property
    def detail(self) -> Array:
        """Band-pass of both layers, of equal weight: finer than a lobule, coarser than noise."""
        return self._detail_of(self.layers)

    @cached_property
    def inner_detail(self) -> Array:
        """`detail` without the outline of the tissue, which small pieces of any two blocks share.

        Outside the tissue, and within `RIM_UM` of its edge, both layers have the mean of the rest.
        """
        px = max(1, round(RIM_UM / self.mpp))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1, 2 * px + 1))
        inner = cv2.erode(self.mask.astype(np.uint8), kernel) > 0
        mean = self.layers[inner].mean(axis=0) if inner.any() else np.zeros(2)
        layers: Array = np.where(inner[..., None], self.layers, mean.astype(np.float32))
        return self._detail_of(layers)

    def _detail_of(self, layers: Array) -> Array:
        sigma = max(0.7, self.detail_um / self.mpp)
        fine = cv2.GaussianBlur(layers, (0, 0), sigma)
        step = max(1, round(2 * sigma))
        rows, columns = fine.shape[:2]
        # Blur widely on a reduced picture, which costs little.
        small = cv2.resize(
            fine, (-(-columns // step), -(-rows // step)), interpolation=cv2.INTER_AREA
        )
        wide = cv2.GaussianBlur(small, (0, 0), 8 * sigma / step)
        fine -= cv2.resize(wide, (columns, rows), interpolation=cv2.INTER_LINEAR)
        spread = fine[::3, ::3][self.mask[::3, ::3]].reshape(-1, 2).std(axis=0)
        detail: Array = fine / np.maximum(spread, 1e-6).astype(np.float32)
        return detail

    def shrunk(self, step: int) -> Picture:
        """The picture, `step` times as coarse; px that reach over its edge are glass there."""
        if step <= 1:
            return self
        rows, columns = (-(-n // step) for n in self.mask.shape)
        border = (0, rows * step - self.mask.shape[0], 0, columns * step - self.mask.shape[1])
        layers, mask = (
            cv2.resize(
                cv2.copyMakeBorder(layer.astype(np.float32), *border, cv2.BORDER_CONSTANT),
                (columns, rows),
                interpolation=cv2.INTER_AREA,
            )
            for layer in (self.layers, self.mask)
        )
        return replace(self, layers=layers, mask=mask > 0.5, mpp=self.mpp * step)

    def within(self, mask: NDArray[np.bool_]) -> Picture:
        """The part of the picture inside `mask`."""
        layers = self.layers * mask[..., None]
        return replace(self, layers=layers, mask=self.mask & mask)


def picture_of(image: NDArray[np.uint8], tissue: Tissue, mpp: float) -> Picture:
    """Structure of an overview, uint8 RGB (rows, cols, 3) at `mpp`; `tissue` may have another."""
    rows, columns = image.shape[:2]
    scale = mpp / tissue.mpp
    to_tissue = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    mask = cv2.warpAffine(tissue.mask.astype(np.uint8), to_tissue, (columns, rows), flags=flags) > 0
    red, green, blue = (
        np.maximum(_DENSITY[image[..., k]] - _DENSITY[tissue.white_rgb[k]], 0) for k in range(3)
    )
    there = np.clip((red + green + blue) / SOLID_DENSITY, 0, 1)
    seen = red[mask]
    top = float(np.quantile(seen[:: max(1, seen.size // 100_000)], 0.99)) if seen.size else 0.0
    layers: Array = np.dstack([np.clip(red / (top or 1.0), 0, 1), there]) * mask[..., None]
    return Picture(layers=layers.astype(np.float32), mask=mask, mpp=mpp)


def shrunk_mask(mask: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    """The mask, `step` times as coarse, as `Picture.shrunk` does it."""
    layers = np.zeros((*mask.shape, 2), dtype=np.float32)
    return Picture(layers=layers, mask=mask, mpp=1.0).shrunk(step).mask


def size_um(picture: Picture) -> tuple[float, float]:
    """Width and height of a picture in µm."""
    rows, columns = picture.mask.shape
    return columns * picture.mpp, rows * picture.mpp


def shortest_um(moving: Picture, fixed: Picture) -> float:
    """Shortest side of two pictures of one mpp, in µm."""
    least: int = min(*moving.mask.shape, *fixed.mask.shape)
    return least * moving.mpp


def step_to(moving: Picture, fixed: Picture, longest_px: int) -> int:
    """Factor by which two pictures shrink so that neither side exceeds `longest_px`."""
    longest: int = max(*moving.mask.shape, *fixed.mask.shape)
    return -(-longest // longest_px)
