"""``tandem evaluate --mapping``: alignment, mix-ups and control tissue on made sections with truth.

Sections are made at the resolution at which slides are aligned, as whole slides of 60,000 x 50,000
px show them; full resolution would add nothing that alignment looks at. All figures are synthetic.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.assays.her2.review import alignment_reasons
from appliance.errors import AlignmentError
from appliance.evaluation.pool import run_all
from appliance.findings.findings import RESEARCH_USE, Reason
from appliance.geometry import TILE_UM, TileGrid
from appliance.readers.reading import Progress
from appliance.registration.alignment import Alignment, align
from appliance.registration.tile_plan import map_tumor
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.tissue import Tissue, find_tissue, tissue_share
from models.synthesis.sections import MASK_UM, SIZE_UM, SectionPair, synthesize_sections

SECTIONS_MPP = 4.5
FAILED_UM = 60.0
"""A pair whose median error is larger has failed; the winner of ACROBAT 2022 came to 60 µm."""
FAILED_UNPLACED = 0.2
"""So has one that finds no place for so much of the tissue that both slides show."""
SEEDS_PER_RUN = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedPair:
    """What was found of one pair. `tre_um` (n,): error at each target, NaN without a place;
    `said_um` what the alignment reports; `reasons` for review; `leaked`: tiles of control tissue
    that would have been scored; `mix_up`: reasons when its H&E slide meets another block's IHC."""

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
        """Whether the tumor would have been looked for in wrong places."""
        unplaced = float(np.isnan(self.tre_um).mean())
        return not self.median_um <= FAILED_UM or unplaced > FAILED_UNPLACED

    @property
    def median_um(self) -> float:
        """Median error over the targets that have a place; NaN where none has."""
        placed = self.tre_um[~np.isnan(self.tre_um)]
        return float(np.median(placed)) if placed.size else float("nan")


def evaluate_mapping(
    seed: int, pairs: int, settings: Settings, *, workers: int | None, progress: Progress
) -> dict[str, Any]:
    """Make `pairs` pairs of sections, align each with its own and with another block's partner.

    Quoted figures at the top, a row per pair in ``pairs_found``; ready for JSON.
    """
    first = seed * SEEDS_PER_RUN
    # Two blocks at a time: each lends the other its IHC slide for a mix-up.
    jobs = [(first + k, first + k + 1) for k in range(0, pairs + pairs % 2, 2)]
    both = run_all(
        partial(_both, settings=settings),
        jobs,
        workers=workers,
        what="pairs",
        extensions=settings.extensions,
        progress=progress,
    )
    found = {pair.seed: pair for two in both for pair in two}
    chosen = [found[first + k] for k in range(pairs)]
    return {
        "notice": RESEARCH_USE,
        "data": "synthetic",
        "seed": seed,
        "pairs": pairs,
        "slide_um": list(SIZE_UM),
        **summarise(chosen),
        "pairs_found": [_row(pair) for pair in chosen],
    }


def summarise(pairs: Sequence[MappedPair]) -> dict[str, Any]:
    """The quoted figures. Errors are pooled over all targets of all pairs."""
    errors = np.concatenate([pair.tre_um for pair in pairs])
    placed = errors[~np.isnan(errors)]
    own = np.array([p.median_um for p in pairs])
    ratio = np.array([p.said_um for p in pairs]) / np.maximum(own, 0.1)
    honest = (ratio >= 0.5) & (ratio <= 2)
    with_control = [pair for pair in pairs if pair.control]
    failed = [pair for pair in pairs if pair.failed]
    return {
        "alignment.tre_um_median": round(float(np.median(placed)), 2),
        "alignment.tre_um_p90": round(float(np.quantile(placed, 0.9)), 2),
        "alignment.unplaced_share": round(float(np.isnan(errors).mean()), 4),
        "alignment.failures": len(failed),
        "alignment.unflagged_failures": sum(not pair.reasons for pair in failed),
        "alignment.error_within_factor_two": round(float(honest.mean()), 4),
        "alignment.mirrored_known": sum(p.truth["mirrored"] == p.mirrored for p in pairs),
        "alignment.seconds_median": round(float(np.median([p.seconds for p in pairs])), 2),
        "mismatch.n": len(pairs),
        "mismatch.recall": round(float(np.mean([Reason.MISMATCH in p.mix_up for p in pairs])), 4),
        "mismatch.false_alarm_rate": round(
            float(np.mean([Reason.MISMATCH in p.reasons for p in pairs])), 4
        ),
        "control.n": len(with_control),
        "control.leaked": sum(pair.leaked > 0 for pair in with_control),
    }


def _both(seeds: tuple[int, int], settings: Settings) -> list[MappedPair]:
    one, other = (synthesize_sections(seed, mpp=SECTIONS_MPP) for seed in seeds)
    return [
        _mapped(seeds[0], one, other.ihc, settings),
        _mapped(seeds[1], other, one.ihc, settings),
    ]


def _mapped(
    seed: int, pair: SectionPair, stranger: NDArray[np.uint8], settings: Settings
) -> MappedPair:
    start = time.perf_counter()
    found, ihc_tissue = _aligned(pair.he, pair.ihc, pair.mpp)
    seconds = time.perf_counter() - start
    mixed, _ = _aligned(pair.he, stranger, pair.mpp)
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
        reasons=_reasons(found, settings),
        mix_up=_reasons(mixed, settings),
        mix_up_agreement=0.0 if mixed is None else mixed.agreement,
        control=pair.control,
        leaked=leaked,
        truth=truth | {"degrees": round(pair.degrees, 1)},
        mirrored=found is not None and found.mirrored,
    )


def _aligned(
    he: NDArray[np.uint8], ihc: NDArray[np.uint8], mpp: float
) -> tuple[Alignment | None, Tissue]:
    """As steps 3 and 6 do it: tissue on a coarse thumbnail, alignment on a finer one."""
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


def _reasons(found: Alignment | None, settings: Settings) -> tuple[str, ...]:
    if found is None:
        return (Reason.MISMATCH,)
    return tuple(reason.code for reason in alignment_reasons(settings.review, found))


def _leaked(found: Alignment, pair: SectionPair, ihc_tissue: Tissue, settings: Settings) -> int:
    """IHC tiles, more than half control tissue, that a perfect tumor map would have scored."""
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


def _row(pair: MappedPair) -> dict[str, Any]:
    return {
        "seed": pair.seed,
        **pair.truth,
        "tre_um_median": None if np.isnan(pair.median_um) else round(pair.median_um, 2),
        "unplaced_share": round(float(np.isnan(pair.tre_um).mean()), 3),
        "reported_error_um": round(pair.said_um, 2),
        "agreement": round(pair.agreement, 3),
        "overlap": round(pair.overlap, 3),
        "review": list(pair.reasons),
        "mix_up_agreement": round(pair.mix_up_agreement, 3),
        "mix_up_review": list(pair.mix_up),
        "control_tiles_scored": pair.leaked,
        "seconds": round(pair.seconds, 2),
    }
