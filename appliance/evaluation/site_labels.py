"""Labeled tiles of a site's own slides and images, and a network's logits on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.evaluation.labeled_images import tile_truth, tiles_with_tissue
from appliance.readers.inference import Network
from appliance.readers.tile_pass import Progress
from appliance.slides.annotated import open_calibrated
from appliance.slides.files import SLIDE_SUFFIXES
from appliance.slides.glass import calibrate, white_gain
from models.datasets.annotated import (
    OpenSlide,
    Rules,
    samples_of_slides,
    slides_of_folder,
    slides_of_table,
)
from models.datasets.images import read_rgb, require_same_turn
from models.datasets.patients import PatientOf, split_of
from models.datasets.splits import SPLITS, Split, check_splits
from models.datasets.store import is_plain
from models.errors import DataSetError
from models.evaluation.folders import LabeledImage, find_images
from models.evaluation.truth_tiles import (
    MaskValues,
    at_tile_mpp,
    cut,
    fitting_mask,
    glass_of_field,
    read_mask,
    values_of_folder,
)
from models.slide_level.tables import check_patients
from models.spec import Task
from models.training.site_fit import UNLABELED, LabeledLogits

BATCH = 8
LEAST_ANNOTATED = 0.5
"""Least share of a tile of C and L whose tissue is named. By the 5 % of data sets, a tile that has
the edge of an area alone would be of its class, whatever its other tissue is. M has label maps."""
GRID = 32
"""Px of a tile's label map in each direction that M is judged on; neighbors agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLabels:
    """Place of a site's labels, and the way in which they are read.

    `path` is a CSV table of annotated slides, a folder of slides with their GeoJSON, or a folder of
    images (`models.evaluation.folders`). `rules` are for annotations, their names for labels of
    images, too; `mpp` (µm/px) is for images;
    `patient_of` replaces the patients that the layout tells. `open_slide` opens annotated slides.
    `say` tells what is left out.
    """

    path: Path
    rules: Rules = field(default_factory=lambda: Rules(names={}))
    mpp: float | None = None
    patient_of: PatientOf | None = None
    open_slide: OpenSlide = open_calibrated
    say: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True, slots=True)
class _Tile:
    """A calibrated tile uint8 (512, 512, 3), its class or label map, its patient and source."""

    pixels: NDArray[np.uint8]
    truth: int | NDArray[np.uint8]
    patient: str
    origin: str


class _Copies:
    """Check of tiles that come twice: the folds would know what they are judged on."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str, bytes]] = {}

    def check(self, tile: _Tile) -> None:
        """Raise `DataSetError` if an equal tile is another patient's, or has another label.

        Tiles of one color, such as glass, are equal by chance.
        """
        label = hashlib.sha256(np.asarray(tile.truth, dtype=np.uint8).tobytes()).digest()
        name = hashlib.sha256(tile.pixels.tobytes()).hexdigest()
        first = self._seen.setdefault(name, (tile.patient, tile.origin, label))
        if first == (tile.patient, tile.origin, label) or is_plain(tile.pixels):
            return
        patient, origin, other = first
        both = f"{tile.origin} is the same tile as {origin}"
        if patient != tile.patient:
            raise DataSetError(
                f"{both}, of patients {tile.patient} and {patient}. Name one patient, or leave one "
                "of the two out."
            )
        if other != label:
            raise DataSetError(f"{both}, with another label. Correct one, or leave both out.")


def labeled_logits(labels: SiteLabels, network: Network, progress: Progress) -> LabeledLogits:
    """Logits of `network`, which has no site's calibration, on all labeled tiles.

    Raises
    ------
    DataSetError
        If the labels or a slide cannot be used, or one tile is of two patients or has two labels.
    """
    copies = _Copies()
    logits: list[NDArray[np.float32]] = []
    truth: list[NDArray[np.uint8]] = []
    patients: list[str] = []
    batch: list[_Tile] = []

    def judge() -> None:
        answers = network.logits(np.stack([tile.pixels for tile in batch]))
        for tile, answer in zip(batch, answers, strict=True):
            logits.append(_on_grid(answer).reshape(len(answer), -1).T)
            truth.append(_on_grid(np.asarray(tile.truth, dtype=np.uint8)).reshape(-1))
            patients.append(tile.patient)
        batch.clear()

    for tile in _tiles(labels, network.spec.task, progress):
        copies.check(tile)
        batch.append(tile)
        if len(batch) == BATCH:
            judge()
    if batch:
        judge()
    if not logits:
        raise DataSetError(f"{labels.path}: no labeled tile. Annotate areas, or name a folder.")
    check_patients(patients, str(labels.path))
    return LabeledLogits(
        logits=np.stack(logits).astype(np.float64),
        truth=np.stack(truth),
        patient=np.array(patients, dtype=np.str_),
    )


def _tiles(labels: SiteLabels, task: Task, progress: Progress) -> Iterator[_Tile]:
    path = labels.path
    if path.is_file() and labels.patient_of is not None:
        raise DataSetError(
            f"{path}: a table of slides names their patients; leave --patients and "
            "--patient-pattern out."
        )
    if path.is_file():
        slides = slides_of_table(path)
    elif not path.is_dir():
        raise DataSetError(f"{path}: no such table or folder.")
    else:
        slides = slides_of_folder(path, labels.patient_of, suffixes=SLIDE_SUFFIXES)
    if not slides:
        yield from _image_tiles(labels, task, progress)
        return
    _tell_taught(labels, [each.split for each in slides])
    slides = [each for each in slides if _is_free(each.split)]
    edges = 0
    for sample in samples_of_slides(
        slides, task, labels.open_slide, labels.rules, progress, ignored=UNLABELED, named=True
    ):
        if task is not Task.SEGMENTATION and sample.annotated < LEAST_ANNOTATED:
            edges += 1
            continue
        yield _Tile(sample.pixels, sample.label, sample.patient, sample.origin)
    if edges:
        labels.say(
            f"{edges} tiles left out: less than {100 * LEAST_ANNOTATED:.0f} % of each is annotated."
        )


def _image_tiles(labels: SiteLabels, task: Task, progress: Progress) -> Iterator[_Tile]:
    names = labels.rules.names
    if labels.rules.rest is not None:
        raise DataSetError("--rest is for annotated slides: of images all tissue is labeled.")
    images = find_images(labels.path, task, mpp=labels.mpp, names=names)
    if names and all(image.label is None for image in images):
        raise DataSetError(
            f"{labels.path}: --class is for names of annotations, class folders and labels; what "
            "the values of masks mean says mask.json."
        )
    masks = [image.mask for image in images if image.mask is not None]
    values = values_of_folder(labels.path, task, masks)
    unknown = {image.is_patient_told for image in images} == {False}
    if labels.patient_of is None and not unknown:
        _check_told(images)
    # Without a patient each image is named for itself. Crops of one slide are no patients.
    told = [_told(image, "" if unknown else image.patient, labels) for image in images]
    check_splits(((p, split) for p, split in told if p and split is not None), str(labels.path))
    _tell_taught(labels, [split for _, split in told])
    for number, (image, (patient, split)) in enumerate(zip(images, told, strict=True)):
        if _is_free(split):
            for pixels, truth in _tiles_of(image, values, task):
                yield _Tile(pixels, truth, patient, str(image.path))
        progress("images", number + 1, len(images))


def _told(image: LabeledImage, patient: str, labels: SiteLabels) -> tuple[str, Split | None]:
    """Patient and split of an image whose layout tells `patient`."""
    if image.split is not None and image.split not in SPLITS:
        raise DataSetError(
            f"{image.path}: split {image.split!r} is none of {', '.join(SPLITS)}. Correct the "
            "column: images that no network learned from are of test."
        )
    stated = split_of({"split": image.split or ""})
    if labels.patient_of is None:
        return patient, stated
    named, split = labels.patient_of(PurePosixPath(image.name))
    if split is not None and stated is not None and split != stated:
        raise DataSetError(
            f"{image.path}: its split is {stated} in labels.csv, and {split} in the table of "
            "--patients. Correct one of them."
        )
    return named, split or stated


def _is_free(split: Split | None) -> bool:
    """Return whether no network learned from a split, nor was chosen by it."""
    return split in (None, "test")


def _tell_taught(labels: SiteLabels, splits: Iterable[Split | None]) -> None:
    """Say how many slides or images are left out because a network may have learned from them.

    Raises
    ------
    DataSetError
        If none is left.
    """
    free = [_is_free(split) for split in splits]
    if not any(free):
        raise DataSetError(
            f"{labels.path}: all are of the split train or validation, on which a network is "
            "surer than on others. Label other patients."
        )
    if taught := free.count(False):
        labels.say(f"{taught} of {len(free)} left out: their split is train or validation.")


def _check_told(images: Iterable[LabeledImage]) -> None:
    """Check that each image has a patient: one without would count as a patient of its own.

    Raises
    ------
    DataSetError
        If one has none.
    """
    for image in images:
        if not image.is_patient_told:
            raise DataSetError(
                f"{image.path}: no patient, others have one. Fill in the column of every row, put "
                "each image into a patient's folder, or use --patient-pattern or --patients."
            )


def _tiles_of(
    image: LabeledImage, values: MaskValues | None, task: Task
) -> Iterator[tuple[NDArray[np.uint8], int | NDArray[np.uint8]]]:
    """The tiles with tissue of an image as ``tandem evaluate tiles`` cuts them, and their truth."""
    if image.mpp is None:
        raise DataSetError(
            f"{image.path}: no resolution. Say --mpp, in µm per px: tiles of another size than the "
            "network's would pass for the site's color."
        )
    pixels, mpp = read_rgb(image.path), image.mpp
    gain = white_gain(glass_of_field(pixels))
    tiles = calibrate(cut(at_tile_mpp(pixels, mpp, labels=False)), gain)
    read = tiles_with_tissue(tiles)
    if image.mask is None:
        if image.label is None:
            raise DataSetError(f"{image.path}: neither a class nor a mask.")
        yield from ((tiles[k], image.label) for k in read)
        return
    require_same_turn(image.path, image.mask)
    mask = fitting_mask(read_mask(image.mask, task, values), pixels, image.mask)
    masks = cut(at_tile_mpp(mask, mpp, labels=True), labels=True)
    if task is Task.SEGMENTATION:
        yield from ((tiles[k], masks[k]) for k in read)
        return
    classes = tile_truth(masks[read], task)
    yield from (
        (tiles[k], truth) for k, truth in zip(read, classes, strict=True) if truth is not None
    )


def _on_grid(values: NDArray[Any]) -> NDArray[Any]:
    """Values (…, h, w) at the centers of `GRID` x `GRID` fields; values without (h, w) as is."""
    if values.ndim < 2:
        return values
    rows, columns = (((np.arange(GRID) + 0.5) * n / GRID).astype(int) for n in values.shape[-2:])
    return values[..., rows[:, None], columns[None, :]]
