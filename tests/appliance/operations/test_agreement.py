"""Scores beside people's: ``tandem confirm``, ``tandem correct``, ``tandem evaluate people``."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.daemon import tandem_here
from fixtures.findings import some_findings
from fixtures.pairings import HER2_PAIR

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import HER2, Identity
from appliance.findings.codec import save_findings
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState
from appliance.operations.agreement import compare_with_people
from appliance.operations.corrections import confirm_score, correct_score
from appliance.operations.status import status_of
from appliance.settings.settings import Settings

BLANK = np.zeros((8, 8, 3), dtype=np.uint8)
ANNA, BERT = "Meyer^Anna", "Ito^Bert"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder with delivered cases of 2+, 1+, 3+, 3+ and none."""
    made = Settings(state_dir=tmp_path_factory.mktemp("people") / "state")
    ledger, findings = Ledger(made.ledger_url), some_findings()
    with ledger.transaction() as tx:
        for number, score in enumerate(("2+", "1+", "3+", "3+", None), 1):
            key = ArtifactKey.of("findings", case=number)
            with ArtifactStore(made.artifacts_dir).writing(key) as folder:
                scored = replace(findings, score=score)
                save_findings(scored, folder, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
            identity = Identity(accession=f"S26-{number}", block="A1", stain=HER2)
            case = tx.case_for(identity, 0.0, HER2_PAIR)
            case.findings_key, case.score = str(key), score or ""
            for to in (
                CaseState.READY,
                CaseState.ALIGNED,
                CaseState.SCORED,
                CaseState.WRITTEN,
                CaseState.DELIVERED,
            ):
                tx.advance(case, to, now=0.0)
    ledger.close()
    return made.state_dir


@pytest.fixture
def settings(state: Path, tmp_path: Path) -> Settings:
    """Return settings of a copy of the state folder; they are in ``tandem.toml`` beside it."""
    copy = tmp_path / "state"
    shutil.copytree(state, copy)
    (tmp_path / "tandem.toml").write_text(f"state_dir = {json.dumps(str(copy))}\n")
    return Settings(state_dir=copy)


def written_again(settings: Settings, subject: int) -> None:
    """Let a corrected case be delivered, as the daemon does."""
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        case = tx.case(subject)
        assert case is not None
        for to in (CaseState.WRITTEN, CaseState.DELIVERED):
            tx.advance(case, to, now=1.0)
    ledger.close()


def test_the_last_word_on_each_case_counts_beside_the_appliances_own_score(
    settings: Settings, tmp_path: Path
) -> None:
    assert compare_with_people(settings)["assays"]["her2"]["silent"] == 5
    config = tmp_path / "tandem.toml"
    said = tandem_here("confirm", "case-3", "--by", BERT, "--config", config).stdout
    assert said == f"case-3: score 3+ confirmed by {BERT}; a new report is written and sent\n"
    # Another person's word on it, and the same one once more: the case counts once.
    written_again(settings, 3)
    confirm_score(settings, "case-3", by=ANNA)
    written_again(settings, 3)
    correct_score(settings, "case-3", "2+", by=ANNA, why="pale")
    written_again(settings, 3)
    correct_score(settings, "case-3", "3+", by=BERT, why="not pale")
    # A correction that another person takes back, and one that another person confirms.
    correct_score(settings, "case-1", "1+", by=ANNA, why="pale")
    written_again(settings, 1)
    correct_score(settings, "case-1", "2+", by=BERT, why="not pale")
    correct_score(settings, "case-2", "2+", by=ANNA, why="stronger")
    written_again(settings, 2)
    confirm_score(settings, "case-2", by=BERT)
    correct_score(settings, "case-5", "0", by=ANNA, why="it can be scored")

    found = compare_with_people(settings)["assays"]["her2"]
    assert found["n"] == 4 and found["silent"] == 1
    # Rows are the person's scores, columns the appliance's own, the last one without a score.
    assert found["confusion"] == [
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
    ]
    assert (found["exact"], found["within_one"], found["agreement"]) == (2, 3, 0.5)
    low, high = found["interval"]["agreement"]
    assert 0 <= low < 0.5 < high <= 1
    # Of 2+, 2+, 3+ against 2+, 1+, 3+: 1 squared step; by chance (0+1+1 + 0+1+1 + 1+4+0) / 3.
    assert found["kappa_quadratic"] == pytest.approx(1 - 1 / 3, abs=1e-4)
    assert found["people"] == [
        {"by": BERT, "n": 3, "exact": 2},
        {"by": ANNA, "n": 1, "exact": 0},
    ]
    told = " ".join(tandem_here("evaluate", "people", "--config", config).stdout.split())
    assert "HER2: people spoke on 4 of 5 cases with a result" in told
    assert "agreement (2 of 4): 0.500 (95 % " in told
    assert "agreement, not accuracy" in told and "research use only" in told
    assert "S26-" not in told


def test_cases_that_cannot_be_scored_are_counted_and_told(
    settings: Settings, tmp_path: Path
) -> None:
    confirm_score(settings, "case-1", by=ANNA)
    correct_score(settings, "case-2", "none", by=ANNA, why="torn")
    correct_score(settings, "case-3", "none", by=BERT, why="folded")
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:  # a score of an assay's earlier version
        tx.note("case-4", "corrected-by", 1.0, params={"was": "3+", "score": "4+"}, by=ANNA)
    ledger.close()
    found = compare_with_people(settings)["assays"]["her2"]
    counted = {key: found[key] for key in ("n", "exact", "unscored", "other_scores", "silent")}
    assert counted == {"n": 1, "exact": 1, "unscored": 2, "other_scores": 1, "silent": 1}
    config = tmp_path / "tandem.toml"
    told = " ".join(tandem_here("evaluate", "people", "--config", config).stdout.split())
    assert (
        "HER2: people spoke on 4 of 5 cases with a result, and said on 2 that it cannot be scored, "
        "and on 1 a score that the assay does not have" in told
    )


def test_a_command_names_the_result_that_the_person_saw(settings: Settings, tmp_path: Path) -> None:
    cases = status_of(settings)["cases"]
    assert len({case["result"] for case in cases}) == len(cases)
    shared = ("--by", BERT, "--config", tmp_path / "tandem.toml", "--seen")
    correct = ("correct", "case-1", "--score", "1+", "--why", "pale", *shared)
    for command in (("confirm", "case-1", *shared), correct):
        refused = tandem_here(*command, cases[1]["result"], check=False)
        assert refused.returncode != 0
        assert "its result changed since you opened it" in refused.stderr
    assert status_of(settings)["cases"][0]["state"] == CaseState.DELIVERED
    assert "corrected from 2+ to 1+" in tandem_here(*correct, cases[0]["result"]).stdout


def test_a_correction_of_an_earlier_build_names_only_what_it_replaced(settings: Settings) -> None:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        for was, score in (("2+", "1+"), ("1+", "0")):
            params = {"was": was, "score": score, "by": ANNA}
            tx.note("case-1", "corrected-by", 1.0, params=params, by=ANNA)
    ledger.close()
    found = compare_with_people(settings)["assays"]["her2"]
    assert found["confusion"][0] == [0, 0, 1, 0, 0]


def test_what_cannot_be_confirmed_says_why(settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    for case, by, words in (
        ("case-5", ANNA, "has no score to confirm"),
        ("case-9", ANNA, "no 'case-9'"),
        ("case-1", " ", "--by: say who says so"),
    ):
        done = tandem_here("confirm", case, "--by", by, "--config", config, check=False)
        assert done.returncode == 1
        assert words in " ".join(done.stderr.split())
    assert compare_with_people(settings)["assays"]["her2"]["n"] == 0
    empty = tandem_here("evaluate", "people", "--config", config).stdout
    assert "people spoke on 0 of 5 cases" in empty
