"""Bad input ends in a visible state with a reason; the line continues; no file is changed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from fixtures.daemon import Daemon, case_state, tandem

from models.synthesis.slides import SyntheticCase


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def quarantined(status: dict[str, Any]) -> dict[str, str]:
    return {s["file"]: s["reason"] for s in status["slides"] if s["state"] == "quarantined"}


def test_each_bad_file_is_quarantined_with_its_own_reason(
    daemon: Daemon, real: Path, small_case: SyntheticCase, readings: Path
) -> None:
    expected = {
        "broken.svs": "unreadable",
        "unopenable.tiff": "unsupported",
        "unreadable.svs": "damaged",
        "flat-not-pyramidal.tif": "not-pyramidal",
        "dicom-missing-tags.dcm": "missing-tags",
        "TCGA-CR-7395-01A-01-TS1.svs": "no-mpp",
        "nobody.svs": "no-accession",
        "S26-00009_HE.svs": "no-block",
        "S26-00009_A1_XQZ.svs": "unknown-stain",
        "S26-00010_A1_HE.svs": "damaged",
    }
    for path in (real / "broken").iterdir():
        daemon.drop(path)
    daemon.drop(real / "slides" / "TCGA-CR-7395-01A-01-TS1.svs")
    for name in ("nobody.svs", "S26-00009_HE.svs", "S26-00009_A1_XQZ.svs"):
        shutil.copy(real / "slides" / "CMU-1-Small-Region.svs", daemon.scans / name)
    half = small_case.he_path.read_bytes()
    (daemon.scans / "S26-00010_A1_HE.svs").write_bytes(half[: len(half) // 2])
    (daemon.scans / "._junk.svs").write_bytes(b"junk")
    before = digests(daemon.scans)
    daemon.has_read(readings).start()
    status = daemon.wait(lambda s: len(quarantined(s)) == len(expected))
    found = quarantined(status)
    assert found.pop("S26-00010_A1_HE.svs") in ("damaged", "unreadable", "unsupported")
    del expected["S26-00010_A1_HE.svs"]
    assert found == expected
    assert all(s["sentence"] and s["remedy"] for s in status["slides"])
    # The line continues: a good case that came after the bad ones is delivered.
    daemon.drop(small_case.he_path, small_case.ihc_path)
    daemon.wait(case_state("delivered"))
    after = digests(daemon.scans)
    assert {name: after[name] for name in before} == before


def test_half_copied_slide_is_taken_up_when_it_goes_on(
    daemon: Daemon, small_case: SyntheticCase
) -> None:
    whole = small_case.he_path.read_bytes()
    target = daemon.scans / small_case.he_path.name
    target.write_bytes(whole[: len(whole) // 2])
    daemon.start()
    daemon.wait(lambda s: len(quarantined(s)) == 1)
    target.write_bytes(whole)
    status = daemon.wait(lambda s: s["slides"][0]["state"] == "read")
    assert status["cases"][0]["state"] == "waiting"


def test_a_person_can_supply_what_the_header_lacks(daemon: Daemon, real: Path) -> None:
    name = "S26-00011_A1_HE"
    shutil.copy(real / "slides" / "TCGA-CR-7395-01A-01-TS1.svs", daemon.scans / f"{name}.svs")
    daemon.start()
    daemon.wait(lambda s: quarantined(s) == {f"{name}.svs": "no-mpp"})
    (daemon.scans / f"{name}.tandem.toml").write_text("mpp = 0.5\n")
    tandem("retry", "slide-1", "--config", daemon.config)
    daemon.wait(lambda s: s["slides"][0]["state"] in ("inspected", "read"))
