"""The ledger: claims, events and states under contention of processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from appliance.domain import HE, Identity
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, InvalidTransitionError, SlideState
from appliance.ledger.tables import CaseRow, DeliveryRow, id_named
from appliance.ledger.transaction import NewDelivery
from appliance.ledger.verify import verify
from appliance.words.events import event_text


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield made
    made.close()


def claim_all(url: str, worker: str) -> list[int]:
    """Claim until no slide is left; runs in a process of its own."""
    ledger = Ledger(url)
    claimed: list[int] = []
    while True:
        with ledger.transaction() as tx:
            row = tx.claim_slide([SlideState.ARRIVING], worker, now=10.0)
            if row is None or row.id is None:
                break
            claimed.append(row.id)
    ledger.close()
    return claimed


def test_two_processes_never_claim_the_same_slide(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(url)
    with ledger.transaction() as tx:
        for number in range(100):
            tx.add_slide(f"/scans/{number}.svs", now=1.0)
    ledger.close()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.starmap(claim_all, [(url, "a"), (url, "b")])
    assert sorted(first + second) == list(range(1, 101))


def test_claim_takes_the_oldest_and_respects_not_before(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        early, late = tx.add_slide("a", now=1.0), tx.add_slide("b", now=2.0)
        early.not_before = 100.0
        tx.session.add(early)
        late_id = late.id
    with ledger.transaction() as tx:
        claimed = tx.claim_slide([SlideState.ARRIVING], "w", now=50.0)
        assert claimed is not None
        assert (claimed.id, claimed.claimed_by) == (late_id, "w")
        assert tx.claim_slide([SlideState.ARRIVING], "w", now=50.0) is None
        assert claimed.claim_token
        assert tx.release_claims() == 1


def test_stat_comes_first_then_the_nearest_to_its_end_then_the_oldest(ledger: Ledger) -> None:
    states = [SlideState.ARRIVED, SlideState.ARRIVING]
    with ledger.transaction() as tx:
        for name in "abcd":
            row = tx.add_slide(name, now=1.0)
            if name == "c":
                tx.advance(row, SlideState.ARRIVED, now=1.0)
            row.stat = name == "d"
            tx.session.add(row)
    with ledger.transaction() as tx:
        taken = [tx.claim_slide(states, "w", now=2.0) for _ in range(3)]
        assert [row.path for row in taken if row is not None] == ["d", "c", "a"]
        assert len({row.claim_token for row in taken if row is not None}) == 3
        tx.release_claims()
    with ledger.transaction() as tx:
        taken = [tx.claim_slide(states, "w", now=2.0, oldest=True) for _ in range(4)]
        assert [row.path for row in taken if row is not None] == ["a", "b", "c", "d"]


def test_state_changes_only_along_the_arrows_and_leaves_an_event(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        row = tx.add_slide("a", now=1.0)
        tx.advance(row, SlideState.ARRIVED, now=2.0)
    with pytest.raises(InvalidTransitionError, match="arrived → read"), ledger.transaction() as tx:
        slide = tx.slide(1)
        assert slide is not None
        tx.advance(slide, SlideState.READ, now=3.0)
    with ledger.transaction() as tx:
        events = tx.events("slide-1")
    states = [(event.from_state, event.to_state) for event in events]
    assert states == [("", "arriving"), ("arriving", "arrived")]
    assert [event_text(event) for event in events] == ["→ arriving", "arriving → arrived"]
    assert verify(ledger.file).problems == ()


@pytest.mark.parametrize(
    "change",
    [
        "at = 2.0",
        "subject = 'slide-9'",
        "kind = 'note'",
        "code = 'retry'",
        "from_state = 'read'",
        "to_state = 'read'",
        "step = 'tumor'",
        "seconds = 2.0",
        "reused = 1",
        "reason = 'damaged'",
        "score = '3+'",
        "by = 'Meyer^Anna'",
        """params = '{"by": "nobody"}'""",
    ],
)
def test_every_fact_of_an_event_is_in_the_chain(ledger: Ledger, change: str) -> None:
    with ledger.transaction() as tx:
        for number in range(3):
            tx.add_slide(f"{number}.svs", now=1.0)
    assert verify(ledger.file).problems == ()
    with ledger.transaction() as tx:
        tx.session.connection().execute(text(f"UPDATE event SET {change} WHERE id = 2"))  # noqa: S608
    assert "event 2 was changed" in verify(ledger.file).problems[0]


def test_an_event_that_was_removed_shows(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for number in range(3):
            tx.add_slide(f"{number}.svs", now=1)
    with ledger.transaction() as tx:
        tx.session.connection().execute(text("DELETE FROM event WHERE id = 2"))
    assert "event 3 was changed" in verify(ledger.file).problems[0]


def test_a_transaction_that_fails_changes_nothing(ledger: Ledger) -> None:
    def fail_half_way() -> None:
        with ledger.transaction() as tx:
            row = tx.add_slide("a", now=1.0)
            tx.advance(row, SlideState.ARRIVED, now=2.0)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_half_way()
    with ledger.transaction() as tx:
        assert tx.slides() == []
        assert tx.events() == []


def test_an_object_is_queued_once_per_destination(ledger: Ledger) -> None:
    identity = Identity(accession="S26-1", block="A1", stain=HE)
    new = NewDelivery(
        destination="archive",
        kind="SR",
        path="x",
        study_uid="1",
        series_uid="2",
        sop_instance_uid="3",
        sop_class_uid="4",
    )
    with ledger.transaction() as tx:
        case = tx.case_for(identity, 1.0, HER2_PAIR)
        assert tx.case_for(identity, 2.0, HER2_PAIR).id == case.id
        for _ in range(2):
            tx.enqueue(case.id or 0, new, now=1.0)
        assert [d.state for d in tx.deliveries(case.id)] == [DeliveryState.QUEUED]
        assert case.state == CaseState.WAITING

    def enqueue_behind_its_back() -> None:
        with ledger.transaction() as tx:
            row = tx.deliveries()[0]
            values = row.model_dump(exclude={"id"})
            tx.session.add(DeliveryRow(**values))

    with pytest.raises(IntegrityError):
        enqueue_behind_its_back()


def test_each_object_of_a_restored_ledger_has_an_attempt(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        case = tx.case_for(Identity(accession="S26-1", block="A1", stain=HE), 1.0, HER2_PAIR)
        for attempts in (0, 1, 4):
            uids = {"study_uid": "1", "series_uid": "2", "sop_class_uid": "4"}
            uid = f"3.{attempts}"
            new = NewDelivery(destination="a", kind="SR", path="x", sop_instance_uid=uid, **uids)
            tx.enqueue(case.id or 0, new, now=1.0)
            tx.deliveries()[-1].attempts = attempts
    with ledger.transaction() as tx:
        tx.take_up("backup", 2.0)
        held = [row for row in tx.session.identity_map.values() if isinstance(row, DeliveryRow)]
        assert held == []  # there may be a million
        assert [row.attempts for row in tx.deliveries()] == [1, 1, 4]
        assert tx.was_restored()


def test_no_error_of_the_database_names_an_accession(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        tx.case_for(Identity(accession="S26-1", block="A1", stain=HE), 1.0, HER2_PAIR)
        values = tx.cases()[0].model_dump(exclude={"id"})
    with pytest.raises(IntegrityError) as caught, ledger.transaction() as tx:
        tx.session.add(CaseRow(**values))
        tx.session.flush()
    assert "S26-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("subject", "number"),
    [
        ("case-3", 3),
        ("case-0", 0),
        ("slide-3", None),
        ("case-²", None),
        ("case-٣", None),
        ("case--3", None),
        ("case-", None),
        ("case", None),
        ("case-3 ", None),
        (f"case-{10**20}", None),
    ],
)
def test_only_subjects_that_the_ledger_gives_have_an_id(subject: str, number: int | None) -> None:
    assert id_named(subject, "case") == number
