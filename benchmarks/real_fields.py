"""M on real HER2 fields: ``python benchmarks/real_fields.py [WEIGHTS …] [--real FOLDER]``.

How much of the tumor that a person outlined each set of weights finds, how much of the other tissue
it calls tumor, and which classes it gives. The fields are those of `shared/real`; they train
nothing. The person was no pathologist.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.readers.inference import Network
from models.datasets.glass import calibrated
from models.spec import TILE_MPP, TILE_PX, Task, reference_folder

MPP = 0.46
"""Resolution of the fields in µm per px."""
SIDE = 1024
SIZES = (1.0, 0.8, 1.25)
"""Factors by which a field is shown larger or smaller than it is."""
WHITE_LEAST = 200
TISSUE_LEVEL = 238
"""Least channel, of 255, below which a place of some px is tissue."""
STRONG = "bci-00672_3+"
FAINT = "bci-00901_1+"
TUMOR = (
    ((0, 0), (1023, 0), (1023, 540), (880, 545), (770, 535), (700, 548), (600, 552), (520, 560),
     (490, 580), (465, 560), (440, 530), (400, 505), (385, 440), (345, 400), (300, 390), (258, 345),
     (240, 300), (190, 285), (130, 250), (100, 200), (60, 160), (20, 120), (0, 115)),
    ((652, 705), (680, 693), (740, 694), (790, 705), (780, 714), (690, 716), (660, 714)),
    ((868, 815), (900, 798), (950, 797), (1023, 810), (1023, 872), (960, 866), (905, 852)),
    ((790, 775), (835, 778), (845, 788), (800, 788)),
    ((925, 885), (1000, 890), (1020, 905), (980, 910)),
)  # fmt: skip
"""Outlines of the tumor of the field `STRONG`, in its px (x, y)."""
STROMA = (
    (14, ((672, 0), (668, 100), (678, 230))),
    (10, ((800, 20), (815, 130), (825, 240))),
    (12, ((855, 70), (875, 130), (892, 190))),
    (26, ((1023, 240), (920, 275), (840, 310), (760, 350), (690, 375), (655, 420), (650, 470))),
    (14, ((690, 510), (715, 480))),
    (16, ((450, 70), (480, 130), (500, 150), (550, 160), (558, 200), (552, 260))),
    (18, ((340, 240), (360, 300), (384, 365))),
    (14, ((140, 135), (200, 150), (230, 190))),
)
"""Bands of stroma within the first of them: width in px and line."""
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def main() -> None:
    """Print a line for each set of weights, field and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="*", help="Folders; default: those that ship.")
    parser.add_argument("--real", type=Path, default=Path("../shared/real"))
    given = parser.parse_args()
    for folder in given.weights or [reference_folder(Task.SEGMENTATION)]:
        network = Network(folder)
        for name in (STRONG, FAINT):
            field = _field(given.real / "her2_pairs" / f"{name}_her2.png")
            tissue = cv2.GaussianBlur(field.min(axis=2), (0, 0), 6) < TISSUE_LEVEL
            # All of the faint field is tumor but for narrow clefts and septa.
            tumor = outlined() & tissue if name == STRONG else tissue
            for size in SIZES:
                _tell(f"{folder} {name} x{size:g}", _classes(network, field, size), tumor,
                      tissue)  # fmt: skip


def outlined() -> Mask:
    """Return the outlined tumor of the field `STRONG`."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for index, outline in enumerate(TUMOR):
        cv2.fillPoly(mask, [np.array(outline)], 1)
        if index == 0:
            for width, line in STROMA:
                cv2.polylines(mask, [np.array(line)], False, 0, width)
    found: Mask = mask > 0
    return found


def _field(path: Path) -> Pixels:
    pixels = np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), dtype=np.uint8)
    white = np.maximum(np.percentile(pixels.reshape(-1, 3), 99, axis=0), WHITE_LEAST)
    return calibrated(pixels, (int(white[0]), int(white[1]), int(white[2])))


def _classes(network: Network, field: Pixels, size: float) -> Pixels:
    """Label map of a field at its own resolution."""
    scale = MPP / TILE_MPP * size
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    shown = cv2.resize(field, None, fx=scale, fy=scale, interpolation=how)
    rows, columns = (-(-edge // TILE_PX) for edge in shown.shape[:2])
    below, right = rows * TILE_PX - shown.shape[0], columns * TILE_PX - shown.shape[1]
    padded = cv2.copyMakeBorder(shown, 0, below, 0, right, cv2.BORDER_REFLECT)
    strips = []
    for row in range(rows):
        strip = padded[row * TILE_PX : (row + 1) * TILE_PX]
        tiles = np.stack(np.split(strip, columns, axis=1))
        strips.append(np.concatenate(list(network.segment(tiles)), axis=1))
    labels = np.concatenate(strips)
    step = padded.shape[0] // labels.shape[0]
    inner = labels[: shown.shape[0] // step, : shown.shape[1] // step]
    answer: Pixels = cv2.resize(inner, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    return answer


def _tell(what: str, classes: Pixels, tumor: Mask, tissue: Mask) -> None:
    shares = np.bincount(classes[tumor], minlength=5) / max(1, tumor.sum())
    rest = tissue & ~tumor
    false = f"{(classes[rest] > 0).mean():.2f}" if rest.any() else "-"
    named = zip(("background", "0", "1+", "2+", "3+"), shares, strict=True)
    print(f"{what}: of the tumor {1 - shares[0]:.2f} found, of other tissue {false}; "
          + ", ".join(f"{name} {share:.2f}" for name, share in named))  # fmt: skip


if __name__ == "__main__":
    main()
