"""``tandem evaluate tiles``: one network, and the baseline beside it, on images with truth.

An image is read as a slide is: its own glass to 255, tiles of 512 px at 0.2793 µm/px.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.findings.findings import RESEARCH_USE
from appliance.readers.inference import Device, Network
from appliance.readers.reading import Progress
from appliance.slides.stream import calibrate, white_gain
from appliance.slides.tissue import MAX_THRESHOLD, MIN_TISSUE_SHARE
from models.datasets.images import read_rgb
from models.datasets.splits import Split
from models.datasets.store import load_dataset, read_data_set_manifest
from models.errors import DataSetError, ManifestError
from models.evaluation.baseline import Baseline, load_baseline
from models.evaluation.figures import (
    classification,
    confusion,
    headline,
    mean_class,
    segmentation,
)
from models.evaluation.folders import LabelledImage, find_images
from models.evaluation.judged import Judged, JudgedPixels
from models.evaluation.truth_tiles import (
    IGNORED,
    OTHER_UP_TO,
    TUMOR_FROM,
    MaskValues,
    at_tile_mpp,
    cut,
    fitting_mask,
    glass_of_field,
    read_mask,
    read_mask_values,
    tumor_share,
)
from models.spec import CLASSES, TILE_MPP, Task, reference_folder
from models.synthesis.tile_pairs import TUMOR_SHARE

BATCH = 16
SIDES = ("model", "baseline")

Floats = NDArray[np.float64]


@dataclass
class _Answers:
    """What both sides said of everything judged so far."""

    truth: list[int] = field(default_factory=list)
    patient: list[str] = field(default_factory=list)
    probability: dict[str, list[Floats]] = field(default_factory=lambda: {s: [] for s in SIDES})
    matrices: dict[str, list[NDArray[np.int64]]] = field(
        default_factory=lambda: {s: [] for s in SIDES}
    )

    def add(self, truth: int, patient: str, said: dict[str, Floats]) -> None:
        self.truth.append(truth)
        self.patient.append(patient)
        for side in SIDES:
            self.probability[side].append(said[side])

    def add_pixels(self, matrices: dict[str, NDArray[np.int64]], patient: str) -> None:
        self.patient.append(patient)
        for side in SIDES:
            self.matrices[side].append(matrices[side])

    def figures(self, task: Task, side: str) -> dict[str, Any]:
        if task is Task.SEGMENTATION:
            matrices = np.array(self.matrices[side], dtype=np.int64)
            return segmentation(JudgedPixels(matrices=matrices, patient=np.array(self.patient)))
        classes = len(CLASSES[task])
        probability = np.array(self.probability[side], dtype=np.float64).reshape(-1, classes)
        truth, patient = np.array(self.truth, np.int64), np.array(self.patient, np.str_)
        return classification(Judged(truth=truth, probability=probability, patient=patient), task)


@dataclass
class TileJudge:
    """A network and the baseline, asked the same about the same tiles.

    Raises
    ------
    ManifestError
        If the weights are unusable, or are those of another task.
    """

    task: Task
    weights: Path | None = None
    device: Device = "auto"

    def __post_init__(self) -> None:
        folder = self.weights or reference_folder(self.task)
        self.network = Network(folder, self.device)
        self.baseline: Baseline = load_baseline()
        if self.network.spec.task is not self.task:
            raise ManifestError(
                f"{folder}: weights for {self.network.spec.task}, not for {self.task}. "
                "Name others with --weights, or another --task."
            )
        self.answers = _Answers()

    def classify(self, tiles: NDArray[np.uint8]) -> dict[str, Floats]:
        """Class probabilities (N, K) of calibrated tiles, by side."""
        batches = [tiles[k : k + BATCH] for k in range(0, len(tiles), BATCH)]
        said = np.concatenate([self.network.classify(batch) for batch in batches])
        return {
            "model": said.astype(np.float64),
            "baseline": self.baseline.classify(self.task, tiles).astype(np.float64),
        }

    def segment(
        self, tiles: NDArray[np.uint8], truth: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.int64]]:
        """Confusion matrices (5, 5) over the labelled px of all tiles, by side."""
        sums = {side: np.zeros((5, 5), dtype=np.int64) for side in SIDES}
        for k in range(0, len(tiles), BATCH):
            batch = tiles[k : k + BATCH]
            for side, found in (
                ("model", self.network.segment(batch)),
                ("baseline", self.baseline.segment(batch)),
            ):
                true = _at(truth[k : k + BATCH], found.shape[1])
                known = true != IGNORED
                sums[side] += confusion(true[known], found[known], 5)
        return sums

    def result(self, source: dict[str, Any]) -> dict[str, Any]:
        """Quoted figures at the top, all others in ``details``; ready for JSON."""
        figures = {side: self.answers.figures(self.task, side) for side in SIDES}
        quoted = headline(self.task, figures["model"])
        beside = headline(self.task, figures["baseline"])
        spec = self.network.spec
        return {
            "notice": RESEARCH_USE,
            "task": self.task.value,
            **source,
            "weights": {"name": spec.name, "version": spec.version, "sha256": spec.sha256},
            **quoted,
            **{f"baseline.{name}": value for name, value in beside.items()},
            "details": figures,
        }


def evaluate_folder(
    folder: Path, judge: TileJudge, *, mpp: float | None, progress: Progress
) -> dict[str, Any]:
    """Figures and an answer per image of a folder, see `models.evaluation.folders`.

    Raises
    ------
    DataSetError
        If the folder's layout or a file in it cannot be used.
    """
    images = find_images(folder, judge.task, mpp=mpp)
    values = read_mask_values(folder, judge.task)
    records = []
    for number, image in enumerate(images):
        records.append(_judged_image(image, values, judge))
        progress("images", number + 1, len(images))
    source = {
        "data": "images",
        "images": len(images),
        "mpp_assumed": sum(image.mpp is None for image in images),
    }
    return judge.result(source) | {"predictions": records}


def evaluate_generated(
    judge: TileJudge, *, tiles: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """Figures on generated tiles that trained no network; L and M are asked about tumor tiles."""
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
    """Figures on one split of a data set, intervals by its patients.

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


def judge_tiles(
    judge: TileJudge,
    pixels: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    patient: NDArray[np.str_] | None = None,
    *,
    progress: Progress,
) -> None:
    """Ask about calibrated tiles (N, 512, 512, 3), those numbered `chosen`.

    `truth` uint8 (N,), or label maps (N, h, w); `patient` (N,), none: each tile is one.
    """
    patients = np.arange(len(pixels)).astype(np.str_) if patient is None else patient
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        if judge.task is Task.SEGMENTATION:
            for k in batch:
                judge.answers.add_pixels(judge.segment(pixels[[k]], truth[[k]]), str(patients[k]))
        else:
            said = judge.classify(pixels[batch])
            for j, k in enumerate(batch):
                judge.answers.add(int(truth[k]), str(patients[k]), {s: said[s][j] for s in SIDES})
        progress("judging", min(start + BATCH, len(chosen)), len(chosen))


def _judged_image(
    image: LabelledImage, values: MaskValues | None, judge: TileJudge
) -> dict[str, Any]:
    """One image: its tiles are judged against its mask, or itself against its label."""
    pixels = read_rgb(image.path)
    mpp = image.mpp or TILE_MPP
    glass = glass_of_field(pixels)
    mask = None
    if image.mask is not None:
        mask = fitting_mask(read_mask(image.mask, judge.task, values), pixels, image.mask)
        mask = cut(at_tile_mpp(mask, mpp, labels=True), labels=True)
    tiles = calibrate(cut(at_tile_mpp(pixels, mpp, labels=False)), white_gain(glass))
    record: dict[str, Any] = {
        "image": image.name,
        "patient": image.patient,
        "mpp": mpp,
        "glass": list(glass),
    }
    read = tiles_with_tissue(tiles)
    if judge.task is Task.SEGMENTATION and mask is not None:
        return record | _segmented(tiles, mask, image.patient, judge)
    tiles, mask = tiles[read], None if mask is None else mask[read]
    said = judge.classify(tiles)
    mean = {side: said[side].mean(axis=0) for side in SIDES}
    record |= {"tiles": len(tiles), **_word(judge.task, mean["model"])}
    if mask is not None:
        record["tiles_judged"] = 0
        for number, truth in enumerate(tile_truth(mask, judge.task)):
            if truth is not None:
                judge.answers.add(truth, image.patient, {s: said[s][number] for s in SIDES})
                record["tiles_judged"] += 1
        if judge.task is Task.TUMOR:
            record["tumor_share"] = _rounded(float(np.nanmean(tumor_share(mask))))
    elif image.label is not None:
        judge.answers.add(image.label, image.patient, mean)
        record["truth"] = CLASSES[judge.task][image.label]
    return record | {"baseline": _word(judge.task, mean["baseline"])}


def _segmented(
    tiles: NDArray[np.uint8], mask: NDArray[np.uint8], patient: str, judge: TileJudge
) -> dict[str, Any]:
    said = judge.segment(tiles, mask)
    judge.answers.add_pixels(said, patient)
    shares = {}
    for side in SIDES:
        total = max(1, int(said[side].sum()))
        names = CLASSES[Task.SEGMENTATION]
        shares[side] = dict(
            zip(names, np.round(said[side].sum(axis=0) / total, 4).tolist(), strict=True)
        )
        true = np.round(said[side].sum(axis=1) / total, 4).tolist()
        shares["truth"] = dict(zip(names, true, strict=True))
    return {
        "tiles": len(tiles),
        "truth": shares["truth"],
        "predicted": shares["model"],
        "baseline": {"predicted": shares["baseline"]},
    }


def tile_truth(masks: NDArray[np.uint8], task: Task) -> list[int | None]:
    """Class of each tile by its mask (n, 512, 512); None where it has no single right answer."""
    share = tumor_share(masks)
    if task is Task.TUMOR:
        return [1 if s >= TUMOR_FROM else 0 if s <= OTHER_UP_TO else None for s in share]
    truth: list[int | None] = []
    for mask, tumor in zip(masks, share, strict=True):
        counts = np.bincount(mask[mask != IGNORED], minlength=5)[1:5]
        # NaN, where nothing is labelled, is not enough either.
        enough = bool(tumor >= TUMOR_SHARE) and counts.max() > counts.sum() / 2
        truth.append(int(counts.argmax()) if enough else None)
    return truth


def tiles_with_tissue(tiles: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers of the calibrated tiles that the appliance would read: all, where none has tissue."""
    small = [cv2.resize(tile, (64, 64), interpolation=cv2.INTER_AREA) for tile in tiles]
    light = np.maximum(np.stack(small), 1).astype(np.float32) / 255
    density = -np.log10(light).mean(axis=-1)
    enough = (density > MAX_THRESHOLD).mean(axis=(1, 2)) >= MIN_TISSUE_SHARE
    return np.flatnonzero(enough) if enough.any() else np.arange(len(tiles))


def _word(task: Task, probability: Floats) -> dict[str, Any]:
    word: dict[str, Any] = {
        "predicted": CLASSES[task][int(probability.argmax())],
        "probability": dict(zip(CLASSES[task], np.round(probability, 4).tolist(), strict=True)),
    }
    if task is Task.INTENSITY:
        word["mean_class"] = _rounded(float(mean_class(probability[None])[0]))
    return word


def _at(maps: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Label maps (n, T, T) at `px` x `px`: the label at each px's center."""
    if maps.shape[1] == px:
        return maps
    at = ((np.arange(px) + 0.5) * maps.shape[1] / px).astype(int)
    return maps[:, at[:, None], at[None, :]]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


def describe(records: Sequence[dict[str, Any]]) -> list[str]:
    """One line per image, for people."""
    lines = []
    for record in records:
        said = record["predicted"]
        if isinstance(said, dict):
            said = ", ".join(f"{name} {100 * share:.0f} %" for name, share in said.items())
        truth = record.get("truth", record.get("tumor_share"))
        if isinstance(truth, dict):
            truth = ", ".join(f"{name} {100 * share:.0f} %" for name, share in truth.items())
        mean = f" (mean class {record['mean_class']:.2f})" if "mean_class" in record else ""
        known = "" if truth is None else f"; truth: {truth}"
        lines.append(f"{record['image']}: {said}{mean}, {record['tiles']} tiles{known}")
    return lines
