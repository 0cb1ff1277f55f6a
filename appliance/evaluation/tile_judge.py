"""Networks and the baseline, asked the same about the same tiles with truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.findings.findings import RESEARCH_USE
from appliance.readers.inference import Device, Network
from appliance.readers.tile_pass import Progress
from models.errors import ManifestError
from models.evaluation.baseline import Baseline, load_baseline
from models.evaluation.confusion import confusion
from models.evaluation.epochs import epoch_curve
from models.evaluation.figures import classification, headline, segmentation
from models.evaluation.judged import Judged, JudgedPixels
from models.evaluation.sides import BASELINE, MODEL, side_names, titles
from models.evaluation.truth_tiles import IGNORED
from models.site_calibration import SiteCalibration
from models.spec import CLASSES, Task, reference_folder

BATCH = 16

Floats = NDArray[np.float64]


@dataclass
class _Answers:
    """Answers of all sides on everything judged so far."""

    truth: list[int] = field(default_factory=list)
    patient: list[str] = field(default_factory=list)
    probability: dict[str, list[Floats]] = field(default_factory=lambda: defaultdict(list))
    matrices: dict[str, list[NDArray[np.int64]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, truth: int, patient: str, said: dict[str, Floats]) -> None:
        self.truth.append(truth)
        self.patient.append(patient)
        for side, answer in said.items():
            self.probability[side].append(answer)

    def add_pixels(self, matrices: dict[str, NDArray[np.int64]], patient: str) -> None:
        self.patient.append(patient)
        for side, matrix in matrices.items():
            self.matrices[side].append(matrix)

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
    """Networks and the baseline for `task`, and their answers so far.

    `weights` are folders, by default that of the reference weights; `site` calibrates a single one.
    `networks` holds them by side (`models.evaluation.sides`).

    Raises
    ------
    ManifestError
        If weights are unusable, or are those of another task.
    DataSetError
        If the log of a training beside weights is damaged.
    """

    task: Task
    weights: Sequence[Path] = ()
    device: Device = "auto"
    site: SiteCalibration | None = None

    def __post_init__(self) -> None:
        folders = tuple(self.weights) or (reference_folder(self.task),)
        self.sides = side_names(len(folders))
        self.networks: dict[str, Network] = {}
        for side, folder in zip(self.sides, folders, strict=False):
            network = Network(folder, self.device, site=self.site)
            if network.spec.task is not self.task:
                raise ManifestError(
                    f"{folder}: weights for {network.spec.task}, not for {self.task}. "
                    "Name others with --weights, or another --task."
                )
            self.networks[side] = network
        curves = {
            side: epoch_curve(folder) for side, folder in zip(self.sides, folders, strict=False)
        }
        self.epochs = {side: curve for side, curve in curves.items() if curve is not None}
        self.baseline: Baseline = load_baseline()
        self.answers = _Answers()

    def classify(self, tiles: NDArray[np.uint8]) -> dict[str, Floats]:
        """Class probabilities (N, K) of calibrated tiles, by side."""
        batches = [tiles[k : k + BATCH] for k in range(0, len(tiles), BATCH)]
        said = {
            side: np.concatenate([network.classify(batch) for batch in batches])
            for side, network in self.networks.items()
        }
        said[BASELINE] = self.baseline.classify(self.task, tiles)
        return {side: answer.astype(np.float64) for side, answer in said.items()}

    def segment(
        self, tiles: NDArray[np.uint8], truth: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.int64]]:
        """Confusion matrices (5, 5) over the labeled px of all tiles, by side."""
        sums = {side: np.zeros((5, 5), dtype=np.int64) for side in self.sides}
        for k in range(0, len(tiles), BATCH):
            batch = tiles[k : k + BATCH]
            for side in self.sides:
                judged = self.baseline if side == BASELINE else self.networks[side]
                found = judged.segment(batch)
                true = _at(truth[k : k + BATCH], found.shape[1])
                known = true != IGNORED
                sums[side] += confusion(true[known], found[known], 5)
        return sums

    def result(self, source: dict[str, Any]) -> dict[str, Any]:
        """Quoted figures at the top, all others in ``details``; ready for JSON.

        Keys of further sides begin with the side; ``weights`` holds several sets by side.
        """
        figures = {side: self.answers.figures(self.task, side) for side in self.sides}
        specs = {side: network.spec for side, network in self.networks.items()}
        weights = {
            side: {"name": spec.name, "version": spec.version, "sha256": spec.sha256}
            for side, spec in specs.items()
        }
        site = specs[MODEL].site
        return {
            "notice": RESEARCH_USE,
            "task": self.task.value,
            **source,
            "sides": titles([f"{spec.name} {spec.version}" for spec in specs.values()]),
            "weights": weights[MODEL] if len(weights) == 1 else weights,
            "calibration": None if site is None else site.fingerprint,
            **{
                name if side == MODEL else f"{side}.{name}": value
                for side in self.sides
                for name, value in headline(self.task, figures[side]).items()
            },
            "epochs": self.epochs,
            "details": figures,
        }


def judge_tiles(
    judge: TileJudge,
    pixels: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    patient: NDArray[np.str_] | None = None,
    *,
    progress: Progress,
) -> None:
    """Judge calibrated tiles (N, 512, 512, 3), those numbered `chosen`.

    `truth` is uint8 (N,), or label maps (N, h, w). `patient` is (N,); None: each tile is a patient.
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
                one = {side: answer[j] for side, answer in said.items()}
                judge.answers.add(int(truth[k]), str(patients[k]), one)
        progress("judging", min(start + BATCH, len(chosen)), len(chosen))


def _at(maps: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Label maps (n, T, T) at `px` x `px`: the label at each px's center."""
    if maps.shape[1] == px:
        return maps
    at = ((np.arange(px) + 0.5) * maps.shape[1] / px).astype(int)
    return maps[:, at[:, None], at[None, :]]
