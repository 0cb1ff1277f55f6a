"""Files that ended the daemon at each start: it goes on, and each file ends with one row."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from fixtures.daemon import Daemon, case_state, tandem
from fixtures.series import write_instance

from models.synthesis.slides import SyntheticCase


def by_file(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {slide["file"]: slide for slide in status["slides"]}


def test_odd_files_do_not_end_the_daemon(
    daemon: Daemon, cases: Path, real: Path, small_case: SyntheticCase
) -> None:
    files = cases / "files"
    daemon.drop(files / "tiff-tag-type.svs", files / "dicom-meta-length.dcm")
    shutil.copy(real / "slides" / "sm_image.dcm", daemon.scans / "S26-00012_A1_HE.DCM")
    (daemon.scans / "pipes").mkdir()
    os.mkfifo(daemon.scans / "pipes" / "S26-00013_A1_HE.svs")
    odd = os.fsencode(daemon.scans) + b"/M\xfcller"
    os.mkdir(odd)  # noqa: PTH102  a name of bytes
    for path in (small_case.he_path, small_case.ihc_path):
        name = os.fsencode(path.stem) + b"_M\xfcller" + os.fsencode(path.suffix)
        shutil.copy(os.fsencode(path), odd + b"/" + name)
    daemon.start()
    status = daemon.wait(case_state("delivered"))
    slides = by_file(status)
    read = {f"{path.stem}_M\ufffdller.svs" for path in (small_case.he_path, small_case.ihc_path)}
    assert set(slides) == {
        "tiff-tag-type.svs",
        "dicom-meta-length.dcm",
        "S26-00012_A1_HE.DCM",
        *read,
    }
    assert {slides[name]["state"] for name in read} == {"read"}
    for name in ("tiff-tag-type.svs", "dicom-meta-length.dcm"):
        assert (slides[name]["state"], slides[name]["reason"]) == ("quarantined", "damaged"), name
    assert slides["S26-00012_A1_HE.DCM"]["state"] == "quarantined"
    assert slides["S26-00012_A1_HE.DCM"]["reason"] not in ("failed", "unreadable")
    plain = tandem("status", "--config", daemon.config).stdout
    assert "M\ufffdller" in plain or "slide-" in plain
    daemon.stop()
    daemon.start()
    daemon.wait(lambda s: s["appliance"]["alive"])
    time.sleep(2)
    assert by_file(daemon.status()).keys() == slides.keys()
    daemon.stop()


def test_a_share_that_is_away_blames_no_slide(
    daemon: Daemon, small_case: SyntheticCase, readings: Path
) -> None:
    daemon.drop(small_case.he_path, small_case.ihc_path)
    for number in range(4):
        own = small_case.he_path.read_bytes() + bytes([1 + number])  # equal bytes are one slide
        (daemon.scans / f"S26-9000{number}_A1_HE.svs").write_bytes(own)
    daemon.has_read(readings).start()
    daemon.wait(lambda s: len(s["slides"]) == 6 and "arriving" not in _states(s))
    away = daemon.scans.with_name("away")
    daemon.scans.rename(away)
    daemon.scans.mkdir()
    status = daemon.wait(
        lambda s: "quarantined" in _states(s) or "folder-away" in {x["reason"] for x in s["slides"]}
    )
    assert "quarantined" not in _states(status), status
    daemon.scans.rmdir()
    away.rename(daemon.scans)
    # Which slide is identified first, and so which case is, is chance.
    ends = ["delivered", *["waiting"] * 4]
    daemon.wait(
        lambda s: _states(s) == {"read"} and sorted(case["state"] for case in s["cases"]) == ends
    )
    daemon.stop()


def _states(status: dict[str, Any]) -> set[str]:
    return {slide["state"] for slide in status["slides"]}


def test_what_vanishes_or_cannot_be_read_is_told_and_holds_nothing_up(
    daemon: Daemon, small_case: SyntheticCase
) -> None:
    (daemon.scans / "#recycle").mkdir()
    shutil.copy(small_case.he_path, daemon.scans / "#recycle" / "S26-70000_A1_HE.svs")
    for name in ("a.isyntax", "b.isyntax", "c.czi"):
        (daemon.scans / name).write_bytes(b"x")
    coarse = write_instance(daemon.scans / "series" / "S26-70001_A1_HE.dcm", resampled=True)
    # A part is gone before its patience is over, also on a slow machine.
    settings = daemon.config.read_text()
    before, short, after = settings.partition("\npatience_seconds = 2\n")
    assert short
    daemon.config.write_text(f"{before}\npatience_seconds = 8\n{after}")
    daemon.start()
    for number in range(3):
        part = daemon.scans / f"part-{number}.svs"
        # Each is smaller than the one before: it is no file that goes on under another name.
        part.write_bytes(small_case.he_path.read_bytes()[: -5000 - number])
        daemon.wait(lambda s, part=part: part.name in by_file(s))
        if number < 2:
            part.unlink()
        else:
            part.rename(daemon.scans / "S26-70002_A1_HE.svs")
    status = daemon.wait(lambda s: len(by_file(s)) == 5 and _ended(s) == 3)
    slides = by_file(status)
    assert slides["part-2.svs"]["state"] == "superseded"  # by what it was renamed to
    for number in range(2):
        told = slides[f"part-{number}.svs"]
        assert (told["state"], told["reason"]) == ("quarantined", "vanished")
        assert told["sentence"] and told["remedy"]
    assert slides["S26-70002_A1_HE.svs"]["reason"] == "damaged"
    assert slides[coarse.name]["state"] == "arriving"
    line = "3 files of formats that cannot be read here: .czi 1, .isyntax 2."
    assert tandem("status", "--config", daemon.config).stdout.splitlines()[-1] == line
    daemon.stop()
    assert daemon.log.count("formats that cannot be read") == 1
    assert "part-" not in daemon.log and "S26-7" not in daemon.log


def _ended(status: dict[str, Any]) -> int:
    return sum(slide["state"] == "quarantined" for slide in status["slides"])
