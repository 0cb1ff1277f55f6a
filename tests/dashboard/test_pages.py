"""The pages as Streamlit runs them, without a browser."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import streamlit as st
from fixtures.damage import flip
from fixtures.hints import keep_hint
from fixtures.kept_report import keep_report
from streamlit.testing.v1 import AppTest

import dashboard
from appliance.artifacts import SUMS_NAME, ArtifactKey, ArtifactStore, adopt
from appliance.assays.her2.readouts import read_outs
from appliance.domain import HE, HER2, Her2Score, QuarantineReason, ResultCategory
from appliance.findings.findings import (
    FINDINGS_VERSION,
    RESEARCH_USE,
    Correction,
    Findings,
    SignOff,
)
from appliance.findings.opinion import Opinion
from appliance.ledger.hints import Hint, note_hint
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.second_opinions import SecondOpinion, note_second_opinion
from appliance.ledger.tables import CaseRow
from appliance.ledger.transaction import Transaction
from appliance.words.say import say
from dashboard.serve import command, main
from dashboard.served import PAGES
from dashboard.views.case import _score_markup as score_markup

if TYPE_CHECKING:
    from conftest import Lab


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    """Clear the caches of settings and ledger, which are per server; each test is a server of its
    own.
    """
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def case_page() -> None:
    from dashboard.views import case, look

    look.header()
    case.render()


def markup(page: AppTest) -> str:
    assert not page.exception
    return "".join(element.proto.body for element in page.get("html"))


def open_case(case_id: object) -> str:
    page = AppTest.from_function(case_page)
    page.query_params["case"] = str(case_id)
    return markup(page.run(timeout=180))


def quality_page() -> None:
    from dashboard.views import look, quality

    look.header()
    quality.render()


def open_queue() -> str:
    return markup(AppTest.from_file(str(PAGES)).run(timeout=180))


def test_queue_before_the_daemon_ever_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    monkeypatch.setenv("TANDEM_CONFIG", str(config))
    page = open_queue()
    assert "Tandem has not started yet" in page and RESEARCH_USE in page
    assert not (tmp_path / "state").exists()


def test_a_state_folder_of_another_build_is_said_on_every_page(lab: Lab) -> None:
    lab.slide("S26-0000001", HE)
    with sqlite3.connect(lab.settings.state_dir / "ledger.sqlite") as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    for page in (open_queue(), open_case(1)):
        assert str(lab.settings.state_dir) in page and "S26-0000001" not in page
        assert "schema 1" in page and "The daemon migrates it at its next start" in page


def test_a_damaged_ledger_is_said_on_every_page(lab: Lab) -> None:
    lab.slide("S26-0000001", HE)
    lab.ledger.close()
    file = lab.settings.ledger_file
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(100)
        opened.write(b"\xff" * (size - 100))
    for page in (open_queue(), open_case(1)):
        assert "The ledger cannot be shown" in page and "the ledger is damaged" in page


def test_queue_shows_cases_and_trouble(lab: Lab, findings: Findings) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.quarantine("<b>odd.svs", "no-mpp")
    page = open_queue()
    assert f'href="case?case={case_id}"' in page and "S26-0000001" in page
    assert say("quarantine", QuarantineReason.NO_MPP) in page
    assert "&lt;b&gt;odd.svs" in page and "<b>odd" not in page
    assert page.index(say("quarantine", QuarantineReason.NO_MPP)) < page.index("S26-0000001")
    assert RESEARCH_USE in page


def test_quality_says_what_too_few_cases_cannot_tell(lab: Lab, findings: Findings) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id)
    lab.deliver(case_id)
    page = markup(AppTest.from_function(quality_page).run(timeout=180))
    assert "People gave a score on 0 cases" in page and "too few for kappa" in page
    assert "1 of 1" in page and "Scores: her2" in page


def test_quality_shows_people_beside_the_scores(lab: Lab) -> None:
    with lab.ledger.transaction() as tx:
        for number in range(34):  # of the last ten people said that they cannot be scored
            said = "2+" if number < 3 else "1+" if number < 24 else ""
            tx.session.add(
                CaseRow(
                    accession=f"S26-{number:07d}",
                    block="A1",
                    assay="her2",
                    anatomy=HE,
                    target=HER2,
                    state=CaseState.DELIVERED,
                    score=said,
                    created_at=0.0,
                    changed_at=0.0,
                )
            )
            tx.session.flush()
            params = {"score": said, "given": "1+"}
            code = "confirmed-by" if said else "corrected-by"
            tx.note(f"case-{number + 1}", code, 1.0, params=params, by="A")
    page = markup(AppTest.from_function(quality_page).run(timeout=180))
    assert "People gave a score on 24 cases and agreed exactly on 21; on 10 they said" in page
    assert "said that it cannot be scored; nobody spoke on 0." in page
    assert "Quadratic kappa: 0.00" in page and "n = 24" in page
    cells = re.sub(r"<td [^>]*>", "<td>", page)
    assert "<td>1+</td><td>0</td><td>21</td>" in cells
    assert "<td>2+</td><td>0</td><td>3</td>" in cells
    assert '<td class="num" data-head="no score">' in page
    assert "3 of 34" in page


def test_a_slide_that_is_being_read_shows_how_far(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.snapshots.MOVING_SECONDS", 0.0)
    slide_id = lab.arrive("S26-0000001_A1_HE.svs")
    progress = ProgressFile.of(lab.settings, f"slide-{slide_id}")
    progress("tumor on H&E", 45, 100)
    assert "tumor on H&amp;E" not in open_queue()  # not claimed by any worker: an old file

    def claim(tx: Transaction, now: float) -> None:
        assert tx.claim_slide([SlideState.ARRIVING], "daemon", now) is not None

    lab.do(claim)
    page = open_queue()
    assert "tumor on H&amp;E 45 %" in page and "45 of 100 tiles" in page
    progress.clear()
    assert "tumor on H&amp;E" not in open_queue()


def test_case_that_waits_shows_what_is_there(lab: Lab) -> None:
    case_id = lab.slide("S26-0000001", HE)
    page = open_case(case_id)
    assert "No HER2 IHC slide yet." in page and "Not scored yet" in page
    assert RESEARCH_USE in page


def test_scored_case_shows_score_reasons_and_numbers(lab: Lab, findings: Findings) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id)
    lab.deliver(case_id)
    page = open_case(case_id)
    for wanted in (
        'data-testid="score">2+<',
        "<b>Score</b>, estimated",
        "breast-asco-cap-2018 (2018, affirmed 2023)",
        "Paper score (Algorithm 1): 3+, by the largest count 2+",
        "0.68 %",
        "31.2 %",
        findings.review[0].sentence,
        f"{findings.percent['2+']:.1f} %",
        "4.31 mm²",
        "21 µm",
        f"{findings.h_score:.0f}",
        "2,345",
        "1+ 7 %, 2+ 88 %",
        "1.21 mm², 3+ at most: the run worked",
        "Regions that decided the score",
        "0 · 0 · 1 · 0",
        "segformer-b0-stain",
        "Structured report",
        "Proven",
        "Slides of the block",
    ):
        assert wanted in page


def test_the_report_of_a_former_result_is_not_shown_as_the_cases(
    lab: Lab, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    assert f"case-{case_id} has no report page, or not yet." in open_case(case_id)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    objects_key = keep_report(lab.settings, lab.rows()[1][0].findings_key)
    lab.move_case(case_id, CaseState.WRITTEN, objects_key=objects_key)
    assert f"/reports/{case_id}.pdf" in open_case(case_id)
    lab.move_case(case_id, CaseState.HELD, findings_key="", score="", reason="unpaired")
    page = open_case(case_id)
    assert f"The report page of case-{case_id} is of a former result, which is not in force" in page
    assert "/reports/" not in page


def test_a_confirmed_score_says_by_whom_and_when(findings: Findings) -> None:
    person = SignOff(by="Ito^<Bert>", organization="Lab", at=1_772_600_767, signs="findings/0")
    text = score_markup(replace(findings, review=(), sign_offs=(person,)))
    assert "</b>, estimated, confirmed by Ito^&lt;Bert&gt; on 2026-03-04 05:06 UTC<" in text
    other = replace(person, by="Meyer^Anna")
    word = Correction(by=other.by, why="pale", was="3+", corrects="findings/0")
    text = score_markup(replace(findings, correction=word, sign_offs=(other, person)))
    assert "corrected by Meyer^Anna, confirmed by Ito" in text
    assert "the shares, regions and numbers on this page are the appliance's" in text
    assert "The appliance had said 3+" in text and "Why: pale" in text


def test_a_case_of_another_version_is_said_not_a_crash(lab: Lab, findings: Findings) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    (path,) = lab.settings.artifacts_dir.rglob("findings.json")
    path.chmod(0o644)
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"version": FINDINGS_VERSION + 1}))
    page = open_case(case_id)  # nobody wrote these bytes
    assert "is damaged (findings.json is not what was written)" in page and "S26-0000001" in page
    (path.parent / SUMS_NAME).chmod(0o644)
    adopt(path.parent)
    page = open_case(case_id)
    assert "scored by another version of Tandem" in page
    assert "S26-0000001" in page


def test_score_of_none_is_said(lab: Lab, findings: Findings) -> None:
    from dataclasses import replace

    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    nothing = dict.fromkeys(("0", "1+", "2+", "3+"), 0.0)
    unscored = replace(
        findings, score=None, paper_score=None, read_outs=None, percent=nothing, tiles=()
    )
    lab.score(case_id, unscored)
    page = open_case(case_id)
    assert "No score" in page and "Algorithm 1): none" in page


def test_a_category_is_stronger_than_the_score(lab: Lab, findings: Findings) -> None:
    """HERACLES: strong staining of a tenth of the tumor is 3+, and negative."""
    from dataclasses import replace

    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    negative = replace(
        findings,
        organ="colorectal",
        score=Her2Score.THREE.value,
        category=ResultCategory.NEGATIVE.value,
        read_outs=read_outs(Her2Score.THREE, organ="colorectal", category=ResultCategory.NEGATIVE),
        rule="3+ in <= 10 % of tumor cells is negative",
    )
    lab.score(case_id, negative)
    page = open_case(case_id)
    assert "HER2 negative" in page and "HER2 positive" not in page
    assert "Rule: 3+ in &lt;= 10 % of tumor cells is negative" in page


def test_the_opinion_of_an_unknown_reader_is_shown_as_text(lab: Lab, findings: Findings) -> None:
    from dataclasses import replace

    stranger = Opinion(
        reader="reader-of-elsewhere",
        version=3,
        about="interim",
        weights=None,
        classes=("low", "high"),
        probabilities=(0.25, 0.75),
        certainty=0.75,
    )
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, replace(findings, opinions=(*findings.opinions, stranger)))
    page = open_case(case_id)
    assert "reader-of-elsewhere" in page
    assert "low 25 %, high 75 %" in page


@pytest.mark.parametrize("version", ["v5", "v6", "v7"])
def test_findings_of_earlier_versions_are_shown(lab: Lab, version: str) -> None:
    case_id = lab.slide("S26-0000101", HE)
    lab.slide("S26-0000101", HER2)
    lab.move_case(case_id, CaseState.READY)
    key = ArtifactKey.of("findings", version=version)
    stored = Path(__file__).parents[1] / "fixtures" / "findings_versions" / version
    with ArtifactStore(lab.settings.artifacts_dir).writing(key) as folder:
        shutil.copytree(stored, folder, dirs_exist_ok=True)
    lab.move_case(case_id, CaseState.ALIGNED)
    lab.move_case(case_id, CaseState.SCORED, findings_key=str(key), score="2+")
    page = open_case(case_id)
    assert 'data-testid="score">2+<' in page
    assert "vit-small-tumor" in page
    assert "not calibrated for this site" in page and "not judged" in page


def test_a_score_is_interpreted_where_nothing_is_to_be_reviewed(
    lab: Lab, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, replace(findings, review=()))
    page = open_case(case_id)
    assert "HER2 equivocal" in page
    assert findings.comment in page


def test_a_case_of_an_assay_that_is_not_installed_is_shown(lab: Lab, findings: Findings) -> None:
    from dataclasses import replace

    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, replace(findings, assay="assay-of-elsewhere"))
    assert "S26-0000001" in open_case(case_id)


@pytest.mark.parametrize("wanted", ["", "7", "x", "-1", "²", "9" * 30])
def test_a_case_that_is_not_there(lab: Lab, wanted: str) -> None:
    assert "There is no such case" in open_case(wanted)


def test_wrong_settings_are_told_not_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text("stat_dir = 'x'\n")
    assert main(["--config", str(config)]) == 2
    assert "stat_dir" in capsys.readouterr().err


def test_command_keeps_to_this_machine() -> None:
    line = command(9000, "127.0.0.1")
    assert "--server.address=127.0.0.1" in line and "--server.port=9000" in line
    assert "--browser.gatherUsageStats=false" in line and "--server.fileWatcherType=none" in line


def test_dashboard_never_loads_torch() -> None:
    script = (
        "import sys, dashboard.serve, dashboard.views.queue, dashboard.views.case\n"
        # With everything that is registered, as a page that shows a case loads it.
        "from appliance.assays.registry import assays; assert assays()\n"
        "bad = {'torch', 'transformers', 'openvino', 'wsidicomizer'} & set(sys.modules)\n"
        "sys.exit(bool(bad) and str(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(dashboard.__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr


def slide_page() -> None:
    from dashboard.views import slide

    slide.render()


def open_slide(slide_id: int) -> str:
    page = AppTest.from_function(slide_page)
    page.query_params["slide"] = str(slide_id)
    return markup(page.run(timeout=180))


def test_a_damaged_overview_of_a_slide_is_told_and_not_shown(lab: Lab) -> None:
    case_id = lab.slide("S26-0000001", HE)
    told = "stored overview of this slide is damaged"
    assert told not in open_case(case_id) + open_slide(1)
    (overview,) = lab.settings.artifacts_dir.rglob("thumbnail.png")
    flip(overview)
    assert told in open_case(case_id) and told in open_slide(1)


def interim_on(page: str) -> list[str]:
    """Sentences that are marked as an interim hint on a page."""
    return re.findall(r'data-testid="interim">([^<]*)<', page)


def test_an_interim_hint_is_shown_as_one_and_superseded_by_the_score(
    lab: Lab, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    hint = Hint(assay="her2", said="3+", percent=61.4, opinion={})
    lab.do(lambda tx, now: note_hint(tx, tx.slides()[0], hint, now))
    for page in (open_case(case_id), open_slide(1)):
        (said,) = interim_on(page)
        assert said.startswith("Interim, not a score: 3+ (61 %)")
        assert 'data-testid="score"' not in page
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, replace(findings, score="2+"))
    page = open_case(case_id)
    assert 'data-testid="score">2+<' in page
    for shown in (page, open_slide(1)):
        (said,) = interim_on(shown)
        assert said.startswith("Interim, superseded: 3+ (61 %)")
        assert said.endswith("It did not agree with the score 2+.")
    assert interim_on(open_slide(2)) == []


def test_a_waiting_case_shows_where_its_hint_came_from(lab: Lab, findings: Findings) -> None:
    case_id = lab.slide("S26-0000001", HE)
    marked = 'data-testid="interim-map">Interim, not a score: attention of the hint'
    assert "interim-map" not in open_case(case_id)
    with lab.ledger.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        row.width_px, row.height_px, row.mpp = 3000, 2000, 1.0
    keep_hint(lab, 1, slide="")
    assert marked in open_case(case_id)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, replace(findings, score="2+"))
    assert "interim-map" not in open_case(case_id)


def test_a_slide_without_an_opinion_says_why(lab: Lab) -> None:
    case_id = lab.slide("S26-0000001", HE)
    hint = Hint(assay="her2", unusual="focus")
    lab.do(lambda tx, now: note_hint(tx, tx.slides()[0], hint, now))
    (said,) = interim_on(open_case(case_id))
    assert said.startswith("Interim, not a score: no opinion") and "focus" in said


def second_on(page: str) -> list[str]:
    """Sentences that are marked as a second reader's on a page."""
    return re.findall(r'data-testid="second">([^<]*)<', page)


def test_a_second_readers_opinion_is_shown_until_the_block_is_scored(
    lab: Lab, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HER2)
    for said, percent in (("2+", 51.0), ("3+", 88.2)):
        given = SecondOpinion(reader="multiple_instance", said=said, percent=percent)
        lab.do(lambda tx, now, given=given: note_second_opinion(tx, tx.slides()[0], given, now))
    for page in (open_case(case_id), open_slide(1)):
        (said,) = second_on(page)
        assert said.startswith("Second reader, not a score: 3+ (88 %) from the HER2 slide alone")
        assert "not delivered" in said and 'data-testid="score"' not in page
    lab.slide("S26-0000001", HE)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, replace(findings, score="2+"))
    for page in (open_case(case_id), open_slide(1)):
        assert second_on(page) == []
