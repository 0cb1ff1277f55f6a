"""Attention of an interim reader over an anatomy slide: where its hint came from."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

ATTENTION_NAME = "attention.npz"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error)
"""Errors of reading a damaged file: `RuntimeError` where its bytes say that it is encrypted or
compressed in a way that Python does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMap:
    """Share of each tile in the attention of the class token to the anchors.

    Attributes
    ----------
    share
        float32 (rows, columns), 0-1; all tiles sum to 1. NaN where no tile was read. Tiles of one
        anchor have equal shares.
    cell_um
        Edge of a cell in µm. The first cell begins at the slide's upper left corner.
    slide
        Beginning of the fingerprint of the slide that was read.
    """

    share: NDArray[np.float32]
    cell_um: float
    slide: str

    @classmethod
    def of_tiles(
        cls, places: NDArray[np.int32], share: NDArray[np.float64], *, cell_um: float, slide: str
    ) -> AttentionMap:
        """Return the map of tiles; `places` (N, 2) are column and row, `share` is (N,)."""
        columns, rows = places.max(axis=0) + 1
        grid = np.full((rows, columns), np.nan, dtype=np.float32)
        grid[places[:, 1], places[:, 0]] = share
        return cls(share=grid, cell_um=cell_um, slide=slide)

    def save(self, folder: Path) -> None:
        """Write ``attention.npz``."""
        np.savez(folder / ATTENTION_NAME, share=self.share, cell_um=self.cell_um, slide=self.slide)

    @classmethod
    def load(cls, folder: Path) -> AttentionMap | None:
        """Read what `save` wrote; None where the folder has no map that can be read.

        A map is for display alone: one that is damaged holds up neither a case nor its page.
        """
        try:
            # NumPy leaves a file open that is no archive, if it opened the file itself.
            with (
                (folder / ATTENTION_NAME).open("rb") as stream,
                np.load(stream, allow_pickle=False) as kept,
            ):
                share, cell_um, slide = (kept[name] for name in ("share", "cell_um", "slide"))
        except _DAMAGED:
            return None
        return cls(share=share, cell_um=float(cell_um), slide=str(slide))

    def heat_at(self, y_um: NDArray[np.float64], x_um: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the share by the strongest tile's, 0-1 (rows, columns), at places in slide µm.

        NaN where no tile was read.
        """
        # One empty row and column more, for the places beyond the last tile.
        grid = np.pad(self.share / np.nanmax(self.share), ((0, 1), (0, 1)), constant_values=np.nan)
        r, c = (
            np.minimum((um / self.cell_um).astype(np.intp), length - 1)
            for um, length in zip((y_um, x_um), grid.shape, strict=True)
        )
        heat: NDArray[np.float32] = grid[np.ix_(r, c)]
        return heat
