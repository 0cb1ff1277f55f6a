"""``tandem interim report``: hints beside the scores of their cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR
from sqlalchemy import Engine, event
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.domain import HE, Identity
from appliance.ledger.events import Event
from appliance.ledger.hints import Hint, note_hint
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.operations.corrections import CONFIRMED
from appliance.operations.interim import interim_report
from appliance.settings.settings import Settings

OPINION = {"weights": {"name": "interim-4way", "version": "1.0", "fingerprint": "a" * 64}}
LATER = {"weights": {"name": "interim-4way", "version": "1.1", "fingerprint": "b" * 64}}


def hint(said: str, opinion: dict[str, object] = OPINION) -> Hint:
    return Hint(assay="her2", said=said, percent=50.0, opinion=opinion)


CASES = (
    ([hint("3+")], "3+"),
    ([hint("0")], "1+"),
    ([hint("2+"), hint("0")], "0"),  # the newest hint counts
    ([hint("1+")], ""),
    ([Hint(assay="her2", unusual="focus")], "2+"),
    ([hint("2+", LATER)], "2+"),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a ledger of `CASES`; a person confirmed the first, the fourth still waits."""
    made = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(made.ledger_url)
    with ledger.transaction() as tx:
        for number, (hints, score) in enumerate(CASES):
            row = tx.add_slide(f"/scans/{number}_HE.svs", 1.0)
            row.accession, row.block, row.stain = f"S26-{number}", "A1", HE
            row.fingerprint = f"file {number}"
            given = Identity(accession=row.accession, block="A1", stain=HE)
            case = tx.case_for(given, 1.0, HER2_PAIR)
            case.score, case.findings_key = score, "findings/x" if score else ""
            for each in hints:
                note_hint(tx, row, each, 2.0)
            if number in (0, 1):  # the second was scored anew since
                tx.note(case.subject, CONFIRMED, 3.0, by="Meyer^Anna")
                code = "confirmed" if number == 0 else "advanced"
                scored = Event(at=3.0, subject=case.subject, kind="state", code=code,
                               to_state=CaseState.SCORED)  # fmt: skip
                tx.append_event(scored)
        # A slide that was scanned anew: the hint was on the former file.
        row.fingerprint = "another file"
        note_hint(tx, row, hint("2+", LATER), 4.0)
        gone = tx.add_slide("/scans/gone.svs", 1.0)
        gone.accession, gone.block, gone.stain, gone.fingerprint = "S26-1", "A1", HE, "gone"
        note_hint(tx, gone, hint("1+"), 5.0)
        tx.advance(gone, SlideState.ARRIVED, now=5.0)
        tx.advance(gone, SlideState.QUARANTINED, now=5.0)
    ledger.close()
    return made


@pytest.mark.parametrize("hinted", [True, False])
def test_the_report_reads_the_slides_with_a_hint_alone(
    settings: Settings, tmp_path: Path, hinted: bool
) -> None:
    asked: list[str] = []

    def keep(_c: object, _k: object, statement: str, *_: object) -> None:
        asked.append(" ".join(statement.replace('"', "").split()))

    if not hinted:
        settings = Settings(state_dir=tmp_path / "other")
        ledger = Ledger(settings.ledger_url)
        with ledger.transaction() as tx:
            tx.add_slide("/scans/a.svs", 1.0)
        ledger.close()
    event.listen(Engine, "before_cursor_execute", keep)
    found = interim_report(settings)
    event.remove(Engine, "before_cursor_execute", keep)
    assert bool(found["weights"]) == hinted
    rows = [each for each in asked if " FROM slide" in each or " FROM case" in each]
    assert bool(rows) == hinted and all(" WHERE " in each for each in rows)


def test_a_case_counts_once_by_its_newest_hint(settings: Settings) -> None:
    found = interim_report(settings)
    first, later = found["weights"]
    assert (first["hints"], first["waiting"]) == (4, 1)
    assert (first["all"]["right"], first["all"]["scored"]) == (2, 3)
    low, high = first["all"]["interval"]
    # Wilson's interval of 2 of 3.
    assert (low, high) == pytest.approx((0.2077, 0.9385), abs=1e-3)
    assert (first["signed"]["right"], first["signed"]["scored"]) == (1, 1)
    assert first["confusion"] == {"0": {"0": 1, "1+": 1}, "3+": {"3+": 1}}
    assert later["version"] == "1.1" and later["all"]["right"] == 1
    assert found["without_opinion"] == {"focus": 1}


def test_the_command_says_it_and_names_no_patient(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").write_text(f'state_dir = "{settings.state_dir}"\n')
    command = ["interim", "report", "--config", str(tmp_path / "tandem.toml")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "2 of 3 right, 67 % (21 to 94 %)" in done.output and "S26" not in done.output
    assert "said 0, scored 0: 1, 1+: 1" in done.output and "research use only" in done.output
    assert json.loads(CliRunner().invoke(app, [*command, "--json"]).output) == interim_report(
        settings
    )
