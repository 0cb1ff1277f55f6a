"""Slides for `models.datasets`: with the calibration and the tile grid of scoring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.errors import SlideError
from appliance.geometry import TILE_UM, TileIndex
from appliance.slides.glass import calibrate, white_gain
from appliance.slides.header import bounds_offset
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import Tissue, find_tissue, tissue_share, tissue_tiles
from models.deconvolution import DAB, HEMATOXYLIN, unmix
from models.errors import DataSetError

_STAINS = np.array([HEMATOXYLIN, DAB, np.cross(HEMATOXYLIN, DAB)], dtype=np.float32)


class CalibratedSlide:
    """Implementation of `models.datasets.annotated.Slide` over an open reader."""

    def __init__(self, reader: SlideReader) -> None:
        facts = reader.facts
        self.width_px, self.height_px, self.mpp = facts.width_px, facts.height_px, facts.mpp
        self.offset_px = bounds_offset(reader.properties)
        self._reader = reader

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        """A tile of the grid: uint8 RGB (512, 512, 3) at 0.2793 µm/px, glass at 255."""
        return calibrate(self._reader.read_tile(TileIndex(column, row)), self._white)

    def picture(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at `mpp` µm per px: uint8 RGB (rows, columns, 3), glass at 255."""
        return calibrate(self._reader.thumbnail(mpp), self._white)

    def tiles_by_brown(self) -> list[tuple[int, int]]:
        """(column, row) of the tiles with tissue that lie wholly on the slide, palest first.

        The order is that of the mean amount of DAB on the overview.
        """
        overview, tissue = self._overview
        density = -np.log10(np.maximum(calibrate(overview, self._white), 1) / np.float32(255))
        brown = unmix(density.astype(np.float32), _STAINS)[..., 1]
        tile_px = TILE_UM / tissue.mpp
        # Half a px for rounding: an annotation outside its slide is refused.
        columns = int((self.width_px + 0.5) * self.mpp / TILE_UM)
        rows = int((self.height_px + 0.5) * self.mpp / TILE_UM)
        found = []
        for tile in tissue_tiles(tissue_share(tissue, self._reader.grid)):
            if tile.column < columns and tile.row < rows:
                left, top = round(tile.column * tile_px), round(tile.row * tile_px)
                right, bottom = round((tile.column + 1) * tile_px), round((tile.row + 1) * tile_px)
                amount = float(brown[top:bottom, left:right].mean())
                found.append((amount, tile.row, tile.column))
        return [(column, row) for _, row, column in sorted(found)]

    @cached_property
    def _overview(self) -> tuple[NDArray[np.uint8], Tissue]:
        mpp = thumbnail_mpp(self.width_px * self.mpp, self.height_px * self.mpp)
        overview = self._reader.thumbnail(mpp)
        return overview, find_tissue(overview, mpp)

    @cached_property
    def _white(self) -> NDArray[np.float32]:
        return white_gain(self._overview[1].white_rgb)


@contextmanager
def open_calibrated(path: Path, *, mpp: float | None = None) -> Iterator[CalibratedSlide]:
    """Open a slide for a data set; `mpp` in µm per px takes the place of the file's.

    Raises
    ------
    DataSetError
        If the slide cannot be opened or decoded. Unlike `SlideError` it names the file.
    """
    try:
        with SlideReader.open(path, mpp=mpp) as reader:
            yield CalibratedSlide(reader)
    except SlideError as err:
        raise DataSetError(f"{path}: {err}") from err
