"""Trust in the check of a slide's picture: ``python benchmarks/picture.py [--worlds N]``.

Drawn fields that trained nothing, of all stains, labs and scanners; real images, where they are at
hand, as slides; and the time that the check takes on a drawn slide.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from appliance.slides.overview import thumbnail_mpp
from appliance.slides.picture import HELD_BELOW, SlidePicture, is_contradiction, see_picture
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import find_tissue
from models.picture.kinds import HE, KINDS, MEMBRANE, PAS, load_classifier
from models.synthesis.pyramid import TILE, write_pyramid
from models.synthesis.slides import synthesize_case
from models.training.picture import draw_material

FIRST_SEED = 77_000_000
"""Seeds of training are far below."""
LIMITS = (0.01, 0.02, HELD_BELOW, 0.1, 0.2, 0.5)
SLOTS = {"HE": (HE, PAS), "HER2": (MEMBRANE,)}
Pixels = NDArray[np.uint8]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=60)
    parser.add_argument("--wild", type=float, default=0.5, help="0: usual labs, 1: far beyond.")
    parser.add_argument("--real", type=Path, default=Path("../shared/real"))
    given = parser.parse_args()
    _judge_drawn(given.worlds, given.wild)
    _judge_real(given.real)
    _time_slides()


def _judge_drawn(worlds: int, wild: float) -> None:
    material = draw_material(range(FIRST_SEED, FIRST_SEED + worlds), wild=wild)
    chances = load_classifier().probabilities(material.features)
    print(f"{len(chances)} drawn fields of {worlds} tissues, wild {wild}")
    for slot, kinds in SLOTS.items():
        right = np.isin(material.kinds, kinds)
        score = chances[:, [KINDS.index(kind) for kind in kinds]].sum(axis=1)
        print(f"slot {slot}: {right.sum()} right, {(~right).sum()} wrong, AUC "
              f"{roc_auc_score(right, score):.4f}")  # fmt: skip
        for limit in LIMITS:
            held = 100 * float((score[right] < limit).mean())
            accepted = 100 * float((score[~right] >= limit).mean())
            print(f"  held below {limit:<5}: right held {held:5.2f} %, "
                  f"wrong accepted {accepted:5.2f} %")  # fmt: skip
        for stain in dict.fromkeys(material.stains):
            those = material.stains == stain
            held = sum(
                is_contradiction(dict(zip(KINDS, row, strict=True)), kinds)
                for row in chances[those].tolist()
            )
            print(f"    {stain:<12} held {held:>4} of {those.sum()}")


def _judge_real(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, kind, pixels, mpp in _real_images(folder):
            path = written(Path(scratch) / f"{len(name)}.svs", pixels, mpp)
            picture, seconds = seen(path)
            share = picture.probabilities.get(kind, 0.0)
            print(f"{name:<24} is {kind:<10} seen {picture.kind:<10} {picture.certainty:.3f}, "
                  f"own kind {share:.3f}, {picture.tiles} tiles, {seconds:.2f} s")  # fmt: skip


def _real_images(folder: Path) -> Iterator[tuple[str, str, Pixels, float]]:
    for path in sorted(folder.glob("her2_pairs/*.png")):
        yield path.stem, HE if path.stem.endswith("_he") else MEMBRANE, _read(path), 0.46
    for path in sorted(folder.glob("he_tumor_masks/*.jpg")):
        if "mask" not in path.stem:
            yield path.stem, HE, _read(path), 0.25
    for path in sorted(folder.glob("slides/*.svs")):
        with SlideReader.open(path, mpp=0.5) as slide:
            yield path.stem[:20], HE, slide.thumbnail(0.5), 0.5
    from skimage.data import immunohistochemistry

    yield "skimage-ihc", "other-dab", immunohistochemistry(), 0.5


def _read(path: Path) -> Pixels:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def written(path: Path, pixels: Pixels, mpp: float) -> Path:
    """Write a field as a slide."""
    rows, columns = (edge // TILE * TILE for edge in pixels.shape[:2])
    strip = np.ascontiguousarray(pixels[:rows, :columns])
    write_pyramid(path, [strip], width_px=columns, height_px=rows, mpp=mpp, file_format="svs")
    return path


def seen(path: Path) -> tuple[SlidePicture, float]:
    """Return what the check sees, and the seconds that it takes once the tissue is known."""
    with SlideReader.open(path) as slide:
        mpp = thumbnail_mpp(*slide.facts.size_um)
        overview = slide.thumbnail(mpp)
        tissue = find_tissue(overview, mpp)
        start = time.perf_counter()
        return see_picture(slide, overview, tissue), time.perf_counter() - start


def _time_slides() -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = synthesize_case(
            Path(folder), seed=77, score="2+", width_px=8192, height_px=6144, workers=1
        )
        for path in (case.he_path, case.ihc_path):
            found = sorted((seen(path) for _ in range(5)), key=lambda each: each[1])
            picture, seconds = found[2]
            print(f"{path.stem}: {picture.kind} {picture.certainty:.3f}, {picture.tiles} tiles, "
                  f"{seconds:.2f} s (median of 5)")  # fmt: skip


if __name__ == "__main__":
    main()
