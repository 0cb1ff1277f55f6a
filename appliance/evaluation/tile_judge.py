"""A network and the baseline, asked the same about the same tiles with truth."""

from __future__ import annotations

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
from models.evaluation.figures import classification, confusion, headline, segmentation
from models.evaluation.judged import Judged, JudgedPixels
from models.evaluation.truth_tiles import IGNORED
from models.site_calibration import SiteCalibration
from models.spec import CLASSES, Task, reference_folder

BATCH = 16
SIDES = ("model", "baseline")

Floats = NDArray[np.float64]


@dataclass
class _Answers:
    """Answers of both sides on everything judged so far."""

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
    """A network and the baseline for `task`, and their answers so far.

    `weights` is by default the folder of the reference weights; `site` is their calibration.

    Raises
    ------
    ManifestError
        If the weights are unusable, or are those of another task.
    """

    task: Task
    weights: Path | None = None
    device: Device = "auto"
    site: SiteCalibration | None = None

    def __post_init__(self) -> None:
        folder = self.weights or reference_folder(self.task)
        self.network = Network(folder, self.device, site=self.site)
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
        """Confusion matrices (5, 5) over the labeled px of all tiles, by side."""
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
            "calibration": None if spec.site is None else spec.site.fingerprint,
            **quoted,
            **{f"baseline.{name}": value for name, value in beside.items()},
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
                judge.answers.add(int(truth[k]), str(patients[k]), {s: said[s][j] for s in SIDES})
        progress("judging", min(start + BATCH, len(chosen)), len(chosen))


def _at(maps: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Label maps (n, T, T) at `px` x `px`: the label at each px's center."""
    if maps.shape[1] == px:
        return maps
    at = ((np.arange(px) + 0.5) * maps.shape[1] / px).astype(int)
    return maps[:, at[:, None], at[None, :]]
