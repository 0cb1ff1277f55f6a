"""Fit of a site's calibration on labeled tiles, judged on patients that it did not see.

The fit is a scale and an offset per class (`SiteCalibration`), of least negative log-likelihood
(NLL) of the labels with a weak penalty that holds it near the identity. C and L weigh each class
the same, whatever the number of its tiles: a pathologist labels an arbitrary mix, and the decision
at equal odds then maximizes balanced accuracy. M weighs each labeled px the same, since the mix of
px within tiles is that of tissue.

A calibration is refused where the tiles come from fewer than `LEAST_PATIENTS`. It is refused, too,
unless, on patients that the fit did not see, the NLL is surely below that of one constant answer,
and surely below that without calibration (each in 97.5 % of the resamples), and the class answers
do not get worse. The first of these refuses labels of noise: on those the best fit makes a network
unsure, which lowers the NLL, but never below a constant's. The second is strict: of 40 tiles a
shifted threshold gets some three more wrong, and no test is sure of three tiles.
docs/calibration.md has how often 40 and 100 tiles are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from models.datasets.progress import Progress
from models.errors import CalibrationError
from models.evaluation.bootstrap import bootstrap
from models.evaluation.confusion import confusion
from models.site_calibration import SiteCalibration
from models.spec import CLASSES, Task

LEAST_TILES, LEAST_OF_CLASS = 20, 3
"""Fewest labeled tiles, and fewest tiles that show each class."""
FOLDS = 5
CHOICES = 1000
"""Most choices of folds that are tried; of five classes of two patients, every third will do."""
LEAST_PATIENTS = 5
"""Fewest patients whose calibration is stored. With fewer, single tiles are resampled for the
intervals, which then say nothing of other patients."""
LOG_SCALE_SPREAD, OFFSET_SPREAD = 0.3, 4.0
"""Standard deviations of the normal penalty on the log of the scale and on each offset. A tile's
NLL counts beside it as one observation."""
RESAMPLES = 1000
UNLABELED = 255
"""Value of px without label in the truth of M."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledLogits:
    """Logits of a network beside the labels of N tiles.

    `logits` float (N, P, K) of P px of each tile, at the network's temperature and without a site's
    calibration; C and L have P = 1. `truth` uint8 (N, P): class, or `UNLABELED`. `patient` (N,):
    tiles of one patient are not independent.
    """

    logits: Floats
    truth: NDArray[np.uint8]
    patient: NDArray[np.str_]

    def where(self, chosen: NDArray[np.bool_]) -> LabeledLogits:
        """The chosen tiles, by mask."""
        return LabeledLogits(
            logits=self.logits[chosen], truth=self.truth[chosen], patient=self.patient[chosen]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Result of `fit_site`: what was fitted, its figures, and why it is refused (empty: it is not).

    `figures` holds ``before``, ``after`` and ``gain`` (after minus before) by name, each with
    ``value`` and, where it can be had, ``interval``; ready for JSON. ``in_use`` has the values of
    the calibration in use, where there is another one.
    """

    scale: float
    offsets: tuple[float, ...]
    figures: dict[str, Any]
    refusal: str


def calibrated(logits: Floats, scale: float, offsets: Floats) -> Floats:
    """Logits after the change that a calibration makes; the last axis is the classes."""
    changed: Floats = scale * logits + offsets
    return changed


def fit_site(
    labeled: LabeledLogits,
    task: Task,
    *,
    in_use: SiteCalibration | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """Fit on all tiles; judge by folds of whole patients (of tiles, where there is one patient).

    A calibration that is `in_use` is judged on the same tiles, and another one that is not better
    is refused.

    Raises
    ------
    CalibrationError
        If there are fewer than `LEAST_TILES`, or a class has fewer than `LEAST_OF_CLASS`, or all of
        one patient.
    """
    if not np.isfinite(labeled.logits).all():
        raise CalibrationError("the network gives answers that are no numbers; verify its weights.")
    shows = np.stack([(labeled.truth == k).any(axis=1) for k in range(len(CLASSES[task]))], axis=1)
    _require_enough(labeled, shows, task)
    scale, offsets = _fit(labeled, task)
    after = np.empty_like(labeled.logits)
    for number, held_out in enumerate(_folds(labeled, shows, seed)):
        fold = _fit(labeled.where(~held_out), task)
        after[held_out] = calibrated(labeled.logits[held_out], *fold)
        if progress is not None:
            progress("fitting", number + 1, FOLDS)
    judged = _Judged.of(labeled, after, task)
    figures = judged.figures(seed)
    fitted = float(scale), tuple(float(value) for value in offsets)
    if in_use is not None and fitted != (in_use.scale, in_use.offsets):
        figures["in_use"] = _said_by(in_use, labeled, task)
    return Fitted(
        scale=fitted[0],
        offsets=fitted[1],
        figures=figures,
        refusal=_refusal(figures, task) or _not_better(figures, task),
    )


def _said_by(site: SiteCalibration, labeled: LabeledLogits, task: Task) -> dict[str, float]:
    """Figures of the calibration in use on the labeled tiles."""
    after = calibrated(labeled.logits, site.scale, np.array(site.offsets))
    found = _Judged.of(labeled, after, task).scalars(np.arange(len(labeled.truth)))
    parts = (dotted.split(".") for dotted in found)
    return {name: round(found[f"{part}.{name}"], 4) for part, name in parts if part == "after"}


def site_calibration(
    fitted: Fitted, task: Task, weights: str, labeled: LabeledLogits, made: str
) -> SiteCalibration:
    """The calibration for the weights with this fingerprint; `made` is the UTC time.

    Raises
    ------
    CalibrationError
        If it is refused, with the reason and the remedy.
    """
    if fitted.refusal:
        raise CalibrationError(fitted.refusal)
    return SiteCalibration(
        task=task.value,
        weights=weights,
        scale=fitted.scale,
        offsets=fitted.offsets,
        tiles=len(labeled.truth),
        patients=len(np.unique(labeled.patient)),
        made=made,
        figures=fitted.figures,
    )


def _require_enough(labeled: LabeledLogits, shows: NDArray[np.bool_], task: Task) -> None:
    """Check the numbers of tiles and patients; `shows` (N, K): whether a tile shows a class."""
    tiles = len(labeled.truth)
    if tiles < LEAST_TILES:
        raise CalibrationError(
            f"{tiles} labeled tiles: a calibration needs at least {LEAST_TILES}, better 40, of 5 "
            "patients or more. Annotate more."
        )
    for number, name in enumerate(CLASSES[task]):
        shown = int(shows[:, number].sum())
        if shown < LEAST_OF_CLASS:
            raise CalibrationError(
                f"class {name!r} is labeled on {shown} tiles: a calibration needs each class on at "
                f"least {LEAST_OF_CLASS}. Annotate more of it."
            )
    if len(np.unique(labeled.patient)) < LEAST_PATIENTS:
        return  # refused for that, after its figures
    for number, name in enumerate(CLASSES[task]):
        if len(patients := np.unique(labeled.patient[shows[:, number]])) < 2:
            raise CalibrationError(
                f"class {name!r} comes from patient {patients[0]} alone: a fit cannot be judged on "
                "patients that it did not see. Label it on slides of three patients or more."
            )


def _weights(truth: NDArray[np.uint8], task: Task) -> Floats:
    """Weight of each px (N, P), 0 where unlabeled; they sum to the number of tiles."""
    known = truth != UNLABELED
    weight = known.astype(np.float64)
    if task is not Task.SEGMENTATION:
        counts = np.bincount(truth[known], minlength=len(CLASSES[task]))
        weight[known] = 1.0 / counts[truth[known]]
    total: Floats = weight * (len(truth) / weight.sum())
    return total


def _fit(labeled: LabeledLogits, task: Task) -> tuple[float, Floats]:
    """Scale and offsets of least penalized NLL."""
    weight = _weights(labeled.truth, task)
    known = weight > 0
    logits, truth, weight = labeled.logits[known], labeled.truth[known], weight[known]
    rows = np.arange(len(truth))
    classes = logits.shape[1]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scale, offsets = float(np.exp(parameters[0])), parameters[1:]
        changed = calibrated(logits, scale, offsets)
        log_p = changed - logsumexp(changed, axis=1, keepdims=True)
        # Gradient of the weighted NLL by the changed logits.
        slope = np.exp(log_p)
        slope[rows, truth] -= 1.0
        slope *= weight[:, None]
        penalty = (parameters[0] / LOG_SCALE_SPREAD) ** 2 + float(
            ((offsets / OFFSET_SPREAD) ** 2).sum()
        )
        gradient = np.concatenate([[scale * float((slope * logits).sum())], slope.sum(axis=0)])
        gradient[0] += parameters[0] / LOG_SCALE_SPREAD**2
        gradient[1:] += offsets / OFFSET_SPREAD**2
        value = -float((weight * log_p[rows, truth]).sum()) + penalty / 2
        return value, gradient

    found = minimize(loss, np.zeros(classes + 1), jac=True, method="L-BFGS-B")
    return float(np.exp(found.x[0])), np.asarray(found.x[1:], dtype=np.float64)


def _folds(labeled: LabeledLogits, shows: NDArray[np.bool_], seed: int) -> list[NDArray[np.bool_]]:
    """Masks of the tiles that are held out in turn: whole patients, or tiles of the only one.

    Of random choices the first is taken in which no fold has all tiles of a class: without them its
    offset would run away. With fewer than `LEAST_PATIENTS` there may be none; then the last.
    """
    units = _units(labeled.patient, 2)
    rng = np.random.default_rng(seed)
    for _ in range(CHOICES):
        number = rng.permutation(int(units.max()) + 1)
        fold = number[units] % min(FOLDS, len(number))
        folds = [fold == k for k in range(int(fold.max()) + 1)]
        if all(shows[~held_out].any(axis=0).all() for held_out in folds):
            break
    return folds


def _units(patient: NDArray[np.str_], least: int) -> NDArray[np.int64]:
    """Number of each tile's patient; of the tile itself where there are fewer than `least`."""
    names, units = np.unique(patient, return_inverse=True)
    return units.astype(np.int64) if len(names) >= least else np.arange(len(patient))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Answers before and after on N tiles, as sums that any choice of tiles adds up.

    `nll` (3, N, K): sums over the px of each class, of the answers before, after, and of a constant
    answer. `px` (N, K): labeled px of each class. `matrices` (2, N, K, K): confusion before, after.
    """

    task: Task
    patient: NDArray[np.str_]
    nll: Floats
    px: NDArray[np.int64]
    matrices: NDArray[np.int64]

    @classmethod
    def of(cls, labeled: LabeledLogits, after: Floats, task: Task) -> _Judged:
        """Sums of the answers `labeled.logits` and `after`, both (N, P, K)."""
        tiles, _, classes = after.shape
        nll = np.zeros((3, tiles, classes))
        matrices = np.zeros((2, tiles, classes, classes), dtype=np.int64)
        for tile in range(tiles):
            known = labeled.truth[tile] != UNLABELED
            truth = labeled.truth[tile][known].astype(np.int64)
            for side, logits in enumerate((labeled.logits[tile][known], after[tile][known])):
                log_p = logits - logsumexp(logits, axis=1, keepdims=True)
                said = log_p[np.arange(len(truth)), truth]
                nll[side, tile] = np.bincount(truth, -said, minlength=classes)
                matrices[side, tile] = confusion(truth, logits.argmax(axis=1), classes)
        px = matrices[0].sum(axis=2)
        share = np.full(classes, 1.0 / classes)
        if task is Task.SEGMENTATION:
            share = px.sum(axis=0) / px.sum()
        nll[2] = px * -np.log(share)
        return cls(task=task, patient=labeled.patient, nll=nll, px=px, matrices=matrices)

    def scalars(self, chosen: NDArray[np.int64]) -> dict[str, float]:
        """Figures of the chosen tiles, which may repeat: ``before.nll``, …"""
        px = self.px[chosen].sum(axis=0)
        there = px > 0
        sums = self.nll[:, chosen].sum(axis=1)
        before, after, constant = (
            sums.sum(axis=1) / px.sum()
            if self.task is Task.SEGMENTATION
            else (sums[:, there] / px[there]).mean(axis=1)
        ).tolist()
        found = {"before": {"nll": before}, "after": {"nll": after}}
        for side, name in enumerate(found):
            found[name] |= _answers(self.matrices[side, chosen].sum(axis=0), self.task)
        gain = {key: found["after"][key] - found["before"][key] for key in found["before"]}
        gain["nll_to_constant"] = after - constant
        parts = found | {"gain": gain}
        return {f"{part}.{key}": v for part, values in parts.items() for key, v in values.items()}

    def figures(self, seed: int) -> dict[str, Any]:
        """All figures with their intervals, by patient or by tile."""
        tiles = np.arange(len(self.px))
        units = _units(self.patient, LEAST_PATIENTS)
        intervals = bootstrap(units, self.scalars, resamples=RESAMPLES, seed=seed)
        found: dict[str, Any] = {"before": {}, "after": {}, "gain": {}}
        for dotted, value in self.scalars(tiles).items():
            part, name = dotted.split(".")
            found[part][name] = {"value": round(value, 4), "interval": intervals.get(dotted)}
        patients = len(np.unique(self.patient))
        return found | {
            "tiles": len(tiles),
            "patients": patients,
            "intervals_by": "patient" if patients >= LEAST_PATIENTS else "tile",
            "held_out": "patient" if patients > 1 else "tile",
        }


def _answers(matrix: NDArray[np.int64], task: Task) -> dict[str, float]:
    """Figures of the class answers from their confusion matrix, rows truth.

    Means are over the classes that occur: in the truth, for IoU also in the answers.
    """
    right, truth = np.diag(matrix), matrix.sum(axis=1)
    if task is Task.SEGMENTATION:
        union = truth + matrix.sum(axis=0) - right
        return {
            "mean_iou": float((right[union > 0] / union[union > 0]).mean()),
            "pixel_accuracy": float(right.sum() / matrix.sum()),
        }
    found = {"balanced_accuracy": float((right[truth > 0] / truth[truth > 0]).mean())}
    if task is Task.INTENSITY:
        found["kappa_quadratic"] = _quadratic_kappa(matrix)
    return found


def _quadratic_kappa(matrix: NDArray[np.int64]) -> float:
    """Cohen's kappa with quadratic weights of a confusion matrix; NaN where one class is all."""
    grades = np.arange(len(matrix))
    weight = (grades[:, None] - grades[None, :]) ** 2
    by_chance = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / matrix.sum()
    expected = float((weight * by_chance).sum())
    return 1 - float((weight * matrix).sum()) / expected if expected else float("nan")


def _refusal(figures: Mapping[str, Any], task: Task) -> str:
    """Why the calibration is refused, with the remedy; empty where it helps."""
    if figures["patients"] < LEAST_PATIENTS:
        return (
            f"refused: the tiles come from {figures['patients']} patients, and what differs from "
            "patient to patient would pass for the site's color. Annotate slides of at least "
            f"{LEAST_PATIENTS} patients, and say whose each is: docs/calibration.md."
        )
    gain = figures["gain"]
    answers = _answers_name(task)
    if not _surely_falls(gain["nll_to_constant"]):
        return (
            "refused: on tiles that the fit did not see, the calibrated network says no more than "
            "one answer for all tiles would. The labels may be mistaken, be of another stain or "
            "task, or be too few; look at them again, and annotate more. Where they are right, the "
            "network does not see the difference here: train it (tandem train --init)."
        )
    if gain[answers]["value"] < 0:
        words = answers.replace("_", " ")
        return (
            f"refused: {words} would fall by {-gain[answers]['value']:.3f} on tiles that the fit "
            "did not see. The network is better as it is; nothing needs to be done, or annotate "
            "more tiles and more patients."
        )
    if not _surely_falls(gain["nll"]):
        return (
            "refused: it does not surely help on tiles that the fit did not see (the NLL changes "
            f"by {gain['nll']['value']:+.3f}, interval {gain['nll']['interval']}). The network may "
            "be well as it is; else annotate more tiles and more patients."
        )
    return ""


def _not_better(figures: Mapping[str, Any], task: Task) -> str:
    """Why the calibration in use stays, with the remedy; empty where there is none, or a worse."""
    used, after = figures.get("in_use"), figures["after"]
    answers = _answers_name(task)
    if used is None or (
        after["nll"]["value"] < used["nll"] and after[answers]["value"] >= used[answers]
    ):
        return ""
    words = answers.replace("_", " ")
    return (
        "refused: the calibration in use is as good on these tiles or better (NLL "
        f"{used['nll']:.3f}, {words} {used[answers]:.3f}; the new one {after['nll']['value']:.3f}, "
        f"{after[answers]['value']:.3f}). If its tiles no longer stand for the site, take it out "
        "first: tandem calibrate --remove."
    )


def _answers_name(task: Task) -> str:
    """Name of the figure of the class answers that must not fall."""
    return "mean_iou" if task is Task.SEGMENTATION else "balanced_accuracy"


def _surely_falls(gain: Mapping[str, Any]) -> bool:
    interval = gain["interval"]
    return interval is not None and float(interval[1]) < 0
