"""Waits that were booked under a wrong clock end soon after it is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR

from appliance.domain import HE, Identity
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.transaction import NewDelivery
from appliance.ledger.waits import LONGEST_WAIT_S, WallClock, wait_until

DAY_S = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield made
    made.close()


def add(ledger: Ledger, not_before: float) -> None:
    with ledger.transaction() as tx:
        row = tx.add_slide("a.svs", NOW)
        row.not_before = not_before
        tx.session.add(row)


def is_claimed(ledger: Ledger, now: float) -> bool:
    with ledger.transaction() as tx:
        return tx.claim_slide([SlideState.ARRIVING], "w", now) is not None


def test_a_wait_booked_a_day_ahead_is_over(ledger: Ledger) -> None:
    """The clock ran a day ahead when the retry was booked, and is right since a restart."""
    add(ledger, wait_until(NOW + DAY_S, 60.0))
    assert is_claimed(ledger, NOW)


def test_a_wait_that_can_be_meant_is_kept(ledger: Ledger) -> None:
    add(ledger, wait_until(NOW, 10 * LONGEST_WAIT_S))
    assert not is_claimed(ledger, NOW)
    assert not is_claimed(ledger, NOW + LONGEST_WAIT_S - 1)
    assert is_claimed(ledger, NOW + LONGEST_WAIT_S)


def test_a_delivery_waits_as_long_as_its_settings_say(ledger: Ledger) -> None:
    identity = Identity(accession="S26-1", block="A1", stain=HE)
    with ledger.transaction() as tx:
        case = tx.case_for(identity, NOW, HER2_PAIR)
        new = NewDelivery(
            destination="archive",
            kind="SR",
            path="x",
            study_uid="1",
            series_uid="1",
            sop_instance_uid="1",
            sop_class_uid="1",
        )
        tx.enqueue(case.id or 0, new, NOW)
        (row,) = tx.deliveries()
        row.not_before = NOW + DAY_S
        tx.session.add(row)
    with ledger.transaction() as tx:
        assert tx.due_deliveries(NOW, longest_wait_s=2 * DAY_S) == []
        assert len(tx.due_deliveries(NOW, longest_wait_s=DAY_S / 2)) == 1


class Clock:
    """Wall clock that can be set, and the monotonic one beside it."""

    def __init__(self) -> None:
        self.wall, self.monotonic = NOW, 50.0

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def compared(self) -> WallClock:
        return WallClock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)


@pytest.mark.parametrize("set_by_s", [-DAY_S, -600.0, 600.0, DAY_S])
def test_waits_move_with_the_clock_while_the_daemon_runs(tmp_path: Path, set_by_s: float) -> None:
    clock = Clock()
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock=clock.compared())
    add(ledger, NOW + 60)
    clock.pass_s(10)
    clock.wall += set_by_s
    assert not is_claimed(ledger, clock.wall)
    clock.pass_s(49)
    assert not is_claimed(ledger, clock.wall)
    clock.pass_s(2)
    assert is_claimed(ledger, clock.wall)
    ledger.close()


def test_small_corrections_of_the_clock_add_up() -> None:
    clock = Clock()
    compared = clock.compared()
    jumps = []
    for _ in range(5):
        clock.wall += 0.6
        jumps.append(compared.jump())
        compared.settle(jumps[-1])
    assert jumps == [0.0, 0.0, 0.0, pytest.approx(2.4), 0.0]
