"""Second reader: an aggregator over the tiles of the whole HER2 slide (arXiv 2503.22069).

It answers from the bag of the IHC slide alone, before the H&E slide is there, and decides no score.
Where it is far from the score a person looks (`appliance.assays.her2.second_reader`). It is off
until the settings name weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from appliance.domain import HER2, Stain
from appliance.errors import WeightsError
from appliance.findings.opinion import Opinion
from appliance.readers.bags import cut_of
from appliance.readers.low_resolution import TASKS, reference_to_slide
from appliance.readers.opinions import load_opinion, save_opinion
from appliance.readers.reader import Needs, TileAttention, reader
from appliance.settings.settings import Settings
from models.encoders.spec import read_encoder, reference_encoder
from models.mil.bag import Bag
from models.slide_level.manifest import SlideSpec, verify_slide_weights
from models.slide_level.system import BAGS, SYSTEMS, load_fitted
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask
from models.spec import MANIFEST_NAME, Task

if TYPE_CHECKING:
    from models.mil.system import FittedMil

LEAST_TILES = 8
"""Tiles of the grid (0.16 mm²) below which the reader says nothing: hardly a slide that it learned
has fewer."""
ATTENTION_NAME = "attention.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipleInstanceReading:
    """The opinion, and the weight of each tile in it; None where nothing was judged."""

    opinion: Opinion
    attention: TileAttention | None = None


@reader
class MultipleInstanceReader:
    """One answer for the whole HER2 slide, from the vectors of its tiles."""

    name: ClassVar[str] = "multiple_instance"
    version: ClassVar[int] = 1
    needs: ClassVar[Needs] = "bag"
    stains: ClassVar[tuple[Stain, ...]] = (HER2,)
    task: ClassVar[Task | None] = None

    def is_on(self, settings: Settings) -> bool:
        """Return whether the settings name weights."""
        return settings.models.mil is not None

    def own_weights(self, settings: Settings) -> str:
        """Return the fingerprint of the weights in use; empty where there are none.

        Raises
        ------
        WeightsError, models.errors.ManifestError
            If weights or encoder cannot be used, or do not belong together.
        """
        return weights_in_use(settings)[1].fingerprint if self.is_on(settings) else ""

    def encoder(self, settings: Settings) -> Path:
        """Return the folder of the encoder that makes its bags."""
        return settings.models.mil_encoder or reference_encoder()

    def read(self, bag: Bag, settings: Settings) -> MultipleInstanceReading:
        """Answer from the bag of a HER2 slide; say nothing of few tiles.

        Raises
        ------
        WeightsError, models.errors.ManifestError
            If weights or encoder cannot be used, or do not belong together.
        models.errors.DataSetError
            If the bag is of another encoder.
        """
        folder, spec = weights_in_use(settings)
        along = cut_of(read_encoder(self.encoder(settings)))[1]
        tiles, of_tile = np.unique(bag.places // along, axis=0, return_inverse=True)
        if len(tiles) < LEAST_TILES:
            return self.silent(settings)
        answer = _fitted(folder, spec.fingerprint).answer(bag)
        weights = np.bincount(of_tile.ravel(), answer.attention, len(tiles))
        return MultipleInstanceReading(
            opinion=_opinion(spec, answer.probabilities.tolist()),
            attention=TileAttention(
                tiles=tiles.astype(np.int32), weights=weights.astype(np.float32)
            ),
        )

    def silent(self, settings: Settings) -> MultipleInstanceReading:
        """Return the reading of a slide without a bag: nothing was judged.

        Raises
        ------
        WeightsError, models.errors.ManifestError
            If weights or encoder cannot be used, or do not belong together.
        """
        spec = weights_in_use(settings)[1]
        return MultipleInstanceReading(opinion=_opinion(spec, [0.0] * len(spec.classes)))

    def save(self, reading: MultipleInstanceReading, folder: Path) -> None:
        """Write the opinion and, where something was judged, ``attention.npz``."""
        save_opinion(reading.opinion, folder)
        given = reading.attention
        if given is not None:
            np.savez_compressed(folder / ATTENTION_NAME, tiles=given.tiles, weights=given.weights)

    def load(self, folder: Path) -> MultipleInstanceReading:
        """Read what `save` wrote."""
        attention = None
        if (folder / ATTENTION_NAME).is_file():
            with np.load(folder / ATTENTION_NAME, allow_pickle=False) as arrays:
                attention = TileAttention(tiles=arrays["tiles"], weights=arrays["weights"])
        return MultipleInstanceReading(opinion=load_opinion(folder), attention=attention)


def weights_in_use(settings: Settings) -> tuple[Path, SlideSpec]:
    """Return folder and verified manifest of the weights that the settings name.

    Raises
    ------
    WeightsError
        If there are none, or they are of another kind of system, of another task, or were trained
        on bags of another encoder than the one in use.
    models.errors.ManifestError
        If the weights do not match their manifest, or the encoder has none that can be used.
    """
    folder = settings.models.mil
    if folder is None:
        raise WeightsError("The reader of tiles has no weights. Name some in models.mil.")
    spec = verify_slide_weights(folder)
    manifest, listed = folder / MANIFEST_NAME, SYSTEMS.get(spec.system)
    if listed is None or listed.approach != BAGS:
        raise WeightsError(
            f"{manifest} is of {spec.system}, which is no system of multiple instances. "
            "Name another folder in models.mil."
        )
    if spec.task not in TASKS:
        raise WeightsError(
            f"{manifest} answers {spec.task}; a HER2 slide needs one of {', '.join(TASKS)}. "
            "Name another folder in models.mil."
        )
    there = settings.models.mil_encoder or reference_encoder()
    encoder, learnt = read_encoder(there), str(spec.input.get("encoder", ""))
    if encoder.fingerprint != learnt:
        raise WeightsError(
            f"{manifest}: trained on bags of the encoder {learnt[:12]}…; {there} is another one. "
            "Name the encoder's folder in models.mil_encoder."
        )
    if encoder.dimension != spec.input.get("dimension"):
        raise WeightsError(
            f"{manifest}: bags of {spec.input.get('dimension')} numbers per tile; the encoder "
            f"{there} gives {encoder.dimension}. Train the weights again."
        )
    return folder, spec


def _opinion(spec: SlideSpec, chances: Sequence[float]) -> Opinion:
    binary = spec.classes == SLIDE_CLASSES[SlideTask.BINARY]
    return Opinion(
        reader=MultipleInstanceReader.name,
        version=MultipleInstanceReader.version,
        about="status" if binary else "score",
        weights=reference_to_slide(spec, MultipleInstanceReader.name),
        classes=spec.classes,
        probabilities=tuple(chances),
        certainty=max(chances) or None,
        raster="attention" if any(chances) else "",
    )


@lru_cache(maxsize=1)
def _fitted(folder: Path, fingerprint: str) -> FittedMil:
    """Aggregator of a folder; `fingerprint` loads it anew where its files changed."""
    # Torch: only where a slide is read.
    return cast("FittedMil", load_fitted(folder))
