"""Figures against hand-made numbers and scikit-learn; intervals resample patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from models.evaluation.bootstrap import bootstrap
from models.evaluation.curves import THRESHOLDS, decision_curve, expected_calibration_error
from models.evaluation.figures import (
    auc,
    classification,
    headline,
    kappa,
    segmentation,
    slide_figures,
)
from models.evaluation.judged import Judged, JudgedPixels, JudgedSlides
from models.spec import Task


def random_judged(n: int, classes: int, seed: int = 0) -> Judged:
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[truth]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    patient = np.array([f"p{k % 10}" for k in range(n)])
    return Judged(truth=truth, probability=probability, patient=patient)


def test_a_classifier_s_figures_are_those_of_scikit_learn() -> None:
    judged = random_judged(400, 4)
    found = classification(judged, Task.INTENSITY)
    precision, recall, f1, _ = precision_recall_fscore_support(
        judged.truth, judged.found, average="macro"
    )
    assert found["accuracy"] == pytest.approx(
        float((judged.truth == judged.found).mean()), abs=1e-4
    )
    for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert found[f"macro_{name}"] == pytest.approx(value, abs=1e-3)
    area = roc_auc_score(judged.truth, judged.probability, multi_class="ovr")
    assert found["macro_auc"] == pytest.approx(area, abs=1e-4)
    assert found["per_class"]["weak"]["auc"] == pytest.approx(
        roc_auc_score(judged.truth == 2, judged.probability[:, 2]), abs=1e-4
    )
    low, high = found["interval"]["accuracy"]
    assert low < found["accuracy"] < high
    assert found["patients"] == 10
    assert sum(b["n"] for b in found["reliability"]) == 400
    roc = found["roc"]["strong"]
    assert roc[0] == (0.0, 0.0)
    assert roc[-1] == (1.0, 1.0)


def test_specificity_counts_false_alarms_of_classes_that_are_not_there() -> None:
    probability = np.array([[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0], [0.1, 0, 0, 0.9]])
    judged = Judged(
        truth=np.array([0, 1, 1]), probability=probability, patient=np.array(list("abc"))
    )
    found = classification(judged, Task.INTENSITY)
    # Specificities: 1, 1, 1 and for "strong", which is nowhere, 2 of 3.
    assert found["macro_specificity"] == pytest.approx((3 + 2 / 3) / 4, abs=1e-4)
    assert found["macro_recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert headline(Task.INTENSITY, found)["intensity.specificity"] == found["macro_specificity"]


def test_area_under_the_curve_with_ties_and_with_one_class() -> None:
    assert auc(np.array([True, False]), np.array([0.5, 0.5])) == 0.5
    assert np.isnan(auc(np.array([True, True]), np.array([0.1, 0.9])))
    one_class = Judged(
        truth=np.array([1, 1]), probability=np.array([[0.2, 0.8]] * 2), patient=np.array(["a", "b"])
    )
    assert classification(one_class, Task.TUMOR)["macro_auc"] is None


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.65, 0.65])
    correct = np.array([True, True, True, False])
    # Two bins of two: |0.95 - 1| and |0.65 - 0.5|.
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.05 + 0.15) / 2)


def test_decision_curve_by_hand() -> None:
    positive = np.array([True, True, False, False])
    curve = decision_curve(positive, np.array([0.9, 0.15, 0.25, 0.05]))
    at = {t: k for k, t in enumerate(curve["threshold"])}
    odds = 0.2 / 0.8
    assert curve["model"][at[0.2]] == pytest.approx(1 / 4 - odds / 4)
    assert curve["treat_all"][at[0.2]] == pytest.approx(1 / 2 - odds / 2)
    assert set(curve["treat_none"]) == {0.0}
    assert THRESHOLDS[-1] == 0.3


def test_intervals_by_patient_are_wider_where_tiles_of_a_patient_agree() -> None:
    rng = np.random.default_rng(1)
    right = np.repeat(rng.random(12) < 0.7, 50)  # all tiles of a patient right, or all wrong
    patients, tiles = np.repeat(np.arange(12), 50), np.arange(600)

    def width(groups: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        low, high = bootstrap(groups, lambda k: {"accuracy": float(right[k].mean())})["accuracy"]
        return high - low

    assert width(patients) > 4 * width(tiles)
    assert width(patients) == width(patients)
    assert bootstrap(np.zeros(5), lambda _: {"accuracy": 1.0}) == {}


def test_mean_iou_by_hand() -> None:
    matrix = np.zeros((1, 5, 5), dtype=np.int64)
    matrix[0, 0, 0], matrix[0, 1, 1], matrix[0, 1, 0] = 60, 30, 10
    found = segmentation(JudgedPixels(matrices=matrix, patient=np.array(["a"])))
    assert found["iou"]["background"] == pytest.approx(60 / 70, abs=1e-4)
    assert found["iou"]["0"] == 0.75
    # Classes that neither are there nor were found have no IoU.
    assert found["mean_iou"] == pytest.approx((60 / 70 + 0.75) / 2, abs=1e-4)


def test_slides_are_counted_and_one_without_score_is_wrong() -> None:
    judged = JudgedSlides(
        truth=np.array([0, 1, 2, 3, 3]),
        found=np.array([0, 1, 3, 1, -1]),
        patient=np.array(list("abcde")),
    )
    found = slide_figures(judged)
    assert (found["n"], found["exact"], found["within_one"]) == (5, 2, 3)
    assert found["confusion"][3] == [0, 1, 0, 0, 1]
    # Weights of errors: 1 and 4 (of 9), by hand against what chance would give.
    observed, chance = 1 + 4, np.subtract.outer([0, 1, 2, 3], [0, 1, 3, 1]) ** 2
    assert kappa(judged.truth, judged.found) == pytest.approx(1 - 4 * observed / chance.sum())
