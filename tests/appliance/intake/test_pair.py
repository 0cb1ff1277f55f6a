"""Cases of a block, with a second assay that is not expected: HE with TOY."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR, TOY, TOY_PAIR
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from appliance.domain import HE, HER2, Identity, Stain
from appliance.intake.block import make_ready
from appliance.intake.content import lose_slide
from appliance.intake.pair import expire_waiting, join_block, take_place
from appliance.ledger.blocks import case_of_slide, is_installed, pairing_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, params_of
from appliance.settings.intake import PairSettings
from appliance.words.say import say

PAIRINGS = (HER2_PAIR, TOY_PAIR)
HOUR_S, DAY_S = 3600.0, 86400.0


@dataclass
class Desk:
    """A ledger, and slides that go through identify, inspect and read as in the line."""

    ledger: Ledger
    now: float = 1000.0

    def arrive(
        self,
        stain: Stain,
        block: str = "A1",
        *,
        read: bool = True,
        scanned_at: float | None = None,
        asked: tuple[str, ...] = (),
    ) -> str:
        """Take a slide in; without `scanned_at` it was scanned just now."""
        self.now += 1
        with self.ledger.transaction() as tx:
            slide = tx.add_slide(f"{block}_{stain}_{self.now}.svs", self.now)
            slide.accession, slide.block, slide.stain = "S26-1", block, stain
            slide.scanned_at = self.now if scanned_at is None else scanned_at
            slide.patient = json.dumps({"stains": asked})
            for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
                tx.advance(slide, state, now=self.now)
            join_block(tx, slide, PAIRINGS, self.now)
            subject = slide.subject
        if read:
            self.read(subject)
        return subject

    def read(self, subject: str) -> None:
        """Let a slide pass inspection, and read it."""
        with self.ledger.transaction() as tx:
            slide = tx.slide(int(subject.removeprefix("slide-")))
            assert slide is not None
            if slide.state != SlideState.IDENTIFIED:
                return
            tx.advance(slide, SlideState.INSPECTED, now=self.now)
            take_place(tx, slide, self.now)
            if slide.state == SlideState.INSPECTED:
                tx.advance(slide, SlideState.READ, now=self.now)
                for case in tx.cases_of_block(slide.accession, slide.block):
                    make_ready(tx, case, self.now)

    def set_aside(self, subject: str) -> None:
        """Set a slide aside at inspection, as one out of focus."""
        with self.ledger.transaction() as tx:
            slide = tx.slide(int(subject.removeprefix("slide-")))
            assert slide is not None
            if slide.state == SlideState.IDENTIFIED:
                slide.reason = "no-tissue"
                tx.advance(slide, SlideState.QUARANTINED, now=self.now)
                lose_slide(tx, slide, self.now)

    def expire(self, hours: float, lone_he: str = "trouble") -> int:
        self.now += hours * HOUR_S
        settings = PairSettings.model_validate({"lone_he": lone_he})
        with self.ledger.transaction() as tx:
            return expire_waiting(tx, PAIRINGS, settings, self.now)

    def slide_states(self) -> dict[str, str]:
        with self.ledger.transaction() as tx:
            return {slide.subject: slide.state for slide in tx.slides()}

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
                tx.advance(case, CaseState.ALIGNED, now=self.now)
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


def test_blocks_with_both_slides_cost_the_check_of_partners_nothing(desk: Desk) -> None:
    asked: list[tuple[object, ...]] = []
    event.listen(desk.ledger._engine, "before_cursor_execute", lambda *facts: asked.append(facts))
    with desk.ledger.transaction() as tx:
        for number in range(4):  # of the last one the H&E slide alone can be used
            for stain in (HE, HER2):
                slide = tx.add_slide(f"{number}_{stain}.svs", 1.0)
                slide.accession, slide.block, slide.stain = f"S26-{number}", "A1", str(stain)
                slide.state = "superseded" if (number, stain) == (3, HER2) else "identified"
            tx.case_for(Identity(accession=f"S26-{number}", block="A1", stain=HE), 1.0, HER2_PAIR)
        tx.session.flush()
        asked.clear()
        late = PairSettings(lone_he="trouble")
        assert expire_waiting(tx, PAIRINGS, late, 1e6) == 1
        assert sum("FROM slide" in str(facts[2]).replace('"', "") for facts in asked) == 3
        found = {case.accession: case.state for case in tx.cases()}
    assert found == dict.fromkeys(("S26-0", "S26-1", "S26-2"), "waiting") | {"S26-3": "partnerless"}


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
    toy = desk.arrive(TOY, read=False)
    assert desk.states() == {"her2": "scored", "toy": "scored"}
    desk.read(toy)
    assert desk.states() == {"her2": "scored", "toy": "ready"}
    rescan = desk.arrive(HE, read=False)
    assert desk.states()["her2"] == "scored"  # it did not pass inspection yet
    desk.read(rescan)
    assert desk.states() == {"her2": "ready", "toy": "ready"}
    cases = desk.cases()
    assert (cases["her2"].findings_key, cases["her2"].score) == ("", "")
    assert cases["her2"].objects_key == "objects/1"
    assert desk.slides_of("her2")[HE] == desk.slides_of("toy")[HE] == rescan
    with desk.ledger.transaction() as tx:
        old = [slide.state for slide in tx.slides() if slide.stain == HE]
    assert old == [SlideState.SUPERSEDED, SlideState.READ]


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
    assert params_of(case) == {"stain": missing, "elsewhere": []}
    desk.arrive(missing)
    assert desk.states()[assay] == "ready"
    assert desk.cases()[assay].reason == ""


def test_a_case_of_an_assay_that_is_not_installed_is_left_alone(desk: Desk) -> None:
    desk.arrive(TOY)
    only_her2 = PAIRINGS[:1]
    with desk.ledger.transaction() as tx:
        slide = tx.add_slide("HE.svs", desk.now)
        slide.accession, slide.block, slide.stain = "S26-1", "A1", HE
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
            tx.advance(slide, state, now=desk.now)
        join_block(tx, slide, only_her2, desk.now)
        soon = PairSettings(partner_timeout_hours=0.001, lone_he="trouble")
        assert expire_waiting(tx, only_her2, soon, desk.now + HOUR_S) == 1  # HER2's own
        toy = next(case for case in tx.cases() if case.assay == "toy")
        assert not is_installed(toy, only_her2)
    assert desk.states() == {"toy": "waiting", "her2": "partnerless"}


def test_an_assay_that_comes_back_finds_its_case_as_it_should_be(desk: Desk) -> None:
    """The H&E slide is read, and scanned again, while the other assay is not installed."""
    desk.arrive(TOY)
    with desk.ledger.transaction() as tx:
        slide = tx.add_slide("HE.svs", desk.now)
        slide.accession, slide.block, slide.stain = "S26-1", "A1", HE
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
            tx.advance(slide, state, now=desk.now)
        join_block(tx, slide, PAIRINGS[:1], desk.now)
        for state in (SlideState.INSPECTED, SlideState.READ):
            tx.advance(slide, state, now=desk.now)
        for case in tx.cases():
            make_ready(tx, case, desk.now)
    assert desk.states() == {"toy": "ready", "her2": "waiting"}
    with desk.ledger.transaction() as tx:
        for state in (CaseState.ALIGNED, CaseState.SCORED):
            tx.advance(tx.cases()[0], state, now=desk.now)
        again = tx.add_slide("HE-again.svs", desk.now)
        again.accession, again.block, again.stain = "S26-1", "A1", HE
        again.scanned_at = 2 * DAY_S
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
            tx.advance(again, state, now=desk.now)
        join_block(tx, again, PAIRINGS[:1], desk.now)
        tx.advance(again, SlideState.INSPECTED, now=desk.now)
        take_place(tx, again, desk.now)
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


def test_a_rescan_that_is_set_aside_leaves_the_good_one_in_place(desk: Desk) -> None:
    good = desk.arrive(HE)
    desk.arrive(HER2)
    desk.score()
    bad = desk.arrive(HE, read=False)
    desk.set_aside(bad)
    assert desk.states() == {"her2": "scored"}
    assert desk.slides_of("her2")[HE] == good


def test_an_older_scan_that_comes_late_takes_no_place(desk: Desk) -> None:
    newer = desk.arrive(HER2, scanned_at=5 * DAY_S + 1)
    desk.arrive(HE)
    desk.score()
    older = desk.arrive(HER2, scanned_at=4 * DAY_S + 1)
    assert desk.slide_states()[older] == SlideState.SUPERSEDED
    assert desk.slides_of("her2")[HER2] == newer
    assert desk.states() == {"her2": "scored"}


def test_two_scans_of_a_day_are_a_choice_for_a_person(desk: Desk) -> None:
    desk.arrive(HE)
    first = desk.arrive(HER2, scanned_at=5 * DAY_S)
    desk.score()
    second = desk.arrive(HER2, scanned_at=5 * DAY_S)
    case = desk.cases()["her2"]
    assert (case.state, case.reason, case.score) == (CaseState.HELD, "two-scans", "")
    assert {desk.slide_states()[each] for each in (first, second)} == {SlideState.READ}
    sentence = say("case", case.reason, params_of(case) | {"subject": case.subject})
    assert first in sentence and second in sentence and "tandem identify keep SLIDE" in sentence
    third = desk.arrive(HER2, scanned_at=6 * DAY_S)
    assert desk.states() == {"her2": "ready"}
    assert desk.slides_of("her2")[HER2] == third


def test_an_older_scan_comes_back_when_the_newer_one_is_lost(desk: Desk) -> None:
    older = desk.arrive(HE)
    desk.arrive(HER2)
    newer = desk.arrive(HE)
    assert desk.slide_states()[older] == SlideState.SUPERSEDED
    with desk.ledger.transaction() as tx:
        slide = tx.slide(int(newer.removeprefix("slide-")))
        assert slide is not None
        tx.advance(slide, SlideState.QUARANTINED, now=desk.now)
        lose_slide(tx, slide, desk.now)
    assert desk.slide_states()[older] == SlideState.ARRIVED
    assert desk.states() == {"her2": "waiting"}


def test_an_older_scan_stays_while_the_newer_one_is_read_again(desk: Desk) -> None:
    """The file of the newer scan was touched."""
    older = desk.arrive(HE)
    desk.arrive(HER2)
    newer = desk.arrive(HE)
    with desk.ledger.transaction() as tx:
        slide = tx.slide(int(newer.removeprefix("slide-")))
        assert slide is not None
        for state in (SlideState.ARRIVING, SlideState.ARRIVED, SlideState.IDENTIFIED):
            tx.advance(slide, state, now=desk.now)
        join_block(tx, slide, PAIRINGS, desk.now)
    assert desk.slide_states()[older] == SlideState.SUPERSEDED
    assert desk.states() == {"her2": "waiting"}
    desk.read(newer)
    assert desk.states() == {"her2": "ready"}


@pytest.mark.parametrize(
    ("asked", "lone_he", "state"),
    [
        ((), "quiet", "waiting"),
        ((), "trouble", "partnerless"),
        (("HE",), "trouble", "waiting"),
        (("HE", "HER2"), "quiet", "partnerless"),
        (("HER2 DISH",), "trouble", "waiting"),
    ],
)
def test_a_lone_he_is_trouble_where_somebody_waits_for_her2(
    desk: Desk, asked: tuple[str, ...], lone_he: str, state: str
) -> None:
    desk.arrive(HE, asked=asked)
    desk.expire(73, lone_he)
    assert desk.states() == {"her2": state}
    assert desk.expire(73, lone_he) == 0
    if state == "waiting":
        case = desk.cases()["her2"]
        assert "Nobody asked for a HER2 slide" in say("case", case.reason, params_of(case))
    desk.arrive(HER2)
    assert desk.states() == {"her2": "ready"}
    assert desk.cases()["her2"].reason == ""


def test_a_lone_her2_slide_is_trouble_whatever_the_settings_say(desk: Desk) -> None:
    desk.arrive(HER2)
    assert desk.expire(73, "quiet") == 1


def test_slides_of_other_blocks_are_pointed_at(desk: Desk) -> None:
    desk.arrive(HE, "A1")
    desk.arrive(HER2, "A2")
    desk.arrive(HER2, "B1", read=False)
    desk.expire(73)
    with desk.ledger.transaction() as tx:
        case = next(case for case in tx.cases() if case.block == "A1")
    for kind in ("case", "case-trouble"):
        params = params_of(case) | {"stains": ["HER2"], "subject": case.subject}
        sentence = say(kind, case.reason, params)
        assert "There is a HER2 slide of blocks A2 and B1 of this accession." in sentence


scans = st.lists(
    st.tuples(
        st.sampled_from([HE, HER2]),
        st.sampled_from([3 * DAY_S, 3 * DAY_S + 60, 3 * DAY_S + 120, 4 * DAY_S, 5 * DAY_S + 60]),
        st.booleans(),  # it passes inspection
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scans=scans, data=st.data())
def test_any_order_of_arrival_gives_the_same_pairs(
    scans: list[tuple[Stain, float, bool]],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Slides come in any order, and are inspected in any order, too."""
    found = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("order")
        desk = Desk(Ledger(f"sqlite:///{folder / 'ledger.sqlite'}"))
        order = data.draw(st.permutations(range(len(scans))))
        which: dict[str, int] = {}
        for number in order:
            stain, scanned_at, passes = scans[number]
            subject = desk.arrive(stain, read=False, scanned_at=scanned_at)
            which[subject] = number
            if data.draw(st.booleans()):
                desk.read(subject) if passes else desk.set_aside(subject)
        for subject in data.draw(st.permutations(list(which))):
            desk.read(subject) if scans[which[subject]][2] else desk.set_aside(subject)
        states = {which[subject]: state for subject, state in desk.slide_states().items()}
        case = desk.cases()["her2"] if desk.cases() else None
        # A scan that an older one's successor made needless may end without an inspection.
        stands = {number for number, state in states.items() if state == SlideState.READ}
        found.append((stands, None if case is None else (case.state, case.reason)))
        desk.ledger.close()
    assert found[0] == found[1]
