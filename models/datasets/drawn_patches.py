"""Patches of a drawn cohort: partial annotations as a person draws them, and patches cut by them.

They lie in ``COHORT/patches/RESOLUTION``, the annotations beside them as QuPath's GeoJSON. All of
it is synthetic. A slide is drawn at the resolution of its patches: it has the composition of the
slide's overview, and other px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.geojson import Area, write_annotations
from models.datasets.glass import calibrated
from models.datasets.progress import Progress
from models.datasets.slide_patches import cut_patches
from models.errors import SynthesisError
from models.patch_counts.patches import SUFFIX, PatchSet, save_patches
from models.patch_counts.resolutions import PATCH_PX, RESOLUTIONS
from models.slide_level.cohort import CohortSlide, read_cohort, write_cohort
from models.slide_level.foreground import foreground, glass_color
from models.synthesis.slide_cohort import SlideDraw, guideline_score
from models.synthesis.slide_overview import DrawnOverview, draw_slide, slide_width_um

PATCHES = "patches"
ANNOTATED = 0.76
"""Share of the slides that are annotated: the paper's 764 of 1,000."""
AREAS = (1, 4)
"""Fewest and most annotated areas of a slide."""
RADIUS_UM = (300.0, 1500.0)
"""Smallest and largest mean radius of an area, even on a logarithmic scale."""
_LEAST_TUMOR = 0.1
"""Share of an area that is tumor, below which a person would not annotate it."""
_CORNERS = 24
_COLORS = {"0": (180, 180, 255), "1+": (255, 220, 120), "2+": (255, 150, 60), "3+": (160, 60, 0)}


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Drawn slide as `models.datasets.slide_patches.WholeSlide`: level 0 is the picture itself."""

    pixels: NDArray[np.uint8]
    mpp: float
    offset_px: tuple[int, int] = (0, 0)

    @property
    def width_px(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.pixels.shape[0])

    def picture(self, mpp: float) -> NDArray[np.uint8]:
        size = [max(1, round(edge * self.mpp / mpp)) for edge in (self.width_px, self.height_px)]
        if tuple(size) == (self.width_px, self.height_px):
            return self.pixels
        small: NDArray[np.uint8] = cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA)
        return small

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        raise SynthesisError("drawn slides have no tiles of high resolution")


def drawn_patches(
    folder: Path, draws: Sequence[SlideDraw], resolutions: Sequence[str], progress: Progress
) -> list[CohortSlide]:
    """Give each HER2 slide of a drawn cohort its patches; return the slides.

    What is there is not drawn again, so that a stopped run goes on.

    Raises
    ------
    SynthesisError
        If a slide is of none of the draws, or the resolution is ``high``: a whole section of 23,000
        px cannot be drawn.
    """
    if "high" in resolutions:
        raise SynthesisError("slides of high resolution are not drawn: use low or moderate patches")
    by_patient = {draw.patient: draw for draw in draws}
    slides = read_cohort(folder)
    for resolution in resolutions:
        for number, slide in enumerate(slides):
            progress(f"drawing {resolution} patches", number + 1, len(slides))
            if slide.label.her2 is None:
                continue
            if slide.patient not in by_patient:
                raise SynthesisError(f"{slide.slide}: no draw of its patient {slide.patient}.")
            path = folder / PATCHES / resolution / f"{slide.slide}{SUFFIX}"
            if not path.exists():
                marks = path.with_suffix(".geojson")
                marks.unlink(missing_ok=True)
                save_patches(
                    patches_of_draw(by_patient[slide.patient], slide.slide, resolution, marks), path
                )
            kept = [pair for pair in slide.patches if pair[0] != resolution]
            slides[number] = replace(slide, patches=(*kept, (resolution, path)))
    write_cohort(folder, slides)
    return slides


def patches_of_draw(draw: SlideDraw, name: str, resolution: str, marks: Path) -> PatchSet:
    """Return the patches of a drawn HER2 slide with their truth; write its annotations to `marks`.

    A slide that nobody annotated has no file of annotations. Equal draws give equal patches.
    """
    mpp = RESOLUTIONS[resolution]
    drawn = draw_slide(draw, px=max(8, 2 * round(slide_width_um(draw) / mpp / 2)))
    glass = glass_color(drawn.pixels, foreground(drawn.pixels)).round().astype(int).tolist()
    slide = _Drawn(calibrated(drawn.pixels, (glass[0], glass[1], glass[2])), mpp)
    cells = _cells(drawn)
    rng = np.random.default_rng([draw.seed, 0xA22A])
    areas = _areas(rng, cells, mpp) if rng.random() < ANNOTATED else []
    if areas:
        write_annotations(marks, areas, _COLORS)
    patches = cut_patches(name, slide, marks if areas else None, resolution, {})
    truth = np.zeros((len(patches), 5), dtype=np.float64)
    for number, (column, row) in enumerate(patches.places.tolist()):
        part = cells[row * PATCH_PX : (row + 1) * PATCH_PX]
        part = part[:, column * PATCH_PX : (column + 1) * PATCH_PX]
        truth[number, 1:] = part.sum(axis=(0, 1), dtype=np.float64) / PATCH_PX**2
    truth[:, 0] = 1 - truth[:, 1:].sum(axis=1)
    return replace(patches, truth=truth.astype(np.float16))


def _cells(drawn: DrawnOverview) -> NDArray[np.float32]:
    """Share of each px that is tumor of each score, float32 (rows, columns, 4)."""
    if drawn.cells is None:
        raise SynthesisError("a slide of ER or PR has no shares of HER2 scores")
    rows, columns = drawn.tumor.shape
    fine: NDArray[np.float32] = cv2.resize(
        drawn.cells.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR
    )
    return fine


def _areas(rng: np.random.Generator, cells: NDArray[np.float32], mpp: float) -> list[Area]:
    """Areas around tumor; the class of each is the guideline's score of the cells in it.

    Whoever draws them makes no error: that classes of patches differ comes from the areas alone.
    """
    rows, columns = cells.shape[:2]
    tumor = np.argwhere(cells.sum(axis=2) > 0.5)
    found: list[Area] = []
    for number in range(int(rng.integers(*AREAS, endpoint=True)) if len(tumor) else 0):
        y, x = tumor[rng.integers(len(tumor))]
        radius_px = float(np.exp(rng.uniform(*np.log(RADIUS_UM)))) / mpp
        angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius_px
        for waves in (2, 3, 4):
            ring *= 1 + rng.normal(0, 0.12) * np.cos(waves * angle + rng.uniform(0, 6))[:, None]
        ring = np.clip(ring + np.array([x, y]), 0, (columns, rows))
        inside = np.zeros((rows, columns), dtype=np.uint8)
        cv2.fillPoly(inside, [ring.round().astype(np.int32)], 1)
        shares = cells[inside > 0].mean(axis=0, dtype=np.float64)
        if shares.sum() < _LEAST_TUMOR:
            continue
        zero, one, two, three = (shares / shares.sum()).tolist()
        name = guideline_score((zero, one, two, three))
        found.append(Area(name=name, rings=(np.vstack([ring, ring[:1]]),), number=number + 1))
    return found
