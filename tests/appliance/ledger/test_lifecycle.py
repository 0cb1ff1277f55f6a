"""Target states when a case goes back, and the facts that it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.assays.registry import pairings
from appliance.domain import HE, HER2
from appliance.intake.pair import join_block
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow
from appliance.operations.retry import retry_subject
from appliance.settings.settings import Settings


def one_case(settings: Settings, state: CaseState, **facts: str) -> Ledger:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        row = CaseRow(
            accession="S26-1",
            block="A1",
            assay="her2",
            anatomy=HE,
            target=HER2,
            state=state,
            created_at=0,
            changed_at=0,
            **facts,
        )
        tx.session.add(row)
    return ledger


@pytest.mark.parametrize(
    ("findings_key", "state"), [("", CaseState.READY), ("findings/1", CaseState.SCORED)]
)
def test_a_retry_repeats_the_step_that_failed(
    findings_key: str, state: CaseState, tmp_path: Path
) -> None:
    """A case that failed while it was written keeps its result: it may be a correction."""
    settings = Settings(state_dir=tmp_path)
    ledger = one_case(settings, CaseState.FAILED, findings_key=findings_key, score="1+")
    retry_subject(settings, "case-1")
    with ledger.transaction() as tx:
        (case,) = tx.cases()
    assert (case.state, case.findings_key, case.score) == (state, findings_key, "1+")
    ledger.close()


def test_a_rescan_forgets_the_result_and_not_what_was_sent(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    ledger = one_case(
        settings, CaseState.DELIVERED, findings_key="findings/1", objects_key="objects/1", score="0"
    )
    with ledger.transaction() as tx:
        slide = tx.add_slide("rescan.svs", 1.0)
        slide.accession, slide.block, slide.stain = "S26-1", "A1", HER2
        for to in (SlideState.ARRIVED, SlideState.IDENTIFIED):
            tx.advance(slide, to, now=1.0)
        join_block(tx, slide, pairings(settings), 1.0)
    with ledger.transaction() as tx:
        (case,) = tx.cases()
    assert (case.state, case.findings_key, case.score) == (CaseState.WAITING, "", "")
    assert case.objects_key == "objects/1"
    ledger.close()
