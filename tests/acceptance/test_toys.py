"""An assay, readers and a destination from outside: one file and one registration each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.daemon import Daemon, tandem
from pydicom import dcmread

from models.synthesis.slides import SyntheticCase

TESTS = Path(__file__).resolve().parents[1]
MODULES = [
    "fixtures.toy_reader",
    "fixtures.toy_bag_reader",
    "fixtures.toy_assay",
    "fixtures.toy_destination",
]


@pytest.fixture
def outsiders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """Return a daemon that knows the toys and delivers to the toy destination."""
    # A folder with the toys alone: tests/ itself has folders named like the product's packages.
    site = tmp_path / "site"
    site.mkdir()
    (site / "fixtures").symlink_to(TESTS / "fixtures", target_is_directory=True)
    monkeypatch.setenv("PYTHONPATH", str(site))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    made = Daemon(tmp_path / "appliance", f"extensions = {json.dumps(MODULES)}")
    made.config.write_text(
        made.config.read_text()
        + f'[[destinations]]\nkind = "shelf"\nname = "shelf"\nboard = {json.dumps(str(shelf))}\n'
    )
    yield made
    made.close()


def _states(status: dict[str, Any]) -> dict[str, str]:
    return {case["assay"]: case["state"] for case in status["cases"]}


def test_a_case_of_a_third_stain_runs_beside_her2(
    outsiders: Daemon, small_case: SyntheticCase, tmp_path: Path
) -> None:
    outsiders.drop(small_case.he_path, small_case.ihc_path)
    outsiders.start()
    # A block with H&E and HER2 alone: scored, and nothing waits for the third stain.
    status = outsiders.wait(lambda s: _states(s) == {"her2": "delivered"})
    assert status["cases"][0]["score"] == small_case.score
    assert [slide["state"] for slide in status["slides"]] == ["read", "read"]

    toy = tmp_path / small_case.ihc_path.name.replace("HER2", "TOY")
    # Other bytes: equal bytes under two names are one slide.
    toy.write_bytes(small_case.ihc_path.read_bytes() + b"toy")
    outsiders.drop(toy)
    status = outsiders.wait(lambda s: _states(s) == {"her2": "delivered", "toy": "delivered"})
    cases = {case["assay"]: case for case in status["cases"]}
    assert cases["toy"]["score"] == "high"
    assert cases["her2"]["score"] == small_case.score
    assert set(cases["toy"]["slides"]) == {"HE", "TOY"}
    assert cases["toy"]["slides"]["HE"] == cases["her2"]["slides"]["HE"]
    assert any("toy-reason" in sentence for sentence in cases["toy"]["review"])
    assert {row["destination"] for row in cases["toy"]["deliveries"]} == {"shelf"}
    assert {row["state"] for row in cases["toy"]["deliveries"]} == {"proven"}

    reports = [
        dcmread(file)
        for file in (tmp_path / "shelf").rglob("*")
        if file.is_file()
        and dcmread(file, stop_before_pixels=True, force=True).get("Modality") == "SR"
    ]
    # The reader of bags has its opinion in the report, and its attention is an object.
    (toy_report,) = (each for each in reports if each.SeriesDescription.startswith("TOY"))
    texts = [str(each.value) for each in toy_report.iterall() if each.keyword == "TextValue"]
    assert "Tandem reader: counted" in texts
    (shown,) = outsiders.state.rglob("pm-ihc-attention-*.dcm")  # the shelf takes no such object
    assert dcmread(shown).SeriesDescription == "Attention of a second reader (research use only)"
    said = {str(report.SeriesDescription) for report in reports}
    assert said == {
        f"HER2 {small_case.score} (research use only)",
        "TOY high (research use only)",
    }

    corrected = tandem(
        "correct", cases["toy"]["id"], "--score", "low", "--by", "Meyer^Anna", "--why", "looked",
        "--config", outsiders.config,
    )  # fmt: skip
    assert "low" in corrected.stdout
    refused = tandem(
        "correct", cases["toy"]["id"], "--score", "3+", "--by", "Meyer^Anna", "--why", "looked",
        "--config", outsiders.config, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "TOY" in refused.stderr
    outsiders.stop()
