"""Writer of pyramidal tiled JPEG slides, strip by strip; memory does not grow with the height."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from tifffile import TiffWriter

TILE = 256
"""Edge of the file's tiles in px, as in Aperio's files."""
STEP = 4
"""Reduction from each level to the next, as in Aperio's files."""
SMALLEST_PX = 1200
"""Least longest side in px of a level."""
QUALITY = 85
_APERIO = "Aperio Image Library v12.0.15 "
_DATE = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
"""Fixed date of all files: equal seeds give equal bytes."""

FileFormat = Literal["svs", "tiff"]


def write_pyramid(
    path: Path,
    strips: Iterable[NDArray[np.uint8]],
    *,
    width_px: int,
    height_px: int,
    mpp: float,
    file_format: FileFormat,
) -> None:
    """Write a slide from strips of rows, top to bottom.

    Each strip is uint8 RGB (rows, width_px, 3) with rows a multiple of `TILE` (the last one may end
    at the slide's edge). ``svs`` is Aperio-flavored: description with MPP, thumbnail as second
    image. ``tiff`` is a generic pyramidal TIFF with its resolution in the tags. The file gets its
    name only after it is complete.
    """
    smaller: list[NDArray[np.uint8]] = []
    temporary = path.with_name(f".{path.name}.part")
    first = f"{_APERIO}\r\n{width_px}x{height_px} "
    aperio = file_format == "svs"
    with TiffWriter(temporary, bigtiff=False) as writer:
        text = _aperio_description(width_px, height_px, mpp) if aperio else None
        tiles = _tiles_and_reduction(strips, smaller)
        _write_level(writer, tiles, (height_px, width_px), mpp, text, reduced=False)
        image = np.concatenate(smaller)
        if aperio:
            _write_thumbnail(writer, image, first, mpp)
        factor = STEP
        while True:
            rows, columns = image.shape[:2]
            size = f"[0,0 {width_px}x{height_px}] (256x256) -> {columns}x{rows}"
            text = f"{first}{size} JPEG/RGB Q={QUALITY}" if aperio else None
            tiles = _tiles(image)
            _write_level(writer, tiles, (rows, columns), mpp * factor, text, reduced=not aperio)
            if max(rows, columns) // STEP < SMALLEST_PX / STEP or max(rows, columns) <= SMALLEST_PX:
                break
            image = cv2.resize(image, (columns // STEP, rows // STEP), interpolation=cv2.INTER_AREA)
            factor *= STEP
    temporary.rename(path)


def _write_level(
    writer: TiffWriter,
    tiles: Iterator[NDArray[np.uint8]],
    shape: tuple[int, int],
    mpp: float,
    description: str | None,
    *,
    reduced: bool,
) -> None:
    """Write a level of `shape` (rows, columns) at `mpp` µm/px from its tiles, row by row."""
    writer.write(
        tiles,
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": QUALITY},
        description=description,
        subfiletype=1 if reduced else 0,
        resolution=(1e4 / mpp, 1e4 / mpp),
        resolutionunit="CENTIMETER",
        software=False,
        metadata=None,
        datetime=_DATE,
    )


def _write_thumbnail(writer: TiffWriter, image: NDArray[np.uint8], first: str, mpp: float) -> None:
    """Write Aperio's second image: 768 px wide or high. `first` begins its description."""
    scale = 768 / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    writer.write(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": QUALITY},
        rowsperstrip=size[1],
        description=f"{first}-> {size[0]}x{size[1]} - |AppMag = {_power(mpp)}|MPP = {mpp}",
        software=False,
        metadata=None,
    )


def _tiles_and_reduction(
    strips: Iterable[NDArray[np.uint8]], smaller: list[NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the tiles of the strips; append each strip, `STEP` times smaller, to `smaller`."""
    for strip in strips:
        rows, columns = strip.shape[0] // STEP, strip.shape[1] // STEP
        if rows:
            whole = strip[: rows * STEP, : columns * STEP]
            smaller.append(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA))
        yield from _tiles(strip)


def _tiles(strip: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Cut a strip into tiles, row by row; border tiles are padded with their last px."""
    rows, columns = strip.shape[:2]
    padded = np.pad(strip, ((0, -rows % TILE), (0, -columns % TILE), (0, 0)), mode="edge")
    for y in range(0, padded.shape[0], TILE):
        for x in range(0, padded.shape[1], TILE):
            yield np.ascontiguousarray(padded[y : y + TILE, x : x + TILE])


def _aperio_description(width_px: int, height_px: int, mpp: float) -> str:
    return (
        f"{_APERIO}\r\n{width_px}x{height_px} [0,0 {width_px}x{height_px}] ({TILE}x{TILE}) "
        f"JPEG/RGB Q={QUALITY}"
        f"|AppMag = {_power(mpp)}|StripeWidth = 2040|ScanScope ID = TANDEMSYN|Filename = synthetic"
        f"|Date = 01/01/26|Time = 00:00:00|MPP = {mpp}|Left = 0.0|Top = 0.0"
        f"|OriginalWidth = {width_px}|OriginalHeight = {height_px}|ICC Profile = none"
    )


def _power(mpp: float) -> int:
    """Return the power of the objective with which scanners reach `mpp`, such as 40 for 0.25."""
    return min((10, 20, 40, 80), key=lambda power: abs(math.log(power * mpp / 10)))
