"""Slides as `models.datasets` asks for them: with the glass and the grid that scoring uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.errors import SlideError
from appliance.geometry import TileIndex
from appliance.registration.alignment import thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.stream import calibrate, white_gain
from appliance.slides.tissue import find_tissue
from appliance.words.say import tell_error
from models.errors import DataSetError


class CalibratedSlide:
    """A `models.datasets.annotated.Slide` over an open reader."""

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
def open_calibrated(path: Path) -> Iterator[CalibratedSlide]:
    """Open a slide for a data set.

    Raises
    ------
    DataSetError
        If it cannot be opened or decoded; unlike `SlideError` it names the file.
    """
    try:
        with SlideReader.open(path) as reader:
            yield CalibratedSlide(reader)
    except SlideError as err:
        raise DataSetError(f"{path}: {tell_error(err)}") from err
