"""Interim reader: HER2 from the H&E slide alone, before the IHC slide is there; a hint, no score.

It is off until the settings name weights that the site trained on its own pairs (docs/interim.md).
Its answer depends on the H&E slide, the encoder and the weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from appliance.domain import HE, Stain
from appliance.errors import WeightsError
from appliance.findings.attention import AttentionMap
from appliance.findings.opinion import Opinion
from appliance.geometry import TILE_UM
from appliance.readers.bags import cut_of
from appliance.readers.low_resolution import reference_to_slide
from appliance.readers.opinions import load_opinion, save_opinion
from appliance.readers.reader import Needs, reader
from appliance.settings.settings import Settings
from models.encoders.spec import read_encoder, reference_encoder
from models.interim.manifest import verify_interim
from models.mil.bag import Bag
from models.spec import Task

if TYPE_CHECKING:
    from models.interim.fitted import FittedInterim


@dataclass(frozen=True, slots=True, kw_only=True)
class InterimReading:
    """The opinion, a probability of each score; `attention` is None where no map was kept."""

    opinion: Opinion
    attention: AttentionMap | None


@reader
class InterimReader:
    """One answer for the block, from the bag of its H&E slide."""

    name: ClassVar[str] = "interim"
    version: ClassVar[int] = 2
    needs: ClassVar[Needs] = "bag"
    stains: ClassVar[tuple[Stain, ...]] = (HE,)
    task: ClassVar[Task | None] = None

    def is_on(self, settings: Settings) -> bool:
        """Return whether the settings name weights."""
        return settings.models.interim is not None

    def own_weights(self, settings: Settings) -> str:
        """Return the fingerprint of the weights in use; empty where there are none.

        Raises
        ------
        WeightsError
            If they need another encoder than the one that the settings name.
        models.errors.ManifestError
            If weights or encoder cannot be used.
        """
        folder = settings.models.interim
        if folder is None:
            return ""
        spec = verify_interim(folder)
        there = self.encoder(settings)
        if read_encoder(there).fingerprint != spec.input["encoder"]:
            raise WeightsError(
                f"{folder} was trained on bags of the encoder {spec.input['encoder'][:12]}…, and "
                f"{there} is another one. Name the encoder's folder in models.interim_encoder."
            )
        return spec.fingerprint

    def encoder(self, settings: Settings) -> Path:
        """Return the folder of the encoder that makes its bags."""
        return settings.models.interim_encoder or reference_encoder()

    def read(self, bag: Bag, settings: Settings) -> InterimReading:
        """Answer from the bag of an H&E slide.

        Raises
        ------
        WeightsError
            If the settings name no weights.
        models.errors.ManifestError
            If the weights cannot be used.
        models.errors.DataSetError
            If the bag is of another encoder.
        """
        folder = settings.models.interim
        if folder is None:
            raise WeightsError("The interim reader has no weights. Name some in models.interim.")
        spec = verify_interim(folder)
        answer = _fitted(folder, spec.fingerprint).answer(bag)
        chances = answer.probabilities.tolist()
        along = cut_of(read_encoder(self.encoder(settings)))[1]
        return InterimReading(
            attention=AttentionMap.of_tiles(
                bag.places, answer.attention, cell_um=TILE_UM / along, slide=bag.slide
            ),
            opinion=Opinion(
                reader=self.name,
                version=self.version,
                about="interim",
                weights=reference_to_slide(spec, self.name),
                classes=spec.classes,
                probabilities=tuple(chances),
                certainty=max(chances),
            ),
        )

    def save(self, reading: InterimReading, folder: Path) -> None:
        """Write the opinion and the attention."""
        save_opinion(reading.opinion, folder)
        if reading.attention is not None:
            reading.attention.save(folder)

    def load(self, folder: Path) -> InterimReading:
        """Read what `save` wrote."""
        return InterimReading(opinion=load_opinion(folder), attention=AttentionMap.load(folder))


@lru_cache(maxsize=1)
def _fitted(folder: Path, fingerprint: str) -> FittedInterim:
    """Network of a folder; `fingerprint` loads it anew where its files changed."""
    # Torch: only where a slide is read.
    from models.interim.fitted import load_interim

    return load_interim(folder)
