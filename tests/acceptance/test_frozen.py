"""Frozen facts: a case is scored again when the scanner's folder is empty."""

from __future__ import annotations

import json
from pathlib import Path

from fixtures.daemon import Daemon, case_state, tandem

from models.synthesis.slides import SyntheticCase

SIDECAR = 'organ = "gastric"\nspecimen = "resection"\n'


def test_a_changed_review_threshold_opens_no_slide(
    tmp_path: Path, small_case: SyntheticCase, readings: Path
) -> None:
    daemon = Daemon(tmp_path / "appliance")
    try:
        for path in (small_case.he_path, small_case.ihc_path):
            (daemon.scans / f"{path.stem}.tandem.toml").write_text(SIDECAR)
        daemon.drop(small_case.he_path, small_case.ihc_path)
        daemon.has_read(readings).start()
        first = daemon.wait(case_state("delivered"))["cases"][0]
        daemon.stop()
        assert not [r for r in first["review"] if "mm² of tumor" in r]

        # The scanner's folder is cleared, sidecars included; one limit of review changes.
        for file in daemon.scans.iterdir():
            file.unlink()
        daemon.config.write_text(
            daemon.config.read_text() + "\n[review]\nmin_tumor_area_mm2 = 1000\n"
        )
        tandem("rerun", first["id"], "--config", daemon.config)
        daemon.start()
        again = daemon.wait(
            lambda s: (
                case_state("delivered")(s)
                and len(s["cases"][0]["deliveries"]) > len(first["deliveries"])
            )
        )["cases"][0]
        daemon.stop()
    finally:
        daemon.close()
    assert again["score"] == first["score"]
    assert [r for r in again["review"] if "mm² of tumor" in r]
    # The sidecar's organ still chooses the guideline.
    folder = daemon.state / "artifacts" / "findings"
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    assert json.loads((newest / "findings.json").read_text())["organ"] == "gastric"
    steps = [step["text"] for step in again["steps"] if step["kind"] == "step"][-5:]
    assert [text.split()[0] for text in steps] == ["tumor", "align", "stain", "score", "write"]
    assert ["was there" in text for text in steps] == [True, True, True, False, False]
