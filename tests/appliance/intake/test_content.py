"""Equal bytes are one slide, wherever they lie and however they are named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path

import pytest
from fixtures.lab import DAY_S, Lab
from fixtures.series import write_instance

from appliance.intake.changes import Change, Kind, apply_changes
from appliance.intake.content import lose_slide
from appliance.intake.found import slides_in
from appliance.intake.listing import Listing
from appliance.intake.scan import FolderScan
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import EventRow, params_of
from appliance.operations.audited import Word
from appliance.operations.retry_word import retry
from appliance.operations.word import SlideWords, exclude_slide, keep, say_slide
from appliance.settings.intake import Watch
from appliance.words.say import say

WORD = Word(by="Meyer^Anna", why="read the label")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def set_aside(lab: Lab, subject: str, reason: str) -> None:
    with lab.transaction() as tx:
        row = tx.slide(int(subject.removeprefix("slide-")))
        assert row is not None
        row.reason = reason
        tx.advance(row, SlideState.QUARANTINED, now=lab.now)
        lose_slide(tx, row, lab.now)


def test_a_copy_under_the_same_name_is_superseded_quietly(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE")
    lab.arrive("S26-1_A1_HER2")
    lab.deliver()
    copy = lab.arrive("S26-1_A1_HE_copy", "S26-1_A1_HE", day=9999)
    row = lab.slides()[copy]
    assert (row.state, row.reason) == (SlideState.SUPERSEDED, "same-content")
    assert params_of(row) == {"slide": first}
    assert lab.case().state == CaseState.DELIVERED


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        ("gone", "quarantined", "vanished"),
        ("no-base", "quarantined", "never-finished"),
        ("part-of", "superseded", ""),
    ],
)
def test_a_file_that_changes_and_never_ends_takes_its_report_back(
    lab: Lab, end: Kind, state: str, reason: str
) -> None:
    lab.arrive("S26-1_A1_HE")
    her2 = lab.arrive("S26-1_A1_HER2")
    lab.deliver()
    for kind in ("changed", end):
        apply_changes(lab.ledger, [Change(kind=kind, path="/scans/S26-1_A1_HER2.svs")], lab.now)
    assert (lab.slides()[her2].state, lab.slides()[her2].reason) == (state, reason)
    assert (lab.case().state, lab.case().score) == (CaseState.WAITING, "")


@pytest.mark.parametrize(
    ("files", "first", "rest"),
    [
        ("mrxs", ["d/Data0001.dat"], ["d", "d.mrxs"]),
        ("mrxs", ["d/Data0001.dat"], ["d"]),
        ("mrxs", ["d/Data0001.dat"], []),
        ("mrxs", ["d"], []),
        ("mrxs", ["d.mrxs"], ["d"]),
        ("dicom", ["d/2.dcm"], ["d"]),
        ("dicom", ["d/0.dcm"], ["d"]),
        ("dicom", ["d/0.dcm"], []),
        ("dicom", ["d/2.dcm", "d/0.dcm"], []),
    ],
)
def test_a_slide_that_was_read_keeps_its_result_while_its_files_are_deleted(
    lab: Lab, tmp_path: Path, files: str, first: list[str], rest: list[str]
) -> None:
    folder, subject, scan = in_use(lab, tmp_path, files)
    events = len(events_of(lab, subject))
    for number, names in enumerate((first, rest, [])):
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        scan(100.0 + number)
        # The case is not touched while it is not known what comes.
        assert (lab.case().state, lab.case().score) == (CaseState.DELIVERED, "2+")
    for seconds in (1e4, 2e4):
        scan(seconds)
    row = lab.slides()[subject]
    assert (row.state, row.fingerprint) == (SlideState.READ, "bytes of HER2")
    assert (lab.case().state, lab.case().score) == (CaseState.DELIVERED, "2+")
    assert len(lab.slides()) == 2  # what is left is no other slide
    told = [event.code for event in events_of(lab, subject)[events:]]
    assert told in ([], ["file-changed", "files-deleted"])


@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.parametrize("end", ["gone", "not whole"])
def test_a_rescan_over_a_slide_whose_files_were_deleted_reopens_its_case(
    lab: Lab, tmp_path: Path, larger: bool, end: str
) -> None:
    folder, subject, scan = in_use(lab, tmp_path, "mrxs")
    data = folder / "d" / "Data0001.dat"
    data.unlink()
    scan(100.0)
    data.write_bytes(bytes(400 if larger else 1))
    os.utime(data, (OLD_S, OLD_S) if larger else None)
    scan(101.0)
    assert lab.slides()[subject].state == SlideState.ARRIVING
    if end == "gone":
        shutil.rmtree(folder / "d")
        (folder / "d.mrxs").unlink()
    else:
        data.unlink()
    for seconds in (102.0, 1e4):
        scan(seconds)
    state = lab.slides()[subject].state
    assert state == (SlideState.QUARANTINED if end == "gone" else SlideState.ARRIVED)
    if end == "gone":
        assert (lab.case().state, lab.case().score) == (CaseState.WAITING, "")


@pytest.mark.parametrize("day", ["newer", "same", "older"])
def test_a_rescan_that_came_while_files_were_deleted_keeps_its_result(
    lab: Lab, tmp_path: Path, day: str
) -> None:
    folder, subject, scan = in_use(lab, tmp_path, "mrxs")
    (folder / "d" / "Data0001.dat").unlink()
    scan(100.0)
    scanned_at = lab.slides()[subject].scanned_at / DAY_S
    days = {"newer": 1.0, "same": 0.0, "older": -1.0}
    rescan = lab.arrive("S26-1_A1_HER2_2", "rescan", day=scanned_at + days[day])
    lab.deliver()
    assert (lab.case().state, lab.case().score) == (CaseState.DELIVERED, "2+")
    case = lab.case().subject
    events = len(events_of(lab, case))
    shutil.rmtree(folder / "d")
    (folder / "d.mrxs").unlink()
    for seconds in (101.0, 1e4):
        scan(seconds)
    states = {subject: SlideState.QUARANTINED, rescan: SlideState.READ}
    assert {one: lab.slides()[one].state for one in states} == states
    assert (lab.case().state, lab.case().score) == (CaseState.DELIVERED, "2+")
    assert len(events_of(lab, case)) == events


@pytest.mark.parametrize("files", ["mrxs", "dicom", "one file"])
def test_other_files_under_the_name_of_a_read_slide_are_told(
    lab: Lab, tmp_path: Path, files: str
) -> None:
    """They are older and smaller, and never whole: not what is left of the former ones."""
    folder, subject, scan = in_use(lab, tmp_path, files)
    if files == "mrxs":
        shutil.rmtree(folder / "d")
        (folder / "d").mkdir()
        (folder / "d" / "Slidedat.ini").write_bytes(b"[DATAFILE]")
    else:
        for path in (folder / "d").iterdir():
            path.unlink()
        base = write_instance(folder / "d" / "0.dcm", tiles=2, series="1.2.3.999")
        base.write_bytes(base.read_bytes()[:-200])
    for path in (folder / "d").iterdir():
        os.utime(path, (OLD_S - 100, OLD_S - 100))
    for seconds in (100.0, 1e4):
        scan(seconds)
    row = lab.slides()[subject]
    assert (row.state, row.fingerprint) == (SlideState.ARRIVED, "")
    assert params_of(row)["detail"] == "never-finished"


@pytest.mark.parametrize("name", ["1.dcm", "2.dcm"])
def test_what_is_left_of_a_read_slide_is_whole_only_after_the_patience(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    folder, subject, scan = in_use(lab, tmp_path, "dicom")
    (folder / "d" / name).unlink()
    for seconds in (100.0, 116.0, 160.0):
        scan(seconds)
    assert lab.slides()[subject].state == SlideState.ARRIVING
    shutil.rmtree(folder / "d")
    for seconds in (161.0, 1e4):
        scan(seconds)
    assert lab.slides()[subject].state == SlideState.READ
    assert (lab.case().state, lab.case().score) == (CaseState.DELIVERED, "2+")


def test_a_series_that_a_person_made_smaller_is_read_again(lab: Lab, tmp_path: Path) -> None:
    folder, subject, scan = in_use(lab, tmp_path, "dicom")
    (folder / "d" / "2.dcm").unlink()
    for seconds in (100.0, 116.0, 300.0):
        scan(seconds)
    assert lab.slides()[subject].state == SlideState.ARRIVED


OLD_S = 1_700_000_000


def in_use(lab: Lab, folder: Path, files: str) -> tuple[Path, str, Callable[[float], object]]:
    """Lay a read slide of a delivered case into a folder; return it, the slide, and its scan."""
    scans = folder / "scans"
    data = scans / "d"
    data.mkdir(parents=True)
    if files == "mrxs":
        data.with_suffix(".mrxs").write_bytes(b"x")
        for name in ("Slidedat.ini", "Index.dat", "Data0000.dat", "Data0001.dat"):
            (data / name).write_bytes(bytes(100))
    else:
        for level in range(1 if files == "one file" else 3):
            write_instance(data / f"{level}.dcm", tiles=4 >> level, resampled=level > 0)
    for path in scans.rglob("*"):
        os.utime(path, (OLD_S, OLD_S))
    lab.arrive("S26-1_A1_HE")
    subject = lab.arrive("S26-1_A1_HER2", "bytes of HER2")
    ((found,),) = [list(slides_in(each, ())) for each in Listing([str(scans)]).under(str(scans))][
        -1:
    ]
    with lab.transaction() as tx:
        row = tx.slide(int(subject.removeprefix("slide-")))
        assert row is not None
        row.path, (row.size_bytes, row.modified_ns) = found.path, astuple(found.signature)
        tx.session.add(row)
    lab.deliver()
    scan = FolderScan(lab.ledger, Watch(folder=scans), folder / "state")
    scan.run(monotonic=1.0, now=lab.now)
    return scans, subject, lambda seconds: scan.run(monotonic=seconds, now=lab.now)


def events_of(lab: Lab, subject: str) -> list[EventRow]:
    with lab.transaction() as tx:
        return list(tx.events(subject))


def test_a_copy_of_an_older_scan_does_not_come_back(lab: Lab) -> None:
    old = lab.arrive("S26-1_A1_HE", "old", day=3)
    new = lab.arrive("S26-1_A1_HE_2", "new", day=4)
    copy = lab.arrive("S26-1_A1_HE_3", "old", day=5)
    assert lab.states() == {old: "superseded", new: "read", copy: "superseded"}


def test_a_renamed_file_that_was_set_aside_is_one_row_of_trouble_less(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE", "bytes")
    set_aside(lab, first, "no-mpp")
    second = lab.arrive("S26-2_B1_HE", "bytes")
    assert lab.states() == {first: "superseded", second: "read"}


def test_a_file_that_moved_is_taken_up_under_its_new_path(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE", "bytes")
    moved = lab.arrive("S26-1_A1_HE_moved", "bytes")
    set_aside(lab, first, "unreadable")
    lab.work()
    assert lab.states() == {first: "superseded", moved: "read"}


def test_two_names_of_the_same_bytes_are_a_conflict(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE", "bytes")
    lab.arrive("S26-1_A1_HER2")
    lab.deliver(sent=False)
    second = lab.arrive("S26-2_A1_HE", "bytes")
    for subject, other in ((first, second), (second, first)):
        row = lab.slides()[subject]
        assert (row.state, row.reason) == (SlideState.QUARANTINED, "same-slide")
        assert other in say("slide-detail", row.reason, params_of(row))
    case = lab.case()
    assert (case.state, case.reason, case.score) == (CaseState.HELD, "same-slide", "")
    assert "tandem identify set" in say("case", case.reason, params_of(case))
    assert lab.deliveries() == [("refused", "withdrawn")]
    third = lab.arrive("S26-3_A1_HE", "bytes")
    assert lab.states()[third] == SlideState.QUARANTINED


def test_the_same_bytes_in_both_slots_of_a_pair_get_no_score(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE", "bytes")
    lab.arrive("S26-1_A1_HER2", "bytes")
    assert set(lab.states().values()) == {"quarantined"}
    assert lab.case().state == CaseState.WAITING


def test_a_persons_word_settles_the_conflict(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE", "bytes")
    lab.arrive("S26-1_A1_HER2")
    lab.deliver()
    second = lab.arrive("S26-2_A1_HE", "bytes")
    keep(lab.settings, first, WORD)
    lab.work()
    assert (lab.states()[first], lab.states()[second]) == ("read", "superseded")
    assert lab.case().state == CaseState.READY
    # The word holds for the bytes: another copy under the wrong name is asked for no more.
    third = lab.arrive("S26-2_A1_HE_again", "bytes")
    assert lab.states()[third] == "superseded"


def test_the_other_name_goes_on_when_one_is_left_out(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE", "bytes")
    second = lab.arrive("S26-2_A1_HE", "bytes")
    exclude_slide(lab.settings, second, WORD)
    lab.work()
    assert lab.states() == {first: "read", second: "other"}
    copy = lab.arrive("S26-2_A1_HE_copy", "bytes")
    assert lab.states()[copy] == SlideState.OTHER


@pytest.mark.parametrize("which", [0, 1])
def test_a_held_case_is_free_when_its_slide_turns_out_to_be_anothers(lab: Lab, which: int) -> None:
    first = lab.arrive("S26-1_A1_HE", "bytes")
    lab.arrive("S26-1_A1_HER2")
    lab.deliver()
    second = lab.arrive("S26-2_A1_HE", "bytes")
    assert lab.case().state == CaseState.HELD
    words = SlideWords(accession="S26-3")
    say_slide(lab.settings, (first, second)[which], words, WORD)
    lab.work()
    assert lab.case().state == CaseState.WAITING
    assert sorted(lab.states()[each] for each in (first, second)) == ["read", "superseded"]
    assert len(lab.used("A1", "S26-3")) == 1


def test_a_touched_slide_whose_bytes_have_another_name_by_now_holds_its_case(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE", "bytes")
    lab.arrive("S26-1_A1_HER2")
    lab.deliver()
    with lab.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        row.fingerprint = ""
        tx.advance(row, SlideState.ARRIVING, now=lab.now)
    lab.arrive("S26-2_A1_HE", "bytes")
    with lab.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        tx.advance(row, SlideState.ARRIVED, now=lab.now)
    lab.work()
    assert lab.states()[first] == SlideState.QUARANTINED
    assert (lab.case().state, lab.case().reason) == (CaseState.HELD, "same-slide")


@pytest.mark.parametrize("other", ["", "bytes", "organ", "patient", "person"])
def test_a_touched_slide_with_the_same_bytes_leaves_its_case_delivered(
    lab: Lab, other: str
) -> None:
    lab.arrive("S26-1_A1_HE", "bytes", day=5)
    lab.arrive("S26-1_A1_HER2")
    lab.deliver()
    before = lab.case()
    apply_changes(lab.ledger, [Change(kind="changed", path="/scans/S26-1_A1_HE.svs")], lab.now)
    with lab.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        tx.advance(row, SlideState.ARRIVED, now=lab.now)
        if other == "organ":  # results depend on it
            row.organ = "gastric"
        if other == "patient":
            row.patient = '{"patient_id": "P1"}'
    lab.touch("S26-1_A1_HE", "other bytes" if other == "bytes" else "bytes", day=6)
    if other == "person":
        retry(lab.settings, "slide-1", WORD)
    with lab.transaction() as tx:  # whose block is first says nothing of its bytes
        tx.note("slide-1", "stat", lab.now, by=WORD.by)
    lab.step("slide-1")
    states = (lab.states()["slide-1"], lab.case().state, lab.case().score)
    if other:
        assert states == (SlideState.IDENTIFIED, CaseState.WAITING, "")
    else:
        assert states == (SlideState.READ, CaseState.DELIVERED, "2+")
        assert lab.case().findings_key == before.findings_key != ""
        assert lab.slides()["slide-1"].scanned_at == 5 * DAY_S


def test_a_touched_slide_gives_way_to_a_scan_that_came_meanwhile(lab: Lab) -> None:
    first = lab.arrive("S26-1_A1_HE", day=5)
    lab.arrive("S26-1_A1_HER2")
    lab.deliver()
    apply_changes(lab.ledger, [Change(kind="changed", path="/scans/S26-1_A1_HE.svs")], lab.now)
    lab.arrive("S26-1_A1_HE_2", day=6)
    with lab.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        tx.advance(row, SlideState.ARRIVED, now=lab.now)
    lab.work()
    assert lab.states()[first] == SlideState.SUPERSEDED
    assert (lab.case().state, lab.case().score) == (CaseState.READY, "")
