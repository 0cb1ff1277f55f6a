"""Kinds of pictures, and the classifier that tells them from a slide's features."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import ManifestError
from models.picture.features import Values

HE = "he"
MEMBRANE = "membrane"
NUCLEAR = "nuclear"
OTHER_DAB = "other-dab"
PAS = "pas"
OTHER = "other"
UNSTAINED = "unstained"
KINDS = (HE, MEMBRANE, NUCLEAR, OTHER_DAB, PAS, OTHER, UNSTAINED)
"""H&E; DAB of membranes, or hematoxylin with hardly any DAB, as in HER2 0; DAB of nuclei; DAB of
cytoplasm, fibers or scattered cells; magenta dyes; another dye; no stain."""
FAMILIES = ((HE, PAS), (MEMBRANE, NUCLEAR, OTHER_DAB), (OTHER,), (UNSTAINED,))
"""Kinds that differ in color from those of other families, which is told surely; within a family
only structure differs."""
FARTHEST = 4.0
"""Limit of a standardized feature: what no training slide showed counts no further."""
WEIGHTS_PATH = Path(__file__).parents[1] / "reference" / "picture" / "weights.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureClassifier:
    """Mean of some small networks with one hidden layer each.

    `center`, `scale` (features,) standardize. A network is its two layers' weights and biases.
    `digest` is the SHA-256 of all of it.
    """

    center: Values
    scale: Values
    networks: tuple[tuple[Values, Values, Values, Values], ...]
    digest: str

    def probabilities(self, features: Values) -> Values:
        """Return the probability of each of `KINDS`, shape (..., 7), of features (..., n)."""
        given = np.clip((features - self.center) / self.scale, -FARTHEST, FARTHEST)
        found = []
        for first, first_bias, second, second_bias in self.networks:
            logits = np.tanh(given @ first + first_bias) @ second + second_bias
            odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
            found.append(odds / odds.sum(axis=-1, keepdims=True))
        mean: Values = np.mean(found, axis=0)
        return mean


def save_classifier(facts: dict[str, Any], path: Path) -> None:
    """Write ``weights.json``: `center`, `scale`, `networks` and what they were made of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "sha256": _digest(facts)}) + "\n")


@lru_cache(maxsize=1)
def load_classifier(path: Path = WEIGHTS_PATH) -> PictureClassifier:
    """Read what `save_classifier` wrote.

    Raises
    ------
    ManifestError
        If the file is not what was written.
    """
    try:
        facts = json.loads(path.read_text())
        digest = facts.pop("sha256")
    except (OSError, ValueError, KeyError) as err:
        raise ManifestError(f"{path.name} of the picture check cannot be read") from err
    if digest != _digest(facts) or facts["kinds"] != list(KINDS):
        raise ManifestError(f"{path.name} of the picture check is not what was written")
    return PictureClassifier(
        center=np.array(facts["center"]),
        scale=np.array(facts["scale"]),
        networks=tuple(
            (np.array(a), np.array(b), np.array(c), np.array(d)) for a, b, c, d in facts["networks"]
        ),
        digest=digest,
    )


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
