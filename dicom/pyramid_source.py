"""Source of the slide converter for levels that the caller reads.

The converter's own readers take the picture of a label for level 0 where a TIFF begins with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from wsidicom.geometry import Point, Region


class Levels(Protocol):
    """Levels of a slide, largest first, under OpenSlide's names. Sizes are (width, height)."""

    @property
    def level_dimensions(self) -> Sequence[tuple[int, int]]: ...

    @property
    def level_downsamples(self) -> Sequence[float]: ...

    def read_region(
        self, location: tuple[float, float], level: int, size: tuple[int, int]
    ) -> Image.Image:
        """Return RGBA of a level; `location` in level-0 px, `size` in px of the level."""
        ...


def source_of(levels: Levels, mpp: float) -> type[Any]:
    """Return a source class that converts `levels`, which stay the caller's to close.

    `mpp` is in µm per level-0 px.
    """
    from wsidicomizer.sources.openslide_like import OpenSlideLikeProperties, OpenSlideLikeSource
    from wsidicomizer.sources.openslide_like.openslide_like_metadata import OpenSlideLikeMetadata

    level_type = _level_type(levels)

    class PyramidSource(OpenSlideLikeSource):
        def __init__(self, filepath: Path, *arguments: Any, **named: Any) -> None:
            stated = OpenSlideLikeProperties(mpp_x=str(mpp), mpp_y=str(mpp))
            self._sizes = levels.level_dimensions, levels.level_downsamples
            super().__init__(
                filepath,
                stated,
                levels.level_downsamples,
                levels.level_dimensions,
                {},
                OpenSlideLikeMetadata(stated, None),
                *arguments,
                **named,
            )

        def close(self) -> None:
            """Leave the levels open."""

        @staticmethod
        def is_supported(path: Path) -> bool:
            return True

        def _create_level_image_data(self, level_index: int) -> Any:
            return level_type(
                self._blank_color,
                self._base_level_offset,
                self._base_level_size,
                *self._sizes,
                self.metadata.pyramid.image,
                level_index,
                self._tile_size,
                self._encoder,
            )

    return PyramidSource


def _level_type(levels: Levels) -> type[Any]:
    from wsidicom.geometry import Region
    from wsidicomizer.sources.openslide_like import OpenSlideLikeLevelImageData

    class PyramidLevel(OpenSlideLikeLevelImageData):
        def read_region(self, region: Region, z: float, path: str) -> Image.Image:
            place = region.start.x * self._downsample, region.start.y * self._downsample
            rgba = levels.read_region(place, self._level_index, region.size.to_tuple())
            image: Image.Image = self._remove_alpha(rgba)
            return image

        def get_decoded_tile(self, tile: Point, z: float, path: str) -> Image.Image:
            return self.read_region(Region(tile * self.tile_size, self.tile_size), z, path)

        def get_encoded_tile(self, tile: Point, z: float, path: str) -> bytes:
            coded: bytes = self.encoder.encode(np.asarray(self.get_decoded_tile(tile, z, path)))
            return coded

    return PyramidLevel
