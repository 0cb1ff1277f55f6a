"""Plain systems beside the networks: mean DAB of the foreground, and its shares by thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.deconvolution import DAB, EOSIN, HEMATOXYLIN, unmix
from models.errors import ManifestError
from models.slide_level.cohort import CohortSlide
from models.slide_level.folds import require_classes
from models.slide_level.foreground import read_section
from models.slide_level.manifest import SlideSpec, load_slide_weights, save_slide_weights
from models.slide_level.system import Say
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.slide_level.temperature import calibrated, fit_temperature

PX = 224
THRESHOLDS = (0.03, 0.06, 0.12, 0.2, 0.35)
"""Amounts of DAB above which px are counted."""
SHADOW = 0.03
"""Optical density from which a px of a section's picture is foreground; glass is 0."""
_STEPS = 2000
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plain:
    """Logistic regression on few numbers of the slide's DAB: ``mean`` or ``shares``."""

    name: str

    def fit(
        self,
        train: Sequence[CohortSlide],
        validation: Sequence[CohortSlide],
        task: SlideTask,
        *,
        seed: int,
        say: Say,
    ) -> FittedPlain:
        """Fit to `train`; `validation` gives the temperature, nothing is drawn.

        Raises
        ------
        DataSetError
            If a class has no slide in `train`, as a cohort's own folds may have it.
        """
        given, truth = _features(train, self.name), _truth(train, task)
        require_classes(self.name, truth.tolist(), task)
        center, scale = given.mean(axis=0), given.std(axis=0) + 1e-6
        model = LogisticRegression(max_iter=_STEPS)
        model.fit((given - center) / scale, truth)
        weight, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn has one row for two classes
            weight, bias = np.vstack([0 * weight, weight]), np.concatenate([[0.0], bias])
        arrays = {"center": center, "scale": scale, "weight": weight, "bias": bias}
        spec = SlideSpec(
            name=f"{self.name}-{task}",
            version="1.0",
            system=self.name,
            task=task,
            classes=SLIDE_CLASSES[task],
            input={"px": PX, "pixels": "optical-density"},
            config={"thresholds": list(THRESHOLDS), "stain": "DAB"},
            trained={"slides": len(train)},
        )
        raw = FittedPlain(spec, arrays)
        temperature = fit_temperature(raw.logits(validation), _truth(validation, task))
        say(f"{self.name}: fitted to {len(train)} slides")
        return FittedPlain(replace(spec, temperature=temperature), arrays)


@dataclass(frozen=True, slots=True)
class FittedPlain:
    """Fitted system: standardization and one linear layer."""

    spec: SlideSpec
    arrays: dict[str, Any]

    def logits(self, slides: Sequence[CohortSlide]) -> Values:
        """Return logits (n, classes)."""
        a = self.arrays
        given = (_features(slides, self.spec.system) - a["center"]) / a["scale"]
        logits: Values = given @ a["weight"].T + a["bias"]
        return logits

    def predict(self, slides: Sequence[CohortSlide]) -> Values:
        """Return probabilities (n, classes) of slides, from their overviews."""
        return calibrated(self.logits(slides), self.spec.temperature)

    def save(self, folder: Path) -> None:
        """Write weights and manifest."""
        save_slide_weights(folder, self.spec, self.arrays)


def system(name: str) -> Plain:
    """Return the system of a name."""
    return Plain(name)


def load(folder: Path, spec: SlideSpec) -> FittedPlain:
    """Return the system of a verified folder.

    Raises
    ------
    ManifestError
        If the weights do not fit the manifest.
    """
    arrays = load_slide_weights(folder)
    if set(arrays) != {"center", "scale", "weight", "bias"}:
        raise ManifestError(f"{folder}: the weights do not fit the manifest: {', '.join(arrays)}")
    return FittedPlain(spec, dict(arrays))


def _truth(slides: Sequence[CohortSlide], task: SlideTask) -> NDArray[np.int64]:
    return np.array([class_of(slide.label, task) for slide in slides], dtype=np.int64)


def _features(slides: Sequence[CohortSlide], name: str) -> Values:
    first = np.s_[:1] if name == "mean-dab" else np.s_[1:]
    return np.stack([_of_slide(slide.overview)[first] for slide in slides])


@lru_cache(maxsize=20_000)
def _of_slide(path: Path) -> Values:
    """Mean DAB of a section's foreground, and the share of it above each threshold."""
    picture = read_section(path, PX)
    density = -np.log10(np.maximum(picture, 1).astype(np.float32) / 255)
    dab = unmix(density, np.array([HEMATOXYLIN, EOSIN, DAB], dtype=np.float32))[..., 2]
    inside = dab[density.mean(axis=2) > SHADOW]
    if not len(inside):
        return np.zeros(1 + len(THRESHOLDS))
    return np.array([inside.mean(), *((inside > limit).mean() for limit in THRESHOLDS)])
