"""Findings on disk: what is saved is what is loaded, in this version and from earlier ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.findings import calibrated_opinions, some_findings, some_opinions

from appliance.findings.codec import IHC_CLASSES, load_findings, save_findings, summary
from appliance.findings.findings import (
    FINDINGS_VERSION,
    SCORED,
    Correction,
    Findings,
    ReadOuts,
    SignOff,
)
from appliance.findings.measured import AnnotatedTile, StainFocus
from appliance.findings.opinion import Opinion
from appliance.findings.reasons import Reason, ReviewReason

ROOT = Path(__file__).parents[3]
EARLIER = ROOT / "tests" / "fixtures" / "findings_versions"
BLANK = np.full((10, 10, 3), 240, dtype=np.uint8)
ANNOTATED = AnnotatedTile(
    column=3,
    row=7,
    intensity=3,
    intensity_probability=0.75,
    percent=(0.0, 0.0, 0.0, 12.5),
    grade=3,
    label="S/3+",
)
PERCENT = {
    "0": 19.369180685121755,
    "1+": 28.356859925602084,
    "2+": 28.592557528881663,
    "3+": 23.681401860394498,
}
"""Of the findings of earlier versions; counted on their label map."""


def without_label_map() -> Findings:
    made = some_findings()
    return replace(made, rasters=replace(made.rasters, ihc_classes=None))


def with_everything() -> Findings:
    """Findings with the optional parts that `some_findings` lacks, without those that it has."""
    return replace(
        some_findings(),
        assay="another",
        score=None,
        paper_score=None,
        paper_score_by_count=None,
        paper_score_fallback=None,
        wsi_percent_of_slide=None,
        binary_by_pixels=None,
        tumor_percent=None,
        cells=None,
        control=None,
        outside_tumor=StainFocus(area_mm2=0.25, x_um=1200.5, y_um=340.0, reader="plain"),
        annotated=(ANNOTATED, replace(ANNOTATED, column=4, label="FS/3+")),
        read_outs=None,
        rois=(),
        appearance={"he": 1.5},
        unreadable={"ihc": 0.25},
        category="negative",
        review=(ReviewReason(code="of-an-assay", params={"limit": 1, "names": ["a", "b"]}),),
        correction=Correction(by="Meyer^Anna", why="looked", was=None, corrects="findings/0"),
        sign_offs=(
            SignOff(by="Meyer^Anna", organization="Lab", at=1_772_600_767, signs="findings/0"),
            SignOff(by="Ito^Bert", organization="Lab", at=1_772_600_768, signs="findings/0"),
        ),
        opinions=calibrated_opinions(some_findings()),
    )


@pytest.mark.parametrize("made", [some_findings, without_label_map, with_everything])
def test_all_that_is_saved_is_loaded(made: Callable[[], Findings], tmp_path: Path) -> None:
    findings = made()
    save_findings(findings, tmp_path, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    loaded = load_findings(tmp_path)
    for field in fields(findings):
        before, after = getattr(findings, field.name), getattr(loaded, field.name)
        if field.name == "rasters":
            assert (before.he_mpp, before.ihc_mpp) == (after.he_mpp, after.ihc_mpp)
            assert np.array_equal(before.he_tumor, after.he_tumor)
            assert np.array_equal(before.ihc_read, after.ihc_read)
            assert np.array_equal(before.he_probability, after.he_probability, equal_nan=True)
            if before.ihc_classes is None:
                assert after.ihc_classes is None
            else:
                assert np.array_equal(before.ihc_classes, after.ihc_classes[:])
        elif field.name == "mapping":
            points = np.array([[100.0, 200.0], [3000.0, 40.0]])
            assert np.array_equal(before.forward(points), after.forward(points))
        else:
            assert before == after, field.name
    assert (tmp_path / IHC_CLASSES).exists() is (findings.rasters.ihc_classes is not None)
    assert summary(loaded) == summary(findings)


def test_other_programs_read_plain_json_and_parquet(tmp_path: Path) -> None:
    findings = some_findings()
    save_findings(findings, tmp_path, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    raw = json.loads((tmp_path / "findings.json").read_text())
    assert raw["version"] == FINDINGS_VERSION
    assert "research use only" in raw["notice"]
    assert raw["review"][0]["code"] == "near-threshold"
    assert raw["review"][0]["sentence"] == findings.review[0].sentence
    assert [opinion["reader"] for opinion in raw["opinions"]] == [
        "tumor",
        "intensity",
        "segmentation",
    ]
    assert [model["name"] for model in raw["models"]] == [m.name for m in findings.models]
    assert raw["cells"]["complete_percent"]["2+"] == 88.0
    assert raw["control"]["works"] is True
    assert (raw["paper_score"], raw["paper_score_by_count"]) == ("3+", "2+")
    assert raw["paper_score_fallback"] is False
    assert raw["wsi_percent"] == findings.wsi_percent
    assert (raw["wsi_percent_of_slide"], raw["tumor_percent"]) == (0.678, 31.25)
    assert raw["binary_by_pixels"] == "positive"
    assert len(raw["rois"][0]["outline_um"]) == 3
    assert raw["alignment"]["error_um"] == findings.alignment.error_um
    table = pq.read_table(tmp_path / "tiles.parquet")
    assert table.num_rows == len(findings.tiles) == raw["tiles_scored"]
    assert pq.read_table(tmp_path / "annotated.parquet").num_rows == raw["tiles_annotated"] == 0


def test_every_file_and_key_is_documented(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "findings.md").read_text()
    assert [key for key in summary(some_findings()) if f"`{key}`" not in text] == []
    save_findings(some_findings(), tmp_path, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    assert [path.name for path in tmp_path.iterdir() if f"`{path.name}`" not in text] == []


@pytest.mark.parametrize(
    ("version", "correction"),
    [
        (5, None),
        (6, Correction(by="Meyer^Anna", why="fixture", was="1+", corrects="findings/0")),
        (7, Correction(by="Meyer^Anna", why="fixture", was="1+", corrects="findings/0")),
        (8, Correction(by="Meyer^Anna", why="fixture", was="1+", corrects="findings/0")),
        (9, Correction(by="Meyer^Anna", why="fixture", was="1+", corrects="findings/0")),
    ],
)
def test_findings_of_earlier_versions_are_loaded(
    version: int, correction: Correction | None
) -> None:
    folder = EARLIER / f"v{version}"
    assert json.loads((folder / "findings.json").read_text())["version"] == version
    found = load_findings(folder)
    assert (found.version, found.assay) == (FINDINGS_VERSION, "her2")
    assert (found.accession, found.block, found.organ) == ("S26-0000101", "A1", "breast")
    assert (found.score, found.paper_score, found.category) == ("2+", "3+", None)
    assert (found.rule, found.comment) == ("", "HER2-low if ISH is negative.")
    assert found.percent == PERCENT
    assert found.read_outs == ReadOuts(binary="equivocal", three_way="pending ISH", four_way="2+")
    assert found.correction == correction
    assert found.sign_offs == found.confirmations == () and found.corrector is None
    # A stored sentence stays as it was, whatever the words for its code are today.
    (reason,) = found.review
    assert (reason.code, reason.sentence) == (Reason.NEAR_THRESHOLD, "A class lies near a limit.")
    assert [(model.task, model.name, model.version) for model in found.models] == [
        ("tumor", "vit-small-tumor", "1.0.0"),
        ("intensity", "vit-small-intensity", "1.0.0"),
        ("segmentation", "segformer-b0-stain", "1.0.0"),
    ]
    assert [model.sha256 for model in found.models] == [64 * digit for digit in "abc"]
    assert {model.calibration_words for model in found.models} == {"not calibrated for this site"}


@pytest.mark.parametrize("version", [5, 6, 7])
def test_opinions_of_earlier_versions_are_what_is_known_of_them(version: int) -> None:
    tumor, intensity, segmentation = load_findings(EARLIER / f"v{version}").opinions
    assert (tumor.reader, tumor.about, tumor.raster) == ("tumor", "tumor", "he_probability")
    assert (intensity.reader, intensity.about, intensity.raster) == ("intensity", "score", "")
    assert (tumor.classes, intensity.classes) == ((), ())
    assert (segmentation.about, segmentation.raster) == ("score", "ihc_classes")
    shares = dict(zip(segmentation.classes, segmentation.probabilities, strict=True))
    assert shares == pytest.approx({name: share / 100 for name, share in PERCENT.items()})
    assert {opinion.version for opinion in (tumor, intensity, segmentation)} == {0}


@pytest.mark.parametrize("version", [5, 6, 7])
def test_earlier_versions_know_less_of_the_paper(version: int) -> None:
    found = load_findings(EARLIER / f"v{version}")
    assert found.paper_score == "3+"
    assert found.wsi_percent == pytest.approx(PERCENT["2+"] + PERCENT["3+"])
    assert found.paper_score_by_count is found.paper_score_fallback is None
    assert found.wsi_percent_of_slide is found.tumor_percent is found.binary_by_pixels is None


@pytest.mark.parametrize("version", [5, 6, 7, 8])
def test_no_earlier_version_looked_outside_the_tumor(version: int) -> None:
    found = load_findings(EARLIER / f"v{version}")
    assert (found.outside_tumor, found.annotated) == (None, ())


@pytest.mark.parametrize("version", [5, 6, 7, 8, 9])
def test_measurements_and_rasters_of_earlier_versions_are_loaded(version: int) -> None:
    folder = EARLIER / f"v{version}"
    raw = json.loads((folder / "findings.json").read_text())
    found = load_findings(folder)
    assert (found.rasters.he_mpp, found.rasters.ihc_mpp) == (36.0, 16.0)
    classes = found.rasters.ihc_classes
    assert classes is not None
    counts = np.bincount(classes[:].ravel(), minlength=5)[1:]
    assert counts.sum() > 0 and len(counts) == 4
    with np.load(folder / "rasters.npz") as arrays:
        for name in ("he_tumor", "ihc_read", "he_probability"):
            assert np.array_equal(getattr(found.rasters, name), arrays[name], equal_nan=True)
    assert (found.rasters.ihc_read == SCORED).all()
    (tile,) = found.tiles
    assert (tile.column, tile.row, tile.grade, tile.label) == (20, 16, 2, "NFWS/2+")
    assert tile.percent == (20.0, 20.0, 50.0, 10.0)
    assert found.cells is not None and found.control is not None
    assert (found.cells.counted, found.cells.complete_percent["3+"]) == (2345, None)
    assert (found.control.strongest, found.control.works) == ("3+", True)
    assert [roi.name for roi in found.rois] == ["R1"]
    assert found.rois[0].outline_um[0] == (2860.0, 2288.0)
    assert found.alignment.matrix == (1.0, 0.0, 0.0, 1.0)
    assert found.h_score == raw["h_score"]
    assert found.he.size_um == (6000.0, 4500.0)


@pytest.mark.parametrize("version", [5, 6, 7, 8, 9])
def test_what_was_converted_is_saved_as_this_version(version: int, tmp_path: Path) -> None:
    found = load_findings(EARLIER / f"v{version}")
    save_findings(found, tmp_path, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    again = load_findings(tmp_path)
    assert json.loads((tmp_path / "findings.json").read_text())["version"] == FINDINGS_VERSION
    assert summary(again) == summary(found)
    assert again.review[0].sentence == "A class lies near a limit."


def _changed(folder: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy of a folder of findings whose JSON is changed."""
    shutil.copytree(folder, to)
    path = to / "findings.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return to


def test_the_first_corrections_did_not_name_what_they_correct(tmp_path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        del raw["correction"]["corrects"]

    found = load_findings(_changed(EARLIER / "v6", tmp_path / "v6", change))
    assert found.correction is not None
    assert (found.correction.was, found.correction.corrects) == ("1+", "")


def test_a_reader_that_is_not_installed_keeps_its_opinion(tmp_path: Path) -> None:
    (weights, *_) = some_findings().models
    vote = Opinion(
        reader="of-a-plugin",
        version=3,
        about="status",
        weights=weights,
        classes=("negative", "positive"),
        probabilities=(0.25, 0.75),
        certainty=0.75,
    )
    opinions = (*some_opinions(PERCENT), vote)
    save_findings(
        replace(some_findings(), opinions=opinions),
        tmp_path,
        he_thumbnail=BLANK,
        ihc_thumbnail=BLANK,
    )
    assert load_findings(tmp_path).opinions == opinions


@pytest.mark.parametrize("version", [1, 4, FINDINGS_VERSION + 1])
def test_findings_of_another_version_are_refused(version: int, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    save_findings(some_findings(), folder, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    changed = _changed(folder, tmp_path / "other", lambda raw: raw.update(version=version))
    with pytest.raises(
        ValueError,
        match=rf"of version {version}; this build reads 5, 6, 7, 8, 9, 10\. Run the case again",
    ):
        load_findings(changed)
