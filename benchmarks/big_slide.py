"""Writer of slides of any size within a minute: the encoded tiles of a small field, repeated.

``python benchmarks/big_slide.py OUT.svs --stain he --width 60000 --height 50000 --tissue 0.2``
draws one field of synthetic tissue and writes its encoded tiles repeatedly. For measurements of
memory and speed only: repeated tissue cannot be aligned, and every field has the same score.
``--step 2`` writes a generic TIFF whose levels halve, as most scanners' do; Aperio's step is 4.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from tifffile import TiffWriter

from appliance.geometry import TILE_PX
from appliance.registration.alignment import alignment_mpp
from appliance.slides.reader import SlideReader
from models.synthesis.pyramid import QUALITY, STEP, TILE
from models.synthesis.tile_pairs import synthesize_tile_pair

FIELD_PX = 4096
"""Edge of the repeated field: whole tiles on every level, for steps of 2 and 4."""
GLASS = 243
MPP = 0.25
"""Resolution of 40x scanners in µm per px. At `TILE_MPP`, in which tissue is drawn, no tile would
be resampled. Cells appear a tenth smaller than drawn."""


def make_big_slide(
    out: Path,
    *,
    stain: str,
    width_px: int,
    height_px: int,
    tissue: float,
    seed: int = 0,
    step: int = STEP,
    mpp: float = MPP,
) -> None:
    """Write `out` with sizes rounded up to whole fields; the file states `mpp` µm per px.

    Each level is `step` times smaller than the one before: 4 writes Aperio's flavor, 2 a generic
    TIFF. `stain` is he or ihc. `tissue` (0-1) is the share of fields that hold tissue, those
    nearest to the center; the others are glass.
    """
    columns, rows = (-(-n // FIELD_PX) for n in (width_px, height_px))
    nearest = sorted(
        np.ndindex(rows, columns),
        key=lambda rc: float(np.hypot((rc[0] + 0.5) / rows - 0.5, (rc[1] + 0.5) / columns - 0.5)),
    )
    filled = set(nearest[: round(tissue * columns * rows)])
    levels = [_encoded_tiles(image) for image in _levels(_field(stain, seed), step)]
    (glass,) = _encoded_tiles(np.full((TILE, TILE, 3), GLASS, dtype=np.uint8))
    size = f"{columns * FIELD_PX}x{rows * FIELD_PX}"
    with TiffWriter(out, bigtiff=True) as writer:
        for level, tiles in enumerate(levels):
            side = FIELD_PX // step**level // TILE  # tiles of a field on this level, per direction

            def repeated(tiles: list[bytes] = tiles, side: int = side) -> Iterator[bytes]:
                for row in range(rows * side):
                    for column in range(columns * side):
                        there = (row // side, column // side) in filled
                        yield tiles[row % side * side + column % side] if there else glass

            own = f"{columns * side * TILE}x{rows * side * TILE}"
            aperio = (
                f"Aperio Image Library v12.0.15 \r\n{size} [0,0 {size}] (256x256) -> "
                f"{own} JPEG/RGB Q={QUALITY}|AppMag = {round(10 / mpp)}|MPP = {mpp}"
            )
            per_cm = 1e4 / (mpp * step**level)
            writer.write(
                repeated(),
                shape=(rows * side * TILE, columns * side * TILE, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                description=aperio if step == STEP else None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level and step != STEP else 0,
                software=False,
                metadata=None,
            )


def _field(stain: str, seed: int) -> NDArray[np.uint8]:
    side = FIELD_PX // TILE_PX
    pairs = [synthesize_tile_pair(seed + number) for number in range(side**2)]
    tiles = np.stack([getattr(pair, stain) for pair in pairs])
    grid = tiles.reshape(side, side, TILE_PX, TILE_PX, 3).swapaxes(1, 2)
    return grid.reshape(FIELD_PX, FIELD_PX, 3)


def _levels(image: NDArray[np.uint8], step: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the levels of a field down to one tile."""
    while True:
        yield image
        if len(image) <= TILE:
            return
        size = (image.shape[1] // step, image.shape[0] // step)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _encoded_tiles(image: NDArray[np.uint8]) -> list[bytes]:
    """Encode tiles as JPEG as Aperio does, row by row."""
    return [
        bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(image[y : y + TILE, x : x + TILE]),
                level=QUALITY,
                colorspace="rgb",
                outcolorspace="ycbcr",
                subsampling="420",
            )
        )
        for y in range(0, len(image), TILE)
        for x in range(0, image.shape[1], TILE)
    ]


def main() -> int:
    """Write the slide; print the seconds for it and for reading its overview; return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stain", choices=("he", "ihc"), default="he")
    parser.add_argument("--width", type=int, default=60_000)
    parser.add_argument("--height", type=int, default=50_000)
    parser.add_argument("--tissue", type=float, default=1.0)
    parser.add_argument("--mpp", type=float, default=MPP)
    parser.add_argument("--step", type=int, choices=(2, 4), default=STEP)
    options = parser.parse_args()
    start = time.perf_counter()
    make_big_slide(
        options.out,
        stain=options.stain,
        width_px=options.width,
        height_px=options.height,
        tissue=options.tissue,
        step=options.step,
        mpp=options.mpp,
    )
    size = options.out.stat().st_size / 2**20
    print(f"{options.out}: {size:.0f} MiB in {time.perf_counter() - start:.0f} s")
    with SlideReader.open(options.out) as slide:
        facts = slide.facts
        mpp = alignment_mpp(facts.width_px * facts.mpp, facts.height_px * facts.mpp)
        start = time.perf_counter()
        slide.thumbnail(mpp)
    print(f"overview at {mpp:.1f} µm/px, as alignment reads: {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
