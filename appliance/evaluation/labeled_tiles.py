"""``tandem evaluate tiles``: one network, and the baseline beside it, on images with truth.

An image is read as a slide is: its own glass calibrated to 255, tiles of 512 px at 0.2793 µm/px.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliance.evaluation.labeled_images import judge_image
from appliance.evaluation.tile_judge import TileJudge, judge_tiles
from appliance.readers.tile_pass import Progress
from models.datasets.splits import Split
from models.datasets.store import load_dataset, read_data_set_manifest
from models.errors import DataSetError
from models.evaluation.folders import find_images
from models.evaluation.truth_tiles import values_of_folder
from models.spec import Task


def evaluate_folder(
    folder: Path, judge: TileJudge, *, mpp: float | None, progress: Progress
) -> dict[str, Any]:
    """Figures and an answer per image of a folder, see `models.evaluation.folders`.

    Raises
    ------
    DataSetError
        If the folder's layout or a file in it cannot be used, or no tile can be judged.
    """
    images = find_images(folder, judge.task, mpp=mpp)
    masks = [image.mask for image in images if image.mask is not None]
    values = values_of_folder(folder, judge.task, masks)
    records = []
    for number, image in enumerate(images):
        records.append(judge_image(image, values, judge))
        progress("images", number + 1, len(images))
    tiles, not_judged = _counted(records)
    if tiles == not_judged:
        raise DataSetError(
            f"{folder}: no tile is judged, of {tiles}. By its mask each is less than half labeled, "
            "as images smaller than a tile of 143 µm are, or has no single class. Give larger "
            "images, or say their resolution (--mpp)."
        )
    source = {
        "data": "images",
        "images": len(images),
        "mpp_assumed": sum(image.mpp is None for image in images),
        "tiles_not_judged": not_judged,
    }
    return judge.result(source) | {"predictions": records}


def _counted(records: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Tiles of all images, and those whose mask tells no single class, hence are not judged."""
    tiles = sum(record["tiles"] for record in records)
    return tiles, tiles - sum(record.get("tiles_judged", record["tiles"]) for record in records)


def evaluate_generated(
    judge: TileJudge, *, tiles: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """Figures on generated tiles that trained no network; L and M judge tumor tiles alone."""
    from models.datasets.generated_tiles import (
        FIRST_HELD_OUT_SEED,
        GENERATOR_VERSION,
        generated_tiles,
    )

    with tempfile.TemporaryDirectory() as cache:
        made = generated_tiles(
            Path(cache), first_seed=FIRST_HELD_OUT_SEED + seed, count=tiles, progress=progress
        )
        chosen = np.arange(tiles) if judge.task is Task.TUMOR else np.flatnonzero(made.tumor)
        pixels, truth = {
            Task.TUMOR: (made.he, made.tumor),
            Task.INTENSITY: (made.ihc, made.intensity),
            Task.SEGMENTATION: (made.ihc, made.classes),
        }[judge.task]
        judge_tiles(judge, pixels, truth, chosen, progress=progress)
    source = {"data": "synthetic", "seed": seed, "generator_version": GENERATOR_VERSION}
    return judge.result(source)


def evaluate_data_set(
    folder: Path, judge: TileJudge, *, split: Split, progress: Progress
) -> dict[str, Any]:
    """Figures on one split of a data set, with confidence intervals by its patients.

    Raises
    ------
    DataSetError
        If the data set is damaged, of another task, or has no such split.
    """
    manifest = read_data_set_manifest(folder)
    if manifest.task is not judge.task:
        raise DataSetError(
            f"{folder}: a data set for {manifest.task}. Ask with --task {manifest.task}."
        )
    with tempfile.TemporaryDirectory() as cache:
        data = load_dataset(folder, split, Path(cache), progress)
        chosen, patients = np.arange(len(data)), np.array(data.patients, np.str_)
        judge_tiles(judge, data.images, data.labels, chosen, patients, progress=progress)
    generated = manifest.source["kind"] == "generated"
    source = {"data": "synthetic" if generated else "data set", "split": split}
    return judge.result(source | {"data_set_sha256": data.sha256})
