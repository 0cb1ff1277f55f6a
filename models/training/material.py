"""Training and evaluation examples, from generated tiles or from a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.generated_tiles import (
    FIRST_HELD_OUT_SEED,
    FIRST_RESERVED_SEED,
    GENERATOR_VERSION,
    NON_TUMOR_SHARE,
    SEEDS_PER_RUN,
    Tiles,
    generated_tiles,
)
from models.datasets.progress import Progress
from models.datasets.splits import Split
from models.errors import DataSetError
from models.spec import MANIFEST_NAME, Task, file_sha256
from models.training.configuration import TrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Images and labels of one task.

    `images` uint8 (N, 512, 512, 3), glass at 255; `labels` uint8 (N,), for segmentation
    (N, 128, 128); `chosen` int64 (n,), the rows in use; `copies` the stem of the files that keep
    smaller copies of the images.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    chosen: NDArray[np.int64]
    copies: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Examples for training (`learnt`), for the choice of the epoch and for the figures (`judged`).

    No patient is in two of them. `validation` chooses the epoch and fits the temperature; it is
    None if the data have none. Both others are functions: generated tiles are made when they are
    asked for, so that training starts at once. `facts` describe `learnt` in the weights' manifest;
    they are the run's identity, so that a checkpoint of other data is never resumed. `judged_on`
    describes `judged` in words.
    """

    learnt: Examples
    validation: Callable[[], Examples] | None
    judged: Callable[[], Examples]
    facts: dict[str, Any]
    judged_on: str


def generated_material(
    task: Task, config: TrainingConfig, cache: Path, *, seed: int, count: int, progress: Progress
) -> Material:
    """Generate `count` tiles of a seed for training, and others for validation and for the figures.

    Training also uses tiles of tumor in stained stroma, in the configuration's proportion. The
    configuration's `rough_share` of the tiles for training and for validation is drawn
    irregularly, so that the epoch is chosen for what was to be learnt; those for the figures are
    not, so that figures of different configurations compare.

    Raises
    ------
    DataSetError
        If `seed` would reach held-out tiles.
    """
    first = seed * SEEDS_PER_RUN
    stained_stroma = round(config.stained_stroma_tiles * count / config.tiles)
    learning = count + stained_stroma
    if not 0 <= first <= FIRST_RESERVED_SEED - learning:
        raise DataSetError(
            f"seed {seed}: training draws tiles {SEEDS_PER_RUN} x seed onwards, and those from "
            f"{FIRST_RESERVED_SEED} on are held out. Take a seed below "
            f"{FIRST_RESERVED_SEED // SEEDS_PER_RUN}."
        )
    learnt = generated_tiles(
        cache,
        first_seed=first,
        count=count,
        stained_stroma=stained_stroma,
        rough_share=config.rough_share,
        progress=progress,
    )

    def others(first_seed: int, number: int, rough_share: float = 0.0) -> Examples:
        tiles = generated_tiles(
            cache,
            first_seed=first_seed,
            count=number,
            rough_share=rough_share,
            progress=progress,
        )
        return judged_tiles(task, tiles, every=config.all_tiles)

    return Material(
        learnt=_of_task(task, learnt, every=config.all_tiles, share=NON_TUMOR_SHARE),
        validation=once(
            lambda: others(FIRST_RESERVED_SEED, config.validation_tiles, config.rough_share)
        ),
        judged=lambda: others(FIRST_HELD_OUT_SEED, config.test_tiles),
        facts={
            "data": f"generated tiles, generator version {GENERATOR_VERSION}",
            "tiles": learning,
            "stained_stroma_tiles": stained_stroma,
            "rough_share": config.rough_share,
        },
        judged_on=f"synthetic, {config.test_tiles} held-out tiles",
    )


def judged_tiles(task: Task, tiles: Tiles, *, every: bool = False) -> Examples:
    """Generated tiles for the evaluation of a task: for tasks on IHC those with tumor, or `every`
    one."""
    return _of_task(task, tiles, every=every)


def data_set_material(task: Task, folder: Path, cache: Path, *, progress: Progress) -> Material:
    """Load a data set: its splits train, validation (if it has one) and test. All are verified.

    Raises
    ------
    DataSetError
        If the data set is damaged, is of another task, or has no test split.
    """
    # They need pydantic and Pillow; training on generated tiles does without.
    from models.datasets.store import load_dataset, read_data_set_manifest

    manifest = read_data_set_manifest(folder)
    if manifest.task is not task:
        raise DataSetError(f"{folder}: a data set for {manifest.task}, not for {task}")
    for needed in ("train", "test"):
        if needed not in manifest.counts:
            raise DataSetError(
                f"{folder}: no split {needed!r}. Training needs train and test; build the data set "
                "with other --splits."
            )

    def examples(split: Split) -> Examples:
        data = load_dataset(folder, split, cache, progress)
        return Examples(
            images=data.images,
            labels=data.labels,
            chosen=np.arange(len(data)),
            copies=cache / f"{data.sha256[:16]}-{split}" / "images",
        )

    # Read now, not after the training: a damaged file is told at once.
    learnt, judged = examples("train"), examples("test")
    chosen = examples("validation") if "validation" in manifest.counts else None
    sha256 = file_sha256(folder / MANIFEST_NAME)
    kind = "synthetic" if manifest.source["kind"] == "generated" else "the data set's own"
    test = manifest.counts["test"]
    return Material(
        learnt=learnt,
        validation=(lambda: chosen) if chosen is not None else None,
        judged=lambda: judged,
        facts={
            "data": f"data set {sha256[:12]}",
            "tiles": manifest.counts["train"].tiles,
            "data_set": {
                "sha256": sha256,
                "source": manifest.source,
                "counts": manifest.model_dump(mode="json")["counts"],
            },
        },
        judged_on=f"{kind} test split, {test.tiles} tiles of {test.patients} patients",
    )


def _of_task(task: Task, tiles: Tiles, *, every: bool, share: float = 0.0) -> Examples:
    """Tiles of a task; for L and M those with tumor and, per such tile, `share` of one without.

    They answer on what C calls tumor: tumor tiles, and some tiles from their surroundings.
    """
    if task is Task.TUMOR:
        return Examples(
            images=tiles.he,
            labels=tiles.tumor,
            chosen=np.arange(len(tiles)),
            copies=tiles.folder / "he",
        )
    chosen = np.flatnonzero(tiles.tumor)
    other = np.flatnonzero(tiles.tumor == 0)
    chosen = np.concatenate([chosen, other[: int(len(chosen) * share)]])
    if every:
        chosen = np.arange(len(tiles))
    labels = tiles.intensity if task is Task.INTENSITY else tiles.classes
    return Examples(images=tiles.ihc, labels=labels, chosen=chosen, copies=tiles.folder / "ihc")
