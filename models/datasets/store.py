"""A data set on disk: a folder with ``manifest.json``, tiles and label maps as PNG.

``tiles/000000.png`` (512 x 512 RGB, glass at 255) is tile 0 of the manifest's list, which holds its
label, patient, split, origin and SHA-256. For segmentation ``labels/000000.png`` (128 x 128, one
value per 4 x 4 px) holds the classes. The checksum of the manifest identifies the whole set.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from models.datasets.arrays import kept_array, new_array
from models.datasets.images import decode_mask, decode_rgb
from models.datasets.progress import Progress
from models.datasets.splits import SPLITS, Split, check_splits
from models.errors import DataSetError
from models.spec import CLASSES, LABEL_STEP, MANIFEST_NAME, TILE_MPP, TILE_PX, Task, file_sha256

LABEL_PX = TILE_PX // LABEL_STEP


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tile(_Strict):
    """One tile; its index in the list names its files."""

    label: int | None = None
    """Index of its class; None if it has a label map."""
    patient: str
    """Pseudonym that the builder of the set gave."""
    split: Split
    origin: str
    """Source of the tile, for people."""
    sha256: str
    labels_sha256: str | None = None


class Counts(_Strict):
    """Content of a split; `classes` counts tiles, for segmentation px of the label maps."""

    tiles: int
    patients: int
    classes: dict[str, int]


class Manifest(_Strict):
    """Content of ``manifest.json``."""

    format: Literal[1] = 1
    task: Task
    classes: tuple[str, ...]
    mpp: float = TILE_MPP
    tile_px: int = TILE_PX
    source: dict[str, Any]
    """Builder of the set and its arguments."""
    counts: dict[Split, Counts]
    tiles: tuple[Tile, ...]

    def to_json(self) -> str:
        """Return JSON with one line per tile: a change is a line in a diff."""
        facts = self.model_dump(mode="json", exclude={"tiles"})
        head = json.dumps(facts, indent=1, ensure_ascii=False).removesuffix("\n}")
        tiles = ",\n  ".join(
            json.dumps(tile.model_dump(mode="json", exclude_none=True), ensure_ascii=False)
            for tile in self.tiles
        )
        return f'{head},\n "tiles": [\n  {tiles}\n ]\n}}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One split of a data set, verified.

    `images` uint8 (N, 512, 512, 3), RGB at `mpp` µm/px with glass at 255; `labels` uint8 (N,), for
    segmentation (N, 128, 128); `patients` one per tile. `sha256` is that of the whole set.
    """

    task: Task
    classes: tuple[str, ...]
    mpp: float
    split: Split
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    patients: tuple[str, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.patients)


def tile_path(folder: Path, number: int) -> Path:
    """File of a tile's pixels."""
    return folder / "tiles" / f"{number:06d}.png"


def labels_path(folder: Path, number: int) -> Path:
    """File of a tile's label map."""
    return folder / "labels" / f"{number:06d}.png"


def read_data_set_manifest(folder: Path) -> Manifest:
    """Read and validate the manifest of a data set; of the tiles, at most copies are read.

    Raises
    ------
    DataSetError
        If it is missing, damaged or of another format, has classes that the task lacks, no tiles,
        or a patient or a tile in two splits.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as err:
        raise DataSetError(f"{path}: {err.strerror}. Is {folder} a data set?") from err
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataSetError(
            f"{path}: not the manifest of a data set ({place}: {first['msg']}). Build it again."
        ) from err
    if manifest.classes != CLASSES[manifest.task]:
        raise DataSetError(f"{path}: classes {manifest.classes} are not those of {manifest.task}")
    if (manifest.mpp, manifest.tile_px) != (TILE_MPP, TILE_PX):
        raise DataSetError(f"{path}: tiles are not {TILE_PX} px at {TILE_MPP} µm/px")
    if not manifest.tiles:
        raise DataSetError(f"{path}: no tiles")
    for number, tile in enumerate(manifest.tiles):
        mapped = manifest.task is Task.SEGMENTATION
        known = tile.label is None if mapped else tile.label in range(len(manifest.classes))
        if not known or mapped != (tile.labels_sha256 is not None):
            raise DataSetError(f"{path}: tile {number} has no label of {manifest.task}")
    check_splits(((tile.patient, tile.split) for tile in manifest.tiles), str(path))
    check_copies(manifest.tiles, str(path), lambda number: _is_plain(folder, manifest, number))
    return manifest


def check_copies(tiles: Sequence[Tile], where: str, plain: Callable[[int], bool]) -> None:
    """Check that no tile is in two splits, under two patients; `where` names the set in the error.

    `plain` says of a tile's number whether it has one color, such as glass: such tiles are equal by
    chance.

    Raises
    ------
    DataSetError
        If a tile is in two splits.
    """
    first: dict[str, int] = {}
    by_chance: set[str] = set()
    for number, tile in enumerate(tiles):
        other = tiles[first.setdefault(tile.sha256, number)]
        if other.split == tile.split or tile.sha256 in by_chance:
            continue
        if not plain(number):
            raise DataSetError(
                f"{where}: one tile is in {other.split} ({other.origin}) and in {tile.split} "
                f"({tile.origin}), of patients {other.patient} and {tile.patient}. Name one "
                "patient, or leave one of the two out."
            )
        by_chance.add(tile.sha256)


def check_labels(tiles: Sequence[Tile], where: str, plain: Callable[[int], bool]) -> None:
    """Check that no tile has two labels; `where` and `plain` as in `check_copies`.

    It is no part of reading a data set: one that was built and has trained can still be read.

    Raises
    ------
    DataSetError
        If a tile has two labels.
    """
    first: dict[str, Tile] = {}
    for number, tile in enumerate(tiles):
        other = first.setdefault(tile.sha256, tile)
        same = (other.label, other.labels_sha256) == (tile.label, tile.labels_sha256)
        if not same and not plain(number):
            raise DataSetError(
                f"{where}: one tile has two labels ({other.origin} and {tile.origin}, of patients "
                f"{other.patient} and {tile.patient}). Correct one, or leave both out."
            )


def is_plain(pixels: NDArray[np.uint8]) -> bool:
    """Return whether all px of a tile, uint8 (rows, columns, 3), have one color."""
    return bool((pixels == pixels[0, 0]).all())


def load_dataset(
    folder: Path, split: Split, cache: Path | None = None, progress: Progress | None = None
) -> DataSet:
    """Load one split of the data set in `folder`; verify every file's checksum.

    With `cache`, decoded tiles are kept there and memory-mapped. Later loads of the same set use
    that copy, which was verified when it was made. Without it, all tiles are held in memory.

    Raises
    ------
    DataSetError
        If the manifest is unusable, the split has no tiles, or a file is missing, damaged or does
        not have the manifest's checksum.
    """
    manifest = read_data_set_manifest(folder)
    sha256 = file_sha256(folder / MANIFEST_NAME)
    numbers = [k for k, tile in enumerate(manifest.tiles) if tile.split == split]
    if not numbers:
        there = ", ".join(s for s in SPLITS if s in manifest.counts)
        raise DataSetError(f"{folder}: no tiles in split {split!r}; there are: {there}")
    if cache is None:
        images = np.empty((len(numbers), TILE_PX, TILE_PX, 3), dtype=np.uint8)
        labels = _empty_labels(manifest.task, len(numbers))
        _fill(folder, manifest, numbers, images, labels, progress)
    else:
        place = cache / f"{sha256[:16]}-{split}"
        if not place.is_dir():
            _make_cache(place, folder, manifest, numbers, progress)
        images = kept_array(place / "images.npy")
        labels = np.array(kept_array(place / "labels.npy"))
    return DataSet(
        task=manifest.task,
        classes=manifest.classes,
        mpp=manifest.mpp,
        split=split,
        images=images,
        labels=labels,
        patients=tuple(manifest.tiles[k].patient for k in numbers),
        sha256=sha256,
    )


def check_data_set(folder: Path, progress: Progress | None = None) -> Manifest:
    """Read and verify every file of a data set; return its manifest.

    Raises
    ------
    DataSetError
        Same as `load_dataset`, or if a tile has two labels.
    """
    manifest = read_data_set_manifest(folder)
    check_labels(manifest.tiles, str(folder), lambda number: _is_plain(folder, manifest, number))
    for number in range(len(manifest.tiles)):
        _read(folder, manifest, number)
        if progress is not None:
            progress("checking", number + 1, len(manifest.tiles))
    return manifest


def _empty_labels(task: Task, count: int) -> NDArray[np.uint8]:
    shape = (count, LABEL_PX, LABEL_PX) if task is Task.SEGMENTATION else (count,)
    return np.empty(shape, dtype=np.uint8)


def _make_cache(
    place: Path,
    folder: Path,
    manifest: Manifest,
    numbers: list[int],
    progress: Progress | None,
) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as temporary:
        part = Path(temporary) / "part"
        part.mkdir()
        shape = (len(numbers), TILE_PX, TILE_PX, 3)
        images = new_array(part / "images.npy", shape)
        labels = _empty_labels(manifest.task, len(numbers))
        _fill(folder, manifest, numbers, images, labels, progress)
        images.flush()
        np.save(part / "labels.npy", labels)
        part.rename(place)


def _fill(
    folder: Path,
    manifest: Manifest,
    numbers: list[int],
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    progress: Progress | None,
) -> None:
    for row, number in enumerate(numbers):
        images[row], labels[row] = _read(folder, manifest, number)
        if progress is not None:
            progress("reading tiles", row + 1, len(numbers))


def _read(
    folder: Path, manifest: Manifest, number: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | int]:
    tile, path = manifest.tiles[number], tile_path(folder, number)
    image = _pixels(path, tile.sha256)
    if image.shape != (TILE_PX, TILE_PX, 3):
        raise DataSetError(f"{path}: {image.shape[1]} x {image.shape[0]} px is no tile")
    if tile.labels_sha256 is None:
        return image, int(tile.label or 0)
    path = labels_path(folder, number)
    labels = decode_mask(_verified(path, tile.labels_sha256), path)
    if labels.shape != (LABEL_PX, LABEL_PX) or labels.max() >= len(manifest.classes):
        raise DataSetError(f"{path}: not a label map of {len(manifest.classes)} classes")
    return image, labels.astype(np.uint8)


def _is_plain(folder: Path, manifest: Manifest, number: int) -> bool:
    return is_plain(_pixels(tile_path(folder, number), manifest.tiles[number].sha256))


def _pixels(path: Path, sha256: str) -> NDArray[np.uint8]:
    return decode_rgb(_verified(path, sha256), path)


def _verified(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise DataSetError(f"{path}: {err.strerror}. Build the data set again.") from err
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataSetError(
            f"{path}: its checksum is not the manifest's. The file was changed or damaged; "
            "copy or build the data set again."
        )
    return data
