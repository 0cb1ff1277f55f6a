"""A data set on disk: it is read as written, and changed files are refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.small_disk import small_files
from fixtures.tiles import made, samples, tile
from numpy.typing import NDArray
from PIL import Image

from models.datasets.build import Sample, build_data_set
from models.datasets.splits import SPLITS, Split
from models.datasets.store import (
    check_data_set,
    labels_path,
    load_dataset,
    read_data_set_manifest,
    tile_path,
)
from models.errors import DataSetError
from models.spec import MANIFEST_NAME, Task


@pytest.fixture(scope="module")
def tumor_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "tumor"
    made(out, Task.TUMOR)
    return out


@pytest.mark.parametrize("task", list(Task))
def test_round_trip(task: Task, tmp_path: Path) -> None:
    manifest = made(tmp_path / "set", task)
    assert read_data_set_manifest(tmp_path / "set") == manifest
    wanted = {
        (s.patient, s.pixels.tobytes(), np.asarray(s.label, np.uint8).tobytes())
        for s in samples(task)
    }
    found = set()
    for split in SPLITS:
        data = load_dataset(tmp_path / "set", split)
        assert (data.task, data.classes, data.mpp) == (task, manifest.classes, 0.2793)
        counts = manifest.counts[split]
        assert (len(data), len(set(data.patients))) == (counts.tiles, counts.patients)
        for image, label, patient in zip(data.images, data.labels, data.patients, strict=True):
            found.add((patient, image.tobytes(), label.tobytes()))
    assert found == wanted


def test_equal_tiles_make_equal_bytes(tumor_set: Path, tmp_path: Path) -> None:
    made(tmp_path / "again", Task.TUMOR)
    files = sorted(p.relative_to(tumor_set) for p in tumor_set.rglob("*") if p.is_file())
    assert len(files) == 25
    for file in files:
        assert (tumor_set / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_cache_is_the_same_and_is_used_again(tumor_set: Path, tmp_path: Path) -> None:
    plain = load_dataset(tumor_set, "train")
    cached = load_dataset(tumor_set, "train", tmp_path)
    seen: list[str] = []
    again = load_dataset(tumor_set, "train", tmp_path, lambda what, *_: seen.append(what))
    assert seen == []
    for data in (cached, again):
        assert (data.images == plain.images).all()
        assert (data.labels == plain.labels).all()
    assert [p.name for p in tmp_path.iterdir()] == [f"{plain.sha256[:16]}-train"]


def copied(folder: Path, to: Path) -> Path:
    for file in folder.rglob("*"):
        if file.is_file():
            target = to / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return to


def test_one_changed_bit_refuses_to_load(tumor_set: Path, tmp_path: Path) -> None:
    folder = copied(tumor_set, tmp_path / "set")
    split = read_data_set_manifest(folder).tiles[7].split
    path = tile_path(folder, 7)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataSetError, match=r"000007\.png: its checksum"):
        load_dataset(folder, split, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(DataSetError, match=r"000007\.png: its checksum"):
        check_data_set(folder)
    path.unlink()
    with pytest.raises(DataSetError, match=r"000007\.png: No such file"):
        check_data_set(folder)


def changed(folder: Path, to: Path, **changes: object) -> Path:
    folder = copied(folder, to)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    tile_changes = changes.pop("tile", {})
    manifest.update(changes)
    manifest["tiles"][0].update(tile_changes)
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, r"manifest\.json: not the manifest of a data set \(format"),
        ({"task": "nuclei"}, r"manifest\.json: .*task"),
        ({"classes": ["tumor", "other"]}, r"manifest\.json: classes"),
        ({"mpp": 0.5}, r"manifest\.json: tiles are not 512 px at 0\.2793"),
        ({"unknown": 1}, r"manifest\.json: .*unknown"),
        ({"tile": {"label": 2}}, r"manifest\.json: tile 0 has no label of tumor"),
        ({"tile": {"split": "other"}}, r"manifest\.json: .*tiles\.0\.split"),
    ],
)
def test_manifests_that_are_refused(
    changes: dict[str, object], says: str, tumor_set: Path, tmp_path: Path
) -> None:
    folder = changed(tumor_set, tmp_path / "set", **changes)
    with pytest.raises(DataSetError, match=says):
        read_data_set_manifest(folder)


def test_a_patient_moved_into_two_splits_by_hand(tumor_set: Path, tmp_path: Path) -> None:
    first = read_data_set_manifest(tumor_set).tiles[0]
    other = next(split for split in SPLITS if split != first.split)
    folder = changed(tumor_set, tmp_path / "set", tile={"split": other})
    with pytest.raises(DataSetError, match=rf"manifest\.json: patient p0 is in {other} and in"):
        load_dataset(folder, other)


def test_a_label_map_with_an_unknown_class(tmp_path: Path) -> None:
    made(tmp_path / "set", Task.SEGMENTATION, patients=3, each=1)
    manifest = json.loads((tmp_path / "set" / MANIFEST_NAME).read_text())
    path = labels_path(tmp_path / "set", 0)
    # A map of another data set, with its right checksum.
    Image.fromarray(np.full((128, 128), 9, dtype=np.uint8)).save(path)
    manifest["tiles"][0]["labels_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "set" / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(DataSetError, match=r"labels/000000\.png: not a label map of 5 classes"):
        check_data_set(tmp_path / "set")


def test_no_data_set_there(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"manifest\.json: No such file"):
        load_dataset(tmp_path, "train")


def _sample(label: int, patient: str, split: Split | None = None) -> Sample:
    return Sample(pixels=tile(label), label=label, patient=patient, origin="x", split=split)


TRAINED_AND_TESTED: tuple[tuple[str, Split], ...] = (("a", "train"), ("b", "test"))


def _breaks_off() -> Iterator[Sample]:
    yield _sample(0, "a")
    raise DataSetError("the disk of somebody else broke")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (_breaks_off(), "somebody else broke"),
        (iter([]), "no tile was found"),
        ([_sample(0, p) for p in "abcd"], "class 'tumor' is empty: .* nowhere"),
        (
            [_sample(0, "a", "train"), _sample(1, "b", "test")],
            "class 'tumor' is empty: .* only in test",
        ),
        (
            [_sample(0, "a", "train"), _sample(1, "a", "test"), _sample(1, "b", "train")],
            "patient a is in train and in test",
        ),
        ([_sample(0, "a"), _sample(1, "b")], "2 patients cannot fill 3 splits"),
    ],
)
def test_on_an_error_nothing_is_left(bad: Iterator[Sample], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=says):
        build_data_set(
            tmp_path / "set", bad, task=Task.TUMOR, source={}, shares=(0.4, 0.3, 0.3), seed=0
        )
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataSetError, match="never changed"):
        made(tmp_path / "set", Task.TUMOR)
    assert list((tmp_path / "set").iterdir()) == []


def test_a_tile_of_two_patients_is_refused_unless_it_has_one_color(tmp_path: Path) -> None:
    def build(shared: NDArray[np.uint8]) -> Path:
        both = [replace(_sample(0, p, s), pixels=shared) for p, s in TRAINED_AND_TESTED]
        build_data_set(
            tmp_path / "set",
            [_sample(0, "a", "train"), _sample(1, "a", "train"), *both],
            task=Task.TUMOR,
            source={},
            shares=(0.4, 0.3, 0.3),
            seed=0,
        )
        return tmp_path / "set"

    says = r"one tile is in train .* and in test .* of patients a and b"
    with pytest.raises(DataSetError, match=says):
        build(tile(0, 7))
    assert list(tmp_path.iterdir()) == []
    folder = build(np.full((512, 512, 3), 255, dtype=np.uint8))
    assert check_data_set(folder).counts["test"].tiles == 1
    # A set that another build wrote.
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest["tiles"][3]["sha256"] = manifest["tiles"][0]["sha256"]
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    shutil.copyfile(tile_path(folder, 0), tile_path(folder, 3))
    with pytest.raises(DataSetError, match=rf"manifest\.json: {says}"):
        load_dataset(folder, "train")


@pytest.mark.parametrize("task", [Task.TUMOR, Task.SEGMENTATION])
def test_a_tile_with_two_labels_is_refused_but_what_was_built_is_read(
    task: Task, tmp_path: Path
) -> None:
    given = list(samples(task, each=1))
    given[1] = replace(given[1], pixels=given[0].pixels)
    shares, says = (0.6, 0.2, 0.2), r"one tile has two labels \(test 0\.0\.0 and test 0\.1\.0"
    with pytest.raises(DataSetError, match=says):
        build_data_set(tmp_path / "no", given, task=task, source={}, shares=shares, seed=0)
    glass = np.full((512, 512, 3), 255, dtype=np.uint8)
    plain = [replace(sample, pixels=glass) for sample in given[:2]]
    build_data_set(tmp_path / "ok", plain + given[2:], task=task, source={}, shares=shares, seed=0)
    check_data_set(tmp_path / "ok")
    # A set that an earlier build wrote.
    folder = tmp_path / "set"
    manifest = made(folder, task, each=1)
    first = manifest.tiles[0]
    tiles = (first, manifest.tiles[1].model_copy(update={"sha256": first.sha256}))
    old = manifest.model_copy(update={"tiles": tiles + manifest.tiles[2:]})
    (folder / MANIFEST_NAME).write_text(old.to_json())
    shutil.copyfile(tile_path(folder, 0), tile_path(folder, 1))
    assert len(load_dataset(folder, first.split)) > 0
    with pytest.raises(DataSetError, match=says):
        check_data_set(folder)


def test_patients_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    patients = [f"{letter}{k}" for k in range(6) for letter in "Pp"]
    with pytest.raises(DataSetError, match="patients 'P0' and 'p0' differ in case alone"):
        build_data_set(
            tmp_path / "out",
            (_sample(number % 2, name) for number, name in enumerate(patients)),
            task=Task.TUMOR,
            source={"kind": "test"},
            shares=(0.5, 0.25, 0.25),
            seed=0,
        )
    assert not (tmp_path / "out").exists()


def _of_a_lost_share() -> Iterator[Sample]:
    yield _sample(0, "a")
    (Path("/nowhere") / "p01.svs").read_bytes()


def test_trouble_of_a_slide_is_not_blamed_on_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(FileNotFoundError) as problem:
        build_data_set(
            out, _of_a_lost_share(), task=Task.TUMOR, source={}, shares=(0.4, 0.3, 0.3), seed=0
        )
    assert problem.value.filename == "/nowhere/p01.svs"
    assert list(tmp_path.iterdir()) == []


def test_trouble_of_the_folder_is_told_with_it(tmp_path: Path) -> None:
    with small_files(16), pytest.raises(DataSetError, match=r"set: File too large\. Choose"):
        made(tmp_path / "set", Task.TUMOR)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataSetError, match=r"file/set: .*Choose another folder"):
        made(tmp_path / "file" / "set", Task.TUMOR)
