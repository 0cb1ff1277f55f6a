"""A synthetic case: the matched H&E and HER2 slides of one block, with their ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import SynthesisError
from models.synthesis.blocks import MPP, SlideJob, SlideTruth, write_slide
from models.synthesis.canvas import STRAIGHT, View
from models.synthesis.cohort import ORGANS, SCANNERS, as_scanned
from models.synthesis.plan import MIXES, PATTERNS, TissuePlan
from models.synthesis.pyramid import FileFormat
from models.synthesis.roughness import random_roughness
from models.synthesis.stain import StainStyle, random_ihc_style, random_style
from models.synthesis.world import World, build_world

PATTERN_CHANCES = {"nests": (0.5, 0.2, 0.05, 0.25), "glands": (0.2, 0.05, 0.05, 0.7)}
"""Probabilities of nests, cords, scattered cells and glands, by the organ's usual pattern."""
FINEST_MPP, COARSEST_MPP = 0.25, 1.0
"""Range of the slides' resolution; finer px would need a wider `render.MARGIN_PX`."""
Control = Literal["works", "failed", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticCase:
    """Files of a case. The truth has its own folder, which no watcher looks at.

    `ihc_path` is the target slide; `score` is a HER2 score, empty for another stain.
    """

    accession: str
    block: str
    score: str
    he_path: Path
    ihc_path: Path
    truth_path: Path


def synthesize_case(
    out_dir: Path,
    *,
    seed: int,
    score: str,
    width_px: int = 12288,
    height_px: int = 9216,
    mpp: float = MPP,
    organ: str = "breast",
    scanner: str | None = None,
    file_format: FileFormat = "svs",
    control: Control = "works",
    mix: tuple[float, float, float, float] | None = None,
    rough: bool = False,
    rotation_degrees: float = 12.0,
    shift_um: float = 120.0,
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> SyntheticCase:
    """Write both slides and their truth into `out_dir`.

    `width_px` and `height_px` are px of `MPP`; at another `mpp` (0.25 to 1) the same area of tissue
    has more or fewer px. Blur and noise of a scanner are in its own px.

    `rough`: outlines and stain are as uneven as `models.synthesis.roughness` draws them, more or
    less by the seed. `mix`: shares of tumor cells of 0, 1+, 2+, 3+, instead of those usual for
    `score`. Control tissue of a ``failed`` run is unstained. The IHC section lies on its slide
    turned by up to `rotation_degrees` and shifted by up to `shift_um` in x and y. Truth
    (``truth/ACCESSION_A1.json`` and PNG rasters beside it): the transform H&E µm → IHC µm, tumor
    mask on each slide, HER2 class per px on the IHC slide, control tissue, shares per class, score.
    Equal arguments give equal files.

    Raises
    ------
    SynthesisError
        If score, organ or scanner is unknown, the slide is smaller than 2,048 x 1,536 px, or `mpp`
        is outside its range.
    """
    if score not in MIXES:
        raise SynthesisError(f"score {score!r}: use one of {', '.join(MIXES)}")
    check_wishes(organ, scanner, width_px, height_px, mpp)
    scene = set_scene(
        seed,
        replace(ORGANS[organ], mix=mix or MIXES[score], rough=random_roughness(seed, rough)),
        size_px=(width_px, height_px),
        mpp=mpp,
        scanner=scanner,
        control=control,
        rotation_degrees=rotation_degrees,
        shift_um=shift_um,
    )
    case = case_files(out_dir, seed, "HER2", score, file_format)
    truths = write_slides(case, (scene.he, scene.ihc), file_format, workers, progress)
    drawn = {"seed": seed, "organ": organ, "scanner": scanner, "control": control}
    write_truth(case, drawn, scene, truths, tuple(MIXES))
    return case


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Slides of a block before they are drawn.

    `transform` is H&E µm → IHC µm, as the truth states it; `rough` the block's irregularity.
    """

    he: SlideJob
    ihc: SlideJob
    transform: dict[str, Any]
    rough: float


def set_scene(
    seed: int,
    plan: TissuePlan,
    *,
    size_px: tuple[int, int],
    mpp: float,
    scanner: str | None,
    control: Control,
    rotation_degrees: float = 12.0,
    shift_um: float = 120.0,
) -> Scene:
    """Build the block of a seed and place its sections; see `synthesize_case`.

    `size_px` (width, height) counts px of `MPP`. Cells, places and styles of a seed are the same
    whatever the plan's shares of stained cells are.
    """
    rng = np.random.default_rng([seed, 0xCA5E])
    width_um, height_um = size_px[0] * MPP, size_px[1] * MPP
    turn = float(rng.uniform(-rotation_degrees, rotation_degrees))
    shift = rng.uniform(-shift_um, shift_um, 2) * min(1.0, width_um / 2000)
    he_to_ihc = _rigid(turn, (width_um / 2, height_um / 2), (float(shift[0]), float(shift[1])))
    ihc_view = _inverse_view(he_to_ihc, mpp)
    cores = _control_cores(width_um, height_um, ihc_view, control)
    world = _world(rng, width_um, height_um, plan, cores)
    he_style, ihc_style = _styles(rng, scanner)
    size = {"width_px": round(width_um / mpp), "height_px": round(height_um / mpp)}
    he_view = replace(STRAIGHT, mpp=mpp)
    return Scene(
        he=SlideJob(world=world, view=he_view, stain="HE", style=he_style, **size),
        ihc=SlideJob(world=world, view=ihc_view, stain="HER2", style=ihc_style, **size),
        transform={"matrix": he_to_ihc[0], "shift_um": he_to_ihc[1], "rotation_degrees": turn},
        rough=plan.rough,
    )


def check_wishes(
    organ: str, scanner: str | None, width_px: int, height_px: int, mpp: float
) -> None:
    """Check what both kinds of cases ask for; raises SynthesisError."""
    for wish, known in ((organ, ORGANS), (scanner or "neutral", SCANNERS)):
        if wish not in known:
            raise SynthesisError(f"{wish!r}: use one of {', '.join(known)}")
    if width_px < 2048 or height_px < 1536:
        raise SynthesisError(f"{width_px} x {height_px} px: a slide needs at least 2,048 x 1,536")
    if not FINEST_MPP <= mpp <= COARSEST_MPP:
        raise SynthesisError(f"{mpp:g} µm/px: use {FINEST_MPP:g} to {COARSEST_MPP:g}")


def _world(
    rng: np.random.Generator,
    width_um: float,
    height_um: float,
    plan: TissuePlan,
    cores: tuple[tuple[float, float, float, int], ...],
) -> World:
    return build_world(
        int(rng.integers(2**31)),
        width_um,
        height_um,
        replace(
            plan,
            pattern=PATTERNS[int(rng.choice(4, p=PATTERN_CHANCES[plan.pattern]))],
            zone_um=min(350.0, width_um / 8),
            patchiness_um=min(300.0, width_um / 8),
        ),
        control_um=cores,
    )


def _styles(rng: np.random.Generator, scanner: str | None) -> tuple[StainStyle, StainStyle]:
    """Styles of the H&E and of the IHC slide."""
    he, ihc = random_style(rng, spread=0.5), random_ihc_style(rng, spread=0.5)
    return (he, ihc) if scanner is None else (as_scanned(he, scanner), as_scanned(ihc, scanner))


def case_files(
    out_dir: Path, seed: int, stain: str, score: str, file_format: FileFormat
) -> SyntheticCase:
    """Return the files of a case whose target slide has a stain.

    The truth of another stain than HER2 is named for it: a block may have slides of several.
    """
    accession = f"S26-{seed % 100_000:05d}"
    suffix = "svs" if file_format == "svs" else "tif"
    named = f"{accession}_A1" if stain == "HER2" else f"{accession}_A1_{stain}"
    return SyntheticCase(
        accession=accession,
        block="A1",
        score=score,
        he_path=out_dir / f"{accession}_A1_HE.{suffix}",
        ihc_path=out_dir / f"{accession}_A1_{stain}.{suffix}",
        truth_path=out_dir / "truth" / f"{named}.json",
    )


def write_slides(
    case: SyntheticCase,
    jobs: tuple[SlideJob, SlideJob],
    file_format: FileFormat,
    workers: int | None,
    progress: Callable[[float], None] | None,
) -> tuple[SlideTruth, SlideTruth]:
    """Write the H&E and the IHC slide; return their truth. `progress` gets the share of both."""
    case.he_path.parent.mkdir(parents=True, exist_ok=True)

    def half(before: int) -> Callable[[float], None]:
        def report(share: float) -> None:
            if progress is not None:
                progress((before + share) / 2)

        return report

    return (
        write_slide(case.he_path, jobs[0], file_format, workers, half(0)),
        write_slide(case.ihc_path, jobs[1], file_format, workers, half(1)),
    )


def write_truth(
    case: SyntheticCase,
    asked: dict[str, Any],
    scene: Scene,
    truths: tuple[SlideTruth, SlideTruth],
    classes: tuple[str, ...],
) -> None:
    """Write rasters and JSON.

    `asked` are the arguments of the case and facts of its own, `classes` the names of the IHC
    raster's classes 1 to 4.
    """
    he, ihc = truths
    case.truth_path.parent.mkdir(parents=True, exist_ok=True)
    stem = case.truth_path.with_suffix("")
    _save(f"{stem}_he_tumor.png", he.tumor * 255)
    _save(f"{stem}_ihc_tumor.png", ihc.tumor * 255)
    _save(f"{stem}_ihc_control.png", ihc.control * 255)
    _save(f"{stem}_ihc_classes.png", ihc.classes)
    counts = np.bincount(ihc.classes.ravel(), minlength=5)[1:5]
    shares = 100 * counts / max(1, counts.sum())
    facts: dict[str, Any] = {
        "synthetic": True,
        "seed": asked["seed"],
        "accession": case.accession,
        "block": case.block,
        "score": case.score,
        "organ": asked["organ"],
        "scanner": asked["scanner"],
        "mpp": scene.he.view.mpp,
        "width_px": scene.he.width_px,
        "height_px": scene.he.height_px,
        "he_to_ihc": scene.transform,
        "classes_mpp": ihc.classes_mpp,
        "masks_mpp": he.masks_mpp,
        "percent": dict(zip(classes, (round(float(s), 3) for s in shares), strict=True)),
        "tumor_area_mm2": float(counts.sum()) * ihc.classes_mpp**2 / 1e6,
        "control": asked["control"],
        "rough": scene.rough,
    }
    case.truth_path.write_text(json.dumps(facts | asked, indent=2) + "\n")


_Matrix = tuple[float, float, float, float]


def _rigid(
    degrees: float, center: tuple[float, float], shift: tuple[float, float]
) -> tuple[_Matrix, tuple[float, float]]:
    """Row-major matrix and shift (µm) of a turn about `center` followed by `shift`."""
    c, s = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    x, y = center
    return (c, -s, s, c), (x - c * x + s * y + shift[0], y - s * x - c * y + shift[1])


def _inverse_view(transform: tuple[_Matrix, tuple[float, float]], mpp: float) -> View:
    (a, b, c, d), (x, y) = transform
    # The inverse of a rotation is its transpose.
    return View(matrix=(a, c, b, d), shift_um=(-(a * x + c * y), -(b * x + d * y)), mpp=mpp)


def _control_cores(
    width_um: float, height_um: float, view: View, control: Control
) -> tuple[tuple[float, float, float, int], ...]:
    """Two 3+ cores and one of 0 near the left edge of the IHC slide, in world µm."""
    if control == "none":
        return ()
    radius = min(110.0, 0.05 * width_um)
    cores = []
    for share, grade in ((0.12, 3), (0.34, 0), (0.9, 3)):
        at = np.array([0.02 * width_um + radius, share * height_um])
        x, y = np.array(view.matrix).reshape(2, 2) @ at + np.array(view.shift_um)
        cores.append((float(x), float(y), radius, grade if control == "works" else 0))
    return tuple(cores)


def _save(path: str, raster: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(path, raster):
        raise SynthesisError(f"{path} cannot be written; is the disk full?")
