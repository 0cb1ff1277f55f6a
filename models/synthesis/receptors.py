"""A synthetic case of a nuclear receptor: the H&E slide of a block and its ER or PR slide.

The block is that of `models.synthesis.slides` with the same seed, so that one H&E slide serves the
HER2, the ER and the PR slide of a block; its bytes are the same. A known number of tumor nuclei
takes DAB. Benign epithelium takes it too, as the internal control of real sections does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import SynthesisError
from models.synthesis.blocks import MPP
from models.synthesis.cells import Cells, Kind
from models.synthesis.cohort import ORGANS
from models.synthesis.pyramid import FileFormat
from models.synthesis.slides import (
    Control,
    SyntheticCase,
    case_files,
    check_wishes,
    set_scene,
    write_slides,
    write_truth,
)
from models.synthesis.world import World

Receptor = Literal["ER", "PR"]
RECEPTORS: tuple[Receptor, ...] = ("ER", "PR")
NUCLEAR_CLASSES = ("negative", "weak", "moderate", "strong")
"""Classes of a nucleus by its DAB, in the order of `Cells.grade`."""
MARKER = (0.3, 1.3)
"""Range of the DAB of a positive nucleus (optical density along the stain's vector)."""
MODERATE_FROM, STRONG_FROM = 0.55, 0.9
"""DAB from which a positive nucleus is moderate, and strong."""
BENIGN_SHARE = 0.3
"""Share of the benign epithelium's nuclei that take DAB where the run works."""


def synthesize_receptor_case(
    out_dir: Path,
    *,
    seed: int,
    receptor: Receptor,
    positive_percent: float,
    width_px: int = 12288,
    height_px: int = 9216,
    mpp: float = MPP,
    organ: str = "breast",
    scanner: str | None = None,
    file_format: FileFormat = "svs",
    control: Control = "works",
    workers: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> SyntheticCase:
    """Write the H&E and the receptor's slide of a block, and their truth, into `out_dir`.

    `positive_percent` (0-100) of the block's tumor nuclei are positive, to the next whole nucleus.
    The other arguments are those of `synthesize_case`; nothing on the slide of a ``failed`` run
    outside the tumor takes DAB. Truth (``truth/ACCESSION_A1_ER.json`` and PNG rasters beside it):
    as that of a HER2 case, with ``receptor``, ``positive_percent``, ``nuclei`` (tumor nuclei per
    class) and ``intensity`` (mean class, 1-3, of the positive ones). Equal arguments give equal
    files.

    Raises
    ------
    SynthesisError
        If the percentage is not within 0 to 100, or as `synthesize_case` does.
    """
    if not 0 <= positive_percent <= 100:
        raise SynthesisError(f"{positive_percent:g} % positive nuclei: use 0 to 100")
    check_wishes(organ, scanner, width_px, height_px, mpp)
    scene = set_scene(
        seed,
        ORGANS[organ],
        size_px=(width_px, height_px),
        mpp=mpp,
        scanner=scanner,
        control=control,
    )
    stained = with_receptor(
        scene.ihc.world, receptor, positive_percent / 100, works=control != "failed"
    )
    jobs = scene.he, replace(scene.ihc, world=stained, stain="ER")
    case = case_files(out_dir, seed, receptor, "", file_format)
    truths = write_slides(case, jobs, file_format, workers, progress)
    facts: dict[str, Any] = {"seed": seed, "organ": organ, "scanner": scanner, "control": control}
    counted = count_nuclei(stained)
    facts |= {"receptor": receptor, "nuclei": dict(zip(NUCLEAR_CLASSES, counted, strict=True))}
    positive = sum(counted[1:])
    facts |= {
        "positive_percent": 100 * positive / max(1, sum(counted)),
        "intensity": sum(k * n for k, n in enumerate(counted)) / max(1, positive),
    }
    write_truth(case, facts, scene, truths, NUCLEAR_CLASSES)
    return case


def with_receptor(world: World, receptor: Receptor, positive: float, *, works: bool) -> World:
    """Return the world with a receptor in the nuclei of its cells.

    `positive` (0-1) is the share of the tumor cells outside control tissue. `Cells.marker` is the
    DAB, `Cells.grade` the class (0-3). `works`: benign epithelium and control tissue of a class
    above 0 take DAB, too.
    """
    cells = world.cells
    rng = np.random.default_rng([world.seed, *receptor.encode()])
    marker = np.zeros(len(cells), dtype=np.float32)
    tumor = np.flatnonzero(_of_tumor(cells))
    drawn = rng.permutation(tumor)[: round(positive * len(tumor))]
    if works:
        benign = rng.permutation(np.flatnonzero(cells.kind == Kind.BENIGN))
        cores = np.flatnonzero(cells.control & (cells.grade > 0))
        drawn = np.concatenate([drawn, benign[: round(BENIGN_SHARE * len(benign))], cores])
    marker[drawn] = rng.uniform(*MARKER, len(drawn))
    grade = (marker > 0).astype(np.uint8)
    grade += (marker >= MODERATE_FROM).astype(np.uint8) + (marker >= STRONG_FROM).astype(np.uint8)
    return replace(world, cells=replace(cells, marker=marker, grade=grade))


def count_nuclei(world: World) -> tuple[int, ...]:
    """Count the tumor nuclei of each class (0-3) outside control tissue."""
    grades = world.cells.grade[_of_tumor(world.cells)]
    return tuple(np.bincount(grades, minlength=len(NUCLEAR_CLASSES)).tolist())


def _of_tumor(cells: Cells) -> NDArray[np.bool_]:
    tumor: NDArray[np.bool_] = (cells.kind == Kind.TUMOR) & ~cells.control
    return tumor
