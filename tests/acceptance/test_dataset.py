"""``tandem dataset``: bad input gives one line that names the file and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.daemon import tandem, tandem_here
from fixtures.tiles import COLORS, save, tile

from models.datasets.store import load_dataset, read_data_set_manifest
from models.patch_counts.patches import load_patches
from models.spec import CLASSES, Task
from models.synthesis.pyramid import write_pyramid
from models.synthesis.slides import SyntheticCase


def refused(tmp_path: Path, *arguments: object) -> str:
    """Run a command that must fail and leave its folder unchanged; return its output."""
    out = tmp_path / "made" / "set"
    out.parent.mkdir()
    done = tandem("dataset", *arguments, "--out", out, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert list(out.parent.iterdir()) == []
    return done.stderr


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Make four patients with one tile of each class."""
    for label, name in enumerate(("other", "tumor")):
        for patient in range(4):
            save(tmp_path / "tiles" / name / f"P{patient}" / "a.png", tile(label, patient))
    return tmp_path / "tiles"


def test_folders_to_a_checked_set(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    made = tandem("dataset", "folders", tiles, "--task", "tumor", "--out", out).stdout
    checked = tandem("dataset", "check", out).stdout
    assert made == checked
    manifest = read_data_set_manifest(out)
    assert sum(c.patients for c in manifest.counts.values()) == 4
    path = out / "tiles" / "000003.png"
    data = bytearray(path.read_bytes())
    data[-30] ^= 4
    path.write_bytes(data)
    done = tandem("dataset", "check", out, check=False)
    assert done.returncode == 1
    assert "000003.png: its checksum is not the manifest's" in done.stderr


def test_a_truncated_image(tiles: Path, tmp_path: Path) -> None:
    path = tiles / "tumor" / "P3" / "a.png"
    path.write_bytes(path.read_bytes()[:-100])
    said = refused(tmp_path, "folders", tiles, "--task", "tumor")
    assert "tumor/P3/a.png: damaged or no image" in said


def test_an_empty_class(tiles: Path, tmp_path: Path) -> None:
    for path in (tiles / "tumor").rglob("*.png"):
        path.unlink()
    said = refused(tmp_path, "folders", tiles, "--task", "tumor")
    assert "tiles/tumor: class 'tumor' is empty" in said


def test_a_patient_in_two_splits(tiles: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text(
        "file,patient,split\n"
        + "".join(f"other/P{k}/a.png,P{k},train\ntumor/P{k}/a.png,P{k},train\n" for k in range(3))
        + "other/P3/a.png,P3,train\ntumor/P3/a.png,P3,test\n"
    )
    said = refused(tmp_path, "folders", tiles, "--task", "tumor", "--patients", table)
    assert "patients.csv: patient P3 is in train and in test" in said


def test_a_mask_with_an_unknown_label(tmp_path: Path) -> None:
    mask = np.zeros((512, 512), dtype=np.uint8)
    for patient in range(3):
        save(tmp_path / "images" / f"P{patient}" / "a.png", tile(0, patient))
        save(tmp_path / "masks" / f"P{patient}" / "a.png", mask)
    mask[100, 100] = 9
    save(tmp_path / "masks" / "P2" / "a.png", mask)
    said = refused(
        tmp_path, "masks", tmp_path / "images", tmp_path / "masks", "--task", "segmentation"
    )
    assert "masks/P2/a.png: label 9 is unknown" in said


def test_masks_of_intensity_say_what_their_values_are(tmp_path: Path) -> None:
    """A 0 is no stain for one and no tumor for another."""
    folders = (tmp_path / "images", tmp_path / "masks")
    for folder in folders:
        folder.mkdir()
    done = tandem_here(
        "dataset", "masks", *folders, "--task", "intensity", "--out", tmp_path / "out", check=False
    )
    assert done.returncode == 2 and "--label 0=background" in done.stderr


def test_an_annotation_outside_its_slide_and_a_slide_that_is_none(tmp_path: Path) -> None:
    pixels = np.concatenate([tile(1, 0, 1536), tile(0, 0, 1536)], axis=1)
    slide = tmp_path / "a.svs"
    write_pyramid(slide, [pixels], width_px=3072, height_px=1536, mpp=0.2793, file_format="svs")

    def annotate(left: int) -> None:
        ring = [[left, 0], [left + 1000, 0], [left + 1000, 1000], [left, 1000], [left, 0]]
        feature = {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": "Tumor"}},
        }
        (tmp_path / "a.geojson").write_text(json.dumps([feature]))

    table = tmp_path / "slides.csv"
    table.write_text("slide,annotations,patient,split\na.svs,a.geojson,p,train\n")
    command = ("annotations", table, "--task", "tumor", "--rest", "other")
    annotate(2500)
    said = refused(tmp_path, *command)
    assert "a.geojson, feature 1: reaches from (2500, 0) to (3500, 1000), outside" in said
    annotate(0)
    tandem("dataset", *command, "--out", tmp_path / "good")
    data = load_dataset(tmp_path / "good", "train")
    assert data.task is Task.TUMOR
    # The right half is the brightest: it is taken for glass, brought to 255, and dropped as white.
    assert data.labels.tolist() == [1, 1, 0, 1, 1, 0, 0, 0, 0]
    expected = tile(1, 0, 1536)[:512, :512] * 255.0 / COLORS[0]
    assert np.abs(data.images[0].mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 8
    slide.write_bytes(slide.read_bytes()[:5000])
    (tmp_path / "made").rmdir()
    assert "a.svs: " in refused(tmp_path, *command)


def test_generated_tiles_are_equal_for_equal_seeds(tmp_path: Path) -> None:
    for name in "ab":
        tandem_here(
            "dataset", "generated", "--task", "intensity", "--tiles", 24, "--seed", 3,
            "--splits", "0.8,0,0.2", "--out", tmp_path / name,
        )  # fmt: skip
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (
        tmp_path / "b" / "manifest.json"
    ).read_bytes()
    manifest = read_data_set_manifest(tmp_path / "a")
    assert manifest.source["kind"] == "generated"
    assert len(manifest.tiles) == 24
    assert "89" in refused(tmp_path, "generated", "--task", "tumor", "--tiles", 8, "--seed", 890)


def test_proposed_labels_are_corrected_and_come_back(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn"
    command = ("dataset", "propose", small_case.ihc_path, "--out", drawn, "--tiles", 4)
    done = tandem_here(*command)
    said = done.stdout
    assert f"{drawn}: files have the names of the slides" in done.stderr
    path = drawn / f"{small_case.ihc_path.stem}.geojson"
    features = json.loads(path.read_text())["features"]
    assert said == f"{path}: {len(features)} superpixels\n"
    assert all(f["properties"]["objectType"] == "annotation" for f in features)
    colors = {
        f["properties"]["classification"]["name"]: f["properties"]["classification"]["color"]
        for f in features
    }
    assert len(colors) > 1 and set(colors) <= set(CLASSES[Task.SEGMENTATION])
    assert len({tuple(color) for color in colors.values()}) == len(colors)

    table = tmp_path / "slides.csv"
    table.write_text(f"slide,annotations,patient,split\n{small_case.ihc_path},{path},p,train\n")
    made = ("dataset", "annotations", table, "--task", "segmentation", "--out")

    def px(name: str) -> dict[str, int]:
        tandem_here(*made, tmp_path / name)
        manifest = read_data_set_manifest(tmp_path / name)
        assert manifest.counts["train"].tiles == 4
        return manifest.counts["train"].classes

    proposed = px("proposed")
    assert sum(proposed.values()) == 4 * 128 * 128
    assert all(proposed[name] for name in colors)
    # A person takes all background but one piece for 3+; what they did is not overwritten.
    document = json.loads(path.read_text())
    classes = [feature["properties"]["classification"] for feature in document["features"]]
    for each in [each for each in classes if each["name"] == "background"][1:]:
        each["name"] = "3+"
    path.write_text(json.dumps(document))
    corrected = px("corrected")
    assert 0 < corrected["background"] < proposed["background"]
    assert corrected["3+"] - proposed["3+"] == proposed["background"] - corrected["background"]
    done = tandem_here(*command, check=False)
    assert done.returncode == 1 and "is there already" in done.stderr
    assert json.loads(path.read_text()) == document


def test_annotated_slides_to_files_of_patches(tmp_path: Path) -> None:
    """One slide has an annotation of its right half, one has none; a bad row is told in a line."""
    for name in "ab":
        pixels = np.full((3072, 4096, 3), 244, dtype=np.uint8)
        pixels[256:2816, 256:3840] = (150, 100, 70)
        path = tmp_path / f"{name}.svs"
        write_pyramid(path, [pixels], width_px=4096, height_px=3072, mpp=0.5, file_format="svs")
    corners = [[2048, 0], [4096, 0], [4096, 3072], [2048, 3072], [2048, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"classification": {"name": "2+"}},
    }
    (tmp_path / "a.geojson").write_text(json.dumps([feature]))
    table = tmp_path / "slides.csv"
    # A column of splits says nothing here, for patches of slides have no patient.
    table.write_text("slide,annotations,split\na.svs,a.geojson,train\nb.svs,,test\n")
    out = tmp_path / "patches"
    done = tandem("dataset", "patches", table, "--resolution", "moderate", "--out", out)
    found, bare = (load_patches(out / f"{name}.safetensors") for name in "ab")
    assert f"{out / 'b.safetensors'}: {len(bare)} patches, 0 annotated" in done.stdout
    assert f"{out}: files have the names of the slides" in done.stderr
    # Patches of 730 µm: the right half begins in the second column, the third row is glass alone.
    assert found.places.max(axis=0).tolist() == [2, 1]
    right = found.places[:, 0] >= 1
    assert (found.labels[right] == 2).all() and (found.labels[~right] == -1).all()
    middle = found.places.tolist().index([1, 1])
    brown = np.array((150, 100, 70)) * 255 / 244  # glass is brought to 255
    assert np.abs(np.median(found.pixels(middle), axis=(0, 1)) - brown).max() < 4

    table.write_text("slide,annotations\na.svs,a.geojson\nb.svs,b.geojson\n")
    failed = tandem(
        "dataset", "patches", table, "--resolution", "low", "--out", tmp_path / "n", check=False
    )
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "slides.csv, line 3" in failed.stderr and not (tmp_path / "n").exists()
