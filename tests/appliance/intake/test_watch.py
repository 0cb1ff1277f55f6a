"""The scan: what is finished, what is not, and what is junk. Time is passed in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.intake.completeness import is_whole
from appliance.intake.watch import FolderScan, candidates
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.settings.settings import Watch
from models.synthesis.slides import SyntheticCase


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield made
    made.close()


def states(ledger: Ledger) -> list[str]:
    with ledger.transaction() as tx:
        return [row.state for row in tx.slides()]


def test_growing_file_is_not_taken_and_a_quiet_whole_one_is(
    scans: Path, ledger: Ledger, small_case: SyntheticCase
) -> None:
    settings = Watch(folder=scans, stable_seconds=10, patience_seconds=100)
    scan = FolderScan(ledger, settings)
    data = small_case.he_path.read_bytes()
    slide = scans / "S26-1_A1_HE.svs"
    slide.write_bytes(data[:1000])
    scan.run(monotonic=0, now=0)
    slide.write_bytes(data[:-1000])
    scan.run(monotonic=9, now=9)
    scan.run(monotonic=18, now=18)
    assert states(ledger) == [SlideState.ARRIVING]  # changed at 9
    scan.run(monotonic=60, now=60)
    assert states(ledger) == [SlideState.ARRIVING]  # quiet, but its last tiles are missing
    assert not is_whole(slide, [slide])
    slide.write_bytes(data)
    scan.run(monotonic=61, now=61)
    scan.run(monotonic=72, now=72)
    assert states(ledger) == [SlideState.ARRIVED]
    assert scan.run(monotonic=200, now=200) == 0  # not queued again
    assert not scan.busy


def test_file_there_at_start_is_not_exempt(
    scans: Path, ledger: Ledger, small_case: SyntheticCase
) -> None:
    (scans / "S26-1_A1_HE.svs").write_bytes(small_case.he_path.read_bytes())
    scan = FolderScan(ledger, Watch(folder=scans, stable_seconds=10))
    scan.run(monotonic=0, now=0)
    assert states(ledger) == [SlideState.ARRIVING]


def test_patience_ends_and_a_person_is_told_until_the_file_changes(
    scans: Path, ledger: Ledger
) -> None:
    scan = FolderScan(ledger, Watch(folder=scans, stable_seconds=10, patience_seconds=100))
    slide = scans / "S26-1_A1_HE.svs"
    slide.write_bytes(b"II*\0 half")
    for second in (0, 50, 120):
        scan.run(monotonic=second, now=second)
    assert states(ledger) == [SlideState.ARRIVED]  # identify will name the reason
    slide.write_bytes(b"II*\0 more of it")
    scan.run(monotonic=130, now=130)
    assert states(ledger) == [SlideState.ARRIVING]


def test_junk_and_sidecars_are_left_alone(scans: Path) -> None:
    for name in ("._a.svs", ".b.svs", "Thumbs.db", "c.xml", "@eaDir/d.svs", "sub/e.svs"):
        (scans / name).parent.mkdir(exist_ok=True)
        (scans / name).write_bytes(b"x")
    assert [p.relative_to(scans).as_posix() for p in candidates(scans)] == ["sub/e.svs"]


def test_mrxs_is_one_slide_and_waits_for_its_folder(scans: Path) -> None:
    (scans / "S26-1_A1_HE.mrxs").write_bytes(b"x")
    folder = scans / "S26-1_A1_HE"
    folder.mkdir()
    (folder / "Slidedat.ini").write_text("[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n")
    (slide,) = candidates(scans)
    assert not is_whole(slide, [slide])
    (folder / "Data0000.dat").write_bytes(b"x")
    assert is_whole(slide, [slide])


def test_unreachable_folder_is_no_crash(tmp_path: Path, ledger: Ledger) -> None:
    scan = FolderScan(ledger, Watch(folder=tmp_path / "unmounted"))
    assert scan.run(monotonic=0, now=0) == 0
