"""A site's calibration: what it repairs, what it refuses, and what its file may hold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import CalibrationError
from models.site_calibration import SiteCalibration
from models.spec import CLASSES, TILE_PX, ModelSpec, Task
from models.training.site_fit import (
    UNLABELED,
    LabeledLogits,
    calibrated,
    fit_site,
    site_calibration,
)

NOISE_SEEDS = 40


def drawn(task: Task, tiles: int, seed: int, *, px: int = 1, patients: int = 8) -> LabeledLogits:
    """Logits of a network that ranks well (3 nats between classes, noise 1) and labels."""
    rng = np.random.default_rng(seed)
    classes = len(CLASSES[task])
    truth = rng.permutation(np.arange(tiles * px) % classes).reshape(tiles, px).astype(np.uint8)
    logits = 3.0 * np.eye(classes)[truth] + rng.normal(0, 1, (tiles, px, classes))
    patient = np.array([f"p{k % patients}" for k in range(tiles)])
    return LabeledLogits(logits=logits, truth=truth, patient=patient)


def shifted(labeled: LabeledLogits, scale: float, offsets: list[float]) -> LabeledLogits:
    return replace(labeled, logits=scale * labeled.logits + np.array(offsets))


def balanced_accuracy(logits: NDArray[np.float64], truth: NDArray[np.uint8]) -> float:
    said = logits.argmax(axis=-1)
    return float(np.mean([(said[truth == k] == k).mean() for k in np.unique(truth)]))


@pytest.mark.parametrize(
    ("task", "offsets"),
    [(Task.TUMOR, [0.0, 6.0]), (Task.INTENSITY, [0.0, 0.0, -5.0, 4.0])],
)
def test_forty_tiles_bring_shifted_thresholds_back(task: Task, offsets: list[float]) -> None:
    fitted = fit_site(shifted(drawn(task, 40, 0), 1.5, offsets), task)
    assert not fitted.refusal
    unseen = drawn(task, 2000, 1)
    moved = shifted(unseen, 1.5, offsets)
    back = calibrated(moved.logits, fitted.scale, np.array(fitted.offsets))
    wanted = balanced_accuracy(unseen.logits, unseen.truth)
    assert balanced_accuracy(moved.logits, moved.truth) < wanted - 0.1
    assert balanced_accuracy(back, moved.truth) > wanted - 0.03
    gain = fitted.figures["gain"]["balanced_accuracy"]
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    assert gain["value"] == pytest.approx(
        fitted.figures["after"]["balanced_accuracy"]["value"]
        - fitted.figures["before"]["balanced_accuracy"]["value"],
        abs=2e-4,
    )


def test_the_px_of_label_maps_are_brought_back_without_the_unlabeled() -> None:
    offsets = [0.0, 0.0, 3.0, 0.0, -3.0]
    labeled = shifted(drawn(Task.SEGMENTATION, 24, 0, px=64), 1.0, offsets)
    truth = labeled.truth.copy()
    truth[:, :16] = UNLABELED
    # Where nothing is labeled the logits are absurd: they must not matter.
    logits = labeled.logits.copy()
    logits[:, :16, 0] = 1000.0
    fitted = fit_site(replace(labeled, truth=truth, logits=logits), Task.SEGMENTATION)
    assert not fitted.refusal
    assert fitted.figures["gain"]["mean_iou"]["value"] > 0.1
    found = np.array(fitted.offsets) - fitted.offsets[0]
    assert found / fitted.scale == pytest.approx(-np.array(offsets), abs=0.5)


@pytest.mark.parametrize("task", [Task.TUMOR, Task.INTENSITY])
@pytest.mark.parametrize("patients", [5, 20])
def test_twenty_labels_of_noise_are_refused(task: Task, patients: int) -> None:
    """Labels that have nothing to do with the pictures, of a network that is sure of itself."""
    accepted = 0
    for seed in range(NOISE_SEEDS):
        labeled = drawn(task, 20, seed, patients=patients)
        mixed = np.random.default_rng(1000 + seed).permutation(labeled.truth)
        accepted += not fit_site(replace(labeled, truth=mixed), task).refusal
    assert accepted <= 1  # 2.5 %


def test_a_network_that_is_well_as_it_is_stays() -> None:
    """Its logits are the log-odds of its classes: nothing is left to fit."""
    refused = [
        fit_site(shifted(drawn(Task.TUMOR, 40, seed), 3.0, [0.0, 0.0]), Task.TUMOR).refusal
        for seed in range(10)
    ]
    assert sum(bool(text) for text in refused) >= 8
    assert any("does not surely help" in text for text in refused)
    labeled = drawn(Task.TUMOR, 40, 0)
    mixed = replace(labeled, truth=np.random.default_rng(0).permutation(labeled.truth))
    with pytest.raises(CalibrationError, match="no more than one answer"):
        site_calibration(
            fit_site(mixed, Task.TUMOR), Task.TUMOR, "ab", mixed, "2026-01-01T00:00:00+00:00"
        )


def test_one_slide_is_judged_by_its_tiles_and_says_so() -> None:
    figures = fit_site(drawn(Task.TUMOR, 40, 0, patients=1), Task.TUMOR).figures
    assert (figures["patients"], figures["held_out"], figures["intervals_by"]) == (
        1,
        "tile",
        "tile",
    )
    figures = fit_site(drawn(Task.TUMOR, 40, 0, patients=3), Task.TUMOR).figures
    assert (figures["held_out"], figures["intervals_by"]) == ("patient", "tile")
    figures = fit_site(drawn(Task.TUMOR, 40, 0, patients=8), Task.TUMOR).figures
    assert (figures["held_out"], figures["intervals_by"]) == ("patient", "patient")


def test_labels_of_few_patients_are_refused_however_well_they_fit() -> None:
    """Differences between patients look like the site's color, tile by tile."""
    many, few = (drawn(Task.TUMOR, 60, 0, patients=n) for n in (6, 4))
    shift = np.array([0.0, 4.0])
    assert not fit_site(replace(many, logits=many.logits + shift), Task.TUMOR).refusal
    refused = fit_site(replace(few, logits=few.logits + shift), Task.TUMOR).refusal
    assert "4 patients" in refused and "at least 5 patients" in refused


def of_one_grade_each(seed: int) -> LabeledLogits:
    """Tiles of eight patients, each of whom shows one grade of HER2 alone."""
    labeled = drawn(Task.INTENSITY, 40, seed)
    grade = labeled.truth[:, 0]
    second = [int((grade[:k] == grade[k]).sum() % 2) for k in range(len(grade))]
    names = [f"p{2 * g + more}" for g, more in zip(grade, second, strict=True)]
    return replace(labeled, patient=np.array(names))


@pytest.mark.parametrize("seed", range(3))
def test_patients_of_one_grade_each_are_not_refused(seed: int) -> None:
    """A fit without both patients of a grade would know nothing of it."""
    moved = shifted(of_one_grade_each(seed), 1.5, [0.0, 0.0, -5.0, 4.0])
    fitted = fit_site(moved, Task.INTENSITY)
    assert not fitted.refusal
    assert fitted.figures["held_out"] == "patient"


@pytest.mark.parametrize("seed", range(3))
def test_patients_of_one_mistaken_grade_each_are_refused(seed: int) -> None:
    labeled = of_one_grade_each(seed)
    grades = np.random.default_rng(seed).permutation([0, 0, 1, 1, 2, 2, 3, 3])
    mixed = np.array([[grades[int(name[1:])]] for name in labeled.patient], dtype=np.uint8)
    assert fit_site(replace(labeled, truth=mixed), Task.INTENSITY).refusal


def test_a_class_of_one_patient_alone_is_refused_for_that() -> None:
    labeled = of_one_grade_each(0)
    labeled.patient[labeled.patient == "p7"] = "p6"
    told = "'strong' comes from patient p6 alone: .* Label it on slides of three patients or more"
    with pytest.raises(CalibrationError, match=told):
        fit_site(labeled, Task.INTENSITY)
    # Too few patients are told as such.
    few = replace(labeled, patient=np.array([f"p{k}" for k in labeled.truth[:, 0]]))
    assert "the tiles come from 4 patients" in fit_site(few, Task.INTENSITY).refusal


def test_answers_that_are_no_numbers_are_an_error() -> None:
    labeled = drawn(Task.TUMOR, 40, 0)
    labeled.logits[3, 0, 1] = np.nan
    with pytest.raises(CalibrationError, match="no numbers"):
        fit_site(labeled, Task.TUMOR)


def test_whole_patients_are_held_out() -> None:
    """Each patient has its own threshold: tiles of the same patient in the fit would hide that."""
    labeled = drawn(Task.TUMOR, 60, 0, patients=6)
    own = {f"p{k}": (-1) ** k * 5.0 for k in range(6)}
    logits = labeled.logits.copy()
    logits[:, :, 1] += np.array([own[name] for name in labeled.patient])[:, None]
    fitted = fit_site(replace(labeled, logits=logits), Task.TUMOR)
    assert fitted.refusal
    # With tiles held out instead, the NLL falls by 0.25 at least.
    assert fitted.figures["gain"]["nll"]["interval"][1] > 0


@pytest.mark.parametrize(
    ("kept", "message"),
    [(slice(0, 19), "19 labeled tiles"), (slice(None), "'tumor' is labeled on 0 tiles")],
)
def test_too_few_labels_are_refused(kept: slice, message: str) -> None:
    labeled = drawn(Task.TUMOR, 30, 0)
    truth = labeled.truth if kept.stop else np.zeros_like(labeled.truth)
    with pytest.raises(CalibrationError, match=message):
        fit_site(
            LabeledLogits(
                logits=labeled.logits[kept], truth=truth[kept], patient=labeled.patient[kept]
            ),
            Task.TUMOR,
        )


def some_spec() -> ModelSpec:
    return ModelSpec(
        name="tiny",
        version="1",
        task=Task.TUMOR,
        architecture="vit",
        input_px=224,
        classes=CLASSES[Task.TUMOR],
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        tile_px=TILE_PX,
    )


def some_calibration(weights: str) -> SiteCalibration:
    return SiteCalibration(
        task="tumor",
        weights=weights,
        scale=1.25,
        offsets=(0.1, -0.1),
        tiles=40,
        patients=6,
        made="2026-01-01T00:00:00+00:00",
    )


def test_what_is_written_is_read_and_a_changed_number_is_refused() -> None:
    made = some_calibration("ab")
    assert SiteCalibration.of_json(made.to_json()) == made
    raw = json.loads(made.to_json())
    for change in (
        {"scale": 2.0},
        {"scale": -1.0},
        {"offsets": [0.1, None]},
        {"offsets": []},
        {"weights": "other"},
        {"more": 1},
    ):
        with pytest.raises(CalibrationError):
            SiteCalibration.of_json(json.dumps(raw | change))
    for text in ("", "[]", "{}"):
        with pytest.raises(CalibrationError, match="not a usable calibration"):
            SiteCalibration.of_json(text)


def test_the_fingerprint_of_weights_changes_with_their_calibration_alone() -> None:
    plain = some_spec()
    assert plain.fingerprint == plain.weights_fingerprint
    site = some_calibration(plain.fingerprint)
    in_use = replace(plain, site=site)
    assert in_use.weights_fingerprint == plain.fingerprint != in_use.fingerprint
    other = replace(site, offsets=(0.2, -0.2))
    assert replace(plain, site=other).fingerprint != in_use.fingerprint
    # Who labeled how many tiles is no part of an answer.
    assert replace(plain, site=replace(site, tiles=41)).fingerprint == in_use.fingerprint
    assert in_use.to_json() == plain.to_json()


def test_a_calibration_of_other_weights_is_never_taken() -> None:
    plain = some_spec()
    with pytest.raises(CalibrationError, match="other weights"):
        replace(plain, site=some_calibration("ab"))
    with pytest.raises(CalibrationError, match="other weights"):
        replace(plain, site=replace(some_calibration(plain.fingerprint), task="intensity"))
    with pytest.raises(CalibrationError, match="3 offsets, 2 classes"):
        replace(plain, site=replace(some_calibration(plain.fingerprint), offsets=(0.0, 0.0, 0.0)))
