"""Bags of a drawn cohort: composed from a pool of tiles, named in the cohort's table.

They lie in ``COHORT/bags/STAIN``, and the pool in its folder ``pool``, a file per patient's look,
so that a stopped run goes on. All of it is synthetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.encoders.spec import reference_encoder
from models.errors import SynthesisError
from models.mil.bag import SUFFIX, load_bag, save_bag
from models.slide_level.cohort import CohortSlide, read_cohort, write_cohort
from models.synthesis.bags import PoolPlan, Progress, TilePool, compose_bag, make_pool
from models.synthesis.slide_cohort import (
    RUNS,
    SCANNERS,
    SHIFTED_RUNS,
    SHIFTED_SCANNERS,
    SlideDraw,
)
from models.synthesis.slide_overview import Stain
from models.synthesis.tile_pool import PoolStain

BAGS, POOL = "bags", "pool"


def drawn_bags(
    folder: Path, draws: Sequence[SlideDraw], seed: int, progress: Progress, *, shifted: bool
) -> list[CohortSlide]:
    """Give each slide of a drawn cohort its bag, by the encoder that ships; return the slides.

    A bag that is there is not composed again, so that a run that goes on finds its files unchanged.

    Raises
    ------
    SynthesisError
        If the folder holds bags of another seed, or a slide is of none of the draws.
    ManifestError
        If the encoder cannot be used.
    """
    slides = read_cohort(folder)
    stains: list[PoolStain] = sorted({_pool_stain(slide) for slide in slides})
    by_patient = {draw.patient: draw for draw in draws}
    for stain in stains:
        plan = PoolPlan(seed=seed, stain=stain, stainings=stainings(shifted=shifted))
        pool = pool_of(folder / BAGS / stain / POOL, plan, reference_encoder(), progress)
        slides = [
            _with_bag(slide, by_patient, pool, folder / BAGS / stain)
            if _pool_stain(slide) == stain
            else slide
            for slide in slides
        ]
    write_cohort(folder, slides)
    return slides


def stainings(*, shifted: bool = False) -> tuple[tuple[str, int], ...]:
    """Return the pairs of scanner and staining run of a cohort, or of one from elsewhere."""
    scanners, runs = (SHIFTED_SCANNERS, SHIFTED_RUNS) if shifted else (SCANNERS, RUNS)
    return tuple((scanner, run) for scanner in scanners for run in runs)


def pool_of(folder: Path, plan: PoolPlan, encoder: Path, progress: Progress) -> TilePool:
    """Return the pool in a folder, encoded by the encoder of another; draw what is missing.

    Raises
    ------
    SynthesisError
        If the folder holds a pool of another plan or encoder.
    ManifestError
        If the encoder cannot be used.
    """
    # Torch: only where tiles are encoded.
    from models.encoders.load import load_encoder

    loaded = load_encoder(encoder)
    return make_pool(folder, plan, loaded.encode, loaded.spec.fingerprint, progress)


def stain_of(slide: CohortSlide) -> Stain:
    """Return the stain of a drawn slide, which has the label of that stain alone."""
    label = slide.label
    if label.her2 is not None:
        return "HER2"
    return "ER" if label.er is not None else "PR"


def _pool_stain(slide: CohortSlide) -> PoolStain:
    return "HER2" if stain_of(slide) == "HER2" else "ER"


def _with_bag(
    slide: CohortSlide, draws: dict[str, SlideDraw], pool: TilePool, folder: Path
) -> CohortSlide:
    if slide.patient not in draws:
        raise SynthesisError(f"{slide.slide}: no draw of its patient {slide.patient}.")
    path = folder / f"{slide.slide}{SUFFIX}"
    if not path.is_file() or load_bag(path).encoder != pool.encoder:
        folder.mkdir(parents=True, exist_ok=True)
        save_bag(compose_bag(draws[slide.patient], pool, stain=stain_of(slide)), path)
    return replace(slide, bag=path)
