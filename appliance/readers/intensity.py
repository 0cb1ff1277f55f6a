"""Reader L: stain intensity of the tiles of a HER2 slide (arXiv 2512.22335)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from appliance.domain import HER2, Stain
from appliance.findings.opinion import Opinion, shares
from appliance.geometry import TILE_PX
from appliance.readers.networks import network_for
from appliance.readers.opinions import load_opinion, reference_to, save_opinion
from appliance.readers.reader import Batch, Needs, TileInput, reader
from models.spec import CLASSES, Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

TILES_NAME = "tiles.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityReading:
    """Answers of L on n tiles, row by row of the grid; the opinion is that on judged tiles.

    `places` int32 (n, 2): column and row. `judged` bool (n,): false for a tile of the margin.
    `intensity` uint8 (n,): class 0-3. `certainty` float32 (n,): its probability.
    """

    opinion: Opinion
    places: NDArray[np.int32]
    judged: NDArray[np.bool_]
    intensity: NDArray[np.uint8]
    certainty: NDArray[np.float32]


class IntensitySession:
    """Reading of one slide by L."""

    def __init__(self, given: TileInput, network: Network) -> None:
        self.network = network
        self.px = TILE_PX
        # Preallocate: retained outputs would fragment the memory of the networks.
        most = len(given.tiles) + len(given.margin)
        self._places = np.zeros((most, 2), dtype=np.int32)
        self._judged = np.zeros(most, dtype=bool)
        self._likely = np.zeros((most, len(network.spec.classes)), dtype=np.float32)
        self._known = 0

    def answer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (N, 4)."""
        return self.network.classify(pixels)

    def take(self, batch: Batch, answer: NDArray[np.float32]) -> None:
        """Keep the probabilities of the tiles."""
        for index, likely, judged in zip(batch.tiles, answer, batch.judged, strict=True):
            self._places[self._known] = index.column, index.row
            self._judged[self._known] = judged
            self._likely[self._known] = likely
            self._known += 1

    def finish(self) -> IntensityReading:
        """Reading, with the share of the judged tiles in each class as the opinion."""
        likely, judged = self._likely[: self._known], self._judged[: self._known]
        intensity = likely.argmax(axis=1).astype(np.uint8)
        names = CLASSES[Task.INTENSITY]
        counts = np.bincount(intensity[judged], minlength=len(names))
        classes, probabilities = shares(dict(zip(names, counts.tolist(), strict=True)))
        certainty = likely.max(axis=1, initial=0.0)
        opinion = Opinion(
            reader=IntensityReader.name,
            version=IntensityReader.version,
            about="score",
            weights=reference_to(self.network.spec),
            classes=classes,
            probabilities=probabilities,
            certainty=float(certainty[judged].mean()) if judged.any() else None,
        )
        return IntensityReading(
            opinion=opinion,
            places=self._places[: self._known],
            judged=judged,
            intensity=intensity,
            certainty=certainty,
        )

    def close(self) -> None:
        """Nothing is open."""


@reader
class IntensityReader:
    """L, on the HER2 tiles that have a tumor partner, and the margin."""

    name: ClassVar[str] = "intensity"
    version: ClassVar[int] = 9
    needs: ClassVar[Needs] = "tiles"
    stains: ClassVar[tuple[Stain, ...]] = (HER2,)
    task: ClassVar[Task | None] = Task.INTENSITY

    def begin(self, given: TileInput) -> IntensitySession:
        """Begin a slide."""
        return IntensitySession(given, network_for(Task.INTENSITY, given.settings))

    def save(self, reading: IntensityReading, folder: Path) -> None:
        """Write ``tiles.npz`` and the opinion."""
        np.savez_compressed(
            folder / TILES_NAME,
            places=reading.places,
            judged=reading.judged,
            intensity=reading.intensity,
            certainty=reading.certainty,
        )
        save_opinion(reading.opinion, folder)

    def load(self, folder: Path) -> IntensityReading:
        """Read what `save` wrote."""
        with np.load(folder / TILES_NAME, allow_pickle=False) as arrays:
            return IntensityReading(
                opinion=load_opinion(folder),
                places=arrays["places"],
                judged=arrays["judged"],
                intensity=arrays["intensity"],
                certainty=arrays["certainty"],
            )
