"""Bag of a slide: each tissue tile as the vector of an encoder (`models.mil.bag`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliance.domain import QuarantineReason
from appliance.errors import SlideError, WeightsError
from appliance.geometry import TILE_UM
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from appliance.slides.tissue import Tissue, tissue_share, tissue_tiles
from models.encoders.spec import EncoderSpec, fits_float16, fits_grid
from models.errors import DataSetError
from models.mil.bag import Bag

if TYPE_CHECKING:
    from models.encoders.load import Encoder

BAG_VERSION = 2
"""Counted up when a slide's vectors or tiles change though slide and encoder are the same."""
BATCH = 8
Progress = Callable[[str, int, int], None]


class NoTissueError(DataSetError):
    """A slide has no tile with tissue, so that there is no bag of it."""


class OverflowingVectorsError(DataSetError):
    """An encoder's numbers for a tile are too large for a bag, or are none."""


def encode_slide(slide: SlideReader, tissue: Tissue, encoder: Encoder, progress: Progress) -> Bag:
    """Return the bag of a slide's tissue.

    The slide's grid of 143 µm is read at the encoder's resolution. A tile of the grid gives as many
    of the encoder's tiles as fit into it, side by side around its center: one of 224 px at 0.64 or
    0.5 µm/px, four at 0.25 µm/px. Places count the encoder's tiles.

    Raises
    ------
    NoTissueError
        If no tile holds tissue.
    WeightsError
        If one tile of the encoder is larger than a tile of the grid.
    OverflowingVectorsError
        If the encoder's numbers are too large to be kept.
    SlideError
        If no tile can be decoded.
    """
    spec = encoder.spec
    grid_px, along = cut_of(spec)
    wanted = tissue_tiles(tissue_share(tissue, slide.grid))
    if not wanted:
        raise NoTissueError(f"{slide.facts.path}: no tissue was found, so that there is no bag.")
    stream = TileStream(slide, wanted, tissue.white_rgb, BATCH, px=grid_px)
    inset = (grid_px - along * spec.tile_px) // 2
    cuts = [(k, j) for j in range(along) for k in range(along)]
    vectors, places = [], []
    # Closed before the slide is, also where `progress` raises: threads of the stream read from it.
    with closing(iter(stream)) as batches:
        for indices, pixels in batches:
            for column, row in cuts:
                x, y = (inset + n * spec.tile_px for n in (column, row))
                part = pixels[:, y : y + spec.tile_px, x : x + spec.tile_px]
                vectors.append(_kept(encoder.encode(np.ascontiguousarray(part)), spec))
                places += [(t.column * along + column, t.row * along + row) for t in indices]
            progress("encoding tiles", len(places) // len(cuts), len(wanted))
    if not vectors:
        raise SlideError(QuarantineReason.DAMAGED, "none of its tissue tiles can be decoded")
    return Bag(
        slide=slide.facts.fingerprint[:12],
        encoder=spec.fingerprint,
        vectors=np.concatenate(vectors),
        places=np.array(places, dtype=np.int32),
    )


def _kept(vectors: NDArray[np.float32], spec: EncoderSpec) -> NDArray[np.float16]:
    if not fits_float16(vectors):
        raise OverflowingVectorsError(
            f"The encoder {spec.name} gives numbers that a bag cannot hold (float16). Export it "
            "with its last normalization."
        )
    return vectors.astype(np.float16)


def centers_um(places: NDArray[np.integer], spec: EncoderSpec) -> NDArray[np.float64]:
    """Return where the tiles of a bag have their centers: slide µm (N, 2), x and y.

    `places` int (N, 2) are those of `encode_slide`.
    """
    grid_px, along = cut_of(spec)
    inset = (grid_px - along * spec.tile_px) // 2
    tile, cut = np.divmod(places.astype(np.int64), along)
    px = inset + (cut + 0.5) * spec.tile_px
    found: NDArray[np.float64] = tile * TILE_UM + px * spec.mpp
    return found


def cut_of(spec: EncoderSpec) -> tuple[int, int]:
    """Return (px, n): edge of the grid's tiles at the encoder's resolution, and its tiles along it.

    Raises
    ------
    WeightsError
        If not one fits.
    """
    grid_px = round(TILE_UM / spec.mpp)
    if not fits_grid(spec):
        edge_um = spec.tile_px * spec.mpp
        raise WeightsError(
            f"The encoder {spec.name} takes tiles of {edge_um:.2f} µm; slides are read in tiles of "
            f"{TILE_UM:.2f} µm. Use it at a finer resolution."
        )
    grid_px = max(grid_px, spec.tile_px)
    return grid_px, grid_px // spec.tile_px
