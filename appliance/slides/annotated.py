"""Slides for `models.datasets`: with the calibration and the tile grid of scoring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.errors import SlideError
from appliance.geometry import TileIndex
from appliance.slides.glass import calibrate, white_gain
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import find_tissue
from models.errors import DataSetError


class CalibratedSlide:
    """Implementation of `models.datasets.annotated.Slide` over an open reader."""

    def __init__(self, reader: SlideReader) -> None:
        facts = reader.facts
        self.width_px, self.height_px, self.mpp = facts.width_px, facts.height_px, facts.mpp
        self._reader = reader

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        """A tile of the grid: uint8 RGB (512, 512, 3) at 0.2793 µm/px, glass at 255."""
        return calibrate(self._reader.read_tile(TileIndex(column, row)), self._white)

    @cached_property
    def _white(self) -> NDArray[np.float32]:
        mpp = thumbnail_mpp(self.width_px * self.mpp, self.height_px * self.mpp)
        return white_gain(find_tissue(self._reader.thumbnail(mpp), mpp).white_rgb)


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
