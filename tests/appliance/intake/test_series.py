"""DICOM series: whole when level 0 and all parts are there, in whatever order files come."""

from __future__ import annotations

import shutil
from itertools import permutations
from pathlib import Path

import pytest
from fixtures.series import write_instance
from fixtures.site import PATIENCE_S, SERIES_S, WINDOW_S, Site

from appliance.intake.completeness import is_whole
from appliance.ledger.lifecycle import SlideState
from appliance.slides import dicom_header
from appliance.slides.dicom_header import header_of
from appliance.slides.files import slide_files


def pyramid(folder: Path, series: str = "1.2.3.4") -> list[Path]:
    """Write level 0 in two parts, a coarser level, a label and an overview; level 0 first."""
    name = series.replace(".", "-")
    return [
        write_instance(
            folder / f"{name}-9.dcm", series=series, tiles=4, frames=10, part=("1.9", 1, 2)
        ),
        write_instance(
            folder / f"{name}-8.dcm", series=series, tiles=4, frames=6, part=("1.9", 2, 2)
        ),
        write_instance(folder / f"{name}-2.dcm", series=series, resampled=True, compressed=True),
        write_instance(folder / f"{name}-1.dcm", series=series, kind="LABEL", tiles=1),
        write_instance(folder / f"{name}-0.dcm", series=series, kind="OVERVIEW", tiles=1),
    ]


def test_a_series_is_one_slide_in_whatever_order_it_comes(site: Site, tmp_path: Path) -> None:
    """The row is that of the first file that came, and no other row stays."""
    made = pyramid(tmp_path / "made")
    for number, order in enumerate(permutations(made)):
        if number % 11:
            continue
        folder = site.scans / str(number)
        folder.mkdir()
        for path in order:
            shutil.copy(path, folder)
            states = site.run(WINDOW_S + 1)
            mine = {p: s for p, s in states.items() if p.startswith(f"{number}/")}
            assert list(mine) == [f"{number}/{order[0].name}"]
            base = set(made[:2]) <= set(order[: order.index(path) + 1])
            assert set(mine.values()) == {"arriving"} or base
        assert site.run(WINDOW_S + 1)[f"{number}/{order[0].name}"] == "arrived"
        shutil.rmtree(folder)
    assert not site.scan.busy


def test_coarse_levels_wait_long_for_level_0_and_are_then_set_aside(site: Site) -> None:
    coarse = write_instance(site.scans / "a.dcm", resampled=True)
    write_instance(site.scans / "b.dcm", resampled=True, tiles=1)
    site.arrive()
    assert site.run(2 * PATIENCE_S) == {"a.dcm": "arriving"}
    assert site.run(SERIES_S) == {"a.dcm": "quarantined"}
    row = site.rows()["a.dcm"]
    assert row.reason == "never-finished" and "level 0" in row.params
    write_instance(site.scans / "0.dcm", tiles=8)
    assert site.run() == {"a.dcm": "arriving"}
    assert site.run(WINDOW_S) == {"a.dcm": "arrived"}
    assert is_whole(coarse, slide_files(coarse))


def test_a_file_that_comes_after_the_slide_was_read_changes_it_without_a_ghost(site: Site) -> None:
    made = pyramid(site.scans)
    late = site.scans / "0-late.dcm"
    assert site.arrive() == {made[-1].name: "arrived"}
    site.set(made[-1].name, lambda row: setattr(row, "state", SlideState.READ))
    write_instance(late, resampled=True, tiles=1)
    assert site.look(late) == {made[-1].name: "arriving"}
    assert site.look(after_s=WINDOW_S) == {made[-1].name: "arrived"}


def test_a_series_spread_over_folders_is_one_slide(site: Site) -> None:
    made = pyramid(site.scans / "b")
    (site.scans / "a").mkdir()
    (site.scans / "c").mkdir()
    shutil.move(made[2], site.scans / "a")
    shutil.move(made[4], site.scans / "c")
    states = site.arrive()
    assert states == {f"b/{made[3].name}": "arrived"}


def test_a_part_that_came_first_in_another_folder_leaves_no_row_arriving(site: Site) -> None:
    made = pyramid(site.scans / "b")
    (site.scans / "a").mkdir()
    coarse = Path(shutil.move(made[2], site.scans / "a"))
    other = site.scans / "away"
    shutil.move(site.scans / "b", site.scans.with_name("b"))
    assert site.run() == {f"a/{coarse.name}": "arriving"}
    shutil.move(site.scans.with_name("b"), other)
    states = site.look(other)
    assert states == {f"a/{coarse.name}": "superseded", f"away/{made[4].name}": "arriving"}
    assert site.run(WINDOW_S)[f"away/{made[4].name}"] == "arrived"
    assert not site.scan.busy


def test_a_part_that_was_set_aside_as_never_finished_is_part_of_what_came(site: Site) -> None:
    write_instance(site.scans / "a" / "1.dcm", resampled=True)
    site.arrive()
    assert site.run(2 * SERIES_S) == {"a/1.dcm": "quarantined"}
    write_instance(site.scans / "b" / "0.dcm", tiles=8)
    assert site.run() == {"a/1.dcm": "quarantined", "b/0.dcm": "arriving"}
    (site.scans / "b" / "0.dcm").rename(site.state / "0.dcm")  # what came was no slide yet
    assert site.run(WINDOW_S) == {"a/1.dcm": "quarantined", "b/0.dcm": "quarantined"}
    (site.state / "0.dcm").rename(site.scans / "b" / "0.dcm")
    assert site.arrive() == {"a/1.dcm": "quarantined", "b/0.dcm": "arrived"}
    assert site.run() == {"a/1.dcm": "superseded", "b/0.dcm": "arrived"}
    assert site.rows()["a/1.dcm"].reason == ""
    assert site.run(SERIES_S) == site.run() == {"a/1.dcm": "superseded", "b/0.dcm": "arrived"}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", ["LABEL", "OVERVIEW"])
def test_a_label_in_a_series_of_its_own_is_no_trouble(site: Site, kind: str, first: bool) -> None:
    label = site.scans / "L.dcm"
    if first:
        write_instance(label, series="1.2.4", kind=kind, tiles=1, container="S26-1-A1-1")
        site.run()
    write_instance(site.scans / "0.dcm", series="1.2.3", tiles=8, container="S26-1-A1-1")
    write_instance(site.scans / "1.dcm", series="1.2.5", tiles=8, container="S26-1-A1-2")
    write_instance(label, series="1.2.4", kind=kind, tiles=1, container="S26-1-A1-1")
    site.arrive()
    ended = {"L.dcm": "superseded"} if first else {}
    assert site.run(2 * SERIES_S) == {"0.dcm": "arrived", "1.dcm": "arrived"} | ended


@pytest.mark.parametrize(
    ("container", "others"),
    [("S26-2-A1-1", 1), ("", 1), ("S26-1-A1-1", 0), ("S26-1-A1-1", 2)],
    ids=["of another", "of none", "no slide", "two slides"],
)
def test_a_label_that_came_alone_tells_that_an_export_failed(
    site: Site, container: str, others: int
) -> None:
    for number in range(others):
        path = site.scans / f"{number}.dcm"
        write_instance(path, series=f"1.2.{number}", tiles=8, container=container and "S26-1-A1-1")
    write_instance(site.scans / "L.dcm", series="1.3", kind="LABEL", tiles=1, container=container)
    site.arrive()
    assert site.run(2 * SERIES_S)["L.dcm"] == "quarantined"
    assert site.rows()["L.dcm"].reason == "never-finished"


def test_headers_are_read_once_however_many_files_there_are(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_header, "MOST_KEPT", 4)
    for number in range(20):
        write_instance(site.scans / f"{number}.dcm", series=f"1.2.{number}", tiles=1)
    site.arrive()
    read = []
    monkeypatch.setattr(dicom_header, "_header_of", lambda *asked: read.append(asked))
    assert set(site.run().values()) == {"arrived"}
    assert read == []
    monkeypatch.undo()
    gone = site.scans / "3.dcm"
    asked = (str(gone), gone.stat().st_size, gone.stat().st_mtime_ns)
    gone.unlink()
    site.run()
    site.run()
    with pytest.raises(FileNotFoundError):  # it was forgotten
        header_of(*asked)


def test_a_part_of_a_series_that_is_deleted_does_not_end_the_slide(site: Site) -> None:
    made = pyramid(site.scans)
    site.run()
    made[2].unlink()
    assert site.look(after_s=1) == {made[4].name: "arriving"}
    assert site.look(after_s=WINDOW_S) == {made[4].name: "arrived"}


def test_two_series_of_a_folder_are_two_slides(site: Site) -> None:
    pyramid(site.scans, "1.2.3.4")
    pyramid(site.scans, "1.2.3.5")
    assert len(site.arrive()) == 2


def test_dicom_without_suffix_is_known_by_its_first_bytes(site: Site, real: Path) -> None:
    shutil.copy(real / "slides" / "sm_image.dcm", site.scans / "1.2.840.99.5")
    shutil.copy(real / "slides" / "sm_image.dcm", site.scans / "DICOMDIR")
    (site.scans / "README").write_text("no slide")
    (site.scans / "empty").touch()
    assert site.arrive() == {"1.2.840.99.5": "arrived"}


@pytest.mark.parametrize(
    ("frames", "part", "whole"),
    [
        (16, None, True),
        (15, None, False),
        (16, ("1.9", 1, 1), True),
        (16, ("1.9", 1, 2), False),
        (16, ("1.9", 1, 0), True),
        (9, ("1.9", 1, 0), False),
    ],
)
def test_level_0_needs_all_frames_and_parts(
    tmp_path: Path, frames: int, part: tuple[str, int, int] | None, whole: bool
) -> None:
    path = write_instance(tmp_path / "a.dcm", tiles=4, frames=frames, part=part)
    assert is_whole(path, slide_files(path)) is whole


@pytest.mark.parametrize("compressed", [False, True])
def test_a_cut_file_is_not_whole_at_any_length(tmp_path: Path, compressed: bool) -> None:
    data = write_instance(tmp_path / "a.dcm", compressed=compressed).read_bytes()
    cut = tmp_path / "b.dcm"
    for length in range(0, len(data), 7):
        cut.write_bytes(data[:length])
        assert not is_whole(cut, [cut]), length
    cut.write_bytes(data + bytes(100))  # some writers fill up the last block
    assert is_whole(cut, [cut])


def test_a_series_that_loses_its_level_0_while_it_arrives_waits_for_it(site: Site) -> None:
    write_instance(site.scans / "1.dcm", resampled=True)
    base = write_instance(site.scans / "2.dcm", tiles=4)
    site.run()
    base.unlink()
    for act in (site.look, site.run, site.look):
        assert act(after_s=WINDOW_S + PATIENCE_S) == {"1.dcm": "arriving"}
    write_instance(base, tiles=4)
    assert site.arrive() == {"1.dcm": "arrived"}
