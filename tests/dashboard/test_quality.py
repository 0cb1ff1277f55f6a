"""The quality page: how many results the appliance gave for review, whatever people said since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import HE, HER2
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.transaction import Transaction
from appliance.line import case_steps
from appliance.line.case_steps import AnalyzedCase, finish_analyze
from appliance.line.context import Done
from appliance.line.outcomes import Outcome
from appliance.operations.corrections import confirm_score, correct_score, rerun_case
from dashboard.quality import read_quality

if TYPE_CHECKING:
    from conftest import Lab

NOBODY: Any = None
"""Context of a step that `finish_analyze` does not look at."""


def review(lab: Lab) -> list[tuple[int, int]]:
    reader = LedgerReader(lab.settings.ledger_url)
    assert reader.ready
    found = read_quality(reader, lab.settings)
    reader.close()
    return [(share.part, share.n) for share in found.review]


def analyze(lab: Lab, case_id: int, *, reasons: int) -> None:
    """End the step of a ready case whose findings are stored, as the daemon does."""
    key = str(ArtifactKey.of("findings", case=case_id))
    found = load_findings(ArtifactStore(lab.settings.artifacts_dir).path(ArtifactKey.parse(key)))
    said = [each.as_json() for each in found.review][:reasons]

    def finish(tx: Transaction, now: float) -> None:
        row = tx.case(case_id)
        assert row is not None
        value = AnalyzedCase(findings_key=key, score="2+", review=said, times=(), reasons=reasons)
        finish_analyze(tx, NOBODY, row, Done(value=value, seconds=0.0), now)

    lab.move_case(case_id, CaseState.ALIGNED)
    lab.do(finish)
    lab.move_case(case_id, CaseState.WRITTEN)


@pytest.fixture
def scored(lab: Lab, findings: Findings) -> Lab:
    """Return a laboratory with two cases for review, the second one of an earlier edition."""
    for accession in ("S26-0000001", "S26-0000002"):
        for stain in (HE, HER2):
            case_id = lab.slide(accession, stain)
        lab.move_case(case_id, CaseState.READY)
        lab.score(case_id, findings)  # its event holds no number of reasons
        lab.move_case(case_id, CaseState.WRITTEN)
    rerun_case(lab.settings, "case-1")
    analyze(lab, 1, reasons=1)
    return lab


def test_a_signature_leaves_the_share_of_results_for_review_as_it_was(scored: Lab) -> None:
    assert review(scored) == [(2, 2)]
    confirm_score(scored.settings, "case-1", by="Meyer^Anna")
    scored.move_case(1, CaseState.WRITTEN)
    assert scored.rows()[1][0].review == "[]"
    assert review(scored) == [(2, 2)]
    correct_score(scored.settings, "case-1", "1+", by="Ito^Bert", why="The stain is pale.")
    scored.move_case(1, CaseState.WRITTEN)
    assert review(scored) == [(2, 2)]
    # What an earlier edition scored is counted by what its row still says.
    confirm_score(scored.settings, "case-2", by="Meyer^Anna")
    scored.move_case(2, CaseState.WRITTEN)
    assert review(scored) == [(1, 2)]


def test_the_last_analysis_counts(scored: Lab) -> None:
    rerun_case(scored.settings, "case-1")
    analyze(scored, 1, reasons=0)
    assert review(scored) == [(1, 2)]


def test_the_reasons_count_where_a_persons_word_stands_after_a_rerun(
    scored: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scored.rows()[1][0].findings_key
    confirm_score(scored.settings, "case-1", by="Meyer^Anna")
    signed = scored.rows()[1][0].findings_key
    monkeypatch.setattr(case_steps, "analyze_case", lambda *_, **__: Outcome(key=first, times=()))
    monkeypatch.setattr(case_steps, "standing", lambda *_: signed)
    nothing: Any = None
    found = case_steps.analyze("her2", *[nothing] * 3, "objects/1", scored.settings, nothing)
    assert (found.findings_key, found.review, found.reasons) == (signed, [], 1)
