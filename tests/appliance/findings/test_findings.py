"""Findings on disk: loaded findings equal saved ones, and other programs can read the files."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.findings import some_findings

from appliance.findings.findings import FINDINGS_VERSION, load_findings, save_findings

BLANK = np.full((10, 10, 3), 240, dtype=np.uint8)


def test_all_that_is_saved_is_loaded(tmp_path: Path) -> None:
    findings = some_findings()
    save_findings(findings, tmp_path, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    loaded = load_findings(tmp_path)
    for field in fields(findings):
        before, after = getattr(findings, field.name), getattr(loaded, field.name)
        if field.name == "rasters":
            assert np.array_equal(before.ihc_classes, after.ihc_classes[:])
            assert np.array_equal(before.ihc_read, after.ihc_read)
            assert np.array_equal(before.he_probability, after.he_probability, equal_nan=True)
        elif field.name == "mapping":
            points = np.array([[100.0, 200.0], [3000.0, 40.0]])
            assert np.array_equal(before.forward(points), after.forward(points))
        else:
            assert before == after, field.name


def test_other_programs_read_plain_json_and_parquet(tmp_path: Path) -> None:
    findings = some_findings()
    save_findings(findings, tmp_path, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    raw = json.loads((tmp_path / "findings.json").read_text())
    assert raw["version"] == FINDINGS_VERSION
    assert "research use only" in raw["notice"]
    assert raw["review"][0]["code"] == "near-threshold"
    assert raw["cells"]["complete_percent"]["2+"] == 88.0
    assert raw["control"]["works"] is True
    assert len(raw["rois"][0]["outline_um"]) == 3
    assert raw["alignment"]["error_um"] == findings.alignment.error_um
    table = pq.read_table(tmp_path / "tiles.parquet")
    assert table.num_rows == len(findings.tiles) == raw["tiles_scored"]


def test_every_file_and_key_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "findings.md").read_text()
    summary = some_findings().summary()
    assert [key for key in summary if f"`{key}`" not in text] == []


def test_findings_of_another_version_are_refused(tmp_path: Path) -> None:
    save_findings(some_findings(), tmp_path, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    path = tmp_path / "findings.json"
    path.write_text(path.read_text().replace(f'"version": {FINDINGS_VERSION}', '"version": 1'))
    with pytest.raises(ValueError, match="version 1; run the case again"):
        load_findings(tmp_path)
