"""Class folders and masked images: tiles, patients, and every error with its file."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from fixtures.tiles import save, tile
from typer import BadParameter

from appliance.cli.dataset_options import class_index
from models.datasets.build import Sample
from models.datasets.folders import folder_samples
from models.datasets.masked import masked_samples
from models.datasets.patients import PatientOf, from_folder, from_pattern, from_table
from models.datasets.slide_patches import slides_to_cut
from models.errors import DataSetError
from models.spec import CLASSES, Task


def silent(_what: str, _done: int, _total: int) -> None:
    return None


def folders(
    root: Path, task: Task = Task.TUMOR, patient_of: PatientOf | None = None, **names: str
) -> list[Sample]:
    return list(
        folder_samples(
            root,
            task,
            patient_of or from_folder(1),
            names=names,
            mpp=0.2793,
            white=(255, 255, 255),
            progress=silent,
        )
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label, name in enumerate(("Stroma", "Tumor")):
        for patient in "ab":
            for number in range(2):
                save(tmp_path / name / patient / f"{number}.png", tile(label, number))
    return tmp_path


def test_class_and_patient_come_from_the_folders(root: Path) -> None:
    (root / ".DS_Store").write_text("")
    found = folders(root)
    assert [(s.label, s.patient) for s in found] == [
        (0, "a"), (0, "a"), (0, "b"), (0, "b"), (1, "a"), (1, "a"), (1, "b"), (1, "b"),
    ]  # fmt: skip
    assert (found[0].pixels == tile(0, 0)).all()
    assert found[-1].origin == "Tumor/b/1.png #0"


def test_glass_is_brought_to_white(root: Path) -> None:
    samples = folder_samples(
        root, Task.TUMOR, from_folder(1), names={}, mpp=0.2793, white=(240, 230, 220),
        progress=silent,
    )  # fmt: skip
    expected = np.clip(tile(0).astype(float) * 255 / (240, 230, 220), 0, 255)
    assert np.abs(next(samples).pixels - expected).max() <= 0.5 + 1e-4


def test_names_translate_and_pass_over(root: Path) -> None:
    (root / "Nerve").mkdir()
    with pytest.raises(DataSetError, match=r"Nerve: class 'Nerve' is unknown for tumor"):
        folders(root)
    assert len(folders(root, Nerve="ignore")) == 8


def test_an_empty_class_is_named(root: Path, tmp_path: Path) -> None:
    for file in (root / "Tumor").rglob("*.png"):
        file.unlink()
    with pytest.raises(DataSetError, match=r"Tumor: class 'tumor' is empty: no image"):
        folders(root)
    with pytest.raises(DataSetError, match=r"class 'tumor' is empty: it has no folder"):
        folders(root, Tumor="ignore")


def test_a_cut_off_tile_is_named(root: Path) -> None:
    path = root / "Tumor" / "b" / "1.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataSetError, match=r"Tumor/b/1\.png: damaged or no image"):
        folders(root)


def test_a_file_that_is_no_image_by_name(root: Path) -> None:
    (root / "Tumor" / "b" / "notes.docx").write_text("x")
    with pytest.raises(DataSetError, match=r"notes\.docx: not one of"):
        folders(root)


def test_class_folders_cannot_teach_segmentation(root: Path) -> None:
    with pytest.raises(DataSetError, match="use dataset masks"):
        folders(root, Task.SEGMENTATION)


def test_patients_from_pattern_and_table(root: Path, tmp_path: Path) -> None:
    by_name = from_pattern(r"/(\w)/\d")
    assert [s.patient for s in folders(root, patient_of=by_name)] == list("aabbaabb")
    table = tmp_path / "patients.csv"
    rows = [
        f"{name}/{p}/{n}.png,P-{p},{'train' if p == 'a' else 'test'}"
        for name in ("Stroma", "Tumor")
        for p in "ab"
        for n in range(2)
    ]
    table.write_text("\n".join(["file,patient,split", *rows]))
    root = Path(table.parent)
    table = table.rename(tmp_path.parent / f"{tmp_path.name}.csv")
    found = folders(root, patient_of=from_table(table))
    assert {(s.patient, s.split) for s in found} == {("P-a", "train"), ("P-b", "test")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,patient\na.png,\n", r"t\.csv, line 2: no patient"),
        ("file\na.png\n", r"t\.csv, line 2: no patient"),
        ("file,patient\n", r"t\.csv: no rows"),
        ("file,patient,split\na,p,dev\n", r"t\.csv, line 2: split 'dev' is none of"),
        ("file,patient,split\na,p,train\nb,p,test\n", r"t\.csv: patient p is in train and in test"),
        (
            "file,patient,split\na,p,train\nb,p ,test\n",
            r"t\.csv: patient p is in train and in test",
        ),
        ("file,patient\na.png,p\n./a.png,q\n", r"t\.csv, line 3: a\.png is listed twice"),
        ("file, patient\na,p01\nb,P01\n", r"t\.csv: patients 'p01' and 'P01' differ in case alone"),
    ],
)
def test_tables_that_are_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataSetError, match=says):
        from_table(tmp_path / "t.csv")


def test_files_of_nobody(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,patient\nb.png,p\n")
    for patient_of in (from_folder(1), from_pattern("P([0-9]+)"), from_table(tmp_path / "t.csv")):
        with pytest.raises(DataSetError, match=r"^Tumor/a\.png: "):
            patient_of(PurePosixPath("Tumor/a.png"))
    for pattern in ("(", "P[0-9]"):
        with pytest.raises(DataSetError, match="--patient-pattern"):
            from_pattern(pattern)


def test_a_column_in_other_letters_is_no_column_to_pass_over(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("file,patient,Split\na.png,p,test\n")
    with pytest.raises(DataSetError, match=r"t\.csv: column 'Split' is not read. Call it 'split'"):
        from_table(table)


def test_columns_that_are_not_read_may_have_any_name(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("file,patient,Annotations\na.png,p,checked\n")
    assert from_table(table)(PurePosixPath("a.png")) == ("p", None)
    (tmp_path / "a.svs").touch()
    for split in ("Split", "split"):
        table.write_text(f"slide,{split}\na.svs,1\n")
        assert slides_to_cut(table) == [(tmp_path / "a.svs", None)]
    table.write_text("slide,Annotations\na.svs,a.geojson\n")
    with pytest.raises(DataSetError, match="Call it 'annotations'"):
        slides_to_cut(table)


def test_an_error_names_the_line_of_the_file(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("file,patient,split\n\na.png,p,test\n,,\n\nb.png,q,tset\n")
    with pytest.raises(DataSetError, match=r"t\.csv, line 6: split 'tset'"):
        from_table(table)


# masks


def masked(folder: Path, task: Task, values: dict[int, int] | None = None) -> list[Sample]:
    return list(
        masked_samples(
            folder / "images",
            folder / "masks",
            task,
            from_folder(0),
            values=values or {k: k for k in range(len(CLASSES[task]))},
            mpp=0.2793,
            white=(255, 255, 255),
            progress=silent,
        )
    )


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """One image of two tiles; tumor (1) is the left 5 % of the first one."""
    pixels = np.concatenate([tile(0), tile(1)], axis=1)
    mask = np.zeros((512, 1024), dtype=np.uint8)
    mask[:, :26] = 1
    save(tmp_path / "images" / "p1" / "a.jpg", pixels)
    save(tmp_path / "masks" / "p1" / "a.png", mask)
    return tmp_path


def test_a_map_for_segmentation_a_class_for_the_classifiers(field: Path) -> None:
    maps = [np.asarray(s.label) for s in masked(field, Task.SEGMENTATION)]
    assert [m.shape for m in maps] == [(128, 128)] * 2
    assert [int(m.sum()) for m in maps] == [128 * 6, 0]  # columns whose center is left of 26 px
    assert [(s.label, s.patient) for s in masked(field, Task.TUMOR)] == [(1, "p1"), (0, "p1")]


def test_two_masks_of_an_image_are_refused(field: Path) -> None:
    save(field / "masks" / "p1" / "a.tif", np.ones((512, 1024), dtype=np.uint8))
    with pytest.raises(DataSetError, match=r"a\.tif: a\.png is a mask of the same image"):
        masked(field, Task.TUMOR)


def test_values_are_translated(field: Path) -> None:
    path = field / "masks" / "p1" / "a.png"
    mask = np.zeros((512, 1024), dtype=np.uint8)
    mask[:, 600:] = 255
    save(path, mask)
    assert [s.label for s in masked(field, Task.TUMOR, {0: 0, 255: 1})] == [0, 1]


def test_what_is_to_be_ignored_is_no_class(field: Path) -> None:
    """Left tile: 40 % are 3+ and the rest is no tumor. Right tile: 4 % are 3+."""
    mask = np.zeros((512, 1024), dtype=np.uint8)
    mask[:, :205] = 40
    mask[:, -20:] = 40
    save(field / "masks" / "p1" / "a.png", mask)
    values = {
        value: class_index(Task.INTENSITY, name)
        for value, name in {0: "background", 10: "0", 40: "3+", 50: "ignore"}.items()
    }
    (sample,) = masked(field, Task.INTENSITY, values)
    assert (sample.label, sample.origin) == (CLASSES[Task.INTENSITY].index("strong"), "p1/a.jpg #0")

    mask = np.full((512, 1024), 50, dtype=np.uint8)
    mask[:, :512], mask[:, :20], mask[:, 500:508] = 1, 4, 50
    save(field / "masks" / "p1" / "a.png", mask)
    names = {1: "background", 4: "3+", 50: "ignore"}
    values = {value: class_index(Task.SEGMENTATION, name) for value, name in names.items()}
    (sample,) = masked(field, Task.SEGMENTATION, values)
    assert (np.asarray(sample.label)[0] == 5 * [4] + 123 * [0]).all()
    with pytest.raises(BadParameter, match="'tumor' is none of none, faint, weak, strong, ignore"):
        class_index(Task.INTENSITY, "tumor")


def test_an_unknown_label_is_named_with_its_file(field: Path) -> None:
    mask = np.zeros((512, 1024), dtype=np.uint8)
    mask[3, 5] = 7
    save(field / "masks" / "p1" / "a.png", mask)
    with pytest.raises(DataSetError, match=r"masks/p1/a\.png: label 7 is unknown; known are 0, 1"):
        masked(field, Task.SEGMENTATION)


def test_partners_that_do_not_fit(field: Path) -> None:
    save(field / "masks" / "p1" / "a.png", np.zeros((512, 1000), dtype=np.uint8))
    with pytest.raises(DataSetError, match=r"a\.png: 1000 x 512 px, but its image has 1024 x 512"):
        masked(field, Task.TUMOR)
    (field / "masks" / "p1" / "a.png").rename(field / "masks" / "p1" / "b.png")
    with pytest.raises(DataSetError, match=r"images/p1/a\.jpg: no mask of this name"):
        masked(field, Task.TUMOR)
    (field / "images" / "p1" / "a.jpg").unlink()
    with pytest.raises(DataSetError, match=r"masks/p1/b\.png: no image of this name"):
        masked(field, Task.TUMOR)


def test_a_cut_off_mask_is_named(field: Path) -> None:
    path = field / "masks" / "p1" / "a.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataSetError, match=r"masks/p1/a\.png: damaged or no image"):
        masked(field, Task.SEGMENTATION)
