"""The report of ``tandem status``: what belongs together, and the choice under a limit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.daemon import tandem
from fixtures.pairings import HER2_PAIR
from sqlalchemy import event
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.domain import HE, HER2, Identity
from appliance.errors import SettingsError
from appliance.intake.pair import expire_waiting
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import set_reason
from appliance.operations import status
from appliance.operations.status import status_of
from appliance.settings.intake import PairSettings
from appliance.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    made = Ledger(settings.ledger_url)
    yield made
    made.close()


def fill(ledger: Ledger, blocks: int) -> None:
    """Add blocks of two slides and a case; slide 2 is set aside, and the others are read."""
    with ledger.transaction() as tx:
        for number in range(blocks):
            for stain in (HE, HER2):
                row = tx.add_slide(f"S26-{number}_{stain}.svs", now=1.0 + number)
                row.accession, row.block, row.stain = f"S26-{number}", "A1", str(stain)
                if row.id == 2:
                    set_reason(row, "damaged")
                    tx.advance(row, SlideState.QUARANTINED, now=1.0, reason="damaged")
                    continue
                for state in ("arrived", "identified", "inspected", "read"):
                    tx.advance(row, SlideState(state), now=2.0 + number)
            identity = Identity(accession=f"S26-{number}", block="A1", stain=HE)
            tx.case_for(identity, 1.0 + number, HER2_PAIR)


def test_all_rows_oldest_first_with_what_belongs_to_them(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, 5)
    monkeypatch.setattr(status, "CHUNK", 2)
    report = status_of(settings)
    assert [case["accession"] for case in report["cases"]] == [f"S26-{n}" for n in range(5)]
    assert [slide["id"] for slide in report["slides"]] == [f"slide-{n}" for n in range(1, 11)]
    assert report["cases"][1]["slides"] == {"HE": "slide-3", "HER2": "slide-4"}
    assert report["cases"][0]["slides"] == {"HE": "slide-1"}
    assert [slide["case"] for slide in report["slides"][2:4]] == ["case-2", "case-2"]
    assert report["slides"][1]["steps"][0]["text"] == "→ arriving"
    assert "more" not in report


def test_a_limit_shows_trouble_and_work_first_then_the_newest(
    ledger: Ledger, settings: Settings
) -> None:
    fill(ledger, 5)
    with ledger.transaction() as tx:
        case = tx.case(2)
        assert case is not None
        tx.advance(case, CaseState.READY, now=99.0)
    report = status_of(settings, limit=3)
    assert [slide["id"] for slide in report["slides"]] == ["slide-2", "slide-10", "slide-9"]
    assert [case["id"] for case in report["cases"]] == ["case-2", "case-5", "case-4"]
    assert report["more"] == {"cases": 2, "slides": 7}


def quiet_blocks(ledger: Ledger, number: int, now: float) -> None:
    """Add blocks of a read H&E slide each, whose target slide nobody asked for."""
    with ledger.transaction() as tx:
        for each in range(number):
            slide = tx.add_slide(f"S26-9{each}_HE.svs", now)
            slide.accession, slide.block, slide.stain = f"S26-9{each}", "A1", str(HE)
            for state in ("arrived", "identified", "inspected", "read"):
                tx.advance(slide, SlideState(state), now=now)
            tx.case_for(Identity(accession=f"S26-9{each}", block="A1", stain=HE), now, HER2_PAIR)
        overdue = PairSettings(partner_timeout_hours=1, lone_he="quiet")
        assert expire_waiting(tx, (HER2_PAIR,), overdue, now + 7200) == 0


def test_blocks_that_nobody_waits_for_hide_no_trouble(ledger: Ledger, settings: Settings) -> None:
    fill(ledger, 7)
    ended = {1: CaseState.FAILED, 2: CaseState.FAILED, 3: CaseState.FAILED, 4: CaseState.DELIVERED}
    way = (CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN, CaseState.DELIVERED)
    with ledger.transaction() as tx:
        for case_id, state in ended.items():
            case = tx.case(case_id)
            assert case is not None
            tx.advance(case, CaseState.READY, now=20.0)
            for each in (state,) if state == CaseState.FAILED else way:
                tx.advance(case, each, now=20.0 + case_id)
    quiet_blocks(ledger, 5, 1e5)
    ids = [case["id"] for case in status_of(settings, limit=100)["cases"]]
    quiet = [f"case-{number}" for number in range(8, 13)]
    assert ids[:6] == ["case-3", "case-2", "case-1", "case-7", "case-6", "case-5"]
    assert set(ids[6:11]) == set(quiet) and ids[11:] == ["case-4"]
    few = status_of(settings, limit=4)  # trouble leaves half of them to what is under way
    assert [case["id"] for case in few["cases"]] == ["case-3", "case-2", "case-7", "case-6"]
    assert few["more"]["cases"] == 8
    assert few["more_in_trouble"] == {"cases": {"failed": 1}, "slides": {}}
    config = settings.state_dir / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    shown = CliRunner().invoke(app, ["status", "--limit", "4", "--config", str(config)]).output
    assert shown.count("of them in trouble") == 1 and "of them in trouble: 1 failed" in shown


def test_the_number_of_queries_does_not_grow_with_the_rows(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = status.LedgerReader

    def counting(url: str) -> status.LedgerReader:
        reader = real(url)
        event.listen(reader._engine, "before_cursor_execute", lambda *facts: asked.append(facts[2]))
        return reader

    monkeypatch.setattr(status, "LedgerReader", counting)
    fill(ledger, 2)
    status_of(settings, limit=100)
    few = len(asked)
    with ledger.transaction() as tx:
        for number in range(100, 150):
            tx.add_slide(f"{number}.svs", now=1.0)
            identity = Identity(accession=f"S26-{number}", block="A1", stain=HE)
            tx.case_for(identity, 1.0, HER2_PAIR)
    asked.clear()
    status_of(settings, limit=100)
    # One more state occurs: arriving.
    assert len(asked) <= few + 1


def test_the_tables_say_how_many_more_there_are(ledger: Ledger, settings: Settings) -> None:
    fill(ledger, 5)
    config = settings.state_dir / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    shown = tandem("status", "--limit", "2", "--config", config).stdout
    assert "and 3 more cases" in shown and "and 8 more slides" in shown
    assert "more" not in tandem("status", "--config", config).stdout


def test_what_is_named_is_shown_alone_with_its_block(ledger: Ledger, settings: Settings) -> None:
    fill(ledger, 5)
    config = settings.state_dir / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')

    def shown(*ids: str) -> tuple[list[str], list[str]]:
        said = CliRunner().invoke(app, ["status", *ids, "--json", "--config", str(config)]).output
        report = json.loads(said)
        assert "more" not in report and "alive" in report["appliance"]
        cases, slides = report["cases"], report["slides"]
        return [case["id"] for case in cases], [slide["id"] for slide in slides]

    assert shown("case-2") == (["case-2"], ["slide-3", "slide-4"])
    assert shown("slide-4") == (["case-2"], ["slide-4"])
    both = (["case-1", "case-2"], ["slide-1", "slide-2", "slide-4"])
    assert shown("slide-4", "case-1", "--limit", "1") == both
    table = CliRunner().invoke(app, ["status", "case-2", "--config", str(config)]).output
    assert "case-2" in table and "case-3" not in table and "more" not in table
    for unknown in ("case-99", "slide-0", "S26-1"):
        with pytest.raises(SettingsError, match=unknown):
            status_of(settings, subjects=[unknown])


def test_brackets_in_names_are_shown_as_they_are(ledger: Ledger, settings: Settings) -> None:
    with ledger.transaction() as tx:
        tx.add_slide("[bold]odd.svs", now=1.0)
    config = settings.state_dir / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    shown = CliRunner().invoke(app, ["status", "--config", str(config)])
    assert "[bold]odd.svs" in shown.output
    config.write_text("[identify.stains]\nki67 = ['KI67']\n")
    refused = tandem("status", "--config", config, check=False)
    assert "identify.stains" in refused.stderr
