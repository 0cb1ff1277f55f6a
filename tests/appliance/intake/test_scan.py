"""Full scans and looks: what changes in the ledger, what does not, and what ends with a reason."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.site import PATIENCE_S, WINDOW_S, Site

import appliance.intake.changes
import appliance.intake.found
import appliance.intake.pending
from appliance.artifacts import ArtifactStore
from appliance.delivery.frozen import freeze_source, remember_source, signature
from appliance.domain import SlideFacts
from appliance.errors import SlideError
from appliance.intake.arrange import DAY_S
from appliance.intake.listing import ListedFile, Listing
from appliance.intake.watch import FolderWatch
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import SlideRow
from appliance.ledger.transaction import Transaction
from appliance.line.analyze_slide import identify_slide
from appliance.settings.settings import Settings

TIFF = (
    b"II*\0\x08\0\0\0\4\0"
    b"\0\1\3\0\1\0\0\0\1\0\0\0"
    b"\1\1\3\0\1\0\0\0\1\0\0\0"
    b"\x11\1\4\0\1\0\0\0\x08\0\0\0"
    b"\x17\1\4\0\1\0\0\0\1\0\0\0"
    b"\0\0\0\0"
)
"""A TIFF of one px, whole by its index."""


def read(row: SlideRow) -> None:
    row.state = SlideState.READ


def test_nothing_new_writes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (site.scans / f"S26-{number}_A1_HE.svs").write_bytes(TIFF)
    assert set(site.arrive().values()) == {"arrived"}
    before = (site.state / "ledger.sqlite-wal").stat().st_size

    def refuse(_ledger: Ledger) -> None:
        raise AssertionError("a transaction was opened")

    monkeypatch.setattr(Ledger, "transaction", refuse)
    site.scan.run(monotonic=100, now=100)
    site.start().scan.run(monotonic=200, now=200)
    assert (site.state / "ledger.sqlite-wal").stat().st_size == before


def test_one_scan_is_one_transaction(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (site.scans / f"S26-{number}_A1_HE.svs").write_bytes(TIFF)
    opened = []
    transaction = Ledger.transaction
    monkeypatch.setattr(
        Ledger, "transaction", lambda ledger: opened.append(1) or transaction(ledger)
    )
    site.scan.run(monotonic=0, now=0)
    assert len(opened) == 1


def test_no_write_lock_is_held_while_the_folder_is_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.scans / "a.svs").write_bytes(TIFF)
    (site.scans / "b.svs").write_bytes(TIFF)
    site.run()
    writes = []

    def write() -> None:
        with sqlite3.connect(site.state / "ledger.sqlite", timeout=0) as connection:
            connection.execute("UPDATE slide SET not_before = 1")
        connection.close()
        writes.append(1)

    under, whole = Listing.under, appliance.intake.pending.is_whole
    monkeypatch.setattr(Listing, "under", lambda *a: [write(), *under(*a)][1:])
    monkeypatch.setattr(appliance.intake.pending, "is_whole", lambda *a: write() or whole(*a))
    assert set(site.run(WINDOW_S).values()) == {"arrived"}
    assert len(writes) == 3


def test_one_entry_that_the_ledger_refuses_costs_one_row(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.svs", "odd.svs", "z.svs"):
        (site.scans / name).write_bytes(TIFF)
    add = Transaction.add_slide

    def refuse(tx: Transaction, path: str, now: float) -> SlideRow:
        if "odd" in path:
            raise ValueError(path)
        return add(tx, path, now)

    monkeypatch.setattr(Transaction, "add_slide", refuse)
    assert set(site.run()) == {"a.svs", "z.svs"}
    assert set(site.run(WINDOW_S).values()) == {"arrived"}
    monkeypatch.undo()
    assert set(site.run()) == {"a.svs", "odd.svs", "z.svs"}


def test_many_changes_are_several_short_transactions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appliance.intake.changes, "MOST_TOGETHER", 7)
    for number in range(30):
        (site.scans / f"{number}.svs").write_bytes(TIFF)
    assert len(site.run()) == 30


@pytest.mark.parametrize("look", [False, True], ids=["scan", "look"])
def test_a_file_that_is_gone_while_arriving_ends_with_a_reason(site: Site, look: bool) -> None:
    old, new = site.scans / "tmp-1.svs", site.scans / "S26-1_A1_HE.svs"
    old.write_bytes(TIFF)
    again = site.look if look else site.run
    site.run()
    old.rename(new)
    again(*([new] if look else []))
    rows = site.rows()
    assert (rows["tmp-1.svs"].state, rows["tmp-1.svs"].reason) == ("superseded", "")
    assert again(after_s=WINDOW_S)["S26-1_A1_HE.svs"] == "arrived"
    assert not site.scan.busy
    new.rename(old)  # it comes back
    assert site.run()["tmp-1.svs"] == "arriving"
    assert site.run(WINDOW_S)["tmp-1.svs"] == "arrived"


@pytest.mark.parametrize("look", [False, True], ids=["scan", "look"])
def test_a_file_that_is_renamed_in_its_folder_is_no_trouble(site: Site, look: bool) -> None:
    def see(*paths: Path) -> dict[str, str]:
        return site.look(*paths, after_s=1) if look else site.run(1)

    old, new = site.scans / "tmp-1.svs", site.scans / "S26-1_A1_HE.svs"
    old.write_bytes(TIFF)
    see(old)
    with old.open("ab") as stream:
        stream.write(bytes(9))
    old.rename(new)
    assert see(old, new) == {old.name: "superseded", new.name: "arriving"}
    new.rename(old)  # a person puts it back
    states = see(old, new)
    assert states == {old.name: "arriving", new.name: "superseded"}
    # Another file in its place is not the one that vanished.
    old.unlink()
    (site.scans / "S26-2_A1_HE.svs").write_bytes(TIFF[:-1])
    assert see(old, site.scans / "S26-2_A1_HE.svs")[old.name] == "quarantined"


def test_a_look_between_a_rename_and_its_report_finds_the_new_name(site: Site) -> None:
    site.run()
    part, new = site.scans / "part-2.svs", site.scans / "S26-2_A1_HE.svs"
    part.write_bytes(TIFF)
    site.run(1)
    part.rename(new)
    assert site.look(after_s=1) == {part.name: "superseded", new.name: "arriving"}
    assert site.look(part, new, after_s=1) == {part.name: "superseded", new.name: "arriving"}


@pytest.mark.parametrize("look", [False, True], ids=["scan", "look"])
@pytest.mark.parametrize(
    ("name", "start", "state"),
    [
        ("S26-2_A1_HE.svs", TIFF, "quarantined"),
        ("tmp-2.svs", b"II" + TIFF[2:].replace(b"\4", b"\3"), "quarantined"),
        ("tmp-2.svs", TIFF, "superseded"),
    ],
    ids=["another accession", "other bytes", "the same"],
)
def test_a_file_under_the_number_of_a_deleted_one_is_no_renamed_one(
    site: Site, look: bool, name: str, start: bytes, state: str
) -> None:
    def see(*paths: Path) -> dict[str, str]:
        return site.look(*paths, after_s=1) if look else site.run(1)

    old, new = site.scans / "S26-1_A1_HE.svs", site.scans / name
    old.write_bytes(TIFF)
    see(old)
    old.rename(new)  # it has the number, as that of a deleted file is given to the next
    new.write_bytes(start + bytes(9))
    assert see(old, new) == {old.name: state, name: "arriving"}


def test_the_only_file_that_is_deleted_while_arriving_ends_with_a_reason(site: Site) -> None:
    path = site.scans / "case" / "S26-1_A1_HE.svs"
    path.parent.mkdir()
    path.write_bytes(TIFF)
    site.run()
    path.unlink()
    assert site.look(after_s=1) == {"case/S26-1_A1_HE.svs": "quarantined"}
    path.write_bytes(TIFF)
    site.arrive()
    shutil.rmtree(path.parent)
    assert site.run() == {"case/S26-1_A1_HE.svs": "arrived"}  # its step tells that it is gone
    assert not site.scan.busy


def test_a_row_that_was_arriving_before_a_restart_ends_too(site: Site) -> None:
    path = site.scans / "S26-1_A1_HE.svs"
    path.write_bytes(TIFF)
    (site.scans / "other.svs").write_bytes(TIFF)
    site.run()
    path.unlink()
    assert site.start().run()["S26-1_A1_HE.svs"] == "quarantined"


def test_a_slide_that_was_read_keeps_its_results_when_its_file_goes(site: Site) -> None:
    path = site.scans / "S26-1_A1_HE.svs"
    path.write_bytes(TIFF)
    site.arrive()
    site.set(path.name, read)
    path.unlink()
    assert site.run(1) == {path.name: "read"}


def test_a_file_that_changes_after_it_was_read_arrives_again(site: Site) -> None:
    path = site.scans / "S26-1_A1_HE.svs"
    path.write_bytes(TIFF)
    site.arrive()
    site.set(path.name, read)
    path.write_bytes(TIFF + b"more")
    assert site.look(path, after_s=1) == {path.name: "arriving"}


def test_a_look_finds_what_is_new_without_listing_all(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.scans / "S26-1_A1_HE.svs").write_bytes(TIFF)
    site.arrive()

    def refuse(*_: object) -> None:
        raise AssertionError("all is listed")

    monkeypatch.setattr(Listing, "under", refuse)
    new = site.scans / "deep" / "er" / "S26-2_A1_HE.svs"
    new.parent.mkdir(parents=True)
    new.write_bytes(TIFF)
    assert site.look(site.scans / "deep")["deep/er/S26-2_A1_HE.svs"] == "arriving"
    flat = site.scans / "S26-3_A1_HE.svs"
    flat.write_bytes(TIFF)
    junk = site.scans / "#recycle" / "S26-4_A1_HE.svs"
    junk.parent.mkdir()
    junk.write_bytes(TIFF)
    states = site.look(flat, junk, Path("/elsewhere/x.svs"))
    assert states.pop(flat.name) == "arriving" and len(states) == 2
    assert set(site.look(after_s=WINDOW_S).values()) == {"arrived"}
    assert not site.scan.busy and site.scan.wait_s(site.seconds) is None


def test_an_incomplete_file_is_not_looked_at_each_second(site: Site) -> None:
    (site.scans / "S26-1_A1_HE.svs").write_bytes(TIFF[:-9])
    site.run()
    assert site.scan.wait_s(site.seconds) == 1.0
    site.run(WINDOW_S + 2)
    assert site.scan.wait_s(site.seconds) == 5.0
    assert site.run(PATIENCE_S) == {"S26-1_A1_HE.svs": "arrived"}


def test_a_row_that_another_thread_takes_back_is_finished_again(site: Site) -> None:
    path = site.scans / "S26-1_A1_HE.svs"
    path.write_bytes(TIFF)
    site.arrive()
    site.set(path.name, lambda row: setattr(row, "state", SlideState.ARRIVING))
    assert site.arrive() == {path.name: "arrived"}


def test_a_locked_ledger_ends_neither_the_thread_nor_the_scan(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.intake.watch.TROUBLE_SECONDS", 0.1)
    watch = FolderWatch(site.ledger, site.start(stable_seconds=0.1).watch, site.state)
    failed, run = [], watch.scan.run

    def once() -> int:
        if not failed:
            failed.append(1)
            raise sqlite3.OperationalError("database is locked")
        return run()

    monkeypatch.setattr(watch.scan, "run", once)
    stop, beats = threading.Event(), []
    thread = threading.Thread(target=watch.run, args=(stop, Turn(beats)))
    thread.start()
    try:
        (site.scans / "S26-1_A1_HE.svs").write_bytes(TIFF)
        wait_for(lambda: site.states() == {"S26-1_A1_HE.svs": "arrived"})
        # By an event, long before the next full scan.
        (site.scans / "new").mkdir()
        (site.scans / "new" / "S26-2_A1_HE.svs").write_bytes(TIFF)
        wait_for(lambda: site.states().get("new/S26-2_A1_HE.svs") == "arrived")
    finally:
        stop.set()
        watch.wake()
        thread.join(600)
    assert not thread.is_alive() and failed and len(beats) > 2


def test_without_events_a_folder_is_polled(site: Site) -> None:
    site.start(stable_seconds=0.1, polling=True, poll_seconds=0.2)
    watch = FolderWatch(site.ledger, site.watch, site.state)
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,))
    thread.start()
    try:
        (site.scans / "S26-1_A1_HE.svs").write_bytes(TIFF)
        wait_for(lambda: site.states() == {"S26-1_A1_HE.svs": "arrived"})
    finally:
        stop.set()
        watch.wake()
        thread.join(600)


def test_a_scan_leaves_no_trace_on_the_files(site: Site, real: Path) -> None:
    shutil.copytree(real / "slides", site.scans / "slides")
    shutil.copytree(real / "broken", site.scans / "broken")
    old = 1_000_000_000
    for path in site.scans.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (old, old))

    def times() -> dict[Path, tuple[int, ...]]:
        return {
            path: (facts.st_atime_ns, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
            for path in sorted(site.scans.rglob("*"))
            if path.is_file() and (facts := path.stat())
        }

    before = times()
    site.arrive()
    site.run(PATIENCE_S)
    assert times() == before
    refused = 0
    for path in sorted(site.scans.rglob("*.*")):
        try:
            identify_slide(path, Settings(state_dir=site.state))
        except SlideError:
            refused += 1
    assert refused
    # OpenSlide's reads are seen in the time of access, as anybody's are.
    assert [facts[1:] for facts in times().values()] == [facts[1:] for facts in before.values()]
    assert list(times()) == list(before)


def test_a_slide_that_is_away_for_a_moment_comes_back(site: Site) -> None:
    path = site.scans / "day" / "S26-1_A1_HE.svs"
    path.parent.mkdir()
    path.write_bytes(TIFF)
    site.arrive()
    path.parent.rename(site.state / "away")
    with pytest.raises(SlideError) as raised:
        identify_slide(path, Settings(state_dir=site.state))

    def set_aside(row: SlideRow) -> None:
        row.state, row.reason = SlideState.QUARANTINED, raised.value.reason

    site.set("day/S26-1_A1_HE.svs", set_aside)
    assert set(site.run(WINDOW_S).values()) == {"quarantined"}
    (site.state / "away").rename(path.parent)
    site.run()
    assert set(site.run(WINDOW_S).values()) == {"arrived"}


@pytest.fixture
def in_memory() -> Iterator[Site]:
    """A site on a file system that holds any time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made = Site(Path(folder))
        yield made
        made.ledger.close()


@pytest.mark.parametrize("year", [1601, 3000, 10_000])
def test_a_slide_of_an_odd_time_is_taken_in(in_memory: Site, year: int) -> None:
    site = in_memory
    path, years_s = site.scans / "S26-1_A1_HE.svs", round((year - 1970) * 365.2425 * 86400)
    path.write_bytes(TIFF)
    os.utime(path, ns=(0, years_s * 10**9))
    assert abs(path.stat().st_mtime - years_s) < DAY_S
    assert site.arrive() == {path.name: "arrived"}
    before = site.rows()[path.name]
    assert site.run(WINDOW_S) == {path.name: "arrived"}
    facts = SlideFacts(
        path=str(path),
        fingerprint="odd",
        format="svs",
        width_px=1,
        height_px=1,
        mpp=0.25,
        level_count=1,
        is_dicom=False,
    )
    store = ArtifactStore(site.state)
    remember_source(facts, signature(path), store)
    scanned, _ = freeze_source(facts, store)
    assert scanned.timestamp() == before.modified_ns // 10**9
    assert signature(path)[0][1] == before.modified_ns


def wait_for(condition: object, seconds: float = 720) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_subfolder_that_cannot_be_listed_hides_nothing_else(
    site: Site, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "closed", "z"):
        (site.scans / name).mkdir()
        (site.scans / name / "S26-1_A1_HE.svs").write_bytes(TIFF)
    site.run()
    scandir = os.scandir

    def answer(path: str) -> object:
        if str(path).endswith("closed"):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", answer)
    for _ in range(2):
        states = site.run(WINDOW_S)
    assert states["closed/S26-1_A1_HE.svs"] == "arriving"
    assert states["a/S26-1_A1_HE.svs"] == states["z/S26-1_A1_HE.svs"] == "arrived"
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(said) == 1 and "1 folders" in said[0] and "closed" not in said[0]
    assert site.scan.report.unreadable_folders == 1
    monkeypatch.undo()
    assert site.run(WINDOW_S)["closed/S26-1_A1_HE.svs"] == "arrived"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOENT])
def test_a_folder_of_mrxs_that_cannot_be_entered_hides_nothing_else(
    site: Site, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, new = site.scans / "b" / "S26-1_A1_HE", site.scans / "b" / "S26-2_A1_HE"
    for folder in (done, new):
        folder.mkdir(parents=True)
        folder.with_suffix(".mrxs").write_bytes(b"x")
        (folder / "Slidedat.ini").write_text("x")
        if folder is done:
            site.run()
            site.set("b/S26-1_A1_HE.mrxs", read)
    for name in ("a", "z"):
        (site.scans / name).mkdir()
        (site.scans / name / "S26-3_A1_HE.svs").write_bytes(TIFF)
    listed = appliance.intake.found._listed

    def answer(path: str) -> ListedFile:
        if path.endswith("Slidedat.ini"):
            raise OSError(number, os.strerror(number), path)
        return listed(path)

    with monkeypatch.context() as share:
        share.setattr(appliance.intake.found, "_listed", answer)
        states = site.arrive()
        assert states["a/S26-3_A1_HE.svs"] == states["z/S26-3_A1_HE.svs"] == "arrived"
        assert states["b/S26-1_A1_HE.mrxs"] == "read"
        assert states["b/S26-2_A1_HE.mrxs"] == "arriving"
        assert (site.scan.report.away, site.scan.report.unreadable_folders) == ({}, 2)
        # The step that opens it says what it lacks.
        assert site.run(WINDOW_S + PATIENCE_S)["b/S26-2_A1_HE.mrxs"] == "arrived"
    states = site.run(WINDOW_S)
    assert (states["b/S26-1_A1_HE.mrxs"], states["b/S26-2_A1_HE.mrxs"]) == ("read", "arriving")
    assert site.scan.report.unreadable_folders == 0


class Turn:
    """Turn of the scan's loop; each adds to `beats`."""

    def __init__(self, beats: list[int]) -> None:
        self.beats = beats

    def __enter__(self) -> None:
        self.beats.append(1)

    def __exit__(self, *_: object) -> None:
        pass
