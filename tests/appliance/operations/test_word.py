"""A person's word at any state, and what follows for the cases."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.lab import Lab

from appliance.domain import QuarantineReason
from appliance.errors import LedgerError, SettingsError
from appliance.intake.block import hold, reopen
from appliance.intake.identity.evidence import Outcome
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import EventRow, params_of, set_reason
from appliance.line.claiming import wait_for_slides
from appliance.line.context import Done
from appliance.line.slide_steps import finish_identify
from appliance.operations.audited import Word
from appliance.operations.retry_word import retry, retry_all
from appliance.operations.seen import hold_name
from appliance.operations.word import (
    SlideWords,
    exclude_slide,
    find_slide,
    keep,
    pair_slides,
    say_slide,
    unpair_case,
)
from appliance.settings.settings import Settings
from appliance.words.events import event_text
from appliance.words.say import say

WORD = Word(by="Meyer^Anna", why="read the label")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def notes(lab: Lab, subject: str) -> list[EventRow]:
    with lab.transaction() as tx:
        return [event for event in tx.events(subject) if event.kind == "note"]


def move(lab: Lab, subject: str, state: SlideState) -> None:
    with lab.transaction() as tx:
        row = tx.slide(int(subject.removeprefix("slide-")))
        assert row is not None
        if row.state != state:
            tx.advance(row, state, now=lab.now)


def test_a_word_is_kept_with_its_person_and_reason(lab: Lab) -> None:
    slide = lab.arrive("S26-1_A1_HE")
    say_slide(lab.settings, slide, SlideWords(accession="S26-9", block="B2"), WORD)
    said = json.loads(lab.slides()[slide].said)
    assert said["at"] > 0
    del said["at"]
    assert said == {
        "accession": "S26-9",
        "block": "B2",
        "by": "Meyer^Anna",
        "why": "read the label",
    }
    (note,) = notes(lab, slide)
    assert (note.code, note.by) == ("word-set", "Meyer^Anna")
    assert event_text(note) == "a person said accession S26-9, block B2: read the label"
    lab.work()
    row = lab.slides()[slide]
    assert (row.accession, row.block, row.stain, row.state) == ("S26-9", "B2", "HE", "read")


@pytest.mark.parametrize("state", list(SlideState))
@pytest.mark.parametrize("what", ["set", "exclude", "keep", "retry"])
def test_every_word_works_at_every_state(lab: Lab, state: SlideState, what: str) -> None:
    slide = lab.arrive("S26-1_A1_HE", work=False)
    if state not in (SlideState.ARRIVED, SlideState.ARRIVING):
        lab.work()
    if state in (SlideState.IDENTIFIED, SlideState.INSPECTED):
        move(lab, slide, SlideState.ARRIVED)
        move(lab, slide, SlideState.IDENTIFIED)
    move(lab, slide, state)
    match what:
        case "set":
            say_slide(lab.settings, slide, SlideWords(block="B2"), WORD)
        case "exclude":
            exclude_slide(lab.settings, slide, WORD)
        case "keep":
            keep(lab.settings, slide, WORD)
        case _:
            retry(lab.settings, slide, WORD)
    if state is SlideState.ARRIVING:
        move(lab, slide, SlideState.ARRIVED)
    lab.work()
    row = lab.slides()[slide]
    assert row.state == ("other" if what == "exclude" else "read")
    assert row.block == ("B2" if what == "set" else "A1") or what == "exclude"
    assert [note.code for note in notes(lab, slide)] == [f"word-{what}"]


def test_a_slide_that_leaves_a_delivered_case_reopens_it_at_once(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    wrong = lab.arrive("S26-1_A1_HER2")
    lab.arrive("S26-2_A1_HE")
    lab.deliver()
    said = say_slide(lab.settings, wrong, SlideWords(accession="S26-2"), WORD)
    assert "case-1 waits for another slide" in said
    case = lab.case()
    assert (case.state, case.score, case.findings_key) == (CaseState.WAITING, "", "")
    assert case.objects_key == "objects/1"  # the next report replaces the one that was sent
    assert lab.deliveries() == [("proven", "")]
    lab.work()
    assert lab.case(accession="S26-2").state == CaseState.READY
    assert lab.case().state == CaseState.WAITING
    right = lab.arrive("S26-1_A1_HER2_right")
    assert lab.case().state == CaseState.READY
    assert lab.used() == ["slide-1", right]


@pytest.mark.parametrize(
    ("words", "stays"),
    [
        (SlideWords(accession="s26-1", organ="breast"), True),
        (SlideWords(accession=" S26-001", block="a1", stain="Her2"), True),
        (SlideWords(accession="S26-10"), False),
        (SlideWords(accession="s26-1", block="a2"), False),
    ],
)
def test_a_place_in_another_writing_is_no_other_place(
    lab: Lab, words: SlideWords, stays: bool
) -> None:
    writing = {"identify": {"writing": {"leading_zeros": "drop"}}}
    settings = Settings.model_validate({"state_dir": lab.settings.state_dir} | writing)
    lab.arrive("S26-1_A1_HE")
    slide = lab.arrive("S26-1_A1_HER2")
    lab.deliver(sent=False)
    told = say_slide(settings, slide, words, WORD)
    assert ("waits for another slide" in told) is not stays
    assert lab.case().state == (CaseState.WRITTEN if stays else CaseState.WAITING)
    assert bool(lab.case().findings_key) is stays
    assert lab.deliveries() == [("queued", "") if stays else ("refused", "withdrawn")]


def test_a_report_that_was_not_sent_yet_does_not_go_out(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    wrong = lab.arrive("S26-1_A1_HER2")
    lab.deliver(sent=False)
    exclude_slide(lab.settings, wrong, WORD)
    assert lab.deliveries() == [("refused", "withdrawn")]
    with lab.transaction() as tx:
        assert tx.due_deliveries(lab.now + 1e6) == []
    # It was right after all: the same report is sent.
    keep(lab.settings, wrong, WORD)
    lab.work()
    lab.deliver(sent=False)
    assert lab.deliveries() == [("queued", "")]


def test_what_waits_of_a_former_result_does_not_go_out_once_its_slide_left(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    wrong = lab.arrive("S26-1_A1_HER2")
    lab.deliver(sent=False)
    retry(lab.settings, wrong, WORD)
    lab.step(wrong)
    assert lab.case().state == CaseState.WAITING
    assert lab.deliveries() == [("queued", "")]
    exclude_slide(lab.settings, wrong, WORD)
    assert lab.deliveries() == [("refused", "withdrawn")]


def test_what_waits_of_one_of_two_scans_does_not_go_out_once_it_is_left_out(lab: Lab) -> None:
    he = lab.arrive("S26-1_A1_HE")
    wrong = lab.arrive("S26-1_A1_HER2", day=3)
    lab.deliver(sent=False)
    right = lab.arrive("S26-1_A1_HER2_2", day=3)
    assert lab.case().reason == "two-scans"
    exclude_slide(lab.settings, wrong, WORD)
    assert lab.deliveries() == [("refused", "withdrawn")]
    assert (lab.case().state, lab.used()) == (CaseState.READY, [he, right])


def test_what_waits_of_a_case_that_is_held_goes_out_once_a_person_accepted_it(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    first = lab.arrive("S26-1_A1_HER2", day=3)
    lab.deliver(sent=False)
    lab.arrive("S26-1_A1_HER2_2", day=3)
    assert (lab.case().state, lab.case().reason) == (CaseState.HELD, "two-scans")
    with lab.transaction() as tx:
        assert tx.due_deliveries(lab.now + 1e6) == []
    keep(lab.settings, first, WORD)
    lab.work()
    lab.deliver(sent=False)
    assert (lab.case().state, lab.deliveries()) == (CaseState.WRITTEN, [("queued", "")])


def test_a_result_ends_when_a_newer_scan_stands_though_the_old_one_is_on_its_way(lab: Lab) -> None:
    he, old = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-1_A1_HER2", day=3)
    lab.deliver(sent=False)
    new = lab.arrive("S26-1_A1_HER2_2", day=4, work=False)
    lab.step(new)
    assert lab.case().state == CaseState.WRITTEN
    move(lab, old, SlideState.ARRIVING)
    lab.work()
    case = lab.case()
    assert (case.state, case.findings_key, lab.used()) == (CaseState.READY, "", [he, new])


def test_what_a_person_accepted_is_void_when_a_slide_is_another_file(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    her2 = lab.arrive("S26-1_A1_HER2")
    for after in ("keep", "claim"):
        with lab.transaction() as tx:
            case = tx.cases()[0]
            case.reason, case.overruled = "patients-differ", "[]"
            if case.state != CaseState.HELD:
                tx.advance(case, CaseState.HELD, now=lab.now)
        if after == "claim":
            keep(lab.settings, "case-1", WORD)
            assert lab.case().overruled == '["patients-differ"]'
        move(lab, her2, SlideState.ARRIVING)
        if after == "keep":
            assert "compared anew" in keep(lab.settings, "case-1", WORD)
        else:
            with lab.transaction() as tx:
                wait_for_slides(tx, tx.cases()[0], lab.now)
        assert (lab.case().state, lab.case().overruled) == (CaseState.WAITING, "[]")
        move(lab, her2, SlideState.ARRIVED)
        lab.work()


def test_a_slide_that_is_left_out_stays_so_when_all_in_trouble_are_tried_again(lab: Lab) -> None:
    slide = lab.arrive("S26-1_A1_HER2")
    exclude_slide(lab.settings, slide, WORD)
    move(lab, slide, SlideState.QUARANTINED)
    assert "1 of 1" in retry_all(lab.settings, [slide], WORD)
    lab.work()
    assert lab.slides()[slide].reason == "excluded"
    retry(lab.settings, slide, WORD)
    lab.work()
    assert lab.states()[slide] == "read"


def test_what_cannot_be_tried_again_keeps_nothing_else_from_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.operations.retry_word.RETRY_AT_ONCE", 1)
    slides = [lab.arrive(f"S26-{number}_A1_HER2") for number in range(3)]
    for slide in slides[1:]:
        move(lab, slide, SlideState.QUARANTINED)
    told = retry_all(lab.settings, slides, WORD)
    assert told == "1 of 3 are tried again; 1 cannot be, or are in trouble no more"
    assert lab.states()[slides[1]] == "arrived" and lab.states()[slides[2]] == "quarantined"


@pytest.mark.parametrize("why", ["wrong\u00a0label", "wrong\u202flabel", "wrong la\u00adbel"])
def test_a_reason_from_a_word_processor_is_taken_with_plain_spaces(why: str) -> None:
    assert Word(by="Meyer^Anna", why=why).why == "wrong label"


def test_an_older_scan_is_taken_back_once_it_passed_inspection(lab: Lab) -> None:
    old = lab.arrive("S26-1_A1_HE", day=3)
    lab.arrive("S26-1_A1_HER2")
    new = lab.arrive("S26-1_A1_HE_2", day=4)
    lab.deliver()
    keep(lab.settings, old, WORD)
    assert lab.used()[0] == new
    lab.work()
    assert lab.states() == {old: "read", "slide-2": "read", new: "superseded"}
    assert lab.slides()[new].reason == "chosen"
    assert lab.case().state == CaseState.READY
    later = lab.arrive("S26-1_A1_HE_3", day=5)
    assert lab.used()[0] == later


def test_one_of_two_scans_of_a_day_is_chosen(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    first = lab.arrive("S26-1_A1_HER2", day=3)
    second = lab.arrive("S26-1_A1_HER2_2", day=3)
    assert lab.case().reason == "two-scans"
    with pytest.raises(SettingsError, match="keep SLIDE"):
        keep(lab.settings, "case-1", WORD)
    keep(lab.settings, first, WORD)
    assert lab.case().state == CaseState.READY
    assert lab.states()[second] == "superseded"


@contextmanager
def ahead() -> Iterator[None]:
    """Let the clock be a day ahead."""
    with pytest.MonkeyPatch.context() as patched:
        real = time.time
        patched.setattr(time, "time", lambda: real() + 86400.0)
        yield


@pytest.mark.parametrize("say", ["keep", "pair"])
def test_a_choice_counts_among_scans_that_came_under_a_clock_that_was_ahead(
    lab: Lab, say: str
) -> None:
    with ahead():
        he = lab.arrive("S26-1_A1_HE")
        first = lab.arrive("S26-1_A1_HER2", day=3)
        second = lab.arrive("S26-1_A1_HER2_2", day=3)
    assert lab.case().reason == "two-scans"
    if say == "keep":
        assert keep(lab.settings, second, WORD) == f"{second} stands for its slide"
    else:
        pair_slides(lab.settings, he, second, WORD)
    assert lab.states() == {he: "read", first: "superseded", second: "read"}
    assert lab.case().state == CaseState.READY
    rescan = lab.arrive("S26-1_A1_HER2_3", day=9)  # nobody chose over it
    assert (lab.case().state, lab.used()) == (CaseState.READY, [he, rescan])


def test_a_later_choice_counts_though_the_clock_was_ahead_at_the_one_before(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    first = lab.arrive("S26-1_A1_HER2", day=3)
    second = lab.arrive("S26-1_A1_HER2_2", day=3)
    with ahead():
        keep(lab.settings, first, WORD)
    assert lab.states()[second] == "superseded"
    told = keep(lab.settings, second, WORD)
    assert "goes through the line, and stands for its slide once it is inspected" in told
    lab.work()
    assert (lab.states()[first], lab.slides()[first].reason) == ("superseded", "chosen")
    assert (lab.used()[1], lab.case().state) == (second, CaseState.READY)


def test_a_held_case_goes_on_when_a_person_accepts_the_difference(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    lab.arrive("S26-1_A1_HER2")
    with lab.transaction() as tx:
        case = tx.cases()[0]
        case.reason = "patients-differ"
        tx.advance(case, CaseState.HELD, now=lab.now)
    keep(lab.settings, "case-1", WORD)
    case = lab.case()
    assert (case.state, json.loads(case.overruled)) == (CaseState.READY, ["patients-differ"])
    with pytest.raises(SettingsError, match="only a held case"):
        keep(lab.settings, "case-1", WORD)
    lab.arrive("S26-1_A1_HE_2", day=19_999)  # what was accepted of other slides is void
    assert lab.case().overruled == "[]"


def test_a_word_accepts_only_the_hold_that_the_person_saw(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    lab.arrive("S26-1_A1_HER2")
    assert hold_name(lab.case()) == ""

    def held(reason: str, likeness: int) -> str:
        with lab.transaction() as tx:
            case = tx.cases()[0]
            hold(tx, case, reason, {"likeness": likeness}, lab.now)
            return hold_name(case)

    seen = held("same-section", 97)
    for reason, likeness in (("patients-differ", 97), ("same-section", 98)):
        now = held(reason, likeness)
        before = lab.case()
        with pytest.raises(SettingsError, match="what holds it changed since you opened it"):
            keep(lab.settings, "case-1", WORD, seen=seen)
        assert lab.case() == before and notes(lab, "case-1")[-1].code == "held"
    # The same is found anew, of other files.
    with lab.transaction() as tx:
        reopen(tx, tx.cases()[0], "came-anew", {}, lab.now)
    again = held("same-section", 98)
    with pytest.raises(SettingsError, match="Look at it again"):
        keep(lab.settings, "case-1", WORD, seen=now)
    keep(lab.settings, "case-1", WORD, seen=again)
    assert (lab.case().state, lab.case().overruled) == (CaseState.READY, '["same-section"]')
    with pytest.raises(SettingsError, match="only a held case"):
        keep(lab.settings, "case-1", WORD, seen=again)


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (CaseState.WAITING, CaseState.READY),
        (CaseState.PARTNERLESS, CaseState.READY),
        (CaseState.HELD, CaseState.READY),
        (CaseState.READY, CaseState.READY),
        (CaseState.FAILED, CaseState.READY),
        (CaseState.DELIVERED, CaseState.READY),
        (CaseState.UNDELIVERED, CaseState.WRITTEN),
    ],
)
def test_a_case_is_tried_again_at_any_state(lab: Lab, state: CaseState, after: CaseState) -> None:
    lab.arrive("S26-1_A1_HE")
    lab.arrive("S26-1_A1_HER2")
    if state in (CaseState.DELIVERED, CaseState.UNDELIVERED):
        lab.deliver(sent=state is CaseState.DELIVERED)
        lab.refuse()
    with lab.transaction() as tx:
        case = tx.cases()[0]
        if state is CaseState.PARTNERLESS:
            tx.advance(case, CaseState.WAITING, now=lab.now)
        if case.state != state:
            tx.advance(case, state, now=lab.now)
    assert "case-1" in retry(lab.settings, "case-1", WORD)
    assert (lab.case().state, bool(lab.case().findings_key)) == (after, after == CaseState.WRITTEN)
    assert [(note.code, note.by) for note in notes(lab, "case-1")] == [("word-retry", WORD.by)]


def test_slides_that_were_taken_apart_are_not_paired_again(lab: Lab) -> None:
    he, her2 = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-1_A1_HER2")
    lab.deliver(sent=False)
    unpair_case(lab.settings, "case-1", WORD)
    case = lab.case()
    assert (case.state, case.reason, case.score) == (CaseState.HELD, "unpaired", "")
    assert he in say("case", case.reason, params_of(case))
    assert lab.deliveries() == [("refused", "withdrawn")]
    for slide in (he, her2):
        retry(lab.settings, slide, WORD)
        lab.work()
        assert (lab.case().state, lab.case().reason) == (CaseState.HELD, "unpaired")
    rescan = lab.arrive("S26-1_A1_HER2_2", day=19_999)
    assert (lab.case().state, lab.used()) == (CaseState.READY, [he, rescan])
    keep(lab.settings, her2, WORD)
    lab.work()
    assert (lab.case().state, lab.case().reason) == (CaseState.HELD, "unpaired")
    pair_slides(lab.settings, he, her2, WORD)
    lab.work()
    assert (lab.case().state, lab.used()) == (CaseState.READY, [he, her2])


def test_two_slides_are_paired_whatever_their_names_are(lab: Lab) -> None:
    he, other = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-7_C3_HER2")
    pair_slides(lab.settings, he, other, WORD)
    lab.work()
    assert (lab.case().state, lab.used()) == (CaseState.READY, [he, other])
    assert lab.case("C3", "S26-7").reason == "no-slides"


@pytest.mark.parametrize(
    "words", [{"accession": "S26-2"}, {"block": "B2"}, {"stain": "HE"}, {"organ": "breast"}]
)
def test_a_pair_takes_no_place_against_the_word_that_was_just_said(
    lab: Lab, words: dict[str, str]
) -> None:
    he, other = lab.arrive("S26-1_A1_HER2"), lab.arrive("S26-7_A1_HER2")
    say_slide(lab.settings, he, SlideWords(**{"stain": "HE"} | words), WORD)
    before = lab.slides()
    with pytest.raises(SettingsError, match="slide-1 is being identified: pair it when"):
        pair_slides(lab.settings, he, other, WORD)
    assert lab.slides() == before
    lab.work()
    pair_slides(lab.settings, he, other, WORD)
    lab.work()
    place = words.get("accession", "S26-1"), words.get("block", "A1")
    assert [(row.accession, row.block) for row in lab.slides().values()] == [place, place]


def test_a_pair_takes_the_whole_name_that_was_just_said(lab: Lab) -> None:
    he, other = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-7_C3_HER2")
    say_slide(lab.settings, he, SlideWords(accession="s26-2", block="b2", stain="HE"), WORD)
    pair_slides(lab.settings, he, other, WORD)
    lab.work()
    assert (lab.case("B2", "S26-2").state, lab.used("B2", "S26-2")) == ("ready", [he, other])


def test_a_pair_contradicts_no_word_on_its_second_slide(lab: Lab) -> None:
    he, other = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-7_C3_HER2")
    lab.work()
    say_slide(lab.settings, other, SlideWords(accession="S26-2", block="B2", stain="HER2"), WORD)
    with pytest.raises(SettingsError, match="slide-2: a person said another accession than"):
        pair_slides(lab.settings, he, other, WORD)
    # The same name, written otherwise.
    say_slide(lab.settings, other, SlideWords(accession="s26 1", block="A01"), WORD)
    pair_slides(lab.settings, he, other, WORD)
    lab.work()
    assert lab.used("A1", "S26-1") == [he, other]


def test_a_slide_that_waits_for_the_site_can_be_paired(lab: Lab) -> None:
    """The pair contradicts no word: nobody said anything of the slide."""
    he, other = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-7_C3_HER2")
    with lab.ledger.transaction() as tx:
        row = tx.slide(2)
        assert row is not None
        row.state, row.accession, row.block, row.stain = SlideState.ARRIVED, "", "", ""
        row.fingerprint = ""
        tx.session.add(row)
    assert "paired" in pair_slides(lab.settings, he, other, WORD)


def test_a_stain_that_was_just_said_is_not_taken_for_that_of_the_first_assay(lab: Lab) -> None:
    he, other = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-1_A1_ER")
    say_slide(lab.settings, other, SlideWords(accession="S26-2"), WORD)
    with pytest.raises(SettingsError, match="slide-2 is being identified"):
        pair_slides(lab.settings, he, other, WORD)


def test_a_pair_asks_where_a_person_said_another_accession_of_a_slide_without_block(
    lab: Lab,
) -> None:
    he, other = lab.arrive("S26-1__HE"), lab.arrive("S26-7_A1_HER2")
    say_slide(lab.settings, he, SlideWords(accession="S26-2"), WORD)
    lab.work()
    move(lab, he, SlideState.QUARANTINED)
    with pytest.raises(SettingsError, match="said another accession than the other slide has"):
        pair_slides(lab.settings, he, other, WORD)
    say_slide(lab.settings, he, SlideWords(accession="S26-7"), WORD)
    lab.work()
    move(lab, he, SlideState.QUARANTINED)
    pair_slides(lab.settings, he, other, WORD)
    lab.work()
    assert lab.used("A1", "S26-7") == [he, other]


def test_a_ledger_that_is_locked_is_told_once_and_says_nothing_of_the_subjects(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = [lab.arrive(f"S26-{number}_A1_HER2") for number in range(3)]
    for slide in slides:
        move(lab, slide, SlideState.QUARANTINED)
    monkeypatch.setattr("appliance.ledger.lock.LONGEST_LOCK_S", 0.0)
    other = sqlite3.connect(lab.settings.ledger_file, isolation_level=None)

    def open_and_lock(settings: Settings) -> Ledger:
        ledger = Ledger(settings.ledger_url)
        other.execute("BEGIN IMMEDIATE")
        return ledger

    monkeypatch.setattr("appliance.operations.retry_word.open_ledger", open_and_lock)
    with pytest.raises(LedgerError):
        retry_all(lab.settings, slides, WORD)
    other.close()
    assert set(lab.states().values()) == {"quarantined"}


def test_a_pair_that_is_named_the_wrong_way_round_keeps_its_stains(lab: Lab) -> None:
    he, her2 = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-1_A1_HER2")
    with pytest.raises(SettingsError, match="name the HE slide first"):
        pair_slides(lab.settings, her2, he, WORD)
    lab.work()
    assert (lab.case().state, lab.used()) == (CaseState.READY, [he, her2])


def test_a_slide_of_no_assay_is_not_paired_on_the_way(lab: Lab) -> None:
    he, ish = lab.arrive("S26-1_A1_HE"), lab.arrive("S26-1_A1_HER2-ISH")
    with lab.transaction() as tx:
        row = find_slide(tx, ish)
        set_reason(row, "hybridization")
        tx.advance(row, SlideState.OTHER, now=lab.now)
    with pytest.raises(SettingsError, match="HER2-ISH, which no assay pairs"):
        pair_slides(lab.settings, he, ish, WORD)
    say_slide(lab.settings, ish, SlideWords(stain="HER2"), WORD)
    lab.work()
    assert lab.case().state == CaseState.READY


def test_a_slide_is_named_by_id_number_or_path(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    for text in ("slide-1", "1", "/scans/S26-1_A1_HE.svs"):
        assert "slide-1" in retry(lab.settings, text, WORD)
        lab.work()
    for text in ("slide-2", "2", "/scans/nothing.svs", "slide-", ""):
        with pytest.raises(SettingsError, match="tandem status"):
            retry(lab.settings, text, WORD)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (SlideWords(), "say what"),
        (SlideWords(accession="A\nB"), "--accession"),
        (SlideWords(accession="A\\B"), "--accession"),
        (SlideWords(accession="x" * 17), "16 characters"),
        (SlideWords(stain="XQZ"), "is not known"),
    ],
)
def test_words_that_cannot_be_a_slides_change_nothing(
    lab: Lab, words: SlideWords, told: str
) -> None:
    slide = lab.arrive("S26-1_A1_HE")
    with pytest.raises(SettingsError, match=told):
        say_slide(lab.settings, slide, words, WORD)
    assert (lab.states()[slide], lab.slides()[slide].said) == ("read", "{}")


@pytest.mark.parametrize(("by", "why"), [("", "x"), ("Meyer", " "), ("Mey\ner", "x")])
def test_a_word_needs_its_person_and_reason(by: str, why: str) -> None:
    with pytest.raises(SettingsError, match=r"--by|--why"):
        Word(by=by, why=why)


def test_a_slide_that_is_set_aside_under_its_own_name_leaves_its_case(lab: Lab) -> None:
    lab.arrive("S26-1_A1_HE")
    slide = lab.arrive("S26-1_A1_HER2")
    lab.deliver(sent=False)
    retry(lab.settings, slide, WORD)
    with lab.transaction() as tx:
        row = tx.slide(2)
        assert row is not None
        found = lab._identified(row)
        reason = QuarantineReason.IDENTITY_CONFLICT
        verdict = replace(found.verdict, outcome=Outcome.CONFLICT, reason=reason)
        done = Done(value=replace(found, verdict=verdict), seconds=0.0)
        finish_identify(tx, lab.context, row, done, lab.now)
    assert lab.states()[slide] == "quarantined"
    assert (lab.case().state, lab.case().score) == (CaseState.WAITING, "")
    assert lab.deliveries() == [("refused", "withdrawn")]
