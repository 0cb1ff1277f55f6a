"""Strong stain outside the tumor, on drawn overviews: ``python benchmarks/outside.py --pairs 60``.

Each pair of sections (synthetic) is looked at three times by the plain reader's check: with all of
its tumor known, as if C had found every tile; with half of it known, from the slide's middle to
the right; and with none. The first must give no focus; the others show how often tumor that C
missed is seen, by the score of the block. Control tissue and the mapping are as drawn.

``--fields PICTURE … --mpp 0.46`` looks at fields of HER2 IHC in place of sections, none of their
tumor known.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.assays.her2.guideline import load_guideline
from appliance.findings.classes import percent_of_tumor
from appliance.geometry import Affine, TileGrid, TileIndex
from appliance.readers.outside import focus_on_overview
from appliance.readers.reader import AnatomySlide, TileInput
from appliance.registration.mapping import SlideMapping
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.tissue import Tissue, find_tissue, mask_share
from models.synthesis.overview import MASK_UM
from models.synthesis.placement import SIZE_UM
from models.synthesis.sections import SectionPair, synthesize_sections

TUMOR_SHARE = 0.5
"""Least tumor share of a tile that C is taken to call tumor."""
KNOWN = ("all", "half", "none")


@dataclass(frozen=True)
class _Slide:
    """Stand-in of the open slide, of which the check asks the tile grid alone."""

    grid: TileGrid


def areas(pair: SectionPair) -> dict[str, float]:
    """Area in mm² of the largest focus, by the part of the tumor that is known."""
    tissue = find_tissue(pair.ihc, pair.mpp)
    share = mask_share(pair.ihc_tumor, MASK_UM, TileGrid.of(*SIZE_UM))
    every = [TileIndex(int(c), int(r)) for r, c in np.argwhere(share >= TUMOR_SHARE)]
    middle = statistics.median([tile.column for tile in every]) if every else 0
    known = {"all": every, "half": [t for t in every if t.column >= middle], "none": []}
    size = tissue.mask.shape[::-1]
    control = cv2.resize(pair.ihc_control.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    # The anatomy slide has all tissue but the control tissue.
    on_he = tissue.mask & (cv2.dilate(control, np.ones((9, 9), np.uint8)) == 0)
    return {name: _area(pair.ihc, tissue, tiles, on_he) for name, tiles in known.items()}


def area_of_field(path: Path, mpp: float) -> float:
    """Area in mm² of the largest focus of a field, none of its tumor known.

    Raises
    ------
    SystemExit
        If the file is no picture.
    """
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path} is no picture; name PNG or JPEG files of HER2 IHC")
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    tissue = find_tissue(rgb, mpp)
    return _area(rgb, tissue, [], tissue.mask)


def _area(
    picture: NDArray[np.uint8],
    tissue: Tissue,
    tiles: Sequence[TileIndex],
    on_he: NDArray[np.bool_],
) -> float:
    focus = focus_on_overview(_given(picture, tissue, tiles, on_he), "plain")
    return 0.0 if focus is None else focus.area_mm2


def _given(
    picture: NDArray[np.uint8],
    tissue: Tissue,
    tiles: Sequence[TileIndex],
    on_he: NDArray[np.bool_],
) -> TileInput:
    """Input of the check; `on_he` is the tissue that the anatomy slide shows, at its place."""
    beside = Tissue(mask=on_he, mpp=tissue.mpp, white_rgb=tissue.white_rgb, area_mm2=0.0)
    rows, columns = tissue.mask.shape
    grid = TileGrid.of(columns * tissue.mpp, rows * tissue.mpp)
    return TileInput(
        slide=cast(Any, _Slide(grid)),
        picture=picture,
        tissue=tissue,
        tiles=tuple(tiles),
        margin=(),
        settings=Settings(),
        options={},
        beside=AnatomySlide(tissue=beside, mapping=SlideMapping.of(Affine.identity())),
        out=Path(),
    )


def table(rows: Iterable[tuple[str, dict[str, float]]], limit_mm2: float) -> list[str]:
    """Lines of a table: of the sections of each score, those with a focus beyond the limit."""
    by: dict[str, list[dict[str, float]]] = defaultdict(list)
    for score, areas in rows:
        by[score].append(areas)
    lines = [f"score  sections  beyond {limit_mm2:g} mm² with tumor known: " + ", ".join(KNOWN)]
    for score, found in sorted(by.items()):
        counts = [sum(each[name] > limit_mm2 for each in found) for name in KNOWN]
        lines.append(f"{score:5}  {len(found):8}  " + "  ".join(map(str, counts)))
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--fields", type=Path, nargs="+", default=[])
    parser.add_argument("--mpp", type=float, default=0.46, help="µm per px of the fields")
    options = parser.parse_args()
    for path in options.fields:
        print(f"{path.name}: {area_of_field(path, options.mpp):.3f} mm²")
    if options.fields:
        return
    guideline = load_guideline("breast-asco-cap-2018")
    rows = []
    for seed in range(options.seed, options.seed + options.pairs):
        pair = synthesize_sections(seed, mpp=thumbnail_mpp(*SIZE_UM))
        percent = percent_of_tumor(np.array([0, *pair.tumor_cells]))
        rows.append((guideline.score(percent).value, areas(pair)))
        print(seed, *rows[-1], flush=True)
    print("\n".join(table(rows, Review().max_stain_outside_tumor_mm2)))


if __name__ == "__main__":
    main()
