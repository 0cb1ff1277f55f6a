"""Answers on real images: ``python benchmarks/real_images.py [--folder UNPACKED] [--json]``.

Images of `shared/real`, of installed packages and of packages that were unpacked in a folder
(docs/real-images.md lists them). They are looked at where they lie; none is copied, and none trains
or tunes anything.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.assays.slide_reasons import least_picture_percent
from appliance.domain import Stain
from appliance.evaluation.labeled_images import tiles_with_tissue
from appliance.findings.classes import count_classes
from appliance.readers.inference import Network
from appliance.settings.scoring import Review
from appliance.slides.appearance import Appearance
from appliance.slides.glass import calibrate, white_gain
from appliance.slides.picture import SlidePicture
from appliance.slides.reader import SlideReader
from benchmarks.changes import Pixels
from benchmarks.picture import SLOTS, seen, written
from models.datasets.images import read_rgb
from models.evaluation.figures import mean_class
from models.evaluation.truth_tiles import at_tile_mpp, cut, glass_of_field, read_mask
from models.spec import Task, reference_folder
from models.synthesis.pyramid import TILE

HE, HER2, OTHER_IHC = "HE", "HER2", "other IHC"
BATCH = 8
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealImage:
    """File of a package (`place` below the folder of its modules) or of `shared/real`.

    `stain` is what it is known to show. `mpp`, µm per px, is `assumed` from the size of nuclei
    where nothing states it.
    """

    place: str
    stain: str
    shows: str
    mpp: float
    assumed: bool = False


SHARED = (
    RealImage(place="her2_pairs/bci-00672_3+_he.png", stain=HE, shows="mostly tumor", mpp=0.46),
    RealImage(place="her2_pairs/bci-00901_1+_he.png", stain=HE, shows="tumor", mpp=0.46),
    RealImage(place="her2_pairs/bci-00672_3+_her2.png", stain=HER2, shows="case of 3+", mpp=0.46),
    RealImage(place="her2_pairs/bci-00901_1+_her2.png", stain=HER2, shows="case of 1+", mpp=0.46),
    RealImage(
        place="he_tumor_masks/bcss-1008.jpg", stain=HE, shows="breast cancer, with mask", mpp=0.25
    ),
    RealImage(
        place="he_tumor_masks/bcss-1015.jpg", stain=HE, shows="breast cancer, with mask", mpp=0.25
    ),
    RealImage(place="slides/CMU-1-Small-Region.svs", stain=HE, shows="skin, no tumor", mpp=0.499),
    RealImage(
        place="slides/TCGA-CR-7395-01A-01-TS1.svs",
        stain=HE,
        shows="head and neck, frozen",
        mpp=0.5,
        assumed=True,
    ),
)
PACKAGES = (
    RealImage(
        place="skimage/data/ihc.png",
        stain=OTHER_IHC,
        shows="FHL2 in colonic glands",
        mpp=0.5,
        assumed=True,
    ),
    RealImage(
        place="stardist/data/images/histo.jpg", stain=HE, shows="tumor", mpp=0.5, assumed=True
    ),
    RealImage(
        place="tiatoolbox/data/target_image.png",
        stain=HE,
        shows="tumor in glands, stroma",
        mpp=0.25,
        assumed=True,
    ),
    RealImage(
        place="histolytics/data/hgsc_nest.jpg",
        stain=HE,
        shows="tumor nest, lymphocytes, stroma",
        mpp=0.5,
        assumed=True,
    ),
    RealImage(
        place="histolytics/data/hgsc_stromal_he.jpg",
        stain=HE,
        shows="stroma, no tumor",
        mpp=0.5,
        assumed=True,
    ),
    RealImage(
        place="slideflow/norm/norm_tile.jpg",
        stain=HE,
        shows="papillary epithelium",
        mpp=1.0,
        assumed=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Answers on an image; None where a network is not for its stain.

    `masked_percent`: tumor by the mask beside the image, if there is one. `tumor_tiles_percent`:
    tiles that C calls tumor. `mean_class` (0-3): L. `tumor_px_percent`: px that M calls tumor;
    `leading`: the class of most of them. `picture`: the word of the check for each slot:
    ``accepted``, ``given to review`` or ``held``, with the percentage of its own kind.
    `unusual_percent`: tiles unlike those that trained the networks of its stain.
    """

    place: str
    stain: str
    shows: str
    mpp: float
    assumed: bool
    tiles: int
    masked_percent: float | None
    tumor_tiles_percent: float | None
    mean_class: float | None
    tumor_px_percent: float | None
    leading: str | None
    looks_like: str
    picture: dict[str, str]
    unusual_percent: float


def main() -> None:
    """Print a line per image that is at hand, and the names of those that are not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, default=Path("../shared/real"))
    parser.add_argument("--folder", type=Path, help="Folder with unpacked packages in it.")
    parser.add_argument("--weights-root", type=Path, help="Folder with tumor, intensity and "
                        "segmentation in it; default: the weights that ship.")  # fmt: skip
    parser.add_argument("--assume-mpp", type=float, metavar="MPP",
                        help="µm per px of images whose resolution nothing states.")  # fmt: skip
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    networks = {
        task: Network(given.weights_root / task if given.weights_root else reference_folder(task))
        for task in Task
    }
    images = [(given.real / image.place, image) for image in SHARED]
    images += [(find(image.place, given.folder), image) for image in PACKAGES]
    if given.assume_mpp:
        images = [
            (path, replace(image, mpp=given.assume_mpp) if image.assumed else image)
            for path, image in images
        ]
    found = [
        judge(image, path, networks) for path, image in images if path is not None and path.exists()
    ]
    if given.json:
        print(json.dumps([asdict(answers) for answers in found], indent=2))
        return
    for answers in found:
        print(answers.place + ": " + ", ".join(_words(answers)))
    for path, image in images:
        if path is None or not path.exists():
            print(f"{image.place}: not at hand")


def find(place: str, folder: Path | None) -> Path | None:
    """Return the file of an installed package, else the one at `place` anywhere below `folder`.

    The package is not imported.
    """
    package, _, rest = place.partition("/")
    spec = find_spec(package)
    for root in spec.submodule_search_locations or () if spec else ():
        if (path := Path(root) / rest).is_file():
            return path
    return next(iter(sorted(folder.rglob(place))), None) if folder else None


def judge(image: RealImage, path: Path, networks: dict[Task, Network]) -> Answers:
    """Ask the networks for the image's stain, and the check of the picture for both slots."""
    pixels = _pixels(path, image.mpp)
    tiles = cut(at_tile_mpp(pixels, image.mpp, labels=False))
    tiles = calibrate(tiles, white_gain(glass_of_field(pixels)))
    tiles = tiles[tiles_with_tissue(tiles)]
    on_he = image.stain == HE
    asked = (Task.TUMOR,) if on_he else (Task.INTENSITY, Task.SEGMENTATION)
    specs = [networks[task].spec for task in asked]
    picture = _picture(pixels, image.mpp)
    tumor, intensity, share, leading = None, None, None, None
    if on_he:
        likely = _classified(networks[Task.TUMOR], tiles)
        tumor = 100 * float((likely[:, 1] >= 0.5).mean())
    else:
        likely = _classified(networks[Task.INTENSITY], tiles)
        intensity = float(mean_class(likely.mean(axis=0)[None])[0])
        network = networks[Task.SEGMENTATION]
        counts = np.sum([count_classes(network.segment(b)) for b in _batches(tiles)], axis=0)
        share = 100 * float(counts[1:].sum() / counts.sum())
        leading = network.spec.classes[1 + int(counts[1:].argmax())] if share else "none"
    return Answers(
        place=image.place,
        stain=image.stain,
        shows=image.shows,
        mpp=image.mpp,
        assumed=image.assumed,
        tiles=len(tiles),
        masked_percent=_masked_percent(path),
        tumor_tiles_percent=tumor,
        mean_class=intensity,
        tumor_px_percent=share,
        leading=leading,
        looks_like=picture.looks_like,
        picture={slot: _verdict(picture, slot) for slot in SLOTS},
        unusual_percent=Appearance().seen(tiles, specs).unusual_percent,
    )


def _pixels(path: Path, mpp: float) -> Pixels:
    if path.suffix != ".svs":
        return read_rgb(path)
    with SlideReader.open(path, mpp=mpp) as slide:
        return slide.thumbnail(mpp)


def _masked_percent(path: Path) -> float | None:
    mask = path.with_name(f"{path.stem}-mask{path.suffix}")
    return 100 * float(read_mask(mask, Task.TUMOR).mean()) if mask.is_file() else None


def _batches(tiles: Pixels) -> Iterator[Pixels]:
    return (tiles[k : k + BATCH] for k in range(0, len(tiles), BATCH))


def _classified(network: Network, tiles: Pixels) -> Scores:
    return np.concatenate([network.classify(batch) for batch in _batches(tiles)]).astype(np.float64)


def _picture(pixels: Pixels, mpp: float) -> SlidePicture:
    """Look at an image as a slide; its last tiles are filled by mirroring."""
    below, right = (-edge % TILE for edge in pixels.shape[:2])
    padded = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT)
    with tempfile.TemporaryDirectory() as scratch:
        picture, _, _ = seen(written(Path(scratch) / "image.svs", padded, mpp))
    return picture


def _verdict(picture: SlidePicture, slot: Stain) -> str:
    kinds = SLOTS[slot]
    percent = picture.match(kinds).percent
    word = "accepted"
    if picture.contradicts(kinds):
        word = "held"
    elif percent < least_picture_percent(Review(), slot):
        word = "given to review"
    return f"{word} ({percent:.0f} %)"


def _words(answers: Answers) -> Iterator[str]:
    yield f"{answers.stain}, {answers.shows}"
    yield f"{answers.mpp:g} µm/px{' (assumed)' if answers.assumed else ''}, {answers.tiles} tiles"
    if answers.masked_percent is not None:
        yield f"{answers.masked_percent:.0f} % tumor by its mask"
    if answers.tumor_tiles_percent is not None:
        yield f"C: {answers.tumor_tiles_percent:.0f} % of tiles tumor"
    if answers.mean_class is not None:
        yield f"L: mean class {answers.mean_class:.2f}"
    if answers.tumor_px_percent is not None:
        yield f"M: {answers.tumor_px_percent:.0f} % of px tumor, mostly {answers.leading}"
    yield f"looks like {answers.looks_like}"
    yield from (f"as {slot} {word}" for slot, word in answers.picture.items())
    yield f"{answers.unusual_percent:.0f} % of tiles unusual"


if __name__ == "__main__":
    main()
