"""Pixels of the simulated slides: one synthetic pair per score, drawn once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from models.synthesis.blocks import MPP
from models.synthesis.slides import synthesize_case

WIDTH_PX, HEIGHT_PX = 2048, 1536
"""The smallest slide that the generator of tissue makes."""
_SEED = 1
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Pixels of one stained section: RGB (rows, columns, 3) at `mpp` µm/px."""

    stain: str
    score: str
    pixels: Pixels
    mpp: float = MPP

    def levels(self, factors: Sequence[int]) -> list[Pixels]:
        """Return the section, each side reduced by each of `factors`."""
        rows, columns = self.pixels.shape[:2]
        return [
            self.pixels
            if factor == 1
            else cv2.resize(
                self.pixels, (columns // factor, rows // factor), interpolation=cv2.INTER_AREA
            )
            for factor in factors
        ]


Sections = dict[tuple[str, str], Section]
"""Sections by stain and score."""


def draw_sections(scores: Sequence[str], progress: Callable[[str, int, int], None]) -> Sections:
    """Draw an H&E and a HER2 section for each score."""
    sections: Sections = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, score in enumerate(scores):
            progress("tissue", number, len(scores))
            case = synthesize_case(
                Path(folder) / str(number),
                seed=_SEED,
                score=score,
                width_px=WIDTH_PX,
                height_px=HEIGHT_PX,
                rotation_degrees=3.0,
                shift_um=20.0,
            )
            for stain, path in (("HE", case.he_path), ("HER2", case.ihc_path)):
                with openslide.OpenSlide(path) as slide:
                    rgba = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))
                pixels = np.ascontiguousarray(rgba[..., :3])
                sections[stain, score] = Section(stain=stain, score=score, pixels=pixels)
    progress("tissue", len(scores), len(scores))
    return sections
