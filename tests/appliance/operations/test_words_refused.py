"""Refused words of people: another result came meanwhile, or it is not what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.clinic import Clinic, copy_of, open_clinic

from appliance.domain import HE, HER2
from appliance.errors import SettingsError
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.transaction import Transaction
from appliance.operations import corrections
from appliance.operations.corrections import confirm_score, correct_score, rerun_case
from appliance.settings.settings import Settings

ANNA = "Müller^Anna"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clinic(tmp_path_factory.mktemp("clinic"))


@pytest.fixture
def clinic(state: Path, tmp_path: Path) -> Clinic:
    return copy_of(state, tmp_path)


def read_slides(tx: Transaction) -> None:
    """Add the slides of the case."""
    for stain in (HE, HER2):
        slide = tx.add_slide(f"/scans/S26-1_A1_{stain}.svs", 0.0)
        slide.accession, slide.block, slide.stain = "S26-1", "A1", stain
        for to in list(SlideState)[1:5]:
            tx.advance(slide, to, now=0.0)


def test_a_rerun_takes_no_result_away_that_was_signed_while_it_read_the_sidecars(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.do(read_slides)
    signed: list[str] = []

    def sign_first(*_: object) -> None:
        if not signed:
            confirm_score(clinic.settings, "case-1", by=ANNA)
            clinic.deliver()
            signed.append(clinic.case.findings_key)

    monkeypatch.setattr(corrections, "_sidecar_again", sign_first)
    with pytest.raises(SettingsError, match="its result changed"):
        rerun_case(clinic.settings, "case-1", by="operator", also_signed=False)
    case = clinic.case
    assert [case.findings_key] == signed
    assert (case.state, case.score) == ("delivered", "2+")


def confirm(settings: Settings) -> str:
    return confirm_score(settings, "case-1", by=ANNA)


def correct(settings: Settings) -> str:
    return correct_score(settings, "case-1", "1+", by=ANNA, why="pale")


@pytest.mark.parametrize("speak", [confirm, correct])
def test_nobody_signs_a_result_that_is_not_what_was_written(
    clinic: Clinic, speak: Callable[[Settings], str]
) -> None:
    before = clinic.case
    file = clinic.settings.artifacts_dir / before.findings_key / "findings.json"
    data = file.read_bytes()
    assert b'"2+"' in data
    file.write_bytes(data.replace(b'"2+"', b'"3+"', 1))  # one bit: it can still be read
    with pytest.raises(SettingsError, match=r"is not what was written.*tandem rerun case-1"):
        speak(clinic.settings)
    assert clinic.case == before
    assert clinic.do(lambda tx: [*tx.notes("confirmed-by"), *tx.notes("corrected-by")]) == []
