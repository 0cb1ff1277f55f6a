"""The scan: what is finished, what is not, and what is junk. Time is passed in."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.slide_objects import MPP, identity, write_svs

from appliance.intake.completeness import is_whole
from appliance.intake.found import slides_in
from appliance.intake.listing import Listing
from appliance.intake.presence import KnownFolders, is_away
from appliance.intake.scan import FolderScan
from appliance.intake.series import has_base, part_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.settings.settings import Watch
from appliance.slides.files import slide_files
from dicom.source import convert_slide
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


def candidates(root: Path, *ignore: str) -> list[Path]:
    """Return the files that stand for slides."""
    listing = Listing([str(root)], ignore)
    return [Path(s.path) for folder in listing.under(str(root)) for s in slides_in(folder, ())]


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
    os.mkfifo(folder / "Slidedat.ini")
    (slide,) = candidates(scans)
    assert not is_whole(slide, slide_files(slide))
    (folder / "Slidedat.ini").unlink()
    (folder / "Slidedat.ini").write_text("[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n")
    (slide,) = candidates(scans)
    assert not is_whole(slide, [slide])
    (folder / "Data0000.dat").write_bytes(b"x")
    assert is_whole(slide, [slide])


def test_unreachable_folder_is_no_crash(tmp_path: Path, ledger: Ledger) -> None:
    scan = FolderScan(ledger, Watch(folder=tmp_path / "unmounted"))
    assert scan.run(monotonic=0, now=0) == 0


def test_a_folder_that_answers_with_an_error_is_away_and_no_crash(
    scans: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scan = FolderScan(ledger, Watch(folder=scans))
    for number in (errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN):

        def answer(path: object, number: int = number) -> object:
            raise OSError(number, os.strerror(number), str(path))

        with monkeypatch.context() as broken:
            broken.setattr(os, "scandir", answer)
            broken.setattr(Path, "stat", lambda self, **_: answer(self))
            assert scan.run(monotonic=0, now=0) == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert "cannot be reached (Permission denied)" in line


def test_a_folder_is_away_when_it_is_missing_or_empty(scans: Path) -> None:
    known = KnownFolders(None)
    for root in (scans, scans / "none"):
        assert is_away(str(root / "a.svs"), Watch(folder=root), known)
    (scans / "b.svs").touch()
    assert not is_away(str(scans / "a.svs"), Watch(folder=scans), known)


def test_special_files_and_dust_bins_are_left_out(scans: Path) -> None:
    os.mkfifo(scans / "a.svs")
    (scans / "b.svs").symlink_to(scans / "gone.svs")
    (scans / "c.svs").mkdir()
    for folder in ("#recycle", "@Recycle", "System Volume Information"):
        (scans / folder).mkdir()
        (scans / folder / "d.svs").touch()
    (scans / "real.svs").touch()
    (scans / "linked.svs").symlink_to(scans / "real.svs")
    assert [path.name for path in candidates(scans)] == ["real.svs"]


def test_damaged_headers_are_not_whole(cases: Path) -> None:
    for path in sorted((cases / "files").iterdir()):
        assert not is_whole(path, slide_files(path)), path.name


def test_a_dicom_file_is_whole_at_its_full_length_only(real: Path, tmp_path: Path) -> None:
    whole = (real / "slides" / "sm_image.dcm").read_bytes()
    part = tmp_path / "S26-1_A1_HE.DCM"
    for length in (*range(0, len(whole), 61), len(whole) - 1):
        part.write_bytes(whole[:length])
        assert not is_whole(part, slide_files(part)), length
    part.write_bytes(whole)
    assert is_whole(part, slide_files(part))


def test_a_compressed_dicom_file_is_whole_at_its_full_length_only(tmp_path: Path) -> None:
    slide = write_svs(tmp_path / "he.svs")
    made = convert_slide(slide, tmp_path / "dicom", identity("HE"), mpp=MPP).paths
    base = next(path for path in made if has_base([part_of(path)]))
    whole = base.read_bytes()
    part = tmp_path / "part.dcm"
    for length in (*range(0, len(whole), 1 + len(whole) // 50), len(whole) - 8):
        part.write_bytes(whole[:length])
        assert not is_whole(part, slide_files(part)), length
    part.write_bytes(whole)
    assert is_whole(part, slide_files(part))


def test_a_series_is_found_whatever_the_case_of_its_suffixes(real: Path, scans: Path) -> None:
    whole = (real / "slides" / "sm_image.dcm").read_bytes()
    for name in ("a.dcm", "b.DCM", "c.Dcm"):
        (scans / name).write_bytes(whole)
    assert [path.name for path in candidates(scans)] == ["a.dcm"]
    assert [path.name for path in slide_files(scans / "a.dcm")] == ["a.dcm", "b.DCM", "c.Dcm"]
