"""Writer of pyramidal tiled JPEG slides, strip by strip; memory does not grow with the height."""

from __future__ import annotations

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
    description = _aperio_description(width_px, height_px, mpp) if file_format == "svs" else None

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for strip in strips:
            rows, columns = strip.shape[0] // STEP, width_px // STEP
            if rows:
                smaller.append(
                    cv2.resize(
                        strip[: rows * STEP, : columns * STEP],
                        (columns, rows),
                        interpolation=cv2.INTER_AREA,
                    )
                )
            yield from _tiles(strip)

    # A fixed date: equal seeds give equal bytes.
    date = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    with TiffWriter(temporary, bigtiff=False) as writer:

        def level(
            data: Iterator[NDArray[np.uint8]],
            size: tuple[int, int],
            factor: int,
            text: str | None,
            reduced: bool,
        ) -> None:
            writer.write(
                data,
                shape=(size[1], size[0], 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": QUALITY},
                description=text,
                subfiletype=1 if reduced else 0,
                resolution=(1e4 / (mpp * factor), 1e4 / (mpp * factor)),
                resolutionunit="CENTIMETER",
                software=False,
                metadata=None,
                datetime=date,
            )

        level(tiles(), (width_px, height_px), 1, description, False)
        image = np.concatenate(smaller)
        if file_format == "svs":
            scale = 768 / max(image.shape[:2])
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            writer.write(
                cv2.resize(image, size, interpolation=cv2.INTER_AREA),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": QUALITY},
                rowsperstrip=size[1],
                description=f"{description.splitlines()[0] if description else ''}\r\n"
                f"{width_px}x{height_px} -> {size[0]}x{size[1]} - |AppMag = 40|MPP = {mpp}",
                software=False,
                metadata=None,
            )
        factor = STEP
        while True:
            rows, columns = image.shape[:2]
            text = (
                f"{description.splitlines()[0]}\r\n{width_px}x{height_px} "
                f"[0,0 {width_px}x{height_px}] (256x256) -> {columns}x{rows} JPEG/RGB Q={QUALITY}"
                if description
                else None
            )
            level(_tiles(image), (columns, rows), factor, text, file_format == "tiff")
            if max(rows, columns) // STEP < SMALLEST_PX / STEP or max(rows, columns) <= SMALLEST_PX:
                break
            image = cv2.resize(image, (columns // STEP, rows // STEP), interpolation=cv2.INTER_AREA)
            factor *= STEP
    temporary.rename(path)


def _tiles(strip: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Cut a strip into tiles, row by row; border tiles are padded with their last px."""
    rows, columns = strip.shape[:2]
    padded = np.pad(strip, ((0, -rows % TILE), (0, -columns % TILE), (0, 0)), mode="edge")
    for y in range(0, padded.shape[0], TILE):
        for x in range(0, padded.shape[1], TILE):
            yield np.ascontiguousarray(padded[y : y + TILE, x : x + TILE])


def _aperio_description(width_px: int, height_px: int, mpp: float) -> str:
    return (
        "Aperio Image Library v12.0.15 \r\n"
        f"{width_px}x{height_px} [0,0 {width_px}x{height_px}] ({TILE}x{TILE}) JPEG/RGB Q={QUALITY}"
        f"|AppMag = 40|StripeWidth = 2040|ScanScope ID = TANDEMSYN|Filename = synthetic"
        f"|Date = 01/01/26|Time = 00:00:00|MPP = {mpp}|Left = 0.0|Top = 0.0"
        f"|OriginalWidth = {width_px}|OriginalHeight = {height_px}|ICC Profile = none"
    )
