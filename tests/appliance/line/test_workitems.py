"""Work items: claimed once, fetched, followed and ended, whatever the server does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fixtures.daemon import Daemon, tandem_here
from fixtures.instances import made_object
from fixtures.pairings import HER2_PAIR
from fixtures.ups import UpsServer, work_item
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.index import INDEX_NAME, ObjectFile
from appliance.domain import HE, HER2, Identity
from appliance.intake.arrange import DAY_S
from appliance.intake.block import make_ready, settle
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import CaseDeliveryRow, CaseRow, DeliveryRow, id_of, set_reason
from appliance.line import workitems
from appliance.line.workitems import WorkList
from appliance.operations.start_checks import folder_problems
from appliance.settings.settings import Settings
from dicom import ups
from dicom.dicomweb import WebAddress
from dicom.errors import ConnectionLostError, PacsRejectedError, PacsUnavailableError, SpoolError
from dicom.header import WSM_STORAGE
from dicom.wado import Series, may_be_slide

UID = "1.2.3.4.5"
READING = (SlideState.ARRIVED, SlideState.IDENTIFIED, SlideState.INSPECTED, SlideState.READ)
ONE, TWO = ("1.2.9", "1.2.9.1"), ("1.2.9", "1.2.9.2")


class Site:
    """Work list of a server, whose slides are fetched without a network."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = UpsServer()
        self.spool = folder / "spool"
        self.now = 1000.0
        self.fetched: list[tuple[str, str]] = []
        self.trouble: Exception | None = None
        self.lost_series: set[str] = set()
        self.settings = Settings(
            state_dir=folder / "state",
            watch={"folders": [str(self.spool)]},
            workitems={"url": self.server.url, "folder": str(self.spool), "codes": ["HER2"]},
        )
        self.spool.mkdir()
        self.settings.state_dir.mkdir()
        self.ledger = Ledger(self.settings.ledger_url)
        monkeypatch.setattr(workitems, "retrieve_series", self._retrieve)

    def _retrieve(self, address: WebAddress, series: Series, to: Path) -> int:
        if self.trouble is not None:
            raise self.trouble
        if series.series_uid in self.lost_series:
            raise ConnectionLostError("the series ended in the middle of an instance")
        self.fetched.append((address.url, series.series_uid))
        (to / "1.dcm").write_bytes(b"")
        return 1

    def work(self) -> WorkList:
        """A work list that was just started: nothing is remembered but files."""
        wanted, stop = self.settings.workitems, threading.Event()
        assert wanted is not None
        return WorkList(self.ledger, self.settings, wanted, stop, lambda: self.now)

    def turn(self) -> None:
        """One turn of a work list that was just started."""
        self.work().turn()

    def ended(self) -> str:
        """State in which the one record says that its item ended."""
        (record,) = (self.spool / ".items").glob("*.json")
        return str(json.loads(record.read_text())["ended"])

    def scan(self) -> None:
        """Read both slides of the block as they came from the scanner, before any work item."""
        with self.ledger.transaction() as tx:
            for stain in (HE, HER2):
                row = tx.add_slide(f"/scans/{stain}.svs", now=self.now)
                row.accession, row.block, row.stain = "S26-9", "A1", str(stain)
                for each in READING:
                    tx.advance(row, each, now=self.now)

    def go_on(self, *states: SlideState) -> None:
        """Let the fetched slides reach these states, and their block follow."""
        with self.ledger.transaction() as tx:
            rows = tx.slides_below(str(self.spool / UID))
            for row, last in zip(rows, states, strict=True):
                row.scanned_at = 2 * DAY_S  # a newer day than that of the former scans
                for each in READING[READING.index(SlideState(row.state)) + 1 :]:
                    if SlideState(row.state) != last:
                        tx.advance(row, each, now=self.now)
            settle(tx, "S26-9", "A1", self.now)
            for case in tx.cases_of_block("S26-9", "A1"):
                make_ready(tx, case, self.now)

    def take_up(self, *states: SlideState) -> None:
        """Let the fetched slides be taken up from the spool, and reach these states."""
        with self.ledger.transaction() as tx:
            for (_, series), stain, state in zip((ONE, TWO), (HE, HER2), states, strict=True):
                row = tx.add_slide(str(self.spool / UID / series / "1.dcm"), now=self.now)
                row.accession, row.block, row.stain = "S26-9", "A1", str(stain)
                if state in READING:
                    for each in READING[: READING.index(state) + 1]:
                        tx.advance(row, each, now=self.now)
                else:
                    tx.advance(row, SlideState.ARRIVED, now=self.now)
                    set_reason(row, "wrong-picture")
                    tx.advance(row, state, now=self.now, reason="wrong-picture")

    def case(self, *states: CaseState) -> CaseRow:
        with self.ledger.transaction() as tx:
            row = tx.case_for(Identity(accession="S26-9", block="A1", stain=HE), 1.0, HER2_PAIR)
            for state in states:
                tx.advance(row, state, now=self.now)
            return row

    def deliver(self, case: CaseRow, result: int = 1) -> None:
        """Let a case have a result: one object is proven at a destination, one waits."""
        objects = [
            ObjectFile(
                kind="SR", path="x", study_uid="1.5", series_uid=f"1.5.{result}",
                sop_instance_uid=f"1.5.{result}.{number}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
            )
            for number in range(2)
        ]  # fmt: skip
        key = ArtifactKey.of("objects", result=result)
        with ArtifactStore(self.settings.artifacts_dir).writing(key) as folder:
            contents = {"objects": [asdict(each) for each in objects]}
            (folder / INDEX_NAME).write_text(json.dumps(contents))
        with self.ledger.transaction() as tx:
            row = tx.case(id_of(case))
            assert row is not None
            row.objects_key = str(key)
            tx.session.add(row)
            states = (DeliveryState.PROVEN, DeliveryState.QUEUED)
            for number, (item, state) in enumerate(zip(objects, states, strict=True)):
                sent = DeliveryRow(
                    case_id=id_of(case), destination=f"d{number}", **asdict(item), state=state,
                    created_at=1.0, changed_at=1.0,
                )  # fmt: skip
                tx.session.add(sent)
                tx.session.flush()
                tx.session.add(CaseDeliveryRow(case_id=id_of(case), delivery_id=sent.id))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, monkeypatch)
    yield made
    made.ledger.close()
    made.server.close()


WAY = (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN, CaseState.DELIVERED)


def test_from_the_claim_to_the_objects_that_came_of_it(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    site.turn()
    assert site.server.state(UID) == "IN PROGRESS"
    assert [series for _, series in site.fetched] == [ONE[1], TWO[1]]
    site.take_up(SlideState.READ, SlideState.READ)
    site.turn()
    case = site.case(*WAY)
    site.deliver(case)
    site.turn()
    assert site.server.state(UID) == "COMPLETED"
    assert [uid for _, uid in site.server.outputs(UID)] == ["1.5.1.0"]  # what is proven
    percents = [int(percent) for _, percent, _ in site.server.progress]
    assert percents == sorted(percents) and percents[-1] == 100
    site.turn()
    assert len(site.fetched) == 2


@pytest.mark.parametrize(
    "states",
    [
        (SlideState.IDENTIFIED, SlideState.IDENTIFIED),
        (SlideState.IDENTIFIED, SlideState.ARRIVED),
    ],
)
def test_a_rescan_ends_with_its_own_result_alone(
    site: Site, states: tuple[SlideState, ...]
) -> None:
    site.scan()
    case = site.case(*WAY)
    site.deliver(case, result=1)
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    site.turn()
    site.now += 1
    site.take_up(*states)
    site.turn()
    # The case has the result of the former scans until the new ones pass inspection.
    assert site.server.state(UID) == "IN PROGRESS"
    site.go_on(SlideState.READ, SlideState.READ)
    site.turn()
    assert site.server.state(UID) == "IN PROGRESS"
    with site.ledger.transaction() as tx:
        row = tx.case(id_of(case))
        assert row is not None
        for state in WAY[1:]:
            tx.advance(row, state, now=site.now)
    site.deliver(case, result=2)
    site.turn()
    assert site.server.state(UID) == "COMPLETED"
    assert [uid for _, uid in site.server.outputs(UID)] == ["1.5.2.0"]


def test_an_item_whose_objects_cannot_be_listed_holds_up_no_other(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    site.turn()
    site.take_up(SlideState.READ, SlideState.READ)
    site.deliver(site.case(*WAY))
    (index,) = site.settings.artifacts_dir.rglob(INDEX_NAME)
    index.unlink()
    other = "1.2.3.4.6"
    site.server.items[other] = work_item(other, [ONE])
    site.turn()
    assert [site.server.state(uid) for uid in (UID, other)] == ["IN PROGRESS"] * 2
    assert "the list of its objects cannot be read (FileNotFoundError)" in caplog.text
    assert "S26-9" not in caplog.text


def test_a_crash_at_any_answer_loses_and_doubles_nothing(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    for _ in range(3):  # claim, first word, second word: each is done, and its answer is lost
        site.server.lost = 1
        with pytest.raises(PacsUnavailableError):
            site.turn()
        site.now += 1
        if site.server.state(UID) == "IN PROGRESS" and site.fetched:
            break
    site.turn()
    assert len(site.fetched) == 2
    site.take_up(SlideState.READ, SlideState.READ)
    site.deliver(site.case(*WAY))
    # The objects are named, the state is set: both answers are lost.
    for site.server.lost, site.server.lost_states in ((1, 0), (0, 1)):
        with pytest.raises(PacsUnavailableError):
            site.turn()
    assert site.server.lost == site.server.lost_states == 0
    assert site.server.state(UID) == "COMPLETED"
    site.turn()
    assert len(site.server.outputs(UID)) == 1
    assert site.ended() == "COMPLETED"


@pytest.mark.parametrize("by", ["us", "CANCELED", "COMPLETED"])
def test_an_item_that_ended_when_it_is_canceled_is_followed_no_more(site: Site, by: str) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    site.turn()
    site.now += 3600 * 73
    if by == "us":  # it is canceled, and the answer is lost
        site.server.lost_states = 1
        with pytest.raises(PacsUnavailableError):
            site.turn()
    else:
        site.server.items[UID]["00741000"]["Value"] = [by]
    site.turn()
    assert site.ended() == site.server.state(UID) != "IN PROGRESS"


def test_another_stations_items_are_left_alone(site: Site) -> None:
    site.server.items = {
        "1.1": work_item("1.1", [ONE], station="ELSEWHERE"),
        "1.2": work_item("1.2", [ONE], code="CT"),
        "1.3": work_item("1.3", [ONE]) | {"00404041": {"vr": "CS", "Value": ["INCOMPLETE"]}},
        "../../x": work_item("../../x", [ONE]),
        "1.5": {"00080018": "no attribute"},
    }
    site.turn()
    assert not site.fetched and not site.server.owners
    assert [p for p in site.spool.iterdir() if p.name != ".items"] == []


@pytest.mark.parametrize(
    ("pages", "most", "searches"), [(True, 1000, 4), (False, 1000, 2), (True, 50, 6)]
)
def test_a_queue_of_others_hides_no_item(site: Site, pages: bool, most: int, searches: int) -> None:
    others = [f"1.3.{number}" for number in range(1, 251)]
    site.server.items = {uid: work_item(uid, [ONE], station="ELSEWHERE") for uid in others}
    site.server.items[UID] = work_item(UID, [ONE])
    site.server.pages, site.server.most = pages, most
    site.turn()
    assert site.server.state(UID) == "IN PROGRESS" and [*site.server.owners] == [UID]
    assert len([path for path in site.server.requests if "limit=" in path]) == searches


def test_an_item_that_is_gone_is_told_as_gone_by_a_server_without_a_second_resource(
    site: Site,
) -> None:
    """The lane would wait for a server whose address is wrong."""
    site.server.unknown = 405
    assert not ups.claim(WebAddress(url=site.server.url), UID, "1.2.3", "TANDEM")


def test_an_item_that_another_station_took_first_is_forgotten(site: Site) -> None:
    item = work_item(UID, [ONE])
    site.server.items[UID] = item
    site.server.owners[UID] = "1.2.3.other"
    taken = {**item, "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}}
    listed = site.server.items
    site.server.items = {UID: item}
    original = site.server.change_state

    def too_late(uid: str, asked: dict[str, Any], query: str) -> int:
        site.server.items[UID] = taken
        return original(uid, asked, query)

    site.server.change_state = too_late  # type: ignore[method-assign]
    site.turn()
    assert not site.fetched and listed[UID] is item
    assert not list((site.spool / ".items").glob("*.json"))


def test_what_a_person_must_do_is_told_without_patient_data(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    site.turn()
    site.take_up(SlideState.READ, SlideState.QUARANTINED)
    site.turn()
    site.turn()
    assert site.server.state(UID) == "IN PROGRESS"
    words = [words for _, _, words in site.server.progress]
    assert sum("wrong-picture" in each for each in words) >= 1
    assert not any("S26" in each or "Muster" in each for each in words)


def test_slides_that_are_not_for_tandem_cancel_it(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    site.turn()
    site.take_up(SlideState.OTHER, SlideState.OTHER)
    site.turn()
    assert site.server.state(UID) == "CANCELED"


def test_a_series_that_is_no_slide_holds_up_no_item(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports, presentation states and pictures of the study lie beside the slides."""

    def of_class(address: WebAddress, series: Series, to: Path) -> int:
        site.fetched.append((address.url, series.series_uid))
        made_object(to / "1.dcm", sop_class=classes[series.series_uid])
        return 1

    report = ("1.2.9", "1.2.9.3")
    classes = {ONE[1]: WSM_STORAGE, TWO[1]: WSM_STORAGE, report[1]: ComprehensiveSRStorage}
    monkeypatch.setattr(workitems, "retrieve_series", of_class)
    site.server.items[UID] = work_item(UID, [report, ONE, TWO])
    site.turn()
    assert sorted(path.name for path in (site.spool / UID).iterdir()) == [ONE[1], TWO[1]]
    assert [path.name for path in (site.spool / ".items").iterdir()] == [f"{UID}.json"]
    site.take_up(SlideState.READ, SlideState.READ)
    site.deliver(site.case(*WAY))
    site.turn()
    assert site.server.state(UID) == "COMPLETED"
    assert len(site.fetched) == 3  # the report is not fetched again
    # An item of reports alone ends, and a series with any image of a slide is one.
    other = "1.2.3.4.6"
    site.server.items[other] = work_item(other, [report])
    site.turn()
    assert site.server.state(other) == "CANCELED"
    item = site.server.items[other]["00741002"]["Value"][0]
    assert item["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]
    folder = site.spool / "both"
    folder.mkdir()
    assert may_be_slide(folder)
    made_object(folder / "1.dcm", sop_class=ComprehensiveSRStorage)
    assert not may_be_slide(folder)
    (folder / "2.dcm").write_bytes(b"no DICOM")
    assert may_be_slide(folder)
    made_object(folder / "2.dcm", sop_class=WSM_STORAGE)
    assert may_be_slide(folder)
    for kind, is_level in (("LABEL", False), ("OVERVIEW", False), ("VOLUME", True)):
        header = dcmread(folder / "2.dcm")
        header.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
        header.save_as(folder / "2.dcm")
        assert may_be_slide(folder) == is_level


def test_a_report_that_an_earlier_edition_fetched_holds_up_no_item(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO, ("1.2.9", "1.2.9.3")])
    site.turn()
    made_object(site.spool / UID / "1.2.9.3" / "1.dcm", sop_class=ComprehensiveSRStorage)
    site.turn()
    (record,) = (site.spool / ".items").glob("*.json")
    kept = [each["series_uid"] for each in json.loads(record.read_text())["series"]]
    assert kept == [ONE[1], TWO[1]]
    assert (site.spool / UID / "1.2.9.3").is_dir()  # the scan counts its file


def test_what_is_left_of_a_series_goes_with_its_item(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_half(address: WebAddress, series: Series, to: Path) -> int:
        (to / "half.dcm").write_bytes(b"half")
        raise ConnectionLostError("the series ended in the middle of an instance")

    monkeypatch.setattr(workitems, "retrieve_series", in_half)
    site.server.items[UID] = work_item(UID, [ONE])
    for _ in range(2):
        with pytest.raises(PacsUnavailableError):
            site.turn()
    assert [path.name for path in site.spool.rglob("half.dcm")] == ["half.dcm"]
    former = site.spool / ".items" / "1.2.3.4.6-1.2.9.1"  # of an item that an earlier edition ended
    former.mkdir()
    (former / "half.dcm").write_bytes(b"half")
    site.now += 3600 * 73
    site.turn()
    assert site.server.state(UID) == "CANCELED"
    site.turn()
    assert list(site.spool.rglob("half.dcm")) == [] and not former.exists()
    assert [path.name for path in site.spool.rglob("*.json")] == [f"{UID}.json"]


def test_slides_that_cannot_be_had_cancel_it_and_a_server_away_does_not(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE, TWO])
    site.trouble = PacsUnavailableError("away")
    with pytest.raises(PacsUnavailableError):
        site.turn()
    assert site.server.state(UID) == "IN PROGRESS"
    site.trouble = PacsRejectedError("no such series")
    site.turn()
    assert site.server.state(UID) == "CANCELED"
    item = site.server.items[UID]["00741002"]["Value"][0]
    assert item["0074100E"]["Value"][0]["00080100"]["Value"] == ["110523"]


@pytest.mark.parametrize("raised_by", [OSError, SpoolError])
def test_trouble_of_the_spool_names_no_path(site: Site, raised_by: type[Exception]) -> None:
    """Pages, alerts and the log tell it."""
    site.server.items[UID] = work_item(UID, [ONE])
    site.trouble = OSError(28, "No space left on device", f"{site.spool}/{ONE[1]}/S26-9.svs")
    if raised_by is SpoolError:
        cause, site.trouble = site.trouble, SpoolError(f"{site.spool}/{ONE[1]}: full")
        site.trouble.__cause__ = cause
    assert site.settings.workitems is not None
    stop = threading.Event()
    work = WorkList(site.ledger, site.settings, site.settings.workitems, stop, lambda: site.now)
    thread = threading.Thread(target=work.run)
    thread.start()
    try:
        until = time.monotonic() + 600
        while not work.sign().trouble and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join(600)
    told = "the folder of the work list cannot be used (No space left on device)"
    assert work.sign().trouble == told


def test_a_series_that_never_comes_holds_up_no_other_item_and_ends_in_time(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE])
    site.lost_series = {ONE[1]}
    with pytest.raises(PacsUnavailableError, match="in the middle of an instance"):
        site.turn()
    other = "1.2.3.4.6"  # comes after the one that is held up, and goes on
    site.server.items[other] = work_item(other, [TWO])
    with pytest.raises(PacsUnavailableError, match="in the middle of an instance"):
        site.turn()
    assert [series for _, series in site.fetched] == [TWO[1]]
    assert [site.server.state(uid) for uid in (UID, other)] == ["IN PROGRESS"] * 2
    assert [uid for uid, _, words in site.server.progress if "are fetched" in words] == [other]
    site.now += 3600 * 73
    site.turn()
    assert site.server.state(UID) == "CANCELED"
    item = site.server.items[UID]["00741002"]["Value"][0]
    assert item["0074100E"]["Value"][0]["00080100"]["Value"] == ["110523"]


def test_an_item_without_an_end_is_canceled_in_time(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE])
    site.turn()
    site.now += 3600 * 73
    site.turn()
    assert site.server.state(UID) == "CANCELED"


def test_a_clock_that_was_set_far_cancels_no_item(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE])
    site.turn()
    site.now += 3600 * 73
    site.ledger.doubt_clock()
    site.turn()
    assert site.server.state(UID) == "IN PROGRESS"


def test_records_of_ended_items_are_put_away_and_keep_them_from_being_taken_again(
    site: Site,
) -> None:
    site.server.items[UID] = work_item(UID, [ONE])
    site.turn()
    site.now += 3600 * 73
    site.turn()
    assert site.server.state(UID) == "CANCELED"
    site.server.items[UID] = work_item(UID, [ONE])  # a server that forgot
    for _ in range(2):
        site.turn()
    assert site.server.state(UID) == "SCHEDULED" and len(site.fetched) == 1
    records = site.spool / ".items"
    assert [path.name for path in records.glob("*.json")] == []
    assert [path.name for path in (records / "ended").iterdir()] == [f"{UID}.json"]


@pytest.mark.parametrize("requester", ["TANDEM", "OTHER"])
def test_a_server_that_takes_no_change_of_state_is_told(site: Site, requester: str) -> None:
    site.server.requester = requester  # dcm4chee-arc has the state with the requester behind it
    site.server.items[UID] = work_item(UID, [ONE])
    work = site.work()
    work.turn()
    taken = requester == "TANDEM"
    assert site.server.state(UID) == ("IN PROGRESS" if taken else "SCHEDULED")
    refused = "" if taken else f"the work item {UID} cannot go on: "
    assert work.sign().trouble.startswith(refused) and bool(work.sign().trouble) is not taken
    site.server.requester = "TANDEM"
    site.now += 3600 * 73
    work.turn()
    assert site.server.state(UID) == "CANCELED" and work.sign().trouble == ""


def test_a_refused_item_is_told_without_a_look_at_the_spool_and_not_without_its_record(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object, **__: object) -> None:
        raise OSError(116, "Stale file handle")

    site.server.requester = "OTHER"
    site.server.items[UID] = work_item(UID, [ONE])
    work = site.work()
    work.turn()
    with monkeypatch.context() as disk:
        disk.setattr(Path, "stat", stale)
        assert work.sign().trouble.startswith(f"the work item {UID} cannot go on: ")
    (record,) = (site.spool / ".items").glob("*.json")
    record.unlink()
    site.server.items.clear()
    work.turn()
    assert work.sign().trouble == ""


def test_an_item_that_is_deleted_when_it_is_claimed_is_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted(uid: str, *_: object) -> int:
        site.server.items.pop(uid, None)
        return 404

    site.server.items[UID] = work_item(UID, [ONE])
    monkeypatch.setattr(site.server, "change_state", deleted)
    work = site.work()
    work.turn()
    assert work.sign().trouble == "" and not site.fetched
    assert not list((site.spool / ".items").glob("*.json"))


def test_an_item_that_its_server_lost_is_told_until_it_is_late(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE])
    work = site.work()
    work.turn()
    site.server.items.clear()
    site.take_up(SlideState.READ, SlideState.READ)
    work.turn()
    assert work.sign().trouble.startswith(f"the work item {UID} cannot go on: ")
    site.now += 3600 * 73
    work.turn()
    assert site.ended() == "CANCELED"
    work.turn()
    assert work.sign().trouble == ""


def test_a_late_item_outlasts_a_server_that_knows_nothing_for_a_while(site: Site) -> None:
    """An archive that is installed anew answers 404 to everything."""
    site.server.items[UID] = work_item(UID, [ONE])
    site.turn()
    site.now += 3600 * 73
    site.server.away, site.server.refusal = True, 404
    with pytest.raises(PacsRejectedError):
        site.turn()
    site.server.away = False
    site.turn()
    assert site.server.state(UID) == "CANCELED"


def test_an_item_that_its_server_ended_is_followed_no_more(site: Site) -> None:
    site.server.items[UID] = work_item(UID, [ONE])
    site.turn()
    site.server.items[UID]["00741000"] = {"vr": "CS", "Value": ["CANCELED"]}
    site.take_up(SlideState.READ, SlideState.READ)
    site.turn()
    requests = len(site.server.requests)
    site.turn()
    assert len(site.server.requests) == requests + 1  # the search alone


@pytest.mark.parametrize("refusal", [503, 401])
def test_a_server_that_answers_not_holds_a_lane_that_status_and_doctor_tell(
    tmp_path: Path, refusal: int
) -> None:
    server, spool = UpsServer(), tmp_path / "spool"
    spool.mkdir()
    daemon = Daemon(
        tmp_path,
        f"[workitems]\nurl = {json.dumps(server.url)}\nfolder = {json.dumps(str(spool))}\n"
        "poll_seconds = 0.2\n",
        watch=f"folders = [{json.dumps(str(spool))}]",
    )
    server.away, server.refusal = True, refusal
    daemon.start()
    try:
        _until(lambda: f"work list: {server.url}: UPS-RS answered {refusal}" in _said(daemon))
        (line,) = _asked(daemon)
        assert line.startswith("TROUBLE ") and f"UPS-RS answered {refusal}" in line
        server.away = False
        _until(lambda: "Tandem runs." in _said(daemon))
        assert _asked(daemon) == [
            f"ok      workitems: {server.url} answers; scheduled work items: 0"
        ]
    finally:
        daemon.close()
        server.close()


def _said(daemon: Daemon) -> str:
    return tandem_here("status", "--config", daemon.config, check=False).stdout


def _asked(daemon: Daemon) -> list[str]:
    told = tandem_here("doctor", "--config", daemon.config, check=False).stdout
    return [line for line in told.splitlines() if " workitems: " in line]


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 720
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.3)


@pytest.mark.parametrize(
    ("named", "used"),
    [("", "same"), ("{url}/other", "{url}/other"), ("http://evil.example/wado", "same")],
)
def test_the_secret_goes_to_the_sites_own_servers_alone(site: Site, named: str, used: str) -> None:
    base = site.server.url
    site.server.items[UID] = work_item(UID, [ONE], retrieve=named.format(url=base))
    site.turn()
    wanted = base if used == "same" else used.format(url=base)
    assert [url for url, _ in site.fetched] == [wanted]


def test_settings_that_cannot_work_are_told(tmp_path: Path) -> None:
    spool = {"url": "http://127.0.0.1/ups", "folder": str(tmp_path / "spool")}
    unwatched = Settings(state_dir=tmp_path / "state", workitems=spool)
    assert any("watch.folders" in line for line in folder_problems(unwatched))
    with pytest.raises(ValidationError, match="https"):
        Settings(workitems=spool | {"url": "http://pacs/ups", "secret_env": "TOKEN"})
