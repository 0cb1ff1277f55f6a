"""A window of a raster over a slide, sampled from the px of one level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from appliance.errors import SlideError
from appliance.slides.direct_level import Covered
from appliance.slides.encoded import Pixels
from appliance.slides.resample import Raster, Span

ReadLevel = Callable[[Span, Span], tuple[Pixels, Covered]]
"""Level px of a span of columns and one of rows: RGB, and where the slide has px."""


def sample_window(
    read: ReadLevel, scale: float, left: int, top: int, columns: int, rows: int
) -> tuple[Pixels, Covered]:
    """Sample a window of the raster whose px are `scale` px of a level wide.

    Returns uint8 RGB (`rows`, `columns`, 3), white where the slide has no px, and where it has px.
    `left` and `top` count px of the raster. Raises SlideError where `read` does.
    """
    raster = Raster(scale)
    x, y = raster.span(left, columns), raster.span(top, rows)
    try:
        rgb, covered = read(x, y)
    except SlideError:
        # The damage may lie only in the lead, which the window does not need.
        x, y = raster.span(left, columns, lead=False), raster.span(top, rows, lead=False)
        rgb, covered = read(x, y)

    def resampled(pixels: Pixels) -> Pixels:
        return raster.sample(pixels, x, y, columns, rows)

    if covered is None:
        return resampled(rgb), None
    # Premultiply alpha to avoid edge bleeding.
    rgb[~covered] = 0
    weight = resampled(covered.astype(np.uint8) * 255).astype(np.float32)[..., None] / 255
    color = resampled(rgb) / np.maximum(weight, 1 / 255)
    # The color of a px is not reliable where the slide covers less than half of it.
    seen = weight >= 0.5
    image = np.where(seen, np.clip(color + 0.5, 0, 255), 255).astype(np.uint8)
    return image, seen[..., 0]
