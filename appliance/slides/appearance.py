"""Appearance of a slide's tiles: how many are unlike the tiles that trained its networks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.appearance import differs, measure
from models.spec import ModelSpec

FILE_NAME = "appearance.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """Number of measured tiles, and of those unlike any training tile by what differs."""

    tiles: int = 0
    stain: int = 0
    focus: int = 0

    @property
    def unusual_percent(self) -> float:
        """Share of the tiles (0-100) that look unusual; 0 where none was measured."""
        return 100 * (self.stain + self.focus) / max(1, self.tiles)

    @property
    def differs_in(self) -> str:
        """Property in which most of the unusual tiles differ: ``stain`` or ``focus``."""
        return "stain" if self.stain >= self.focus else "focus"

    def seen(self, pixels: Iterable[NDArray[np.uint8]], specs: Sequence[ModelSpec]) -> Appearance:
        """Return the counts with more tiles added, uint8 (T, T, 3) each, glass at 255.

        A tile that is unusual to one of the networks of `specs` is unusual. Networks without
        statistics are skipped, and so are tiles with hardly any tissue.
        """
        known = [spec.appearance for spec in specs if spec.appearance is not None]
        tiles, stain, focus = self.tiles, self.stain, self.focus
        for tile in pixels if known else ():
            if (measured := measure(tile)) is None:
                continue
            found = {differs(statistics, measured) for statistics in known}
            tiles += 1
            stain += "stain" in found
            focus += "focus" in found and "stain" not in found
        return Appearance(tiles=tiles, stain=stain, focus=focus)

    def save(self, folder: Path) -> None:
        """Write ``appearance.json`` into an artifact."""
        (folder / FILE_NAME).write_text(json.dumps(asdict(self)))


def load_appearance(folder: Path) -> Appearance:
    """Read what `Appearance.save` wrote."""
    return Appearance(**json.loads((folder / FILE_NAME).read_text()))
