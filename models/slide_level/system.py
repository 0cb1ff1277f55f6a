"""Systems that learn a slide's class from labeled slides, by name.

A system is one module with two functions: ``system(name) -> System`` and
``load(folder, spec) -> Fitted``. A line in `SYSTEMS` names it; nothing else changes. The module is
imported when it is used, so that this table is read without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from models.errors import DataSetError
from models.slide_level.cohort import CohortSlide
from models.slide_level.tasks import SlideTask

if TYPE_CHECKING:  # NumPy costs time, and the table is read for the help of commands
    import numpy as np
    from numpy.typing import NDArray

Say = Callable[[str], None]
"""Function that shows a line of progress."""


class Fitted(Protocol):
    """System that has learned a task."""

    def predict(self, slides: Sequence[CohortSlide]) -> NDArray[np.float64]:
        """Return probabilities (n, classes), calibrated on the validation slides; rows sum to 1."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights and manifest (`models.slide_level.manifest`), for `load_fitted`."""
        ...


class System(Protocol):
    """System before training. `name` is its name in `SYSTEMS`."""

    @property
    def name(self) -> str: ...

    def fit(
        self,
        train: Sequence[CohortSlide],
        validation: Sequence[CohortSlide],
        task: SlideTask,
        *,
        seed: int,
        say: Say,
    ) -> Fitted:
        """Learn `task` from slides that have a class in it; `validation` stops and calibrates.

        Equal seeds and slides give equal weights on one machine.
        """
        ...


BAGS = "1: multiple instances"
"""Approach of the systems that need the bags of slides."""
PATCHES = "3: patch counts"
"""Approach of the systems that need the patches of slides and classes of HER2."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Line of the table: `approach` groups systems in tables, `words` are for people."""

    module: str
    approach: str
    words: str


_BAGS = "models.mil.system"
_LOW = "models.slide_level.low_resolution"
_PATCHES = "models.patch_counts.system"
_PLAIN = "models.slide_level.plain"
_AGGREGATORS = {
    "clam-sb": "CLAM, one attention branch",
    "clam-mb": "CLAM, an attention branch per class",
    "dtfd": "DTFD-MIL with AFS",
    "abmil": "ABMIL, gated attention",
    "transmil": "TransMIL",
}
_NETWORKS = {
    "reference": "small network that counts shares",
    "small-convnext": "small ConvNeXt",
    "convnext-s": "ConvNeXt-S",
    "resnet-50": "ResNet-50",
    "densenet-201": "DenseNet-201",
    "vit-b": "ViT-B",
}
_COUNTED = {
    "forest": "random forest",
    "svm": "SVM",
    "mlp": "MLP",
    "majority": "majority vote",
}
SYSTEMS: dict[str, Listed] = {
    **{name: Listed(_BAGS, BAGS, f"{words}, on tiles") for name, words in _AGGREGATORS.items()},
    **{
        f"{name}-{px}": Listed(_LOW, "2: low resolution", f"{words}, whole slide at {px} px")
        for name, words in _NETWORKS.items()
        for px in (224, 512)
    },
    **{
        f"patch-{resolution}{name}-{aggregator}": Listed(
            _PATCHES, PATCHES, f"{words} on patches of {resolution} resolution, counts, {by}"
        )
        for resolution in ("low", "moderate", "high")
        for name, words in (("", _NETWORKS["reference"]), ("-convnext-s", "ConvNeXt-S"))
        for aggregator, by in _COUNTED.items()
    },
    "mean-dab": Listed(_PLAIN, "plain", "mean DAB of the foreground, logistic regression"),
    "dab-shares": Listed(_PLAIN, "plain", "shares of DAB by thresholds, logistic regression"),
}
"""Systems by name."""


def system(name: str) -> System:
    """Return a system by its name.

    Raises
    ------
    DataSetError
        If there is none of this name.
    """
    return cast(System, import_module(_listed(name).module).system(name))


def load_fitted(folder: Path) -> Fitted:
    """Return the system whose weights lie in a folder.

    Raises
    ------
    ManifestError
        If manifest or weights are missing, damaged or do not fit each other.
    DataSetError
        If the manifest names an unknown system.
    """
    from models.slide_level.manifest import verify_slide_weights  # brings NumPy

    spec = verify_slide_weights(folder)
    return cast(Fitted, import_module(_listed(spec.system).module).load(folder, spec))


def _listed(name: str) -> Listed:
    if name not in SYSTEMS:
        raise DataSetError(f"no system {name!r}. There are: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
