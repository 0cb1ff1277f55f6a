"""Attention of an interim hint on the overview of its slide, before the block is scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.findings.attention import AttentionMap
from appliance.findings.overlay import Picture, blend, heat_layer
from appliance.ledger.hints import hint_of
from appliance.ledger.queries import Queries
from appliance.ledger.tables import SlideRow, facts_of, id_of

OPACITY = 0.6
"""Opacity (0-1) of the attention over the overview."""
ATTENDED = "Interim, not a score: attention of the hint, by the strongest tile."


@dataclass(frozen=True, slots=True, kw_only=True)
class HintMap:
    """Folder of a hint that has a map, number of its slide, and that slide's size in µm, (x, y)."""

    folder: Path
    slide_id: int
    size_um: tuple[float, float]

    def over(self, overview: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the overview, RGB uint8 of the whole slide, with the attention over it."""
        attention = AttentionMap.load(self.folder)
        if attention is None:
            return overview
        x_um, y_um = (
            (np.arange(count) + 0.5) * um / count
            for um, count in zip(self.size_um, overview.shape[1::-1], strict=True)
        )
        layer = heat_layer(attention.heat_at(y_um, x_um))
        return blend(Picture(overview, layer), OPACITY)


def hint_map(tx: Queries, slide: SlideRow, assay: str, store: ArtifactStore) -> HintMap | None:
    """Return the map of the newest hint on a slide; None without one."""
    folder = hint_folder(tx, slide, assay, store)
    if folder is None:
        return None
    return HintMap(folder=folder, slide_id=id_of(slide), size_um=facts_of(slide).size_um)


def hint_folder(tx: Queries, slide: SlideRow, assay: str, store: ArtifactStore) -> Path | None:
    """Return the folder of the newest hint on a slide; None where there is none, or none now."""
    hint = hint_of(tx, slide, assay)
    if hint is None or not hint.key or hint.opinion is None:
        return None
    folder = store.path(ArtifactKey.parse(hint.key)) / hint.opinion["reader"]
    return folder if folder.is_dir() else None
