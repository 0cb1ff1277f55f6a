"""Rerun of a case: sidecars that are still there are read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR

from appliance.domain import HE, HER2, Identity
from appliance.errors import SettingsError
from appliance.intake.said import Said, set_said
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow
from appliance.operations.corrections import rerun_case
from appliance.settings.identify import Identify
from appliance.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a state folder with one delivered case, scored as breast."""
    made = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(made.ledger_url)
    with ledger.transaction() as tx:
        identity = Identity(accession="S26-1", block="A1", stain=HE)
        for stain in (HE, HER2):
            path = tmp_path / f"S26-1_A1_{stain}.svs"
            path.write_bytes(b"a slide")
            slide = tx.add_slide(str(path), 0.0)
            slide.accession, slide.block, slide.stain, slide.organ = "S26-1", "A1", stain, "breast"
            for state in list(SlideState)[1:5]:
                tx.advance(slide, state, now=0.0)
        case = tx.case_for(identity, 0.0, HER2_PAIR)
        for to in (
            CaseState.READY,
            CaseState.ALIGNED,
            CaseState.SCORED,
            CaseState.WRITTEN,
            CaseState.DELIVERED,
        ):
            tx.advance(case, to, now=0.0)
    ledger.close()
    return made


def _organs(settings: Settings) -> dict[str, str]:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        organs = {slide.stain: slide.organ for slide in tx.slides()}
    ledger.close()
    return organs


def test_a_corrected_sidecar_counts_and_a_gone_slide_keeps_what_was_frozen(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "S26-1_A1_HER2.tandem.toml").write_text('organ = "gastric"\n')
    (tmp_path / "S26-1_A1_HE.svs").unlink()
    rerun_case(settings, "case-1", by="Meyer^Anna")
    assert _organs(settings) == {"HE": "breast", "HER2": "gastric"}
    reader = LedgerReader(settings.ledger_url)
    with reader.reading() as tx:
        last = tx.events("case-1")[-1]
    reader.close()
    assert (last.code, last.to_state, last.by) == ("rerun", CaseState.READY, "Meyer^Anna")


@pytest.mark.parametrize("sidecar", ['organ = "breast"', "mpp = 0.5"])
def test_a_sidecar_takes_no_word_of_a_person_back(
    settings: Settings, tmp_path: Path, sidecar: str
) -> None:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        slide = tx.slide(2)
        assert slide is not None
        set_said(slide, Said(organ="gastric", specimen="biopsy", by="Meyer^Anna"))
        slide.organ, slide.specimen, slide.mpp = "gastric", "biopsy", 0.5
        tx.session.add(slide)
    (tmp_path / "S26-1_A1_HER2.tandem.toml").write_text(sidecar)
    rerun_case(settings, "case-1")
    with ledger.transaction() as tx:
        slide = tx.slide(2)
        assert slide is not None
        assert (slide.organ, slide.specimen) == ("gastric", "biopsy")
        assert "sidecar-again" not in [event.code for event in tx.events("slide-2")]
    ledger.close()


@pytest.mark.parametrize(
    ("sidecar", "said"),
    [
        ('accession = "s26-0001"\nblock = "a01"', Said()),
        ('accession = "S26-9"\nblock = "A1"', Said(accession="S26-1", by="Meyer^Anna")),
        ('accession = "S26-1"\nblock = "C3"', Said(block="A1", by="Meyer^Anna")),
    ],
)
def test_a_sidecar_is_compared_as_identify_understood_it(
    settings: Settings, tmp_path: Path, sidecar: str, said: Said
) -> None:
    settings = settings.model_copy(
        update={"identify": Identify.model_validate({"writing": {"leading_zeros": "drop"}})}
    )
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        slide = tx.slide(2)
        assert slide is not None
        set_said(slide, said)
        tx.session.add(slide)
    ledger.close()
    (tmp_path / "S26-1_A1_HER2.tandem.toml").write_text(f'{sidecar}\norgan = "gastric"\n')
    rerun_case(settings, "case-1")
    assert _organs(settings) == {"HE": "breast", "HER2": "gastric"}


def test_a_sidecar_that_cannot_be_read_is_named_and_nothing_changes(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "S26-1_A1_HER2.tandem.toml").write_text("organ = gastric\n")
    with pytest.raises(SettingsError, match=r"S26-1_A1_HER2\.tandem\.toml"):
        rerun_case(settings, "case-1")
    assert _organs(settings) == {"HE": "breast", "HER2": "breast"}


def _case(settings: Settings) -> CaseRow:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        (case,) = tx.cases()
    ledger.close()
    return case


def test_a_sidecar_that_is_gone_changes_nothing(settings: Settings) -> None:
    rerun_case(settings, "case-1")
    assert _organs(settings) == {"HE": "breast", "HER2": "breast"}


def test_a_sidecar_of_another_slide_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "S26-1_A1_HER2.tandem.toml").write_text('block = "B7"\norgan = "gastric"\n')
    with pytest.raises(SettingsError, match="its block is not that of slide-2"):
        rerun_case(settings, "case-1")
    assert _organs(settings) == {"HE": "breast", "HER2": "breast"}
    assert _case(settings).state == CaseState.DELIVERED


@pytest.mark.parametrize("state", [SlideState.ARRIVING, SlideState.QUARANTINED])
def test_a_case_with_a_slide_that_is_not_read_keeps_its_result(
    settings: Settings, state: SlideState
) -> None:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        slide, case = tx.slide(1), tx.case(1)
        assert slide is not None and case is not None
        tx.advance(slide, state, now=1.0)
        case.score = "3+"
        tx.session.add(case)
    ledger.close()
    with pytest.raises(SettingsError, match="HE slide is"):
        rerun_case(settings, "case-1")
    assert (_case(settings).state, _case(settings).score) == (CaseState.DELIVERED, "3+")


def test_a_case_of_an_uninstalled_assay_keeps_its_result(settings: Settings) -> None:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        case = tx.case(1)
        assert case is not None
        case.assay, case.score = "gone", "3+"
        tx.session.add(case)
    ledger.close()
    with pytest.raises(SettingsError, match="no assay 'gone' is installed"):
        rerun_case(settings, "case-1")
    assert (_case(settings).state, _case(settings).score) == (CaseState.DELIVERED, "3+")
