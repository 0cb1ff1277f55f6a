"""A synthetic case: the matched H&E and HER2 slides of one block, with their ground truth."""

from __future__ import annotations

import json
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import SynthesisError
from models.synthesis.canvas import STRAIGHT, View
from models.synthesis.cohort import ORGANS, SCANNERS, as_scanned
from models.synthesis.plan import MIXES, PATTERNS
from models.synthesis.pyramid import FileFormat, write_pyramid
from models.synthesis.render import StainName, has_tissue, render_region
from models.synthesis.stain import StainStyle, random_ihc_style, random_style
from models.synthesis.world import World, build_world

MPP = 0.2793
"""Resolution of level 0 in µm per px."""
BLOCK_PX = 1024
"""Edge of the squares in which slides are drawn; a strip is one row of them."""
PATTERN_CHANCES = {"nests": (0.5, 0.2, 0.05, 0.25), "glands": (0.2, 0.05, 0.05, 0.7)}
"""Probabilities of nests, cords, scattered cells and glands, by the organ's usual pattern."""
Control = Literal["works", "failed", "none"]
CLASS_STEP, MASK_STEP = 4, 16
"""Steps of the truth's rasters in level-0 px: classes every 4 px, masks every 16 px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticCase:
    """Files of a case. The truth has its own folder, which no watcher looks at."""

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
    organ: str = "breast",
    scanner: str | None = None,
    file_format: FileFormat = "svs",
    control: Control = "works",
    mix: tuple[float, float, float, float] | None = None,
    rotation_degrees: float = 12.0,
    shift_um: float = 120.0,
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> SyntheticCase:
    """Write both slides and their truth into `out_dir`.

    `mix`: shares of tumor cells of 0, 1+, 2+, 3+, instead of those usual for `score`. Control
    tissue of a ``failed`` run is unstained. The IHC section lies on its slide turned by up to
    `rotation_degrees` and shifted by up to `shift_um` in x and y. Truth
    (``truth/ACCESSION_A1.json`` and PNG rasters beside it): the transform H&E µm → IHC µm, tumor
    mask on each slide, HER2 class per px on the IHC slide, control tissue, shares per class, score.
    Equal arguments give equal files.

    Raises
    ------
    SynthesisError
        If score, organ or scanner is unknown, or the slide is smaller than 2,048 x 1,536 px.
    """
    if score not in MIXES:
        raise SynthesisError(f"score {score!r}: use one of {', '.join(MIXES)}")
    for wish, known in ((organ, ORGANS), (scanner or "neutral", SCANNERS)):
        if wish not in known:
            raise SynthesisError(f"{wish!r}: use one of {', '.join(known)}")
    if width_px < 2048 or height_px < 1536:
        raise SynthesisError(f"{width_px} x {height_px} px: a slide needs at least 2,048 x 1,536")
    rng = np.random.default_rng([seed, 0xCA5E])
    width_um, height_um = width_px * MPP, height_px * MPP
    turn = float(rng.uniform(-rotation_degrees, rotation_degrees))
    shift = rng.uniform(-shift_um, shift_um, 2) * min(1.0, width_um / 2000)
    he_to_ihc = _rigid(turn, (width_um / 2, height_um / 2), (float(shift[0]), float(shift[1])))
    ihc_view = _inverse_view(he_to_ihc)
    cores = _control_cores(width_um, height_um, ihc_view, control)
    world = build_world(
        int(rng.integers(2**31)),
        width_um,
        height_um,
        replace(
            ORGANS[organ],
            mix=mix or MIXES[score],
            pattern=PATTERNS[int(rng.choice(4, p=PATTERN_CHANCES[ORGANS[organ].pattern]))],
            zone_um=min(350.0, width_um / 8),
            patchiness_um=min(300.0, width_um / 8),
        ),
        control_um=cores,
    )
    styles = {"HE": random_style(rng, spread=0.5), "HER2": random_ihc_style(rng, spread=0.5)}
    if scanner is not None:
        styles = {name: as_scanned(style, scanner) for name, style in styles.items()}
    accession = f"S26-{seed % 100_000:05d}"
    suffix = "svs" if file_format == "svs" else "tif"
    paths = {
        "HE": out_dir / f"{accession}_A1_HE.{suffix}",
        "HER2": out_dir / f"{accession}_A1_HER2.{suffix}",
    }
    truth_dir = out_dir / "truth"
    truth_dir.mkdir(parents=True, exist_ok=True)
    rasters = {}
    context = multiprocessing.get_context("spawn")
    for number, (stain, view) in enumerate((("HE", STRAIGHT), ("HER2", ihc_view))):
        name: StainName = "HE" if stain == "HE" else "HER2"
        job = _Job(world, view, name, styles[name], width_px, height_px)
        truth = _Truth(height_px, width_px)
        with ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start, initargs=(job,)
        ) as pool:

            def report(share: float, before: int = number) -> None:
                if progress is not None:
                    progress((before + share) / 2)

            write_pyramid(
                paths[name],
                _strips(pool, job, truth, report),
                width_px=width_px,
                height_px=height_px,
                mpp=MPP,
                file_format=file_format,
            )
        rasters[name] = truth
    stem = truth_dir / f"{accession}_A1"
    _save(f"{stem}_he_tumor.png", rasters["HE"].tumor * 255)
    _save(f"{stem}_ihc_tumor.png", rasters["HER2"].tumor * 255)
    _save(f"{stem}_ihc_control.png", rasters["HER2"].control * 255)
    _save(f"{stem}_ihc_classes.png", rasters["HER2"].classes)
    counts = np.bincount(rasters["HER2"].classes.ravel(), minlength=5)[1:5]
    shares = 100 * counts / max(1, counts.sum())
    truth_path = stem.with_suffix(".json")
    facts: dict[str, Any] = {
        "synthetic": True,
        "seed": seed,
        "accession": accession,
        "block": "A1",
        "score": score,
        "organ": organ,
        "scanner": scanner,
        "mpp": MPP,
        "width_px": width_px,
        "height_px": height_px,
        "he_to_ihc": {"matrix": he_to_ihc[0], "shift_um": he_to_ihc[1], "rotation_degrees": turn},
        "classes_mpp": MPP * CLASS_STEP,
        "masks_mpp": MPP * MASK_STEP,
        "percent": dict(zip(MIXES, (round(float(s), 3) for s in shares), strict=True)),
        "tumor_area_mm2": float(counts.sum()) * (MPP * CLASS_STEP) ** 2 / 1e6,
        "control": control,
    }
    truth_path.write_text(json.dumps(facts, indent=2) + "\n")
    return SyntheticCase(
        accession=accession,
        block="A1",
        score=score,
        he_path=paths["HE"],
        ihc_path=paths["HER2"],
        truth_path=truth_path,
    )


_Matrix = tuple[float, float, float, float]


def _rigid(
    degrees: float, center: tuple[float, float], shift: tuple[float, float]
) -> tuple[_Matrix, tuple[float, float]]:
    """Row-major matrix and shift (µm) of a turn about `center` followed by `shift`."""
    c, s = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    x, y = center
    return (c, -s, s, c), (x - c * x + s * y + shift[0], y - s * x - c * y + shift[1])


def _inverse_view(transform: tuple[_Matrix, tuple[float, float]]) -> View:
    (a, b, c, d), (x, y) = transform
    # The inverse of a rotation is its transpose.
    return View(matrix=(a, c, b, d), shift_um=(-(a * x + c * y), -(b * x + d * y)), mpp=MPP)


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


@dataclass(frozen=True, slots=True)
class _Job:
    world: World
    view: View
    stain: StainName
    style: StainStyle
    width_px: int
    height_px: int


_JOB: list[_Job] = []


def _start(job: _Job) -> None:
    cv2.setNumThreads(1)
    _JOB[:] = [job]


def _draw(x_px: int, y_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Return pixels, classes (every `CLASS_STEP` px), control (every `MASK_STEP` px) of a block."""
    job = _JOB[0]
    region = render_region(
        job.world, job.view, job.stain, job.style,
        x_px=x_px, y_px=y_px, width_px=BLOCK_PX, height_px=BLOCK_PX,
    )  # fmt: skip
    half = CLASS_STEP // 2
    classes = region.classes[half::CLASS_STEP, half::CLASS_STEP]
    half = MASK_STEP // 2
    return region.pixels, classes, region.control[half::MASK_STEP, half::MASK_STEP]


class _Truth:
    """Truth rasters of one slide, filled block by block."""

    def __init__(self, height_px: int, width_px: int) -> None:
        rows, columns = -(-height_px // BLOCK_PX), -(-width_px // BLOCK_PX)
        fine, coarse = BLOCK_PX // CLASS_STEP, BLOCK_PX // MASK_STEP
        self._classes = np.zeros((rows * fine, columns * fine), dtype=np.uint8)
        self._control = np.zeros((rows * coarse, columns * coarse), dtype=np.uint8)
        self._size = (height_px, width_px)

    def add(
        self, row: int, column: int, classes: NDArray[np.uint8], control: NDArray[np.bool_]
    ) -> None:
        fine, coarse = BLOCK_PX // CLASS_STEP, BLOCK_PX // MASK_STEP
        self._classes[row * fine : (row + 1) * fine, column * fine : (column + 1) * fine] = classes
        self._control[
            row * coarse : (row + 1) * coarse, column * coarse : (column + 1) * coarse
        ] = control

    @property
    def classes(self) -> NDArray[np.uint8]:
        return self._classes[: self._size[0] // CLASS_STEP, : self._size[1] // CLASS_STEP]

    @property
    def control(self) -> NDArray[np.uint8]:
        return self._control[: self._size[0] // MASK_STEP, : self._size[1] // MASK_STEP]

    @property
    def tumor(self) -> NDArray[np.uint8]:
        rows, columns = (n // MASK_STEP for n in self._size)
        share = cv2.resize(
            (self.classes > 0).astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA
        )
        mask: NDArray[np.uint8] = (share > 0.5).astype(np.uint8)
        return mask


def _strips(
    pool: ProcessPoolExecutor, job: _Job, truth: _Truth, report: Callable[[float], None]
) -> Iterator[NDArray[np.uint8]]:
    """Yield strips of the slide, top to bottom; one strip is computed ahead of the writer."""
    rows, columns = -(-job.height_px // BLOCK_PX), -(-job.width_px // BLOCK_PX)
    ahead: deque[tuple[int, list[Future[Any] | None]]] = deque()
    next_row = 0
    while next_row < rows or ahead:
        while next_row < rows and len(ahead) < 2:
            y = next_row * BLOCK_PX
            futures = [
                pool.submit(_draw, c * BLOCK_PX, y)
                if has_tissue(job.world, job.view, c * BLOCK_PX, y, BLOCK_PX, job.stain)
                else None
                for c in range(columns)
            ]
            ahead.append((next_row, futures))
            next_row += 1
        row, futures = ahead.popleft()
        strip = np.empty((BLOCK_PX, columns * BLOCK_PX, 3), dtype=np.uint8)
        strip[:] = job.style.white
        for column, future in enumerate(futures):
            if future is not None:
                pixels, classes, control = future.result()
                strip[:, column * BLOCK_PX : (column + 1) * BLOCK_PX] = pixels
                truth.add(row, column, classes, control)
        report((row + 1) / rows)
        height = min(BLOCK_PX, job.height_px - row * BLOCK_PX)
        yield strip[:height, : job.width_px]


def _save(path: str, raster: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(path, raster):
        raise SynthesisError(f"{path} cannot be written; is the disk full?")
