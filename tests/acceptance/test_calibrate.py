"""``tandem calibrate``: from QuPath's GeoJSON and from class folders to weights in use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fixtures.tiles import save, tile
from fixtures.weights import tiny_weights
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.site_calibrations import calibration_path
from appliance.settings.settings import Settings
from models.site_calibration import SiteCalibration
from models.spec import Task
from models.synthesis.pyramid import write_pyramid

PATIENTS = 5
PX = 512
MPP = ("--mpp", "0.2793")
"""Resolution of images, which state none."""


@dataclass(frozen=True)
class Site:
    """A site whose weights, of a random network, are in use."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return Settings(state_dir=self.folder / "state")

    def run(self, *arguments: object, more: str = "") -> tuple[int, str]:
        """Return exit status and output of ``tandem …``; an error's text is at the end.

        `more` is added to the settings file.
        """
        config = self.folder / "tandem.toml"
        state = json.dumps(str(self.settings.state_dir))
        config.write_text(f'state_dir = {state}\n[models]\ndevice = "cpu"\n{more}')
        done = CliRunner().invoke(
            app, [*(str(each) for each in arguments), "--config", str(config)]
        )
        message = "" if isinstance(done.exception, SystemExit | None) else str(done.exception)
        return done.exit_code, done.output + message

    def calibration(self) -> SiteCalibration | None:
        return chosen_weights(Task.TUMOR, self.settings)[1].site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    # It tells the two colors apart, and calls both tumor.
    tiny_weights(tmp_path / "own", seed=4, temperature=0.02)
    assert made.run("weights", "use", tmp_path / "own")[0] == 0
    return made


def annotated(folder: Path, swap: bool = False) -> Path:
    """A slide per patient: four tiles of tumor, four of other tissue, and glass around them.

    Each half is annotated in QuPath's GeoJSON, once for each patient; `swap` mistakes every other
    tile's class.
    """
    for patient in range(PATIENTS):
        pixels = np.full((5 * PX, 5 * PX, 3), 250, dtype=np.uint8)
        features = []
        for number in range(8):
            row, column = 1 + number // 4, number % 4
            label = number // 4
            top, left = row * PX, column * PX
            pixels[top : top + PX, left : left + PX] = tile(label, 10 * patient + number)
            stated = label if not swap or (number + patient) % 2 else 1 - label
            features.append(rectangle("Tumor" if stated else "Stroma", left, top))
        slide = folder / f"patient-{patient}" / "slide.svs"
        slide.parent.mkdir(parents=True)
        write_pyramid(
            slide, [pixels], width_px=5 * PX, height_px=5 * PX, mpp=0.2793, file_format="svs"
        )
        document = {"type": "FeatureCollection", "features": features}
        slide.with_suffix(".geojson").write_text(json.dumps(document))
    return folder


def rectangle(name: str, left: int, top: int) -> dict[str, object]:
    """An annotation inside one tile, in level-0 px, as QuPath exports it."""
    x = (left + 30, left + PX - 30)
    y = (top + 30, top + PX - 30)
    ring = [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def test_from_geojson_to_weights_in_use_and_back(site: Site) -> None:
    labels = annotated(site.folder / "labels")
    code, text = site.run("calibrate", labels, "--task", "tumor", "--dry-run")
    assert (code, "nothing is stored" in text) == (0, True), text
    assert site.calibration() is None
    code, text = site.run("weights", "list")
    assert "not calibrated for this site" in " ".join(text.split())

    code, text = site.run("calibrate", labels, "--task", "tumor", "--json")
    assert code == 0, text
    said = json.loads(text)
    assert (said["stored"], said["refused"]) == (True, "")
    assert said["figures"]["after"]["balanced_accuracy"]["value"] == 1.0
    assert said["figures"]["before"]["balanced_accuracy"]["value"] < 0.9
    assert (said["figures"]["held_out"], said["figures"]["intervals_by"]) == ("patient", "patient")
    made = site.calibration()
    assert made is not None
    assert (made.tiles, made.patients) == (8 * PATIENTS, PATIENTS)
    assert made.scale == said["scale"]

    listed = json.loads(site.run("weights", "list", "--json")[1])
    (own,) = [each for each in listed if each["in_use"] and each["task"] == "tumor"]
    assert own["calibration"]["fingerprint"] == made.fingerprint
    text = " ".join(site.run("weights", "list")[1].split())
    assert "40 tiles of 5 patients" in text

    # Other weights are not calibrated; the same ones are again when they come back.
    site.run("weights", "use", "tumor", "reference")
    assert site.calibration() is None
    site.run("weights", "use", "tumor", "tiny-1.4")
    assert site.calibration() == made

    code, text = site.run("calibrate", "--task", "tumor", "--remove")
    assert (code, "not calibrated for this site from now on" in text) == (0, True)
    assert site.calibration() is None
    assert "there is no calibration" in site.run("calibrate", "--task", "tumor", "--remove")[1]


def test_slides_that_trained_a_network_do_not_calibrate_it(site: Site) -> None:
    labels = annotated(site.folder / "labels")
    # Their annotations are mistaken: taken along, they would have the calibration refused.
    annotated(labels / "taught", swap=True)
    table = labels / "slides.csv"
    header = "slide,annotations,patient,split"

    def write(split: str, other: str) -> None:
        rows = [
            f"{folder}patient-{n}/slide.svs,{folder}patient-{n}/slide.geojson,{folder}{n},{part}"
            for folder, part in (("", split), ("taught/", other))
            for n in range(PATIENTS)
        ]
        table.write_text("\n".join([header, *rows]))

    for other in ("train", "validation"):
        write("test", other)
        code, text = site.run("calibrate", table, "--task", "tumor")
        assert (code, "5 of 10 left out: their split is train or" in text) == (0, True), text
        made = site.calibration()
        assert made is not None and (made.tiles, made.patients) == (8 * PATIENTS, PATIENTS)
        assert "learned from" not in text
    write("train", "validation")
    code, text = site.run("calibrate", table, "--task", "tumor")
    assert (code, "Label other patients" in text) == (1, True)


def test_weights_that_learned_from_a_sites_slides_say_so(site: Site) -> None:
    learned = {"data_set": {"source": {"kind": "annotations"}}}
    tiny_weights(site.folder / "taught", seed=4, temperature=0.02, trained=learned)
    assert site.run("weights", "use", site.folder / "taught", "--name", "taught")[0] == 0
    labels = annotated(site.folder / "labels")
    text = site.run("calibrate", labels, "--task", "tumor", "--dry-run")[1]
    assert "learned from a data set of annotations: label other patients than those" in text


def test_mistaken_labels_change_nothing_and_are_refused(site: Site) -> None:
    labels = annotated(site.folder / "labels", swap=True)
    code, text = site.run("calibrate", labels, "--task", "tumor")
    assert (code, "says no more than one answer for all tiles" in text) == (1, True), text
    assert site.calibration() is None
    code, text = site.run("calibrate", labels, "--task", "tumor", "--json")
    assert (code, json.loads(text)["stored"]) == (1, False)
    assert not list((site.settings.weights_dir / "tumor").glob("*.json"))


def test_from_class_folders(site: Site) -> None:
    for label, name in enumerate(("other", "tumor")):
        for patient in range(PATIENTS):
            for number in range(4):
                save(
                    site.folder / "labels" / name / f"P{patient}" / f"{number}.png",
                    tile(label, 10 * patient + number),
                )
    code, text = site.run("calibrate", site.folder / "labels", "--task", "tumor")
    assert (code, "other/P0/0.png: no resolution. Say --mpp" in text) == (1, True), text
    code, text = site.run("calibrate", site.folder / "labels", "--task", "tumor", *MPP)
    assert code == 0, text
    made = site.calibration()
    assert made is not None
    assert (made.tiles, made.patients) == (40, 5)
    # A damaged file stops readers, and calibrating again mends it.
    path = calibration_path(chosen_weights(Task.TUMOR, site.settings)[1], site.settings)
    path.write_text("{")
    assert "tandem calibrate --remove" in site.run("weights", "verify")[1]
    listed = " ".join(site.run("weights", "list")[1].split())
    assert f"tumor: {path}: not a usable calibration" in listed
    assert "tumor: not calibrated" not in listed and "intensity: not calibrated" in listed
    assert site.run("calibrate", site.folder / "labels", "--task", "tumor", *MPP)[0] == 0
    assert site.calibration() == SiteCalibration.of_json(path.read_text())


def test_crops_without_a_patient_are_not_a_patient_each(site: Site) -> None:
    for label, name in enumerate(("other", "tumor")):
        for number in range(20):
            save(site.folder / "labels" / name / f"{number}.png", tile(label, number))
    code, text = site.run("calibrate", site.folder / "labels", "--task", "tumor", *MPP)
    assert code == 1
    assert "refused: the tiles come from 1 patients" in " ".join(text.split())
    assert site.calibration() is None


def test_patients_of_one_crop_each_are_patients(site: Site) -> None:
    for label, name in enumerate(("other", "tumor")):
        for number in range(20):
            save(site.folder / "labels" / name / f"P{number}" / "0.png", tile(label, number))
    code, text = site.run("calibrate", site.folder / "labels", "--task", "tumor", *MPP)
    assert code == 0, text
    made = site.calibration()
    assert made is not None and made.patients == 20


def test_what_cannot_be_used_is_told_in_a_line(site: Site) -> None:
    (site.folder / "labels").mkdir()
    for arguments, words in (
        ((site.folder / "none",), "no such table or folder"),
        ((site.folder / "labels",), "no layout that the tumor task understands"),
        ((), "LABELS, or --remove"),
        (("--remove", "--dry-run"), "no dry run"),
    ):
        code, text = site.run("calibrate", *arguments, "--task", "tumor")
        assert code != 0
        assert words in text
    (site.folder / "labels" / "a.geojson").write_text("[]")
    text = site.run("calibrate", site.folder / "labels", "--task", "tumor", *MPP)[1]
    assert "needs one slide of its name beside it; there is none" in text


def test_a_moved_threshold_and_a_calibration_do_not_correct_a_network_twice(site: Site) -> None:
    moved = "[scoring]\ntumor_threshold = 0.98\n"
    labels = annotated(site.folder / "labels")
    code, text = site.run("calibrate", labels, "--task", "tumor", more=moved)
    assert (code, "scoring.tumor_threshold = 0.98" in text) == (1, True), text
    assert "Set it back to 0.5 first." in text
    assert site.calibration() is None

    def doctor(more: str) -> str:
        lines = site.run("doctor", more=more)[1].splitlines()
        return next(line for line in lines if "weights for tumor" in line)

    # Without a calibration the threshold is the site's choice.
    assert "tumor_threshold" not in doctor(moved)
    assert site.run("calibrate", labels, "--task", "tumor")[0] == 0
    assert "Warning: scoring.tumor_threshold = 0.98" in doctor(moved)
    assert "tumor_threshold" not in doctor("")
    # It can be taken out under any threshold.
    assert site.run("calibrate", "--task", "tumor", "--remove", more=moved)[0] == 0
    assert site.calibration() is None


def test_a_worse_calibration_does_not_replace_a_better_one(site: Site) -> None:
    labels, fewer = annotated(site.folder / "labels"), annotated(site.folder / "fewer")
    for path in fewer.rglob("*.geojson"):
        document = json.loads(path.read_text())
        path.write_text(json.dumps(document | {"features": document["features"][::2]}))
    assert site.run("calibrate", labels, "--task", "tumor")[0] == 0
    better = site.calibration()
    assert better is not None and better.tiles == 40
    code, text = site.run("calibrate", fewer, "--task", "tumor")
    words = " ".join(text.split())
    assert code == 1 and "refused: the calibration in use is as good on these tiles" in words, text
    assert "The calibration in use, on the same tiles: nll 0.0" in words
    assert site.calibration() == better
    code, text = site.run("calibrate", fewer, "--task", "tumor", "--json")
    assert (code, json.loads(text)["stored"]) == (1, False)
    assert json.loads(text)["figures"]["in_use"]["balanced_accuracy"] == 1.0

    assert site.run("calibrate", "--task", "tumor", "--remove")[0] == 0
    assert site.run("calibrate", fewer, "--task", "tumor")[0] == 0
    poor = site.calibration()
    assert poor is not None and poor.tiles == 20
    code, text = site.run("calibrate", labels, "--task", "tumor")
    words = " ".join(text.split())
    assert code == 0 and f"in place of {poor.fingerprint[:12]}… of {poor.made[:10]}" in words, text
    assert (now := site.calibration()) is not None and now.fingerprint == better.fingerprint


def test_a_share_that_is_away_is_not_a_site_without_calibration(site: Site) -> None:
    labels = annotated(site.folder / "labels")
    share, away = site.folder / "share", site.folder / "away"
    more = f'calibrations = "{share / "cal"}"\n'
    told = f"models.calibrations = {share / 'cal'}: no folder is there. Mount or create it"

    def calibrate(*arguments: object) -> tuple[int, str]:
        code, text = site.run("calibrate", *arguments, "--task", "tumor", more=more)
        return code, " ".join(text.split())

    (share / "cal").mkdir(parents=True)
    assert calibrate(labels)[0] == 0
    (stored,) = share.rglob("calibration-*.json")
    made = stored.read_text()
    share.rename(away)
    share.mkdir()  # the bare mount point
    for arguments in ((labels,), (labels, "--dry-run"), ("--remove",)):
        code, text = calibrate(*arguments)
        assert (code, told in text) == (1, True), text
    assert not list(share.iterdir())
    listed = " ".join(site.run("weights", "list", more=more)[1].split())
    assert f"tumor: {told}" in listed and "not calibrated" not in listed
    share.rmdir()
    away.rename(share)
    assert stored.read_text() == made
    code, text = calibrate("--remove")
    assert (code, "not calibrated for this site from now on" in text) == (0, True)


def test_a_calibration_that_cannot_be_read_is_not_replaced_unseen(site: Site) -> None:
    labels = annotated(site.folder / "labels")
    spec = chosen_weights(Task.TUMOR, site.settings)[1]
    calibration_path(spec, site.settings).mkdir()  # reading it fails, as of a share with trouble
    code, text = site.run("calibrate", labels, "--task", "tumor", "--dry-run")
    assert (code, "Is a directory" in text) == (1, True), text
    assert "Mount the share, or correct its rights" in " ".join(text.split())
    assert "Calibrate again" not in text
