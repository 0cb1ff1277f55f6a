"""Cases of a block, with a second assay that is not expected: HE with TOY."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR, TOY, TOY_PAIR

from appliance.domain import HE, HER2, Stain
from appliance.intake.pair import expire_waiting, join_block, make_ready
from appliance.ledger.blocks import case_of_slide, is_installed, pairing_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, params_of

PAIRINGS = (HER2_PAIR, TOY_PAIR)
HOUR_S = 3600.0


@dataclass
class Desk:
    """A ledger, and slides that go through identify, inspect and read as in the line."""

    ledger: Ledger
    now: float = 1000.0

    def arrive(self, stain: Stain, block: str = "A1", *, read: bool = True) -> str:
        self.now += 1
        with self.ledger.transaction() as tx:
            slide = tx.add_slide(f"{block}_{stain}_{self.now}.svs", self.now)
            slide.accession, slide.block, slide.stain = "S26-1", block, stain
            for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
                tx.advance(slide, state, now=self.now)
            join_block(tx, slide, PAIRINGS, self.now)
            if read:
                for state in (SlideState.INSPECTED, SlideState.READ):
                    tx.advance(slide, state, now=self.now)
                for case in tx.cases_of_block("S26-1", block):
                    make_ready(tx, case, self.now)
            return slide.subject

    def expire(self, hours: float) -> int:
        self.now += hours * HOUR_S
        with self.ledger.transaction() as tx:
            return expire_waiting(tx, PAIRINGS, 72 * HOUR_S, self.now)

    def cases(self) -> dict[str, CaseRow]:
        with self.ledger.transaction() as tx:
            return {case.assay: case for case in tx.cases()}

    def states(self) -> dict[str, str]:
        return {assay: case.state for assay, case in self.cases().items()}

    def slides_of(self, assay: str) -> dict[Stain, str]:
        case = self.cases()[assay]
        pairing = pairing_of(case)
        with self.ledger.transaction() as tx:
            slides = tx.current_slides(case.accession, case.block, pairing.stains)
        return {stain: slide.subject for stain, slide in slides.items()}

    def score(self) -> None:
        with self.ledger.transaction() as tx:
            for case in tx.cases():
                case.findings_key, case.score, case.objects_key = "findings/1", "2+", "objects/1"
                tx.advance(case, CaseState.SCORED, now=self.now)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield Desk(ledger)
    ledger.close()


def test_a_block_of_he_and_her2_is_ready_and_nothing_waits_for_toy(desk: Desk) -> None:
    desk.arrive(HE)
    assert desk.states() == {"her2": "waiting"}
    desk.arrive(HER2)
    assert desk.states() == {"her2": "ready"}
    assert desk.expire(1000) == 0


def test_a_toy_slide_begins_its_own_case_with_the_same_he_slide(desk: Desk) -> None:
    he = desk.arrive(HE)
    her2 = desk.arrive(HER2)
    toy = desk.arrive(TOY)
    assert desk.states() == {"her2": "ready", "toy": "ready"}
    assert desk.slides_of("her2") == {HE: he, HER2: her2}
    assert desk.slides_of("toy") == {HE: he, TOY: toy}


def test_a_rescan_of_he_reopens_both_and_a_rescan_of_toy_only_its_own(desk: Desk) -> None:
    for stain in (HE, HER2, TOY):
        desk.arrive(stain)
    desk.score()
    desk.arrive(TOY, read=False)
    assert desk.states() == {"her2": "scored", "toy": "waiting"}
    rescan = desk.arrive(HE, read=False)
    assert desk.states() == {"her2": "waiting", "toy": "waiting"}
    cases = desk.cases()
    assert (cases["her2"].findings_key, cases["her2"].score) == ("", "")
    assert cases["her2"].objects_key == "objects/1"
    assert desk.slides_of("her2")[HE] == desk.slides_of("toy")[HE] == rescan
    with desk.ledger.transaction() as tx:
        old = [slide.state for slide in tx.slides() if slide.stain == HE]
    assert old == [SlideState.SUPERSEDED, SlideState.IDENTIFIED]


def test_a_case_is_not_ready_before_both_slides_are_read(desk: Desk) -> None:
    desk.arrive(HER2, read=False)
    desk.arrive(HE)
    assert desk.states() == {"her2": "waiting"}


def test_blocks_do_not_mix(desk: Desk) -> None:
    desk.arrive(HE, "A1")
    desk.arrive(HER2, "A2")
    with desk.ledger.transaction() as tx:
        cases = [(case.block, case.state) for case in tx.cases()]
    assert cases == [("A1", "waiting"), ("A2", "waiting")]


@pytest.mark.parametrize(
    ("stain", "assay", "missing"), [(HE, "her2", HER2), (HER2, "her2", HE), (TOY, "toy", HE)]
)
def test_an_overdue_partner_is_named(desk: Desk, stain: Stain, assay: str, missing: Stain) -> None:
    desk.arrive(stain)
    assert desk.expire(71) == 0
    assert desk.expire(2) == 1
    case = desk.cases()[assay]
    assert (case.state, case.reason) == (CaseState.PARTNERLESS, "stain-missing")
    assert params_of(case) == {"stain": missing}
    desk.arrive(missing)
    assert desk.states()[assay] == "ready"
    assert desk.cases()[assay].reason == ""


def test_a_case_of_an_assay_that_is_not_installed_is_left_alone(desk: Desk) -> None:
    desk.arrive(TOY)
    only_her2 = PAIRINGS[:1]
    with desk.ledger.transaction() as tx:
        slide = tx.add_slide("HE.svs", desk.now)
        slide.accession, slide.block, slide.stain = "S26-1", "A1", HE
        join_block(tx, slide, only_her2, desk.now)
        assert expire_waiting(tx, only_her2, 1.0, desk.now + HOUR_S) == 1  # HER2's own
        toy = next(case for case in tx.cases() if case.assay == "toy")
        assert not is_installed(toy, only_her2)
    assert desk.states() == {"toy": "waiting", "her2": "partnerless"}


def test_an_assay_that_comes_back_finds_its_case_as_it_should_be(desk: Desk) -> None:
    """The H&E slide is read, and scanned again, while the other assay is not installed."""
    desk.arrive(TOY)
    with desk.ledger.transaction() as tx:
        slide = tx.add_slide("HE.svs", desk.now)
        slide.accession, slide.block, slide.stain = "S26-1", "A1", HE
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED, SlideState.INSPECTED):
            tx.advance(slide, state, now=desk.now)
        join_block(tx, slide, PAIRINGS[:1], desk.now)
        tx.advance(slide, SlideState.READ, now=desk.now)
        for case in tx.cases():
            make_ready(tx, case, desk.now)
    assert desk.states() == {"toy": "ready", "her2": "waiting"}
    with desk.ledger.transaction() as tx:
        tx.advance(tx.cases()[0], CaseState.SCORED, now=desk.now)
        again = tx.add_slide("HE-again.svs", desk.now)
        again.accession, again.block, again.stain = "S26-1", "A1", HE
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
            tx.advance(again, state, now=desk.now)
        join_block(tx, again, PAIRINGS[:1], desk.now)
    assert desk.states()["toy"] == "waiting"


def test_cases_are_claimed_only_for_installed_assays(desk: Desk) -> None:
    for stain in (TOY, HE, HER2):
        desk.arrive(stain)
    ready = [CaseState.READY]
    with desk.ledger.transaction() as tx:
        claimed = tx.claim_case(ready, "w", desk.now, ["her2"])
        assert claimed is not None and claimed.assay == "her2"
        assert tx.claim_case(ready, "w", desk.now, ["her2"]) is None
        assert tx.claim_case(ready, "w", desk.now, ["her2", "toy"]) is not None


def test_a_slide_links_to_the_first_case_that_uses_its_stain(desk: Desk) -> None:
    for stain in (HE, TOY, HER2):
        desk.arrive(stain)
    with desk.ledger.transaction() as tx:
        cases = tx.cases()
        of = {s.stain: case_of_slide(s, cases) for s in tx.slides()}
    assert {stain: case.assay for stain, case in of.items() if case} == {
        HE: "her2",
        TOY: "toy",
        HER2: "her2",
    }
