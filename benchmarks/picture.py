"""Trust in the check of a slide's picture: ``python benchmarks/picture.py [--worlds N]``.

Drawn slides that trained nothing, of all stains, labs and scanners; real images, where they are at
hand, as slides; and the time that the check takes on a drawn slide.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from appliance.assays.slide_reasons import least_picture_percent
from appliance.domain import ER, HER2, Stain
from appliance.domain import HE as HE_SLIDE
from appliance.settings.scoring import Review
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.picture import HELD_BELOW, SlidePicture, see_picture
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import find_tissue
from models.picture.features import TILE_MPP
from models.picture.kinds import HE, MEMBRANE, NUCLEAR, PAS
from models.synthesis.pyramid import TILE, write_pyramid
from models.synthesis.slide_fields import draw_fields
from models.synthesis.slides import synthesize_case

FIRST_SEED = 77_000_000
"""Seeds of training are far below."""
ACROSS, GLASS_PX = 5, 256
"""Tiles per row and column of a drawn slide, and the glass around them."""
LIMITS = (0.01, 0.02, 0.05, HELD_BELOW, 0.2, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95)
LIKEST = 8
"""Wrong slides of a slot that are named, those that are most like a right one."""
SLOTS: Mapping[Stain, Sequence[str]] = {HE_SLIDE: (HE, PAS), HER2: (MEMBRANE,)}
"""Kinds that the picture of a slide may be, by what it is named as."""
ALL_SLOTS = {**SLOTS, ER: (NUCLEAR,)}
Pixels = NDArray[np.uint8]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=70)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="Seed of the first tissue.")
    parser.add_argument("--wild", type=float, default=0.5, help="0: usual labs, 1: far beyond.")
    parser.add_argument("--rough", type=float, default=0.0, help="Share of rough tissues, 0 to 1.")
    parser.add_argument("--real", type=Path, default=Path("../shared/real"))
    given = parser.parse_args()
    _judge_drawn(range(given.first, given.first + given.worlds), given.wild, given.rough)
    _judge_real(given.real)
    _time_slides()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Drawn slide: its stain, its kind, and what the check saw.

    A picture without a kind is held only where no tissue was found at all.
    """

    stain: str
    kind: str
    picture: SlidePicture
    has_tissue: bool


def _judge_world(seed: int, wild: float, rough: float) -> list[_Judged]:
    """Draw the tissue of a seed in some stains, each as a slide with glass around, and look."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.svs"
        for drawn in draw_fields(seed, wild=wild, across=ACROSS, rough_share=rough):
            edge = drawn.pixels.shape[0] + 2 * GLASS_PX
            pixels = np.full((edge, edge, 3), drawn.white, dtype=np.uint8)
            pixels[GLASS_PX:-GLASS_PX, GLASS_PX:-GLASS_PX] = drawn.pixels
            picture, tissue_mm2, _ = seen(written(path, pixels, TILE_MPP))
            path.unlink()
            found.append(
                _Judged(
                    stain=drawn.stain,
                    kind=drawn.kind,
                    picture=picture,
                    has_tissue=tissue_mm2 > 0,
                )
            )
    return found


def _judge_drawn(seeds: range, wild: float, rough: float) -> None:
    with ProcessPoolExecutor() as pool:
        found = list(
            chain.from_iterable(pool.map(partial(_judge_world, wild=wild, rough=rough), seeds))
        )
    judged = [each for each in found if each.picture.kind]
    blank = [each for each in found if not each.picture.kind]
    unseen = [each.stain for each in blank if each.has_tissue]
    print(f"{len(judged)} drawn slides of {len(seeds)} tissues, wild {wild}, rough {rough}")
    print(f"without tissue that is found, set aside: {len(blank) - len(unseen)}; tissue, but no "
          f"tile that can be measured, accepted by every slot: {unseen}")  # fmt: skip
    for slot, kinds in ALL_SLOTS.items():
        right = np.array([each.kind in kinds for each in judged])
        score = np.array([each.picture.match(kinds).percent / 100 for each in judged])
        print(f"slot {slot}: {right.sum()} right, {(~right).sum()} wrong, AUC "
              f"{roc_auc_score(right, score):.4f}")  # fmt: skip
        for limit in LIMITS:
            below = 100 * float((score[right] < limit).mean())
            accepted = 100 * float((score[~right] >= limit).mean())
            print(f"  held below {limit:<5}: right held {below:5.2f} %, "
                  f"wrong accepted {accepted:5.2f} %")  # fmt: skip
        wrong = [
            (own, each.stain) for each, own in zip(judged, score, strict=True)
            if each.kind not in kinds
        ]  # fmt: skip
        likest = sorted(wrong, reverse=True)[:LIKEST]
        print("  likest wrong: " + ", ".join(f"{stain} {own:.3f}" for own, stain in likest))
        held, unsure = Counter[str](), Counter[str]()
        for each, own in zip(judged, score, strict=True):
            if each.picture.contradicts(kinds):
                held[each.stain] += 1
            elif 100 * own < least_picture_percent(Review(), slot):
                unsure[each.stain] += 1
        for stain, number in Counter(each.stain for each in judged).items():
            print(f"    {stain:<12} of {number:>3} held {held[stain]:>3}, "
                  f"given to review {unsure[stain]:>3}")  # fmt: skip


def _judge_real(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, kind, pixels, mpp in _real_images(folder):
            path = written(Path(scratch) / f"{len(name)}.svs", pixels, mpp)
            picture, _, seconds = seen(path)
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


def seen(path: Path) -> tuple[SlidePicture, float, float]:
    """Return what the check sees, the tissue in mm², and the check's seconds."""
    with SlideReader.open(path) as slide:
        mpp = thumbnail_mpp(*slide.facts.size_um)
        overview = slide.thumbnail(mpp)
        tissue = find_tissue(overview, mpp)
        start = time.perf_counter()
        picture = see_picture(slide, overview, tissue)
        return picture, tissue.area_mm2, time.perf_counter() - start


def _time_slides() -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = synthesize_case(
            Path(folder), seed=77, score="2+", width_px=8192, height_px=6144, workers=1
        )
        for path in (case.he_path, case.ihc_path):
            found = sorted((seen(path) for _ in range(5)), key=lambda each: each[2])
            picture, _, seconds = found[2]
            print(f"{path.stem}: {picture.kind} {picture.certainty:.3f}, {picture.tiles} tiles, "
                  f"{seconds:.2f} s (median of 5)")  # fmt: skip


if __name__ == "__main__":
    main()
