"""Aggregators of patch counts: answers from stored arrays equal scikit-learn's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.errors import DataSetError, ManifestError
from models.patch_counts.aggregators import (
    aggregator_logits,
    check_arrays,
    features,
    fit_aggregator,
    fit_forest,
    fit_mlp,
    fit_svm,
    forest_arrays,
    forest_chances,
    majority_shares,
    mlp_arrays,
    mlp_logits,
    svm_arrays,
    svm_decisions,
)
from models.slide_level.tasks import SlideTask

TASKS = {2: SlideTask.BINARY, 3: SlideTask.THREE_WAY, 4: SlideTask.FOUR_WAY}


def drawn(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shares (n, 4) whose heaviest classes follow the slide's class, which often errs."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    weight = np.full((count, 4), 0.6)
    weight[np.arange(count), truth * 4 // classes] += 1.5
    counts = np.array([rng.multinomial(30, rng.dirichlet(w)) for w in weight])
    return features(counts), truth.astype(np.int64)


def through_a_file(arrays: dict[str, Any], folder: Path) -> dict[str, Any]:
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / "a.safetensors")
    loaded: dict[str, Any] = load_file(folder / "a.safetensors")
    return loaded


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_stored_arrays_answer_as_scikit_learn(classes: int, tmp_path: Path) -> None:
    given, truth = drawn(classes, 90, 1)
    new, _ = drawn(classes, 200, 2)
    forest = fit_forest(given, truth, 3)
    found = forest_chances(through_a_file(forest_arrays(forest), tmp_path), new)
    np.testing.assert_allclose(found, forest.predict_proba(new), atol=1e-12)

    svm = fit_svm(given, truth)
    decided = svm_decisions(through_a_file(svm_arrays(svm), tmp_path), new)
    theirs = svm.decision_function(new)
    if classes == 2:
        theirs = np.stack([0 * theirs, theirs], axis=1)
    np.testing.assert_allclose(decided, theirs, atol=1e-9)
    assert np.array_equal(decided.argmax(axis=1), svm.predict(new))

    mlp = fit_mlp(given, truth, 3)
    logits = mlp_logits(through_a_file(mlp_arrays(mlp), tmp_path), new)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, mlp.predict_proba(new), atol=1e-9)


@pytest.mark.parametrize("kind", ["forest", "svm", "mlp"])
def test_an_aggregator_learns_what_counts_tell(kind: Any) -> None:
    given, truth = drawn(3, 120, 4)
    new, expected = drawn(3, 120, 5)
    arrays = fit_aggregator(kind, given, truth, 3, seed=1)
    check_arrays(kind, arrays, 3)
    right = aggregator_logits(kind, arrays, new, SlideTask.THREE_WAY).argmax(axis=1) == expected
    assert right.mean() > 0.7
    again = fit_aggregator(kind, given, truth, 3, seed=1)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_majority_counts_patches_by_the_task() -> None:
    given = features(np.array([[1, 2, 2, 4], [6, 1, 1, 1], [0, 0, 0, 0]]))
    np.testing.assert_allclose(
        majority_shares(given, SlideTask.FOUR_WAY)[0], np.array([1, 2, 2, 4]) / 9
    )
    # Together 1+ and 2+ are as many as 3+.
    np.testing.assert_allclose(
        majority_shares(given, SlideTask.THREE_WAY),
        [[1 / 9, 4 / 9, 4 / 9], [6 / 9, 2 / 9, 1 / 9], [1 / 3] * 3],
    )
    np.testing.assert_allclose(majority_shares(given, SlideTask.BINARY)[1], [8 / 9, 1 / 9])


def test_arrays_that_do_not_fit_are_refused() -> None:
    given, truth = drawn(3, 60, 6)
    for kind in ("forest", "svm", "mlp"):
        arrays = fit_aggregator(kind, given, truth, 3, seed=1)  # type: ignore[arg-type]
        with pytest.raises(ManifestError, match="classes"):
            check_arrays(kind, arrays, 4)  # type: ignore[arg-type]
        name = sorted(arrays)[0]
        with pytest.raises(ManifestError, match=f"arrays of a {kind}"):
            check_arrays(kind, {k: v for k, v in arrays.items() if k != name}, 3)  # type: ignore[arg-type]
    cut = dict(fit_aggregator("mlp", given, truth, 3, seed=1))
    cut["weight_1"] = cut["weight_1"][:-1]
    with pytest.raises(ManifestError, match="do not fit each other"):
        check_arrays("mlp", cut, 3)
    with pytest.raises(DataSetError, match="no slide"):
        fit_aggregator("svm", given, np.minimum(truth, 1), 3, seed=1)
