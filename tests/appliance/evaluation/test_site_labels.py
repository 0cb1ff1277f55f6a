"""Labels of a site as the calibration takes them: which tiles, with which truth, of whom."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.tiles import save, tile
from numpy.typing import NDArray
from PIL import Image

from appliance.evaluation.labeled_images import judge_image
from appliance.evaluation.site_labels import GRID, SiteLabels, labeled_logits
from appliance.readers.tile_pass import silent
from models.datasets.annotated import Rules
from models.datasets.masked import masked_samples
from models.datasets.patients import from_pattern, from_table
from models.errors import DataSetError
from models.evaluation.folders import find_images
from models.spec import CLASSES, Task
from models.training.site_fit import UNLABELED, LabeledLogits


@dataclass
class PlainSlide:
    """Two tiles side by side at their own resolution; each `number` is another slide."""

    number: int = 0
    width_px: int = 1024
    height_px: int = 512
    mpp: float = 0.2793
    offset_px: tuple[int, int] = (0, 0)

    def tile(self, column: int, row: int) -> NDArray[np.uint8]:
        return tile(1, 100 * self.number + 10 * column + row)


@contextmanager
def opened(_path: Path) -> Iterator[PlainSlide]:
    yield PlainSlide()


def judged(labels: SiteLabels, task: Task) -> LabeledLogits:
    """Labels beside the answers of a network that knows nothing."""

    def logits(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        shape = (128, 128) if task is Task.SEGMENTATION else ()
        return np.zeros((len(tiles), len(CLASSES[task]), *shape), dtype=np.float32)

    network: Any = SimpleNamespace(logits=logits, spec=SimpleNamespace(task=task))
    return labeled_logits(labels, network, silent)


def area(name: str, left: int, right: int) -> dict[str, Any]:
    ring = [[left, 0], [right, 0], [right, 512], [left, 512], [left, 0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def test_what_is_to_be_ignored_is_unlabeled_and_no_background(tmp_path: Path) -> None:
    (tmp_path / "a.svs").touch()
    (tmp_path / "a.geojson").write_text(json.dumps([area("3+", 0, 400), area("Ignore*", 256, 400)]))
    found = judged(SiteLabels(path=tmp_path, open_slide=opened), Task.SEGMENTATION)
    (row,) = found.truth.reshape(-1, GRID, GRID)[:, GRID // 2]
    assert row.tolist() == 16 * [4] + 9 * [UNLABELED] + 7 * [0]


def test_a_tile_of_which_less_than_half_is_annotated_is_left_out(tmp_path: Path) -> None:
    """Its other tissue may be of another class than the area that it has the edge of."""
    (tmp_path / "a.svs").touch()
    marks = tmp_path / "a.geojson"
    said: list[str] = []
    labels = SiteLabels(path=tmp_path, open_slide=opened, say=said.append)
    told = "1 tiles left out: less than 50 % of each is annotated."
    marks.write_text(json.dumps([area("Stroma", 0, 700)]))
    assert len(judged(labels, Task.TUMOR).truth) == 1
    marks.write_text(json.dumps([area("2+", 0, 700)]))
    assert len(judged(labels, Task.INTENSITY).truth) == 1
    assert said == [told, told]
    # M has a map of each tile; of what is not annotated, the user says the class.
    assert len(judged(labels, Task.SEGMENTATION).truth) == 2
    marks.write_text(json.dumps([area("Tumor", 0, 700)]))
    rest = replace(labels, rules=Rules(names={}, rest="other"))
    assert len(judged(rest, Task.TUMOR).truth) == 2
    marks.write_text(json.dumps([area("Tumor", 0, 800), area("Ignore*", 512, 800)]))
    assert len(judged(rest, Task.TUMOR).truth) == 1
    assert said == [told, told, told]


def test_tissue_that_a_grade_is_not_asked_of_is_annotated_all_the_same(tmp_path: Path) -> None:
    """Stroma beside tumor leaves no doubt of what the tile shows; what is ignored does."""
    (tmp_path / "a.svs").touch()
    marks = tmp_path / "a.geojson"
    labels = SiteLabels(path=tmp_path, open_slide=opened)
    for name in ("Stroma", "other", "Necrosis"):
        marks.write_text(json.dumps([area("3+", 0, 205), area(name, 205, 512)]))
        assert judged(labels, Task.INTENSITY).truth.tolist() == [[3]]
    for name, names in (
        ("Ignore*", {}),
        ("Folds", {"Folds": "ignore"}),
        ("Stroma", {"stroma": "ignore"}),
    ):
        marks.write_text(json.dumps([area("3+", 0, 205), area(name, 205, 512)]))
        with pytest.raises(DataSetError, match="no labeled tile"):
            judged(replace(labels, rules=Rules(names=names)), Task.INTENSITY)


def test_an_image_that_exif_turns_and_its_mask_that_it_does_not_are_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(tile(1)).save(tmp_path / "images" / "a.png", exif=exif)
    save(tmp_path / "masks" / "a.png", np.ones((512, 512), dtype=np.uint8))
    with pytest.raises(DataSetError, match=r"a\.png: turned by EXIF or XMP, and its mask is not"):
        judged(SiteLabels(path=tmp_path, mpp=0.2793), Task.TUMOR)
    samples = masked_samples(
        tmp_path / "images",
        tmp_path / "masks",
        Task.TUMOR,
        lambda _: ("p", None),
        values={0: 0, 1: 1},
        mpp=0.2793,
        white=(255, 255, 255),
        progress=silent,
    )
    with pytest.raises(DataSetError, match=r"a\.png: turned by EXIF or XMP, and its mask is not"):
        list(samples)
    (image,) = find_images(tmp_path, Task.TUMOR, mpp=0.2793)
    judge: Any = SimpleNamespace(task=Task.TUMOR)
    with pytest.raises(DataSetError, match=r"a\.png: turned by EXIF or XMP, and its mask is not"):
        judge_image(image, None, judge)


def test_copies_under_two_patients_or_two_labels_are_refused(tmp_path: Path) -> None:
    folder, glass = tmp_path / "images", np.full((512, 512, 3), 255, np.uint8)
    labels = SiteLabels(path=folder, mpp=0.2793)
    for number, label in enumerate(("tumor", "other")):
        for patient in ("p1", "p2"):
            save(folder / label / patient / "a.png", tile(number, int(patient[1])))
            save(folder / label / patient / "glass.png", glass)
    assert len(judged(labels, Task.TUMOR).truth) == 8  # equal by chance: glass
    shutil.copy(folder / "tumor/p1/a.png", folder / "tumor/p2/b.png")
    with pytest.raises(DataSetError, match=r"p2/b\.png is the same .*p1/a\.png, of patients p2"):
        judged(labels, Task.TUMOR)
    (folder / "tumor/p2/b.png").rename(folder / "other/p1/b.png")
    with pytest.raises(DataSetError, match=r"is the same tile as .*, with another label"):
        judged(labels, Task.TUMOR)

    slides = tmp_path / "slides"
    for patient in ("p1", "p2"):
        (slides / patient).mkdir(parents=True)
        (slides / patient / "a.svs").touch()
        (slides / patient / "a.geojson").write_text(json.dumps([area("Tumor", 0, 512)]))
    said = r"p2/a\.svs, column 0, row 0 is the same tile as .*p1/a\.svs, .* of patients p2 and p1"
    with pytest.raises(DataSetError, match=said):
        judged(SiteLabels(path=slides, open_slide=opened), Task.TUMOR)


def test_other_files_of_a_slides_name_beside_it_do_not_matter(tmp_path: Path) -> None:
    marks = json.dumps([area("Tumor", 0, 512)])
    for name in ("a.mrxs", "a/Slidedat.ini", "a.geojson", "b.svs", "b.xml", "b.svs.geojson"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(marks)
    for name in ("._a.geojson", "._a.mrxs", "._b.svs"):  # of a Mac
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "c").mkdir()  # of DICOM: the folder is the slide
    (tmp_path / "c.geojson").write_text(marks)
    asked = set()

    @contextmanager
    def asking(path: Path) -> Iterator[PlainSlide]:
        asked.add(path.name)
        yield PlainSlide(sorted(asked).index(path.name))

    found = judged(SiteLabels(path=tmp_path, open_slide=asking), Task.TUMOR)
    assert found.patient.tolist() == ["a", "b", "c"] and asked == {"a.mrxs", "b.svs", "c"}
    (tmp_path / "a.tif").touch()
    with pytest.raises(DataSetError, match=r"beside it; there is a\.mrxs, a\.tif"):
        judged(SiteLabels(path=tmp_path, open_slide=opened), Task.TUMOR)


def test_a_patient_in_the_first_row_alone_makes_no_patient_of_each_crop(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", tile(1, number))
    table = tmp_path / "labels.csv"
    table.write_text("file,label,patient\n0.png,1,p1\n1.png,1,\n2.png,0,p2\n3.png,0,\n")
    labels = SiteLabels(path=tmp_path, mpp=0.2793)
    with pytest.raises(DataSetError, match=r"/1\.png: no patient, others have one"):
        judged(labels, Task.TUMOR)
    # A name that the table states is a patient, though an image has it, too.
    table.write_text("file,label,patient\n0.png,1,0\n1.png,1,0\n2.png,0,2\n3.png,0,3\n")
    assert judged(labels, Task.TUMOR).patient.tolist() == ["0", "0", "2", "3"]
    table.write_text("file,label,patient\n0.png,1,\n1.png,1,\n2.png,0,\n3.png,0,\n")
    assert judged(labels, Task.TUMOR).patient.tolist() == 4 * [""]
    named = replace(labels, patient_of=lambda file: (file.stem, None))
    table.write_text("file,label,patient\n0.png,1,p1\n1.png,1,\n")
    assert judged(named, Task.TUMOR).patient.tolist() == ["0", "1"]


def test_images_have_the_classes_that_the_caller_says(tmp_path: Path) -> None:
    for number, folder in enumerate(("Tumor", "Stroma", "normal")):
        save(tmp_path / folder / f"p{number}" / "a.png", tile(1, number))
    names = {"stroma": "other", "Normal": "ignore"}
    labels = SiteLabels(path=tmp_path, mpp=0.2793, rules=Rules(names=names))
    found = judged(labels, Task.TUMOR)
    assert found.patient.tolist() == ["p1", "p0"]
    assert found.truth.ravel().tolist() == [0, 1]
    with pytest.raises(DataSetError, match="--rest is for annotated slides"):
        judged(replace(labels, rules=Rules(names=names, rest="other")), Task.TUMOR)
    with pytest.raises(DataSetError, match="every image is of a class that is to be ignored"):
        skipped = dict.fromkeys(("tumor", "stroma", "normal"), "ignore")
        judged(replace(labels, rules=Rules(names=skipped)), Task.TUMOR)

    files = ["Tumor/p0/a.png", "Stroma/p1/a.png", "normal/p2/a.png"]
    rows = [f"{file},{file.split('/')[0]},p{number}" for number, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,patient", *rows]))
    found = judged(labels, Task.TUMOR)
    assert found.patient.tolist() == ["p0", "p1"]
    assert found.truth.ravel().tolist() == [1, 0]


def test_classes_of_masks_are_not_said_by_the_caller(tmp_path: Path) -> None:
    save(tmp_path / "a.png", tile(1, 0))
    save(tmp_path / "a_mask.png", np.full((512, 512), 255, np.uint8))
    labels = SiteLabels(path=tmp_path, mpp=0.2793)
    assert judged(labels, Task.TUMOR).truth.ravel().tolist() == [1]
    with pytest.raises(DataSetError, match=r"what the values of masks mean says mask\.json"):
        judged(replace(labels, rules=Rules(names={"255": "other"})), Task.TUMOR)


def test_rows_of_train_and_validation_do_not_calibrate(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.png", tile(1, number))
    said: list[str] = []
    labels = SiteLabels(path=tmp_path, mpp=0.2793, say=said.append)

    def listed(*splits: str, patient: str = "p") -> None:
        rows = [f"{n}.png,{n % 2},{patient}{n},{split}" for n, split in enumerate(splits)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,label,patient,split", *rows]))

    listed("train", "train", "validation", "test", "test", "train")
    assert judged(labels, Task.TUMOR).patient.tolist() == ["p3", "p4"]
    assert said == ["4 of 6 left out: their split is train or validation."]
    # Who names the patients another way does not take the splits back.
    named = replace(labels, patient_of=lambda file: (f"own-{file.stem}", None))
    assert judged(named, Task.TUMOR).patient.tolist() == ["own-3", "own-4"]
    for split in ("val", ""):
        listed("test", split)
        with pytest.raises(DataSetError, match=rf"1\.png: split '{split}' is none of train, valid"):
            judged(labels, Task.TUMOR)
    table = (tmp_path / "labels.csv").read_text().replace("p1,", "p0,train")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataSetError, match="patient p0 is in"):
        judged(labels, Task.TUMOR)


def test_the_table_of_patients_does_not_take_a_split_of_labels_back(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", tile(1, number))
    rows = ["0.png,1,p0,train", "1.png,0,p1,test", "2.png,0,p2,test"]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,patient,split", *rows]))
    table = tmp_path / "patients.csv"
    labels = SiteLabels(path=tmp_path, mpp=0.2793)

    def by_table(split: str) -> LabeledLogits:
        own = [f"0.png,a,{split}", "1.png,b,test", "2.png,c,test"]
        table.write_text("\n".join(["file,patient,split", *own]))
        return judged(replace(labels, patient_of=from_table(table)), Task.TUMOR)

    assert by_table("train").patient.tolist() == ["b", "c"]
    told = r"0\.png: its split is train in labels\.csv, and test in the table of --patients"
    with pytest.raises(DataSetError, match=told):
        by_table("test")
    (tmp_path / "labels.csv").write_text(
        "\n".join(["file,label,split", "0.png,1,train", "1.png,0,"])
    )
    with pytest.raises(
        DataSetError, match=r"1\.png.*images that no network learned from are of test"
    ):
        judged(labels, Task.TUMOR)


def test_patients_folders_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    for number, folder in enumerate(("tumor/P1", "other/p1")):
        save(tmp_path / folder / "a.png", tile(1, number))
    with pytest.raises(DataSetError, match="patients 'p1' and 'P1' differ in case alone"):
        judged(SiteLabels(path=tmp_path, mpp=0.2793), Task.TUMOR)


def test_patients_of_a_table_of_slides_are_its_own(tmp_path: Path) -> None:
    """The option was passed over."""
    (tmp_path / "slides.csv").write_text("slide,annotations,patient\na.svs,a.geojson,P1\n")
    labels = SiteLabels(path=tmp_path / "slides.csv", patient_of=from_pattern("(.)"))
    with pytest.raises(DataSetError, match=r"slides\.csv: .*leave --patients and --patient-p"):
        judged(labels, Task.TUMOR)
