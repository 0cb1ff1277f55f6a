"""Construction of a data set on disk from a stream of labeled tiles; all or nothing."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.splits import (
    SPLITS,
    Shares,
    Split,
    check_splits,
    patients_per_split,
    split_patients,
)
from models.datasets.store import (
    Counts,
    Manifest,
    Tile,
    check_copies,
    check_labels,
    is_plain,
    labels_path,
    tile_path,
)
from models.errors import DataSetError
from models.slide_level.tables import check_patients
from models.spec import CLASSES, MANIFEST_NAME, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A labeled tile for a data set.

    `pixels` uint8 (512, 512, 3), RGB at 0.2793 µm/px, glass at 255. `label` is the index of a
    class, for segmentation a map uint8 (128, 128) of indices. `patient` is a pseudonym, `origin` a
    source for people, `split` is None unless the caller has decided it. `annotated` is the share
    (0-1) of the tile that the label rests on.
    """

    pixels: NDArray[np.uint8]
    label: int | NDArray[np.uint8]
    patient: str
    origin: str
    split: Split | None = None
    annotated: float = 1.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """Facts of a sample that stay in memory, with its px or tiles per class."""

    tile: Tile
    decided: bool
    plain: bool
    counts: NDArray[np.int64]


def build_data_set(
    out: Path,
    samples: Iterable[Sample],
    *,
    task: Task,
    source: dict[str, Any],
    shares: Shares,
    seed: int,
) -> Manifest:
    """Write the samples as a data set into the new folder `out`; return its manifest.

    Splits are made by patient after the last sample, unless every sample has its own. Everything is
    written beside `out` and renamed at the end: after an error there is no `out`.

    Raises
    ------
    DataSetError
        If `out` exists or cannot be written, there are no samples, a class has none, a patient or a
        tile is in two splits, a tile has two labels, a patient is written in two ways, or there are
        too few patients. Errors of `samples` pass through.
    """
    with new_folder(out) as part:
        with writing(out):
            for folder in ("tiles", "labels") if task is Task.SEGMENTATION else ("tiles",):
                (part / folder).mkdir()
        kept = []
        for number, sample in enumerate(samples):
            with writing(out):
                kept.append(_keep(part, number, sample, task))
        manifest = _manifest(out, kept, task, source, shares, seed)
        with writing(out):
            (part / MANIFEST_NAME).write_text(manifest.to_json())
    return manifest


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write into; it becomes `out` at the end, if there is no error.

    What fails in between passes through: it may be of a slide that is read. `writing` is for what
    is written.

    Raises
    ------
    DataSetError
        If `out` exists or cannot be written.
    """
    if out.exists():
        raise DataSetError(f"{out} exists. A data set is never changed: choose a new folder.")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    with temporary as name:
        part = Path(name) / "part"
        with writing(out):
            part.mkdir()
        yield part
        with writing(out):
            part.rename(out)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Name the folder `out` in an error of what is written into it.

    Raises
    ------
    DataSetError
        If the system refuses.
    """
    try:
        yield
    except OSError as err:
        raise DataSetError(f"{out}: {err.strerror or err}. Choose another folder.") from err


def _keep(folder: Path, number: int, sample: Sample, task: Task) -> _Kept:
    sha256 = _write(tile_path(folder, number), cv2.cvtColor(sample.pixels, cv2.COLOR_RGB2BGR))
    values, labels_sha256 = np.asarray(sample.label, dtype=np.uint8), None
    if task is Task.SEGMENTATION:
        labels_sha256 = _write(labels_path(folder, number), values)
    tile = Tile(
        label=int(values) if labels_sha256 is None else None,
        patient=sample.patient,
        split=sample.split or "train",
        origin=sample.origin,
        sha256=sha256,
        labels_sha256=labels_sha256,
    )
    counts = np.bincount(values.ravel(), minlength=len(CLASSES[task])).astype(np.int64)
    return _Kept(tile, sample.split is not None, is_plain(sample.pixels), counts)


def _manifest(
    out: Path, kept: list[_Kept], task: Task, source: dict[str, Any], shares: Shares, seed: int
) -> Manifest:
    if not kept:
        raise DataSetError(f"{out}: nothing to write: no tile was found")
    check_patients((item.tile.patient for item in kept), str(out))
    if not all(item.decided for item in kept):
        strata, shown = _strata(kept)
        splits = split_patients(strata, shares, seed, shown)
        kept = [
            replace(item, tile=item.tile.model_copy(update={"split": splits[item.tile.patient]}))
            for item in kept
        ]
        source = source | {"shares": list(shares), "seed": seed}
    members = [(item.tile.patient, item.tile.split) for item in kept]
    check_splits(members, str(out))
    patients = patients_per_split(members)
    counts = {}
    for split in SPLITS:
        mine = [item for item in kept if item.tile.split == split]
        if mine:
            total = np.sum([item.counts for item in mine], axis=0)
            classes = dict(zip(CLASSES[task], total.tolist(), strict=True))
            counts[split] = Counts(tiles=len(mine), patients=patients[split], classes=classes)
    learnt = counts["train"].classes if "train" in counts else {}
    for name in CLASSES[task]:
        if not learnt.get(name):
            elsewhere = [split for split in counts if counts[split].classes[name]]
            where = f"only in {' and '.join(elsewhere)}" if elsewhere else "nowhere"
            raise DataSetError(
                f"{out}: class {name!r} is empty: it has to be in split train and is {where}. "
                "Add tiles or patients of it."
            )
    tiles = tuple(item.tile for item in kept)
    check_copies(tiles, str(out), lambda number: kept[number].plain)
    check_labels(tiles, str(out), lambda number: kept[number].plain)
    return Manifest(task=task, classes=CLASSES[task], source=source, counts=counts, tiles=tiles)


def _strata(kept: list[_Kept]) -> tuple[dict[str, int], dict[str, set[int]]]:
    """Main class of each patient, and all its classes.

    The main class of label maps is the one that covers most, class 0 excepted.
    """
    total: dict[str, NDArray[np.int64]] = {}
    shown: dict[str, set[int]] = {}
    for item in kept:
        counts = item.counts.copy()
        shown.setdefault(item.tile.patient, set()).update(np.flatnonzero(counts).tolist())
        if item.tile.labels_sha256 is not None:
            counts[0] = 0
        total[item.tile.patient] = total.get(item.tile.patient, 0) + counts
    return {patient: int(counts.argmax()) for patient, counts in total.items()}, shown


def _write(path: Path, pixels: NDArray[np.uint8]) -> str:
    """Write a PNG; return the SHA-256 of its bytes."""
    _, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    data = encoded.tobytes()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
