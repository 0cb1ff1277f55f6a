"""Slides under way that wait for something outside of Tandem, as the queue shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.ledger.lifecycle import SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import set_reason
from appliance.ledger.transaction import Transaction
from dashboard.queries import read_queue
from dashboard.views.queue import _held_markup

if TYPE_CHECKING:
    from conftest import Lab


def test_slides_that_wait_for_the_worklist_are_held_and_not_set_aside(lab: Lab) -> None:
    def wait(tx: Transaction, now: float) -> None:
        for number in (1, 2):
            row = tx.add_slide(f"/scans/{number}.svs", now)
            tx.advance(row, SlideState.ARRIVED, now=now)
            set_reason(row, "worklist-away", {"message": "worklist: RIS cannot be reached"})
            row.not_before = 7e9 + number

    lab.do(wait)
    reader = LedgerReader(lab.settings.ledger_url)
    queue = read_queue(reader, lab.settings)
    reader.close()
    (held,) = queue.held_cases
    assert (held.slides, held.cases, held.next_try_at) == (2, 0, 7e9 + 1)
    assert held.error == "worklist: RIS cannot be reached"
    assert "<b>2 slides</b> waiting" in _held_markup(queue)
    assert "worklist: RIS cannot be reached" in _held_markup(queue)
    assert [(line.reason, line.held) for line in queue.slides] == [("", held.error)] * 2
    assert queue.troubles == ()
