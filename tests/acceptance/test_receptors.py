"""ER from two files to DICOM, and slides in the slot of another assay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.daemon import tandem_here
from fixtures.judges import dicom_errors
from fixtures.receptors import register_receptors
from pydicom import dcmread

from dicom import codes
from dicom.air import check_report
from dicom.result import read_result
from models.synthesis.receptors import synthesize_receptor_case
from models.synthesis.slides import SyntheticCase


@pytest.fixture(scope="module")
def er_case(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCase:
    """Return a synthetic ER case of which 70 % of the tumor nuclei are positive."""
    return synthesize_receptor_case(
        tmp_path_factory.mktemp("er-case"),
        seed=7,
        receptor="ER",
        positive_percent=70,
        width_px=2048,
        height_px=1536,
    )


def test_an_er_case_is_scored_and_every_object_is_valid(
    er_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_receptors(monkeypatch)  # what the setting loads is gone after the test
    config = tmp_path / "tandem.toml"
    config.write_text(
        'extensions = ["appliance.assays.er.assay"]\n'
        f"state_dir = {json.dumps(str(tmp_path / 'state'))}\n"
        '[pair]\nexpected_assays = ["her2", "er"]\n'
    )
    out = tmp_path / "out"
    done = tandem_here(
        "process", er_case.he_path, er_case.ihc_path, "--assay", "er", "--out", out,
        "--config", config, "--json",
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert (summary["assay"], summary["score"]) == ("er", "positive")
    assert summary["accession"] == er_case.accession
    truth = json.loads(er_case.truth_path.read_text())
    positive = 100 - summary["percent"]["negative"]
    assert positive == pytest.approx(truth["positive_percent"], abs=15)  # a few tiles of tumor
    assert "research use only" in summary["notice"]
    objects = sorted(out.glob("*.dcm"))
    assert {path.name: dicom_errors(path) for path in objects} == {p.name: [] for p in objects}
    segments = {
        str(segment.SegmentLabel)
        for path in out.glob("SEG-*.dcm")
        for segment in dcmread(path, stop_before_pixels=True).SegmentSequence
    }
    assert {"ER negative", "ER weak", "ER moderate", "ER strong"} <= segments
    (report,) = out.glob("SR-*.dcm")
    faults = {item.name: result.faults for item, result in check_report(dcmread(report))}
    assert faults == dict.fromkeys(faults, ())
    result = read_result(report)
    items = {item.name.value: item.value for item in result.items}
    assert items[codes.ER_PRESENCE.value] == codes.STATUSES["positive"]
    assert items[codes.ER_CELLS.value] == pytest.approx(positive, abs=0.01)


def test_an_er_slide_in_the_her2_slot_gets_no_score(er_case: SyntheticCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = tandem_here("process", er_case.he_path, er_case.ihc_path, "--out", out, check=False)
    assert done.returncode == 1
    assert "looks like IHC with brown nuclei" in done.stderr
    assert not list(out.glob("*.dcm"))
