"""Contact sheet: generated tiles, with a site's own or public fields beside them to compare.

``python -m models.synthesis.sheet --out docs/images/tissue.jpg [--real FOLDER]``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.spec import TILE_MPP, TILE_PX
from models.synthesis.tile_pairs import synthesize_tile_pair

THUMB_PX = 256


def contact_sheet(first_seed: int, columns: int, rows: int) -> NDArray[np.uint8]:
    """Pairs of tiles, H&E above IHC, uint8 RGB; ``columns * rows`` seeds from `first_seed` on."""
    lines = []
    for row in range(rows):
        seeds = range(first_seed + row * columns, first_seed + (row + 1) * columns)
        pairs = [synthesize_tile_pair(seed) for seed in seeds]
        lines += [
            np.hstack([_thumb(p.he) for p in pairs]),
            np.hstack([_thumb(p.ihc) for p in pairs]),
        ]
    return np.vstack(lines)


def real_column(folder: Path, rows: int, mpp: float) -> NDArray[np.uint8]:
    """Middle tile of the first `rows` images of a folder, at `mpp` µm/px, as one column."""
    thumbs = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".tif")):
        image = cv2.imread(str(path))
        if image is None or "mask" in path.stem:
            continue
        factor = mpp / TILE_MPP
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        y, x = ((n - TILE_PX) // 2 for n in image.shape[:2])
        thumbs.append(_thumb(np.asarray(image[y : y + TILE_PX, x : x + TILE_PX, ::-1], np.uint8)))
    blank = np.full((THUMB_PX, THUMB_PX, 3), 255, np.uint8)
    thumbs = (thumbs + [blank] * rows)[:rows]
    return np.vstack(thumbs)


def _thumb(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small: NDArray[np.uint8] = cv2.resize(
        np.ascontiguousarray(tile), (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA
    ).astype(np.uint8)
    return small


def main() -> int:
    """Run the command line; return exit status 0 after the sheet was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=300)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--real", type=Path, help="folder of images to put on the right")
    parser.add_argument("--mpp", type=float, default=0.46, help="of the real images, µm/px")
    options = parser.parse_args()
    sheet = contact_sheet(options.seed, options.columns, options.rows)
    if options.real is not None:
        sheet = np.hstack([sheet, real_column(options.real, 2 * options.rows, options.mpp)])
    return 0 if cv2.imwrite(str(options.out), sheet[..., ::-1]) else 1


if __name__ == "__main__":
    sys.exit(main())
