"""Ceiling of a drawn cohort: what one who knows the truth of each slide reaches on noisy labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.evaluation.confusion import classification_figures, confusion
from models.evaluation.figures import auc
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.synthesis.slide_cohort import SlideDraw, label_chances


def ceiling(draws: Sequence[SlideDraw], task: SlideTask) -> dict[str, Any]:
    """Return AUC, F1 and accuracy (0-1) of a perfect reader of the truth against the labels.

    That reader answers with `label_chances`: it knows the composition of each tumor, and how
    readers err, but not the error of this reader nor the ISH status. AUC and F1 are means over
    classes, AUC of each class against the rest.
    """
    names = SLIDE_CLASSES[task]
    known = [(class_of(d.label, task), label_chances(d, task)) for d in draws]
    pairs = [(k, chances) for k, chances in known if k is not None and chances is not None]
    if not pairs:
        return {"n": 0}
    truth = np.array([k for k, _ in pairs])
    chances = np.stack([found for _, found in pairs])
    figures = classification_figures(confusion(truth, chances.argmax(axis=1), len(names)), names)
    areas = [auc(truth == k, chances[:, k]) for k in range(len(names))]
    return {
        "n": len(truth),
        "auc": round(float(np.nanmean(areas)), 4),
        "f1": figures["macro_f1"],
        "accuracy": figures["accuracy"],
    }
