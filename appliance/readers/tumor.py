"""Reader C: tumor probability of the tiles of an anatomy slide (arXiv 2512.22335)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from appliance.domain import HE, Stain
from appliance.findings.opinion import Opinion
from appliance.readers.networks import classifier_px, network_for
from appliance.readers.opinions import load_opinion, reference_to, save_opinion
from appliance.readers.reader import Batch, Needs, TileInput, reader
from models.spec import CLASSES, Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

PROBABILITY_NAME = "probability.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TumorReading:
    """`probability` float32 (rows, columns of the tile grid), NaN where a tile was not read."""

    opinion: Opinion
    probability: NDArray[np.float32]


class TumorSession:
    """Reading of one slide by C."""

    def __init__(self, given: TileInput, network: Network) -> None:
        self.network = network
        self.px = classifier_px(network.spec)
        self._probability = np.full(given.slide.grid.shape, np.nan, dtype=np.float32)

    def answer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (N, 2)."""
        return self.network.classify(pixels)

    def take(self, batch: Batch, answer: NDArray[np.float32]) -> None:
        """Note the probability of each tile at its place."""
        for index, value in zip(batch.tiles, answer[:, 1], strict=True):
            self._probability[index.row, index.column] = value

    def finish(self) -> TumorReading:
        """Reading, with the mean probability over the tiles as the opinion."""
        said = self._probability[~np.isnan(self._probability)].astype(np.float64)
        mean = float(said.mean()) if len(said) else 0.0
        opinion = Opinion(
            reader=TumorReader.name,
            version=TumorReader.version,
            about="tumor",
            weights=reference_to(self.network.spec),
            classes=CLASSES[Task.TUMOR],
            probabilities=(1 - mean, mean) if len(said) else (0.0, 0.0),
            certainty=float(np.maximum(said, 1 - said).mean()) if len(said) else None,
            raster="he_probability",
        )
        return TumorReading(opinion=opinion, probability=self._probability)

    def close(self) -> None:
        """Nothing is open."""


@reader
class TumorReader:
    """C, on every tissue tile of the anatomy slide."""

    name: ClassVar[str] = "tumor"
    version: ClassVar[int] = 7
    needs: ClassVar[Needs] = "tiles"
    stains: ClassVar[tuple[Stain, ...]] = (HE,)
    task: ClassVar[Task | None] = Task.TUMOR

    def begin(self, given: TileInput) -> TumorSession:
        """Begin a slide."""
        return TumorSession(given, network_for(Task.TUMOR, given.settings))

    def save(self, reading: TumorReading, folder: Path) -> None:
        """Write ``probability.npy`` and the opinion."""
        np.save(folder / PROBABILITY_NAME, reading.probability)
        save_opinion(reading.opinion, folder)

    def load(self, folder: Path) -> TumorReading:
        """Read what `save` wrote."""
        probability: NDArray[np.float32] = np.load(folder / PROBABILITY_NAME, allow_pickle=False)
        return TumorReading(opinion=load_opinion(folder), probability=probability)
