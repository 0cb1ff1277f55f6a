"""A slide whose step is tried again says what it waits for, until it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import TransientError, WeightsUnusableError, WorklistUnavailableError
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import SlideRow, params_of
from appliance.ledger.transaction import Transaction
from appliance.line.claiming import SlideWork, claim_work
from appliance.line.closing import close_slide, retry_slide
from appliance.line.context import Job, StepContext
from appliance.operations.status import status_of
from appliance.settings.settings import Settings


@pytest.mark.parametrize(
    "err",
    [
        WorklistUnavailableError("worklist: RIS is away"),
        WeightsUnusableError("network C cannot be used"),
    ],
)
def test_what_a_slide_waits_for_is_its_reason_until_it_goes_on(
    tmp_path: Path, err: TransientError
) -> None:
    settings, now = Settings(state_dir=tmp_path), [1000.0]
    ledger = Ledger(settings.ledger_url)
    context = StepContext(
        ledger=ledger, settings=settings, name="test", pairings=(), clock=lambda: now[0]
    )

    def claimed() -> Job[SlideRow]:
        now[0] += 100
        work = claim_work(context)
        assert isinstance(work, SlideWork)
        return Job(row=work.job.row, progress=ProgressFile.of(settings, work.job.row.subject))

    def finish(tx: Transaction, row: SlideRow, at: float) -> None:
        tx.advance(row, SlideState.IDENTIFIED, now=at)

    with ledger.transaction() as tx:
        tx.advance(tx.add_slide("/scans/S26-1_A1_HE.svs", 0.0), SlideState.ARRIVED, now=0.0)
    for _ in range(3):
        retry_slide(context, claimed(), err)
    (shown,) = status_of(settings)["slides"]
    assert (shown["state"], shown["reason"]) == ("arrived", err.code)
    assert shown["remedy"] == shown["sentence"] == str(err)
    assert sum(step["kind"] == "note" for step in shown["steps"]) == 1
    close_slide(context, claimed(), finish)
    with ledger.transaction() as tx:
        (row,) = tx.slides()
    assert (row.state, row.reason, params_of(row)) == ("identified", "", {})
    ledger.close()
    (shown,) = status_of(settings)["slides"]
    assert (shown["reason"], shown["sentence"]) == ("", "")
