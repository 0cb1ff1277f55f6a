"""Findings that are damaged before they are written: a person's word on them is not made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.clinic import Clinic, copy_of, open_clinic
from fixtures.damage import flip
from fixtures.pairings import HER2_PAIR

from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.transaction import Transaction
from appliance.line.child import Limits
from appliance.line.claiming import claim_work
from appliance.line.context import StepContext
from appliance.line.dispatcher import do_work
from appliance.operations.corrections import confirm_score, correct_score

ANNA, BERT = "Müller^Anna", "Ito^Bert"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clinic(tmp_path_factory.mktemp("clinic"))


@pytest.fixture
def clinic(state: Path, tmp_path: Path) -> Clinic:
    return copy_of(state, tmp_path)


class Here:
    """Slot that runs a step in this process."""

    def run(self, _limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def write_damaged(clinic: Clinic) -> None:
    """Damage the findings of the case, and let the daemon write it."""
    assert clinic.case.state == CaseState.SCORED
    flip(clinic.settings.artifacts_dir / clinic.case.findings_key / "findings.json")
    ledger = Ledger(clinic.settings.ledger_url)
    context = StepContext(
        ledger=ledger, settings=clinic.settings, name="test", pairings=(HER2_PAIR,)
    )
    work = claim_work(context)
    assert work is not None and work.step.name == "write"
    do_work(context, Here(), work)
    ledger.close()


@pytest.mark.parametrize("confirms", [False, True])
def test_a_correction_that_is_damaged_sets_the_case_aside(clinic: Clinic, confirms: bool) -> None:
    correct_score(clinic.settings, "case-1", "1+", by=BERT, why="pale")
    if confirms:
        clinic.deliver()
        confirm_score(clinic.settings, "case-1", by=ANNA)
    signed = clinic.case
    write_damaged(clinic)
    case = clinic.case
    assert (case.state, case.reason) == (CaseState.FAILED, "correction-damaged")
    assert (case.score, case.findings_key) == ("1+", signed.findings_key)


def test_a_confirmed_result_that_is_damaged_sets_the_case_aside(clinic: Clinic) -> None:
    confirm_score(clinic.settings, "case-1", by=ANNA)
    write_damaged(clinic)
    assert (clinic.case.state, clinic.case.reason) == (CaseState.FAILED, "correction-damaged")


def test_a_result_that_nobody_signed_is_made_again(clinic: Clinic) -> None:
    def take_back(tx: Transaction) -> None:
        case = tx.case(1)
        assert case is not None
        tx.advance(case, CaseState.SCORED, now=2.0, code="object-damaged")

    clinic.do(take_back)
    write_damaged(clinic)
    assert (clinic.case.state, clinic.case.findings_key) == (CaseState.READY, "")
