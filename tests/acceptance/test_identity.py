"""Slides that are not what they seem, through the daemon: no score, and a sentence for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures.daemon import Daemon

from benchmarks.scanner.profiles import PROFILES, SlideLabel
from benchmarks.scanner.tissue import Sections


def put(daemon: Daemon, sections: Sections, stem: str, printed: SlideLabel | None = None) -> None:
    """Write a small SVS of HER2 pixels, with the barcode of `printed` or with none."""
    label = printed or SlideLabel(accession="X", block="X", stain=stem)
    make = PROFILES["aperio-svs"].prepare(sections["HER2", "3+"])
    for name, data in make(stem, label, printed is not None).items():
        (daemon.scans / name).write_bytes(data)


def slides(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(slide["file"]).stem: slide for slide in status["slides"]}


def test_what_is_no_slide_of_the_assay_is_known_and_what_contradicts_is_held(
    daemon: Daemon, sections: Sections
) -> None:
    other = ["HER2_DISH", "HER2-FISH", "HER2_NEG", "KI67", "ER", "PAS"]
    for stain in other:
        put(daemon, sections, f"S26-00031_A1_{stain}")
    put(
        daemon,
        sections,
        "S26-00099_B2_HER2",
        SlideLabel(accession="S26-00031", block="A1", stain="HER2"),
    )
    held = {
        "S26-00099_B2_HER2": "identity-conflict",
        "S26-00031_A1_A2_HER2": "identity-conflict",
        "S26-00031_A1_HER2_HE": "identity-conflict",
        "R03-S07_A1_HER2": "no-accession",
        "20261120_A1_HER2": "no-accession",
        "S26-00031_A1_HER2_XQZ": "unknown-stain",
    }
    for stem in held:
        if not (daemon.scans / f"{stem}.svs").exists():
            put(daemon, sections, stem)
    daemon.start()
    every = len(other) + len(held)
    ended = {"other", "quarantined"}
    status = daemon.wait(
        lambda s: len(s["slides"]) == every and {e["state"] for e in s["slides"]} <= ended
    )
    found = slides(status)
    for stain in other:
        slide = found[f"S26-00031_A1_{stain}"]
        assert (slide["state"], slide["reason"]) == ("other", "")
        assert slide["sentence"].endswith("nothing needs to be done.")
    for stem, reason in held.items():
        assert (found[stem]["state"], found[stem]["reason"]) == ("quarantined", reason), stem
        assert found[stem]["remedy"]
    conflict = found["S26-00099_B2_HER2"]
    assert {source["source"] for source in conflict["sources"]} == {"barcode", "name"}
    assert "S26-00031" in conflict["detail"]
    assert "S26-00099" in conflict["detail"]
    assert status["cases"] == []
    assert "S26-" not in daemon.log
    daemon.stop()
