"""Kind of a slide's picture: H&E, membrane DAB, or another one, with its certainty.

Decided per slide from some tens of tiles, without torch (`models.picture`). The slide's name plays
no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TileGrid, TileIndex
from appliance.slides.glass import ASSUMED_WHITE
from appliance.slides.reader import SlideReader
from appliance.slides.stream import TileStream
from appliance.slides.tissue import Tissue, tissue_share, tissue_tiles
from models.picture.features import MOST_TINT, TILE_PX, measure_tile, slide_features
from models.picture.kinds import FAMILIES, KINDS, load_classifier

PICTURE_NAME = "picture.json"
"""File of the picture's kind in the artifact of an inspected slide."""
MOST_TILES = 20
"""Tiles that are measured: half of them evenly spread, half where the overview is brownest."""
SOLID_SHARE = 0.5
"""Share of tissue of the tiles that are taken first."""
HELD_BELOW = 0.1
"""Probability of the kinds of a stain below which its slide is held (docs/identity-picture.md)."""
FAMILY_BELOW = 0.4
"""The same for the families of these kinds, which differ in color from all others."""
BATCH = 8
_LOOKS_LIKE = {
    "he": "an H&E slide",
    "membrane": "IHC with brown membranes, or with hematoxylin alone",
    "nuclear": "IHC with brown nuclei",
    "other-dab": "IHC with brown cytoplasm, fibers or scattered cells",
    "pas": "a magenta stain such as PAS",
    "other": "another stain",
    "unstained": "an unstained slide",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMatch:
    """Probability (0-100) that a picture is of a kind that its stain may have; the likeliest other
    kind, in words."""

    percent: float
    looks_like: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidePicture:
    """Kind of a slide's picture, one of `models.picture.kinds.KINDS`, and its certainty (0-1).

    `probabilities` are those of all kinds. The kind is empty where no tile could be measured.
    """

    kind: str = ""
    certainty: float = 0.0
    probabilities: dict[str, float] = field(default_factory=dict)
    tiles: int = 0

    def contradicts(self, kinds: Sequence[str]) -> bool:
        """Return whether the picture is none of these kinds, beyond doubt."""
        if not self.kind or not kinds:
            return False
        return is_contradiction(self.probabilities, kinds)

    def match(self, kinds: Sequence[str]) -> PictureMatch:
        """Return how surely the picture is of one of these kinds, and its likeness to any other."""
        own = sum(self.probabilities.get(kind, 0.0) for kind in kinds)
        others = {kind: p for kind, p in self.probabilities.items() if kind not in kinds}
        likeliest = max(others, key=lambda kind: others[kind], default="")
        return PictureMatch(
            percent=100 * own if kinds else 100.0,
            looks_like=_LOOKS_LIKE.get(likeliest, "nothing that Tandem can tell"),
        )

    @property
    def looks_like(self) -> str:
        """What the picture looks like, in words."""
        return _LOOKS_LIKE.get(self.kind, "")

    def as_json(self) -> str:
        """Return the kind and its certainty, for the slide's row."""
        return json.dumps({"kind": self.kind, "certainty": self.certainty}) if self.kind else "{}"

    def save(self, folder: Path) -> None:
        """Write ``picture.json`` into the artifact of an inspected slide."""
        (folder / PICTURE_NAME).write_text(json.dumps(asdict(self)))


def is_contradiction(chances: Mapping[str, float], kinds: Sequence[str]) -> bool:
    """Return whether pictures of these probabilities are none of some kinds."""
    alike = {kind for family in FAMILIES if set(family) & set(kinds) for kind in family}
    own = sum(chances.get(kind, 0.0) for kind in kinds)
    return own < HELD_BELOW or sum(chances.get(kind, 0.0) for kind in alike) < FAMILY_BELOW


def load_picture(folder: Path) -> SlidePicture | None:
    """Read what `SlidePicture.save` wrote; None where an earlier edition did not look."""
    path = folder / PICTURE_NAME
    return SlidePicture(**json.loads(path.read_text())) if path.exists() else None


def picture_version() -> str:
    """Return what a picture's kind depends on beside the slide; raises ManifestError."""
    return f"1-{load_classifier().digest[:16]}"


def see_picture(slide: SlideReader, overview: NDArray[np.uint8], tissue: Tissue) -> SlidePicture:
    """Tell the kind of a slide's picture; tiles that cannot be decoded are left out.

    Raises
    ------
    ManifestError
        If the weights are missing or damaged.
    """
    classifier = load_classifier()
    tiles = _tiles_to_see(slide.grid, overview, tissue)
    measured = []
    for _, pixels in TileStream(slide, tiles, _glass(tissue), BATCH, px=TILE_PX):
        found = (measure_tile(tile, (255, 255, 255)) for tile in pixels)
        measured += [each for each in found if each is not None]
    if not measured:
        return SlidePicture()
    chances = classifier.probabilities(slide_features(measured))
    return SlidePicture(
        kind=KINDS[int(chances.argmax())],
        certainty=round(float(chances.max()), 4),
        probabilities={k: round(float(p), 4) for k, p in zip(KINDS, chances, strict=True)},
        tiles=len(measured),
    )


def _glass(tissue: Tissue) -> tuple[int, int, int]:
    """Return the color of the glass; the usual one where what was taken for it has a color."""
    white = tissue.white_rgb
    return white if max(white) - min(white) <= MOST_TINT else ASSUMED_WHITE


def _tiles_to_see(grid: TileGrid, overview: NDArray[np.uint8], tissue: Tissue) -> list[TileIndex]:
    share = tissue_share(tissue, grid)
    solid = tissue_tiles(np.where(share >= SOLID_SHARE, share, np.float32(0)))
    solid = solid if len(solid) >= 4 else tissue_tiles(share)
    if len(solid) <= MOST_TILES:
        return solid
    even = [solid[i] for i in np.linspace(0, len(solid) - 1, MOST_TILES // 2).astype(int)]
    # Brown absorbs blue, hematoxylin and eosin absorb green more. Pen is no tissue.
    small = cv2.resize(overview, (grid.columns, grid.rows), interpolation=cv2.INTER_AREA)
    density = -np.log10(np.maximum(small, 1) / np.array(tissue.white_rgb, dtype=np.float32))
    brown = density[..., 2] - 0.8 * density[..., 1]
    brownest = sorted(solid, key=lambda t: -float(brown[t.row, t.column]))
    rest = [tile for tile in brownest if tile not in set(even)]
    return [*even, *rest[: MOST_TILES - len(even)]]
