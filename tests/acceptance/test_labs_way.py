"""The workflow of a lab: annotations, a data set, its own weights, a case scored with them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fixtures.annotations import TILE_PX, he_annotations, ihc_annotations, truth_raster
from fixtures.daemon import tandem, tandem_here
from fixtures.tiny import VIT, write_config
from numpy.typing import NDArray

from models.datasets.store import load_dataset, read_data_set_manifest
from models.spec import Task, verify
from models.synthesis.blocks import CLASS_STEP, MASK_STEP
from models.synthesis.slides import SyntheticCase


@dataclass(frozen=True)
class Lab:
    """Two synthetic cases that a test annotated, and the results made from them."""

    cases: tuple[SyntheticCase, SyntheticCase]
    data: dict[Task, Path]
    weights: dict[Task, Path]


@pytest.fixture(scope="module")
def lab(
    small_case: SyntheticCase, other_case: SyntheticCase, tmp_path_factory: pytest.TempPathFactory
) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    cases = (other_case, small_case)
    config = write_config(folder / "tiny.toml", VIT, epochs=2)
    data, weights = {}, {}
    for task in (Task.TUMOR, Task.INTENSITY):
        table = folder / f"{task}.csv"
        with table.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(("slide", "annotations", "patient", "split"))
            for number, (case, split) in enumerate(zip(cases, ("train", "test"), strict=True)):
                annotations = folder / f"{task}-{number}.geojson"
                if task is Task.TUMOR:
                    he_annotations(case, annotations)
                else:
                    ihc_annotations(case, annotations)
                slide = case.he_path if task is Task.TUMOR else case.ihc_path
                rows.writerow((slide, annotations.name, f"patient-{number}", split))
        data[task], weights[task] = folder / f"{task}-data", folder / f"{task}-weights"
        rest = ("--rest", "other") if task is Task.TUMOR else ()
        tandem_here("dataset", "annotations", table, "--task", task, *rest, "--out", data[task])
        tandem_here("train", task, "--data", data[task], "--config", config, "--out", weights[task])
    return Lab(cases, data, weights)


def truth_of_tiles(
    lab: Lab, task: Task, name: str, step: int
) -> Iterator[tuple[int | None, NDArray[np.uint8]]]:
    """Return label and truth of each tile of a data set, by the position in its origin."""
    rasters = [truth_raster(case, name) for case in lab.cases]
    for entry in read_data_set_manifest(lab.data[task]).tiles:
        slide, column, row = (int(word) for word in re.findall(r"\d+", entry.origin))
        top, left, edge = row * TILE_PX // step, column * TILE_PX // step, TILE_PX // step
        yield entry.label, rasters[slide - 1][top : top + edge, left : left + edge]


@pytest.mark.slow
def test_annotations_become_tiles_of_the_right_class(lab: Lab) -> None:
    for label, part in truth_of_tiles(lab, Task.TUMOR, "he_tumor", MASK_STEP):
        share = float((part > 0).mean())
        if not 0.04 < share < 0.06:  # an outline is not exact to the px
            assert label == (share >= 0.05)
    for label, part in truth_of_tiles(lab, Task.INTENSITY, "ihc_classes", CLASS_STEP):
        assert float((part == label + 1).mean()) > 0.05
    manifest = read_data_set_manifest(lab.data[Task.INTENSITY])
    assert set(manifest.counts) == {"train", "test"}
    stain = load_dataset(lab.data[Task.INTENSITY], "train")
    assert set(stain.labels.tolist()) == {0, 1, 2, 3}
    # DAB absorbs blue: strong tiles are browner than tiles without stain.
    brown = np.array([float(i[..., 0].mean()) - float(i[..., 2].mean()) for i in stain.images])
    assert brown[stain.labels == 3].mean() > brown[stain.labels == 0].mean()
    checked = tandem_here("dataset", "check", lab.data[Task.INTENSITY]).stdout
    assert "train" in checked


@pytest.mark.slow
def test_weights_say_what_they_were_trained_on(lab: Lab) -> None:
    for task, folder in lab.weights.items():
        spec = verify(folder)
        assert spec.task is task
        assert spec.trained["data_set"]["source"]["kind"] == "annotations"
        assert spec.figures["data"].startswith("the data set's own test split")


@pytest.mark.slow
def test_own_weights_score_a_case(lab: Lab, tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(
        f"state_dir = {json.dumps(str(tmp_path / 'state'))}\n"
        f"[watch]\nfolder = {json.dumps(str(tmp_path / 'scans'))}\n"
    )
    for folder in lab.weights.values():
        tandem("weights", "use", folder, "--config", config)
    case, out = lab.cases[1], tmp_path / "out"
    tandem("process", case.he_path, case.ihc_path, "--out", out, "--config", config)
    text = (out / "findings.json").read_text()
    for folder in lab.weights.values():
        assert verify(folder).sha256[:12] in text
    assert list(out.glob("SR-*.dcm"))
