"""Blocks that are written with a zero and without: slides of one block, however its name is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR
from fixtures.slide_objects import write_svs

from appliance.intake.scan import FolderScan
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import SlideRow
from appliance.line.analyze_slide import identify_slide
from appliance.line.context import Done, StepContext
from appliance.line.slide_steps import finish_identify, former_accession
from appliance.settings.intake import Watch
from appliance.settings.settings import Settings
from appliance.slides.general import GeneralSlide


@pytest.fixture
def context(tmp_path: Path) -> Iterator[StepContext]:
    (tmp_path / "scans").mkdir()
    settings = Settings(
        state_dir=tmp_path / "state",
        watch=Watch(folder=tmp_path / "scans", stable_seconds=1, patience_seconds=1),
    )
    ledger = Ledger(settings.ledger_url)
    yield StepContext(ledger=ledger, settings=settings, name="test", pairings=(HER2_PAIR,))
    ledger.close()


def identified(context: StepContext, name: str, seed: int) -> SlideRow:
    path = context.settings.watch.folder / name
    if not path.exists():
        write_svs(path, seed)
    scan = FolderScan(context.ledger, context.settings.watch)
    for second in (0.0, 2.0):
        scan.run(monotonic=second, now=second)
    with context.ledger.transaction() as tx:
        row = tx.slide_of_path(str(path))
        assert row is not None
    found = identify_slide(
        path, context.settings, json.loads(row.said), former=former_accession(row)
    )
    with context.ledger.transaction() as tx:
        row = tx.slide_of_path(str(path))
        assert row is not None
        finish_identify(tx, context, row, Done(value=found, seconds=1.0), 3.0)
    return row


@pytest.mark.parametrize(("he", "her2"), [("A01", "A;01"), ("A-1", "A01"), ("1-01", "1-1")])
def test_a_zero_in_front_of_a_blocks_number_makes_no_other_block(
    context: StepContext, he: str, her2: str
) -> None:
    first = identified(context, f"S26-31_{he}_HE.svs", 1)
    second = identified(context, f"S26-31_{her2}_HER2.svs", 2)
    assert [row.state for row in (first, second)] == [SlideState.IDENTIFIED] * 2
    with context.ledger.transaction() as tx:
        (case,) = tx.cases()
        assert (case.accession, case.block) == ("S26-31", first.block)
        assert [row.id for row in tx.slides_of_block("S26-31", first.block)] == [
            first.id,
            second.id,
        ]


def test_a_block_that_was_kept_with_a_zero_is_read_again_under_it(context: StepContext) -> None:
    row = identified(context, "S26-31_A;01_HER2.svs", 1)
    with context.ledger.transaction() as tx:
        kept = tx.slide(row.id or 0)
        assert kept is not None
        kept.block, kept.state = "A01", SlideState.ARRIVED
        tx.session.add(kept)
    again = identified(context, "S26-31_A;01_HER2.svs", 1)
    assert again.block == "A01"


def test_the_block_of_a_sidecar_is_kept_as_it_is_written(context: StepContext) -> None:
    identified(context, "S26-31_A01_HE.svs", 1)
    sidecar = context.settings.watch.folder / "S26-31_A01_HER2.tandem.toml"
    sidecar.write_text('block = "A1"\n')
    assert identified(context, "S26-31_A01_HER2.svs", 2).block == "A1"
    assert identified(context, "S26-31_A10_HER2.svs", 3).block == "A10"


def test_an_accession_that_was_kept_without_its_prefix_is_read_again_under_it(
    context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A touched slide would leave its case: former editions left the number of the site out."""
    barcode = {"aperio.Barcode": "01-S26-00031;A1"}
    monkeypatch.setattr(GeneralSlide, "properties", barcode)
    row = identified(context, "01-S26-00031_A1_HER2.svs", 1)
    assert row.accession == "01-S26-00031"
    for former, expected in (("S26-00031", "S26-00031"), ("S26-00032", "01-S26-00031")):
        with context.ledger.transaction() as tx:
            kept = tx.slide(row.id or 0)
            assert kept is not None
            kept.accession, kept.state = former, SlideState.ARRIVED
            tx.session.add(kept)
        assert identified(context, "01-S26-00031_A1_HER2.svs", 1).accession == expected


def test_a_sidecar_takes_a_slide_from_the_accession_that_it_was_kept_under(
    context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is corrected counts, and so does one that is taken away."""
    monkeypatch.setattr(GeneralSlide, "properties", {"aperio.Barcode": "01-S26-00031;A1"})
    name = "01-S26-00031_A1_HER2.svs"
    sidecar = context.settings.watch.folder / f"{name}.tandem.toml"
    for told, expected in (
        ("S26-00031", "S26-00031"),
        ("01-S26-00031", "01-S26-00031"),
        ("S26-00031", "S26-00031"),
        ("", "01-S26-00031"),
    ):
        sidecar.write_text(f'accession = "{told}"\n') if told else sidecar.unlink()
        row = identified(context, name, 1)
        assert row.accession == expected
        with context.ledger.transaction() as tx:
            kept = tx.slide(row.id or 0)
            assert kept is not None
            kept.state = SlideState.ARRIVED
            tx.session.add(kept)
