"""Ends of work items whose blocks have further cases, or whose slides are there already."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from fixtures.receptors import register_receptors
from fixtures.ups import UpsServer, work_item

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import pairings
from appliance.delivery.index import INDEX_NAME, ObjectFile
from appliance.intake.block import make_ready
from appliance.intake.pair import expire_waiting, join_block
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import CaseDeliveryRow, CaseRow, DeliveryRow, id_of, set_reason
from appliance.ledger.transaction import Transaction
from appliance.line import workitems
from appliance.line.workitems import WorkList
from appliance.settings.settings import Settings
from dicom.dicomweb import WebAddress
from dicom.wado import Series

UID, AGAIN = "1.2.3.4.5", "1.2.3.4.6"
SERIES, MORE = ("1.2.9", "1.2.9.1"), ("1.2.9", "1.2.9.2")
WAY = (CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN, CaseState.DELIVERED)
OVERDUE = 1e9


class Site:
    """Work list of a server; the slides are taken up as the line does, without their files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, expected: list[str]) -> None:
        register_receptors(monkeypatch)
        monkeypatch.setattr(workitems, "retrieve_series", self._retrieve)
        self.server, self.spool = UpsServer(), folder / "spool"
        self.settings = Settings(
            state_dir=folder / "state",
            watch={"folders": [str(self.spool)]},
            workitems={"url": self.server.url, "folder": str(self.spool)},
            pair={"expected_assays": expected},
        )
        self.pairings = pairings(self.settings)
        for made in (self.spool, self.settings.state_dir):
            made.mkdir()
        self.ledger = Ledger(self.settings.ledger_url)

    def _retrieve(self, address: WebAddress, series: Series, to: Path) -> int:
        (to / "1.dcm").write_bytes(b"")
        return 1

    def ask(self, uid: str, *more: tuple[str, str]) -> None:
        self.server.items[uid] = work_item(uid, [SERIES, *more])
        self.turn()

    def turn(self) -> None:
        assert self.settings.workitems is not None
        wanted, stop = self.settings.workitems, threading.Event()
        WorkList(self.ledger, self.settings, wanted, stop, lambda: 1000.0).turn()

    def take_up(self, uid: str, slides: Sequence[tuple[str, str]]) -> None:
        """Identify, pair and read the slides of a work item: (block, stain)."""
        with self.ledger.transaction() as tx:
            for block, stain in slides:
                folder = self.spool / uid / SERIES[1] / f"{block}{stain}"
                row = tx.add_slide(str(folder / "1.dcm"), now=1.0)
                row.accession, row.block, row.stain = "S26-9", block, stain
                row.fingerprint = f"{block}{stain}"
                for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
                    tx.advance(row, state, now=1.0)
                join_block(tx, row, self.pairings, 1.0)
                if row.state == SlideState.IDENTIFIED:
                    for state in (SlideState.INSPECTED, SlideState.READ):
                        tx.advance(row, state, now=1.0)
        with self.ledger.transaction() as tx:
            for case in tx.cases():
                make_ready(tx, case, 1.0)
                if case.state == CaseState.READY:
                    self._deliver(tx, case)
        with self.ledger.transaction() as tx:
            expire_waiting(tx, self.pairings, self.settings.pair, OVERDUE)

    def _deliver(self, tx: Transaction, case: CaseRow) -> None:
        item = ObjectFile(
            kind="SR", path="x", study_uid="1.5", series_uid="1.5.1",
            sop_instance_uid=f"1.5.1.{id_of(case)}", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        )  # fmt: skip
        key = ArtifactKey.of("objects", case=id_of(case))
        with ArtifactStore(self.settings.artifacts_dir).writing(key) as folder:
            (folder / INDEX_NAME).write_text(json.dumps({"objects": [asdict(item)]}))
        case.objects_key = str(key)
        for state in WAY:
            tx.advance(case, state, now=2.0)
        sent = DeliveryRow(
            case_id=id_of(case), destination="d", **asdict(item), state=DeliveryState.PROVEN,
            created_at=1.0, changed_at=1.0,
        )  # fmt: skip
        tx.session.add(sent)
        tx.session.flush()
        tx.session.add(CaseDeliveryRow(case_id=id_of(case), delivery_id=sent.id))

    def ended(self, uid: str) -> tuple[str, int]:
        """State of a work item on its server, and the number of objects that it names."""
        self.turn()
        state = self.server.state(uid)
        return state, len(self.server.outputs(uid)) if state == "COMPLETED" else 0


@pytest.fixture
def expected() -> list[str]:
    return ["her2"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: list[str]) -> Iterator[Site]:
    made = Site(tmp_path, monkeypatch, expected)
    yield made
    made.ledger.close()
    made.server.close()


@pytest.mark.parametrize(
    ("expected", "slides", "end"),
    [
        # The other assay is expected, and nobody asked for its slide.
        (["her2", "er"], [("A1", "HE"), ("A1", "HER2")], ("COMPLETED", 1)),
        (["her2"], [("A1", "HE"), ("A1", "ER")], ("COMPLETED", 1)),
        # The H&E slide of a further block.
        (["her2"], [("A1", "HE"), ("A1", "HER2"), ("A2", "HE")], ("COMPLETED", 1)),
        (["her2"], [("A1", "HE"), ("A1", "HER2"), ("A1", "ER")], ("COMPLETED", 2)),
        # Nothing else is there, or a slide that was to be scored has no partner.
        (["her2"], [("A1", "HE")], ("IN PROGRESS", 0)),
        (["her2"], [("A1", "HE"), ("A1", "HER2"), ("A2", "HER2")], ("IN PROGRESS", 0)),
    ],
)
def test_a_case_without_its_target_slide_holds_up_no_other(
    site: Site, slides: list[tuple[str, str]], end: tuple[str, int]
) -> None:
    site.ask(UID)
    site.take_up(UID, slides)
    assert site.ended(UID) == end


def test_a_slide_that_is_still_read_holds_up_the_work_item(site: Site) -> None:
    """The ER slide may become a case yet."""
    site.ask(UID)
    site.take_up(UID, [("A1", "HE"), ("A1", "HER2")])
    with site.ledger.transaction() as tx:
        row = tx.add_slide(str(site.spool / UID / "er" / "1.dcm"), now=1.0)
        tx.advance(row, SlideState.ARRIVED, now=1.0)
    assert site.ended(UID) == ("IN PROGRESS", 0)


def test_slides_that_are_there_already_complete_a_second_work_item(site: Site) -> None:
    pair = [("A1", "HE"), ("A1", "HER2")]
    site.ask(UID)
    site.take_up(UID, pair)
    assert site.ended(UID) == ("COMPLETED", 1)
    site.ask(AGAIN)
    site.take_up(AGAIN, pair)
    assert site.ended(AGAIN) == ("COMPLETED", 1)
    assert site.server.outputs(AGAIN) == site.server.outputs(UID)


def test_a_series_that_no_scan_has_seen_yet_holds_up_the_work_item(site: Site) -> None:
    """Its H&E slide is there already; the other series is a new scan of the HER2 slide."""
    site.ask(UID)
    site.take_up(UID, [("A1", "HE"), ("A1", "HER2")])
    assert site.ended(UID) == ("COMPLETED", 1)
    site.ask(AGAIN, MORE)
    site.take_up(AGAIN, [("A1", "HE")])
    assert site.ended(AGAIN) == ("IN PROGRESS", 0)
    with site.ledger.transaction() as tx:
        row = tx.add_slide(str(site.spool / AGAIN / MORE[1] / "1.dcm"), now=1.0)
        tx.advance(row, SlideState.ARRIVED, now=1.0)
        tx.advance(row, SlideState.OTHER, now=1.0)
    assert site.ended(AGAIN) == ("COMPLETED", 1)


def test_a_work_item_of_replaced_slides_is_not_called_one_of_no_assay(site: Site) -> None:
    site.ask(UID)
    site.take_up(UID, [("A1", "HE")])
    with site.ledger.transaction() as tx:
        (row,) = tx.slides_below(str(site.spool / UID))
        set_reason(row, "newer-scan")
        tx.advance(row, SlideState.SUPERSEDED, now=2.0)
    assert site.ended(UID) == ("CANCELED", 0)
    (said,) = site.server.items[UID]["00741002"]["Value"]
    assert "Other scans took the place of its slides." in json.dumps(said)
