"""Folders for evaluation: accepted layouts, and errors for the others."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.evaluation.labeled_images import tile_truth
from models.datasets.images import read_rgb
from models.errors import DataSetError
from models.evaluation.folders import find_images
from models.evaluation.truth_tiles import (
    IGNORED,
    at_tile_mpp,
    cut,
    fitting_mask,
    glass_of_field,
    read_mask,
    read_mask_values,
    tumor_share,
    values_of_folder,
)
from models.spec import CLASSES, Task


def put(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = np.full((8, 8, 3), 200, np.uint8) if pixels is None else pixels
    assert cv2.imwrite(str(path), plain)
    return path


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (Task.INTENSITY, ("0", "1+", "2+", "3+")),
        (Task.INTENSITY, ("0", "1", "2", "3")),
        (Task.INTENSITY, ("None", "faint", "WEAK", "strong")),
        (Task.INTENSITY, ("score_0", "score 1+", "HER2_2+", "class-3")),
        (Task.TUMOR, ("other", "tumor")),
        (Task.TUMOR, ("normal", "Tumour")),
        (Task.TUMOR, ("non_tumor", "tumor")),
        (Task.TUMOR, ("0", "1")),
    ],
)
def test_class_folders(task: Task, names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        put(tmp_path / name / "a.png")
        put(tmp_path / name / "patient-7" / "b.jpg")
    images = find_images(tmp_path, task)
    found = {(i.name, i.label) for i in images}
    assert found >= {(f"{name}/a.png", k) for k, name in enumerate(names)}
    assert [i.patient for i in images].count("patient-7") == len(names)
    assert all(i.mpp is None for i in images)


def test_names_of_images_are_no_patients_that_a_table_names(tmp_path: Path) -> None:
    for name in ("a/Tile1.png", "b/tile1.png"):
        put(tmp_path / name)
    (tmp_path / "labels.csv").write_text("file,label,mpp\na/Tile1.png,1,0.5\nb/tile1.png,0,0.5\n")
    assert len(find_images(tmp_path, Task.TUMOR)) == 2


@pytest.mark.parametrize("layout", ["table", "scores"])
def test_images_of_one_name_in_several_folders_are_no_patient(layout: str, tmp_path: Path) -> None:
    """Exports are named by their field: those of several cases counted as one patient's."""
    names = [f"{case}/field1_2+.png" for case in ("S1", "S2", "S3")]
    names.append("S3/field1_2+.tif")
    for name in names:
        put(tmp_path / name)
    if layout == "table":
        rows = "".join(f"{name},2+\n" for name in names)
        (tmp_path / "labels.csv").write_text(f"file,label\n{rows}")
    assert [i.patient for i in find_images(tmp_path, Task.INTENSITY)] == names


def test_masks_beside_and_in_folders(tmp_path: Path) -> None:
    put(tmp_path / "beside" / "one.jpg"), put(tmp_path / "beside" / "one-mask.png")
    put(tmp_path / "folders" / "images" / "two.png")
    put(tmp_path / "folders" / "masks" / "two.png")
    for layout, stem in (("beside", "one"), ("folders", "two")):
        for task in Task:
            (image,) = find_images(tmp_path / layout, task)
            assert image.path.stem == stem
            assert image.mask is not None
            assert image.mask.exists()


def test_masks_of_equal_names_belong_to_the_images_of_their_folders(tmp_path: Path) -> None:
    for patient in ("P1", "P2"):
        put(tmp_path / "two" / "images" / patient / "x.png")
        put(tmp_path / "two" / "masks" / patient / "x.png")
        put(tmp_path / "flat" / patient / "x.png"), put(tmp_path / "flat" / patient / "x_mask.png")
    for layout in ("two", "flat"):
        images = find_images(tmp_path / layout, Task.TUMOR)
        assert len({i.patient for i in images}) == 2
        for image in images:
            assert image.mask is not None and image.mask != image.path
            assert image.mask.parent.name == image.path.parent.name
    put(tmp_path / "flat" / "P1" / "x_seg.png")
    with pytest.raises(DataSetError, match=r"x_seg\.png: x_mask\.png is a mask of the same image"):
        find_images(tmp_path / "flat", Task.TUMOR)


def test_scores_in_names_leave_the_he_fields_out(tmp_path: Path) -> None:
    for name in ("bci-1_1+_he", "bci-1_1+_her2", "bci-2_3+_her2", "c_0_HER2", "d_3+_0_512"):
        put(tmp_path / f"{name}.png")
    images = find_images(tmp_path, Task.INTENSITY)
    assert {i.name: i.label for i in images} == {
        "bci-1_1+_her2.png": 1,
        "bci-2_3+_her2.png": 3,
        "c_0_HER2.png": 0,
        "d_3+_0_512.png": 3,  # 0 and 512 are a place
    }
    for name in ("case7_3+/tile_0_512", "case8_2+/x_0_0", "case9_0/tile_512_0"):
        put(tmp_path / f"{name}.png")
    named = {i.name: i.label for i in find_images(tmp_path, Task.INTENSITY)}
    assert named["case7_3+/tile_0_512.png"] == 3  # its place is no score either
    assert (named["case8_2+/x_0_0.png"], named["case9_0/tile_512_0.png"]) == (2, 0)
    put(tmp_path / "set_0_1+_2+_3+" / "a_0.png")
    named = {i.name: i.label for i in find_images(tmp_path, Task.INTENSITY)}
    assert named["set_0_1+_2+_3+/a_0.png"] == 0
    for name in ("case7_3+/HER2_0", "case7_3+/0_HER2_0_512", "case7_3+/a_0/x_1"):
        put(tmp_path / f"{name}.png")
        with pytest.raises(DataSetError, match=r"the score 0 in .*_0.*labels\.csv"):
            find_images(tmp_path, Task.INTENSITY)
        (tmp_path / f"{name}.png").unlink()
    put(tmp_path / "e_1+_2+.png")
    with pytest.raises(DataSetError, match=r"e_1\+_2\+\.png: several scores \(1\+, 2\+\)"):
        find_images(tmp_path, Task.INTENSITY)


def test_what_is_hidden_is_so_below_the_folder_alone(tmp_path: Path) -> None:
    for name in ("tumor/a", "other/b", "other/.c", ".thumbs/d", "tumor/.old/e"):
        put(tmp_path / ".kept" / f"{name}.png")
    found = find_images(tmp_path / ".kept", Task.TUMOR)
    assert [image.name for image in found] == ["other/b.png", "tumor/a.png"]


def test_a_table_of_labels(tmp_path: Path) -> None:
    put(tmp_path / "a.png"), put(tmp_path / "sub" / "b.png")
    (tmp_path / "labels.csv").write_text(
        "file,label,patient,mpp\na.png,2+,P1,0.5\nsub/b.png,none,P2,\n"
    )
    (tmp_path / "mpp").write_text("0.25\n")
    images = find_images(tmp_path, Task.INTENSITY)
    assert [(i.name, i.label, i.patient, i.mpp) for i in images] == [
        ("a.png", 2, "P1", 0.5),
        ("sub/b.png", 0, "P2", 0.25),
    ]
    assert {i.mpp for i in find_images(tmp_path, Task.INTENSITY, mpp=0.3)} == {0.3}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_a_spreadsheet_of_another_country(delimiter: str, tmp_path: Path) -> None:
    put(tmp_path / "a;b,c.png")
    lines = ("file", "label", "patient"), ('"a;b,c.png"', "2+", "P1")
    text = "".join(f"{delimiter.join(line)}\r\n" for line in lines)
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8-sig")
    (image,) = find_images(tmp_path, Task.INTENSITY)
    assert (image.name, image.label, image.patient) == ("a;b,c.png", 2, "P1")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_resolution_as_windows_writes_it(encoding: str, tmp_path: Path) -> None:
    put(tmp_path / "tumor" / "a.png")
    (tmp_path / "mpp.txt").write_text("0.46\r\n", encoding=encoding)
    assert find_images(tmp_path, Task.TUMOR)[0].mpp == 0.46
    (tmp_path / "mpp.txt").write_bytes(b"0.46 \xb5m")
    with pytest.raises(DataSetError, match=r"mpp\.txt: holds .*, not a number"):
        find_images(tmp_path, Task.TUMOR)


@pytest.mark.parametrize(
    ("name", "text"), [("mpp", "0.46"), ("mpp.txt", "0.46\n"), ("mpp.json", '{"mpp": 0.46}')]
)
def test_resolution_in_a_file(name: str, text: str, tmp_path: Path) -> None:
    put(tmp_path / "tumor" / "a.png")
    (tmp_path / name).write_text(text)
    assert find_images(tmp_path, Task.TUMOR)[0].mpp == 0.46


def broken(folder: Path, kind: str) -> Task:
    """Make a folder that is wrong in one way; the task that it is for."""
    match kind:
        case "class":
            put(folder / "tumor" / "a.png"), put(folder / "maybe" / "b.png")
        case "no mask":
            put(folder / "a.png"), put(folder / "b.png"), put(folder / "b_mask.png")
        case "no image":
            put(folder / "b.png"), put(folder / "b_mask.png"), put(folder / "c_mask.png")
        case "layout":
            put(folder / "a.png")
        case "label":
            put(folder / "a.png")
            (folder / "labels.csv").write_text("file,label\na.png,blue\n")
        case "coded":
            put(folder / "a.png")
            (folder / "labels.csv").write_bytes(
                "file,label,patient\na.png,1,M\xfc\n".encode("cp1252")
            )
        case "twice":
            put(folder / "a.png")
            (folder / "labels.csv").write_text("file,label,case\na.png,1,p1\na.png,0,P1\n")
        case "doubled":
            put(folder / "a.png")
            (folder / "labels.csv").write_text("file,label,case\na.png,1,p1\n./a.png,0,p2\n")
        case "linked":
            put(folder / "a.png")
            (folder / "b.png").symlink_to("a.png")
            (folder / "labels.csv").write_text("file,label\na.png,1\nb.png,1\n")
        case "listed":
            folder.mkdir()
            (folder / "labels.csv").write_text("file,label\nz.png,tumor\n")
        case "columns":
            put(folder / "a.png")
            (folder / "labels.csv").write_text("file,label,Label\na.png,tumor,other\n")
        case "mpp":
            put(folder / "tumor" / "a.png")
            (folder / "mpp").write_text("forty")
        case "implausible":
            put(folder / "tumor" / "a.png")
            (folder / "mpp").write_text("40")
    return Task.TUMOR


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("class", "maybe: unknown class folder"),
        ("no mask", "a.png: no mask"),
        ("no image", "c_mask.png: a mask without its image"),
        ("layout", "no layout that the tumor task understands. Use class folders"),
        ("label", "line 2: unknown label 'blue'"),
        ("coded", "labels.csv: not a readable CSV table"),
        ("twice", "labels.csv: patients 'p1' and 'P1' differ in case alone"),
        ("doubled", "labels.csv: ./a.png is listed twice"),
        ("linked", "labels.csv: b.png is listed twice"),
        ("listed", "line 2: there is no z.png"),
        ("columns", "the columns 'label' and 'Label' have one name"),
        ("mpp", "not a number"),
        ("implausible", "implausible"),
        ("nowhere", "no such folder"),
    ],
)
def test_what_is_wrong_is_named(kind: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    task = broken(folder, kind)
    with pytest.raises(DataSetError, match=said.replace("(", r"\(")):
        find_images(folder, task)


def test_tumor_masks_white_numbered_and_of_bcss(tmp_path: Path) -> None:
    half = np.zeros((16, 16), np.uint8)
    half[:, 8:] = 1
    for name, mask in (("white.png", half * 255), ("one.png", half), ("lossy.jpg", half * 255)):
        assert read_mask(put(tmp_path / name, mask), Task.TUMOR).mean() == 0.5
    codes = half + 1  # 1 tumor, 2 stroma
    codes[0] = 0
    read = read_mask(put(tmp_path / "codes.png", codes), Task.TUMOR)
    assert (read[0] == IGNORED).all()
    assert (read[1:] == (codes[1:] == 1)).all()
    (tmp_path / "mask.json").write_text('{"tumor": [2], "ignore": [0]}')
    values = read_mask_values(tmp_path, Task.TUMOR)
    assert (read_mask(tmp_path / "codes.png", Task.TUMOR, values)[1:] == half[1:]).all()


def test_a_tumor_mask_that_would_be_read_as_none_is_refused(tmp_path: Path) -> None:
    half = np.zeros((16, 16), np.uint8)
    half[:, 8:] = 1
    for value in (22, 100, 127):  # one value other than 0
        assert read_mask(put(tmp_path / "one.png", half * value), Task.TUMOR).mean() == 0.5
    assert read_mask(put(tmp_path / "rgb.png", np.dstack(3 * [half * 255])), Task.TUMOR).any()
    red = np.dstack([half * 0, half * 0, half * 255])
    for name in ("red.png", "red.jpg"):
        with pytest.raises(DataSetError, match="one value per px, not colors"):
            read_mask(put(tmp_path / name, red), Task.TUMOR)
    blurred = cv2.blur(half * 120, (3, 3))
    for name in ("gray.png", "gray.jpg"):
        with pytest.raises(DataSetError, match="several gray values, none above 1"):
            read_mask(put(tmp_path / name, blurred), Task.TUMOR)
    with pytest.raises(DataSetError, match=r"not as JPEG, which does not keep it"):
        read_mask(put(tmp_path / "one.jpg", half), Task.TUMOR)
    assert not read_mask(put(tmp_path / "none.jpg", half * 0), Task.TUMOR).any()


def test_bcss_regions_of_one_class_are_known_by_the_other_masks(tmp_path: Path) -> None:
    region = np.zeros((16, 16), np.uint8)
    region[4:12, 4:12] = 1
    alone = {
        "tumor": put(tmp_path / "tumor.png", region),
        "stroma": put(tmp_path / "stroma.png", np.full((16, 16), 2, np.uint8)),
        "outside": put(tmp_path / "outside.png", region * 3),
        "empty": put(tmp_path / "empty.png", region * 0),
    }
    # Without other masks a code of one class is no more tumor than other tissue.
    assert values_of_folder(tmp_path, Task.TUMOR, alone.values()) is None
    for name, code in (("stroma", 2), ("outside", 3)):
        with pytest.raises(
            DataSetError, match=rf"{name}\.png: {code} may be tumor, or a BCSS code"
        ):
            read_mask(alone[name], Task.TUMOR)
    assert read_mask(alone["tumor"], Task.TUMOR).mean() == 0.25

    several = region.copy()
    several[5] = 7
    masks = [*alone.values(), put(tmp_path / "several.png", several)]
    values = values_of_folder(tmp_path, Task.TUMOR, masks)
    read = {name: read_mask(path, Task.TUMOR, values) for name, path in alone.items()}
    assert (read["stroma"] == 0).all()
    assert (read["empty"] == IGNORED).all()
    assert (read["tumor"] == np.where(region == 1, 1, IGNORED)).all()
    assert (read["outside"] == np.where(region == 1, 0, IGNORED)).all()
    masks.append(put(tmp_path / "white.png", region * 255))
    with pytest.raises(DataSetError, match=r"white\.png: other masks in this folder hold BCSS"):
        values_of_folder(tmp_path, Task.TUMOR, masks)


def test_label_masks_hold_0_to_4_and_nothing_else(tmp_path: Path) -> None:
    mask = (np.arange(256) % 5).reshape(16, 16).astype(np.uint8)
    assert (read_mask(put(tmp_path / "a.png", mask), Task.SEGMENTATION) == mask).all()
    with pytest.raises(DataSetError, match=r"b\.png: value 9"):
        read_mask(put(tmp_path / "b.png", mask + 5), Task.SEGMENTATION)
    with pytest.raises(DataSetError, match=r"c\.jpg: JPEG"):
        read_mask(put(tmp_path / "c.jpg", mask), Task.SEGMENTATION)
    (tmp_path / "mask.json").write_text('{"weak": [1]}')
    with pytest.raises(DataSetError, match="unknown class 'weak'"):
        read_mask_values(tmp_path, Task.SEGMENTATION)


@pytest.mark.parametrize("names", [CLASSES[Task.INTENSITY], CLASSES[Task.SEGMENTATION][1:]])
def test_mask_json_names_the_grade_that_a_tile_is_judged_by(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    named = {name: [10 * number] for number, name in enumerate(names, start=1)}
    named |= {"background": [5], "ignore": [0]}
    (tmp_path / "mask.json").write_text(json.dumps(named))
    values = read_mask_values(tmp_path, Task.INTENSITY)
    for grade in range(4):
        mask = np.full((512, 512), 10 * (grade + 1), np.uint8)
        mask[:64], mask[64:128] = 5, 0
        read = read_mask(put(tmp_path / f"{grade}.png", mask), Task.INTENSITY, values)
        assert (read[64:128] == IGNORED).all() and (read[:64] == 0).all()
        # The same numbers as in a mask without mask.json.
        assert (read[128:] == grade + 1).all()
        assert tile_truth(read[None], Task.INTENSITY) == [grade]


def test_mask_json_gives_two_names_of_a_grade_their_values(tmp_path: Path) -> None:
    (tmp_path / "mask.json").write_text('{"none": [1], "0": [2], "3+": [9]}')
    values = read_mask_values(tmp_path, Task.INTENSITY)
    read = read_mask(
        put(tmp_path / "a.png", np.array([[1, 2, 9]], np.uint8)), Task.INTENSITY, values
    )
    assert read.tolist() == [[1, 1, 4]]
    (tmp_path / "mask.json").write_text('{"tumor": [1]}')
    with pytest.raises(DataSetError, match="unknown class 'tumor'; there are background, 0, 1"):
        read_mask_values(tmp_path, Task.INTENSITY)


def test_a_cut_off_image_and_a_mask_of_another_shape_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    whole = put(tmp_path / "a.png", noise).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataSetError, match=r"a\.png: damaged"):
        read_rgb(tmp_path / "a.png")
    with pytest.raises(DataSetError, match="does not fit"):
        fitting_mask(np.zeros((64, 32), np.uint8), noise, tmp_path / "m.png")


def test_tiles_are_cut_once_and_filled_up() -> None:
    image = np.random.default_rng(0).integers(0, 255, (1030, 1500, 3)).astype(np.uint8)
    tiles = cut(image)
    assert tiles.shape == (6, 512, 512, 3)  # 1500 px are 2.93 tiles: the third is filled up
    assert (tiles[0] == np.pad(image, ((0, 0), (18, 18), (0, 0)), "symmetric")[3:515, :512]).all()
    small = cut(np.full((200, 512), 3, np.uint8), labels=True)
    assert small.shape == (1, 512, 512)
    assert (small == 3).sum() == 200 * 512
    assert np.isnan(tumor_share(small))[0]  # less than half of the tile is known
    assert at_tile_mpp(image, 0.5586, labels=False).shape == (2060, 3000, 3)


def test_glass_is_what_is_brightest() -> None:
    field = np.full((200, 200, 3), 150, np.uint8)
    assert glass_of_field(field) == (245, 245, 245)
    field[:20, :50] = (240, 235, 230)
    assert glass_of_field(field) == (240, 235, 230)
