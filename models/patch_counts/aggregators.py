"""Aggregators: the counts of a slide's patch classes give its class (arXiv 2503.22069, Table 6).

Random forest, SVM and MLP are fitted by scikit-learn and stored as arrays; answers are given from
these arrays by numpy, equal to scikit-learn's. Nothing is pickled. Their numbers are ours, as the
paper prints none.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.errors import DataSetError, ManifestError
from models.patch_counts.patches import CLASSES
from models.slide_level.tasks import HER2_SCORES, SLIDE_CLASSES, SlideLabel, SlideTask, class_of

Aggregator = Literal["forest", "svm", "mlp", "majority"]
AGGREGATORS: tuple[Aggregator, ...] = get_args(Aggregator)
Values = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
TREES, LEAST_LEAF = 200, 3
PENALTY = 1.0
"""Penalty C of the SVM; its kernel is RBF with scikit-learn's ``gamma="scale"``."""
HIDDEN, DECAY, STEPS = 16, 1e-2, 400
"""Units of the MLP's one hidden layer, its weight decay, and most epochs."""
_LEAST = 1e-3
"""Least probability of a class before its logarithm is taken."""
_NAMES: dict[Aggregator, set[str]] = {
    "forest": {"left", "right", "feature", "limit", "share", "roots"},
    "svm": {"center", "scale", "gamma", "vectors", "dual", "bias", "held"},
    "mlp": {"center", "scale", "weight_0", "weight_1", "bias_0", "bias_1"},
    "majority": set(),
}


def features(counts: NDArray[np.int64]) -> Values:
    """Return the share of each class among a slide's patches, (n, 4); 0 for a slide without.

    The paper counts; slides differ thirtyfold in area, so that shares are compared.
    """
    total = counts.sum(axis=1, keepdims=True)
    shares: Values = counts / np.maximum(total, 1)
    return shares


def fit_aggregator(
    kind: Aggregator, given: Values, truth: NDArray[np.int64], classes: int, seed: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an aggregator fitted to features (n, 4) and classes (n,).

    Raises
    ------
    DataSetError
        If a class has no slide.
    """
    if len(np.unique(truth)) < classes:
        raise DataSetError("a class has no slide in the training part: take more patients.")
    match kind:
        case "forest":
            return forest_arrays(fit_forest(given, truth, seed))
        case "svm":
            center, scale = given.mean(axis=0), given.std(axis=0) + 1e-6
            arrays = svm_arrays(fit_svm((given - center) / scale, truth))
            return {"center": center, "scale": scale, **arrays}
        case "mlp":
            center, scale = given.mean(axis=0), given.std(axis=0) + 1e-6
            arrays = mlp_arrays(fit_mlp((given - center) / scale, truth, seed))
            return {"center": center, "scale": scale, **arrays}
    return {}


def aggregator_logits(kind: Aggregator, arrays: Arrays, given: Values, task: SlideTask) -> Values:
    """Return logits (n, classes) of features (n, 4).

    Those of forest and majority are logarithms of shares, those of the SVM its decision values.
    """
    match kind:
        case "forest":
            return np.log(np.maximum(forest_chances(arrays, given), _LEAST))
        case "svm":
            return svm_decisions(arrays, (given - arrays["center"]) / arrays["scale"])
        case "mlp":
            return mlp_logits(arrays, (given - arrays["center"]) / arrays["scale"])
    return np.log(np.maximum(majority_shares(given, task), _LEAST))


def check_arrays(kind: Aggregator, arrays: Arrays, classes: int) -> None:
    """Check stored arrays of an aggregator.

    Raises
    ------
    ManifestError
        If arrays are missing, or do not fit each other or the classes.
    """
    if set(arrays) != _NAMES[kind]:
        raise ManifestError(f"arrays of a {kind}: {', '.join(sorted(arrays)) or 'none'}")
    try:
        tasks = [task for task, names in SLIDE_CLASSES.items() if len(names) == classes]
        found = aggregator_logits(kind, arrays, np.full((1, CLASSES), 0.25), tasks[0])
    except (IndexError, ValueError) as err:
        raise ManifestError(f"arrays of a {kind} do not fit each other: {err}") from err
    if found.shape != (1, classes):
        raise ManifestError(f"arrays of a {kind} answer {found.shape[1]} classes, not {classes}")


def majority_shares(given: Values, task: SlideTask) -> Values:
    """Return the share of patches that speak for each class of a task, (n, classes).

    A patch of 2+ counts as one without amplification, since no patch shows ISH. A slide without
    patches speaks for each class alike.
    """
    found = np.zeros((len(given), len(SLIDE_CLASSES[task])))
    for number, score in enumerate(HER2_SCORES):
        found[:, class_of(SlideLabel(her2=score, ish="-"), task)] += given[:, number]
    found[given.sum(axis=1) == 0] = 1 / found.shape[1]
    return found


def fit_forest(given: Values, truth: NDArray[np.int64], seed: int) -> Any:
    """Return scikit-learn's random forest."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(TREES, min_samples_leaf=LEAST_LEAF, random_state=seed)
    return model.fit(given, truth)


def forest_arrays(model: Any) -> dict[str, NDArray[Any]]:
    """Return all nodes of a forest in one table, `roots` the first node of each tree.

    `left`, `right` are rows of the table (-1 at a leaf), `share` (nodes, classes) those of the
    training slides at a node.
    """
    trees = [one.tree_ for one in model.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    parts: dict[str, list[NDArray[Any]]] = {}
    for root, tree in zip(roots, trees, strict=True):
        for name, nodes in (("left", tree.children_left), ("right", tree.children_right)):
            parts.setdefault(name, []).append(np.where(nodes < 0, -1, nodes + root))
        value = tree.value[:, 0, :]
        for name, values in (
            ("feature", np.maximum(tree.feature, 0)),
            ("limit", tree.threshold),
            ("share", value / value.sum(axis=1, keepdims=True)),
        ):
            parts.setdefault(name, []).append(values)
    return {"roots": roots, **{name: np.concatenate(values) for name, values in parts.items()}}


def forest_chances(arrays: Arrays, given: Values) -> Values:
    """Return the mean share of each class at the leaves of all trees, (n, classes)."""
    rounded = given.astype(np.float32)  # scikit-learn compares float32 with limits of float64
    at = np.repeat(arrays["roots"][None], len(given), axis=0)  # (n, trees)
    rows = np.arange(len(given))[:, None]
    while (inner := arrays["left"][at] >= 0).any():
        smaller = rounded[rows, arrays["feature"][at]] <= arrays["limit"][at]
        below = np.where(smaller, arrays["left"][at], arrays["right"][at])
        at = np.where(inner, below, at)
    chances: Values = arrays["share"][at].mean(axis=1)
    return chances


def fit_svm(given: Values, truth: NDArray[np.int64]) -> Any:
    """Return scikit-learn's support vector machine, with weights of classes."""
    from sklearn.svm import SVC

    several = len(np.unique(truth)) > 2
    model = SVC(C=PENALTY, class_weight="balanced", break_ties=several)
    return model.fit(given, truth)


def svm_arrays(model: Any) -> dict[str, NDArray[Any]]:
    """Return support vectors, their coefficients, the bias of each pair of classes, and `held`,
    the number of vectors of each class."""
    flip = -1.0 if len(model.n_support_) == 2 else 1.0  # scikit-learn shows a pair's signs flipped
    return {
        "gamma": np.array([model._gamma]),
        "vectors": model.support_vectors_,
        "dual": flip * model.dual_coef_,
        "bias": flip * model.intercept_,
        "held": model.n_support_.astype(np.int64),
    }


def svm_decisions(arrays: Arrays, given: Values) -> Values:
    """Return decision values (n, classes); of two classes (0, value).

    Of more classes they are votes of all pairs, with their sum between -1/3 and 1/3 to break ties,
    as scikit-learn's ``decision_function_shape="ovr"``.
    """
    far = ((given[:, None] - arrays["vectors"][None]) ** 2).sum(axis=2)
    kernel = np.exp(-arrays["gamma"][0] * far)
    ends = np.cumsum([0, *arrays["held"]])
    of_class = [slice(a, b) for a, b in pairwise(ends)]
    count = len(of_class)
    votes, sums = np.zeros((len(given), count)), np.zeros((len(given), count))
    for pair, (i, j) in enumerate(combinations(range(count), 2)):
        first = kernel[:, of_class[i]] @ arrays["dual"][j - 1, of_class[i]]
        second = kernel[:, of_class[j]] @ arrays["dual"][i, of_class[j]]
        value = first + second + arrays["bias"][pair]  # below 0: class j
        sums[:, i] += value
        sums[:, j] -= value
        votes[:, i] += value >= 0
        votes[:, j] += value < 0
    if count == 2:
        return np.stack([np.zeros(len(given)), sums[:, 1]], axis=1)
    decided: Values = votes + sums / (3 * (np.abs(sums) + 1))
    return decided


def fit_mlp(given: Values, truth: NDArray[np.int64], seed: int) -> Any:
    """Return scikit-learn's multilayer perceptron, which ends after `STEPS` epochs at most."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((HIDDEN,), alpha=DECAY, max_iter=STEPS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(given, truth)


def mlp_arrays(model: Any) -> dict[str, NDArray[Any]]:
    """Return weights and biases of both layers."""
    return {
        **{f"weight_{k}": weight for k, weight in enumerate(model.coefs_)},
        **{f"bias_{k}": bias for k, bias in enumerate(model.intercepts_)},
    }


def mlp_logits(arrays: Arrays, given: Values) -> Values:
    """Return logits (n, classes); of two classes (0, value)."""
    hidden = np.maximum(given @ arrays["weight_0"] + arrays["bias_0"], 0)
    out: Values = hidden @ arrays["weight_1"] + arrays["bias_1"]
    return np.concatenate([np.zeros_like(out), out], axis=1) if out.shape[1] == 1 else out
