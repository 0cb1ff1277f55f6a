"""Second reader: a network that sees the whole HER2 section at low resolution (arXiv 2503.22069).

It answers when the IHC slide was inspected, before its H&E slide is there, and decides no score.
Where it is far from the score a person looks (`appliance.assays.her2.second_reader`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from appliance.domain import HER2, Stain
from appliance.errors import WeightsError
from appliance.findings.opinion import ModelReference, Opinion
from appliance.readers.opinions import load_opinion, save_opinion
from appliance.readers.reader import Needs, OverviewInput, reader
from appliance.settings.settings import Settings
from models.slide_level.foreground import foreground, on_overview, section_picture
from models.slide_level.manifest import SlideSpec, reference_slide_folder, verify_slide_weights
from models.slide_level.system import SYSTEMS, load_fitted
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask
from models.spec import MANIFEST_NAME, Task

LEAST_TISSUE_MM2 = 2.0
"""Tissue of a slide below which the reader says nothing: hardly a slide that it learned has less,
and a fragment enlarged to the size of a section shows cells."""
TASKS = (SlideTask.BINARY, SlideTask.THREE_WAY, SlideTask.FOUR_WAY)
"""Tasks that an opinion on a HER2 slide may answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowResolutionReading:
    """The opinion: a probability of each class of the weights' task."""

    opinion: Opinion


@reader
class LowResolutionReader:
    """One answer for the whole HER2 slide, from its overview."""

    name: ClassVar[str] = "low_resolution"
    version: ClassVar[int] = 2
    needs: ClassVar[Needs] = "overview"
    stains: ClassVar[tuple[Stain, ...]] = (HER2,)
    task: ClassVar[Task | None] = None

    def own_weights(self, settings: Settings) -> str:
        """Return the fingerprint of the weights in use; empty where there are none.

        Raises
        ------
        WeightsError, models.errors.ManifestError
            If they cannot be used.
        """
        known = low_resolution_weights(settings)
        return "" if known is None else known[1].fingerprint

    def read(self, given: OverviewInput) -> LowResolutionReading:
        """Answer from the overview; say nothing without weights, or of little tissue.

        Raises
        ------
        WeightsError, models.errors.ManifestError
            If the weights cannot be used.
        """
        known = low_resolution_weights(given.settings)
        if known is None:
            classes = SLIDE_CLASSES[SlideTask.FOUR_WAY]
            return LowResolutionReading(opinion=_opinion(None, classes, [0.0] * len(classes)))
        folder, spec = known
        chances = [0.0] * len(spec.classes)
        if given.tissue.area_mm2 >= LEAST_TISSUE_MM2:
            mask = foreground(given.picture)
            picture = section_picture(given.picture, mask, int(spec.input["px"]))
            chances = _fitted(folder, spec.fingerprint).answer(picture[None])[0].tolist()
        return LowResolutionReading(
            opinion=_opinion(reference_to_slide(spec, self.name), spec.classes, chances)
        )

    def save(self, reading: LowResolutionReading, folder: Path) -> None:
        """Write the opinion."""
        save_opinion(reading.opinion, folder)

    def load(self, folder: Path) -> LowResolutionReading:
        """Read what `save` wrote."""
        return LowResolutionReading(opinion=load_opinion(folder))


def _opinion(
    weights: ModelReference | None, classes: Sequence[str], chances: Sequence[float]
) -> Opinion:
    return Opinion(
        reader=LowResolutionReader.name,
        version=LowResolutionReader.version,
        about="status" if tuple(classes) == SLIDE_CLASSES[SlideTask.BINARY] else "score",
        weights=weights,
        classes=tuple(classes),
        probabilities=tuple(chances),
        certainty=max(chances) or None,
    )


def low_resolution_weights(settings: Settings) -> tuple[Path, SlideSpec] | None:
    """Folder and verified manifest of the weights in use: those of the settings, or the reference.

    None where the settings name none and this distribution has none.

    Raises
    ------
    WeightsError
        If they are of another kind of system or another task.
    models.errors.ManifestError
        If the weights do not match their manifest.
    """
    reference = reference_slide_folder(LowResolutionReader.name)
    if settings.models.low_resolution is None and not reference.is_dir():
        return None
    folder = settings.models.low_resolution or reference
    spec = verify_slide_weights(folder)
    listed = SYSTEMS.get(spec.system)
    if listed is None or listed.module != "models.slide_level.low_resolution":
        raise WeightsError(
            f"{folder / MANIFEST_NAME} is of {spec.system}, which is no low-resolution system. "
            "Name another folder in models.low_resolution."
        )
    if spec.task not in TASKS:
        raise WeightsError(
            f"{folder / MANIFEST_NAME} answers {spec.task}; a HER2 slide needs one of "
            f"{', '.join(TASKS)}. Name another folder in models.low_resolution."
        )
    return folder, spec


def heat_on(
    overview: NDArray[np.uint8], number: int, settings: Settings
) -> NDArray[np.float32] | None:
    """Return what speaks for a class on an overview, float32 of its size, >= 0, without scale.

    None without weights, and where the network is a vision transformer, which has no such map.

    Raises
    ------
    WeightsError, models.errors.ManifestError
        If the weights cannot be used.
    """
    known = low_resolution_weights(settings)
    if known is None or known[1].config.get("kind") == "vit":
        return None
    folder, spec = known
    px = int(spec.input["px"])
    mask = foreground(overview)
    heat = _fitted(folder, spec.fingerprint).explain(section_picture(overview, mask, px), number)
    return on_overview(heat, mask, px)


@lru_cache(maxsize=1)
def _fitted(folder: Path, fingerprint: str) -> Any:
    """System of a folder; `fingerprint` loads it anew where its files changed."""
    return cast(Any, load_fitted(folder))


def reference_to_slide(spec: SlideSpec, reader_name: str) -> ModelReference:
    """Return the reference of a reader's opinions to its slide-level weights."""
    return ModelReference(
        task=reader_name,
        name=spec.name,
        version=spec.version,
        sha256=spec.sha256,
        fingerprint=spec.fingerprint,
        on_real=str(spec.figures.get("real", "")),
    )
