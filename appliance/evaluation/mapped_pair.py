"""One pair of made sections: aligned with its own partner, and with another block's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.assays.slide_reasons import alignment_reasons
from appliance.errors import AlignmentError
from appliance.findings.reasons import Reason
from appliance.geometry import TILE_UM, TileGrid
from appliance.registration.alignment import Alignment, align
from appliance.registration.tile_plan import map_tumor
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.tissue import Tissue, find_tissue, tissue_share
from models.synthesis.overview import MASK_UM
from models.synthesis.placement import SIZE_UM
from models.synthesis.sections import SectionPair

FAILED_UM = 60.0
"""Median error of a pair above which it has failed; the winner of ACROBAT 2022 came to 60 µm."""
FAILED_UNPLACED = 0.2
"""Share of targets without a place above which a pair has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedPair:
    """Result of one pair.

    `tre_um` (n,): error at each target, NaN without a place; `said_um`: error that the alignment
    reports; `reasons`: those for review; `leaked`: number of tiles of control tissue that would
    have been scored; `mix_up`: reasons when its H&E slide is aligned with another block's IHC.
    """

    seed: int
    tre_um: NDArray[np.float64]
    said_um: float
    agreement: float
    overlap: float
    seconds: float
    reasons: tuple[str, ...]
    mix_up: tuple[str, ...]
    mix_up_agreement: float
    control: bool
    leaked: int
    truth: dict[str, Any]
    mirrored: bool

    @property
    def failed(self) -> bool:
        """Return whether the tumor would have been read in wrong places."""
        return has_failed(self.tre_um)

    @property
    def median_um(self) -> float:
        """Median error in µm over the targets that have a place; NaN where none has."""
        return median_placed(self.tre_um)


def median_placed(tre_um: NDArray[np.float64]) -> float:
    """Median of the errors (n,) that are not NaN; NaN where all are."""
    placed = tre_um[~np.isnan(tre_um)]
    return float(np.median(placed)) if placed.size else float("nan")


def has_failed(tre_um: NDArray[np.float64]) -> bool:
    """Return whether a pair with these errors (n,) at its targets, NaN without a place, failed."""
    unplaced = float(np.isnan(tre_um).mean())
    return not median_placed(tre_um) <= FAILED_UM or unplaced > FAILED_UNPLACED


def map_pair(
    seed: int, pair: SectionPair, stranger: NDArray[np.uint8], settings: Settings
) -> MappedPair:
    """Align a pair of sections, and its H&E section with `stranger`, another block's IHC."""
    start = time.perf_counter()
    found, ihc_tissue = aligned_sections(pair.he, pair.ihc, pair.mpp)
    seconds = time.perf_counter() - start
    mixed, _ = aligned_sections(pair.he, stranger, pair.mpp)
    truth = {
        name: getattr(pair, name) for name in ("pieces", "torn", "moved", "mirrored", "control")
    }
    if found is None:
        tre, leaked = np.full(len(pair.he_um), np.nan), 0
    else:
        tre = np.linalg.norm(found.mapping.forward(pair.he_um) - pair.ihc_um, axis=1)
        leaked = _leaked(found, pair, ihc_tissue, settings)
    return MappedPair(
        seed=seed,
        tre_um=tre,
        said_um=np.inf if found is None else found.error_um,
        agreement=0.0 if found is None else found.agreement,
        overlap=0.0 if found is None else found.overlap,
        seconds=seconds,
        reasons=review_codes(found, settings),
        mix_up=review_codes(mixed, settings),
        mix_up_agreement=0.0 if mixed is None else mixed.agreement,
        control=pair.control,
        leaked=leaked,
        truth=truth | {"degrees": round(pair.degrees, 1)},
        mirrored=found is not None and found.mirrored,
    )


def aligned_sections(
    he: NDArray[np.uint8], ihc: NDArray[np.uint8], mpp: float
) -> tuple[Alignment | None, Tissue]:
    """Align as steps 3 and 6 do: tissue on a coarse overview, alignment on a finer one.

    Returns None for slides that cannot be aligned, and the tissue of the IHC slide.
    """
    coarse = thumbnail_mpp(*SIZE_UM)
    tissues = [
        find_tissue(
            cv2.resize(image, None, fx=mpp / coarse, fy=mpp / coarse, interpolation=cv2.INTER_AREA),
            coarse,
        )
        for image in (he, ihc)
    ]
    try:
        return align(he, tissues[0], ihc, tissues[1], mpp), tissues[1]
    except AlignmentError:
        return None, tissues[1]


def review_codes(found: Alignment | None, settings: Settings) -> tuple[str, ...]:
    """Return the codes of the reasons for review of an alignment; None: none was found."""
    if found is None:
        return (Reason.MISMATCH,)
    return tuple(reason.code for reason in alignment_reasons(settings.review, found))


def _leaked(found: Alignment, pair: SectionPair, ihc_tissue: Tissue, settings: Settings) -> int:
    """Number of IHC tiles, more than half control tissue, that a perfect tumor map would score."""
    grid = TileGrid.of(*SIZE_UM)
    plan = map_tumor(
        (_share(pair.he_tumor, grid) >= 0.1).astype(np.float32),
        found.mapping,
        grid,
        grid,
        tissue_share(ihc_tissue, grid),
        threshold=settings.scoring.tumor_threshold,
    )
    control = _share(pair.ihc_control, grid)
    return sum(bool(control[tile.row, tile.column] > 0.5) for tile in plan.ihc_tiles)


def _share(mask: NDArray[np.bool_], grid: TileGrid) -> NDArray[np.float32]:
    """Share of each tile that a mask at `MASK_UM` covers."""
    columns = np.minimum((np.arange(mask.shape[1]) + 0.5) * MASK_UM // TILE_UM, grid.columns - 1)
    rows = np.minimum((np.arange(mask.shape[0]) + 0.5) * MASK_UM // TILE_UM, grid.rows - 1)
    flat = rows[:, None].astype(int) * grid.columns + columns[None].astype(int)
    size = grid.rows * grid.columns
    counts = np.bincount(flat.ravel(), weights=mask.ravel().astype(float), minlength=size)
    share: NDArray[np.float32] = (counts * MASK_UM**2 / TILE_UM**2).reshape(grid.shape)
    return share.astype(np.float32)
