"""Forms of the actions: each speaks on what its page showed, and on nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest
import streamlit as st
from fixtures.damage import flip
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.cli.main import app
from appliance.delivery.intact import take_back
from appliance.domain import HE, HER2
from appliance.findings.findings import Findings
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction
from appliance.line import case_steps
from appliance.line.case_steps import WrittenCase, finish_analyze, finish_write
from appliance.line.context import Done
from appliance.line.outcomes import Outcome
from appliance.operations.users import Role, User
from appliance.words.events import event_text
from appliance.words.say import say
from dashboard import actions
from dashboard.actions import Person

if TYPE_CHECKING:
    from conftest import Lab

ANNA = Person("Meyer^Anna", Role.PATHOLOGIST)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test be a server of its own, whose user may act."""
    monkeypatch.setattr("dashboard.views.acting.may_act", lambda *_: True)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def case_page() -> None:
    from dashboard.views import case

    case.render()


def open_case() -> AppTest:
    page = AppTest.from_function(case_page)
    page.query_params["case"] = "1"
    return page.run(timeout=180)


def press(page: AppTest, label: str) -> None:
    """Press a button as the page that is open has it."""
    assert not page.exception
    next(button for button in page.button if button.label == label).click().run(timeout=180)


def labels(page: AppTest) -> list[str]:
    assert not page.exception
    return [button.label for button in page.button]


def markup(page: AppTest) -> str:
    return "".join(element.proto.body for element in page.get("html"))


@pytest.fixture
def scored(lab: Lab, findings: Findings) -> Lab:
    """Return a laboratory with a delivered case of 2+."""
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id)
    lab.deliver(case_id)
    return lab


def replace_result(lab: Lab) -> None:
    """Let the case have another result of the same score, as after a rerun."""
    store, key = ArtifactStore(lab.settings.artifacts_dir), ArtifactKey.of("findings", case=7)
    shutil.copytree(store.path(ArtifactKey.parse(the_case(lab).findings_key)), store.path(key))
    change(lab, findings_key=str(key))


def change(lab: Lab, **values: object) -> None:
    def make(tx: Transaction, now: float) -> None:
        row = tx.case(1)
        assert row is not None
        for name, value in values.items():
            setattr(row, name, value)
        tx.session.add(row)

    lab.do(make)


def the_case(lab: Lab) -> CaseRow:
    (case,) = lab.rows()[1]
    return case


@pytest.mark.parametrize(
    ("button", "within"),
    [("Confirm", "Confirm 2+"), ("Correct", "Correct"), ("Cannot score", "Say so")],
)
def test_a_button_of_a_page_with_the_former_result_opens_no_form(
    scored: Lab, button: str, within: str
) -> None:
    page = open_case()
    offered = labels(page)
    replace_result(scored)
    press(page, button)
    assert labels(page) == offered  # the page of the new result, without a form
    press(page, button)
    assert sorted(labels(page)) == sorted([*offered, within])


@pytest.mark.parametrize("button", ["Confirm", "Correct", "Cannot score"])
def test_the_form_names_the_person_who_signs(
    scored: Lab, monkeypatch: pytest.MonkeyPatch, button: str
) -> None:
    page = open_case()
    press(page, button)
    assert "VERIFIED by you." in markup(page)
    anna = User(name="anna", role=Role.PATHOLOGIST, person="Meyer^Anna", password="")
    monkeypatch.setattr("dashboard.views.look.user", lambda: anna)
    press(page, button)
    assert "VERIFIED by Meyer^Anna." in markup(page)


def test_a_word_on_the_former_result_is_refused_and_changes_nothing(scored: Lab) -> None:
    settings, seen, why = scored.settings, the_case(scored).findings_key, "The stain is pale."
    replace_result(scored)
    before = the_case(scored)
    for answer in (
        actions.confirm(settings, "case-1", seen="2+", result=seen, by=ANNA),
        actions.correct(settings, "case-1", "2+", standing="2+", result=seen, by=ANNA, why=why),
        actions.correct(settings, "case-1", "1+", standing="2+", result=seen, by=ANNA, why=why),
        actions.cannot_score(settings, "case-1", result=seen, by=ANNA, why=why),
    ):
        assert not answer.done and "its result changed since you opened it" in answer.text
    assert the_case(scored) == before
    now = before.findings_key
    assert actions.confirm(settings, "case-1", seen="2+", result=now, by=ANNA).done


def test_a_held_case_goes_on_only_by_a_word_on_what_holds_it(lab: Lab) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.move_case(case_id, CaseState.HELD, reason="same-section")
    page = open_case()
    offered = labels(page)
    params = {"he": "A^One", "ihc": "B^Two"}
    change(lab, reason="patients-differ", params=json.dumps(params))
    press(page, "Let it go on")
    assert labels(page) == offered
    press(page, "Let it go on")
    assert labels(page)[-1] == "Go on"
    shown = markup(page)
    # It stands on the page, and in the form.
    assert shown.count(say("case-trouble", "patients-differ", params)[:30]) == 2

    answer = actions.let_go_on(lab.settings, "case-1", held="0" * 12, by=ANNA, why="Seen.")
    assert not answer.done and "what holds it changed since you opened it" in answer.text
    assert the_case(lab).state == CaseState.HELD


def slide_page() -> None:
    from dashboard.views import slide

    slide.render()


@pytest.mark.parametrize(
    ("button", "form", "action"),
    [
        ("Say what it is", 0, "Try again"),
        ("Pair them", 1, "Try again"),
        ("Do it", 2, "Try again"),
        ("Do it", 2, "Leave out of every case"),
        ("Do it", 2, "Keep before other scans"),
    ],
)
def test_a_form_of_a_slide_speaks_of_the_file_that_its_page_showed(
    lab: Lab, button: str, form: int, action: str
) -> None:
    lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    page = AppTest.from_function(slide_page)
    page.query_params["slide"] = "1"
    page.run(timeout=180)

    def press_it() -> list[SlideRow]:
        for name, text in (("Reason", "Seen."), ("Your name", ANNA.name)):
            [box for box in page.text_input if box.label == name][form].input(text)
        page.text_input[1].input("B2")
        next(box for box in page.text_input if box.label == "Other slide").input("slide-2")
        page.radio[0].set_value(action)
        press(page, button)
        return lab.rows()[0]

    def write(tx: Transaction, _now: float) -> None:
        row = tx.slide(1)
        assert row is not None
        row.size_bytes, row.modified_ns, row.fingerprint = 7, 8, "of another patient"
        tx.session.add(row)

    lab.do(write)
    before = lab.rows()[0]
    assert press_it() == before
    assert "its file, its name or its state changed since you opened it" in markup(page)
    assert press_it() != before  # the page showed the other file meanwhile


def fill(page: AppTest, form: int, **given: str) -> None:
    """Fill in fields of one of the forms of a slide by their labels, as they are shown."""
    for name, text in {"Reason": "Seen.", "Your name": ANNA.name, **given}.items():
        boxes = [box for box in page.text_input if box.label == name]
        boxes[form if len(boxes) > 1 else 0].input(text)


def test_a_field_keeps_what_was_typed_when_a_colleague_named_the_slide(lab: Lab) -> None:
    lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    page = AppTest.from_function(slide_page)
    page.query_params["slide"] = "2"
    page.run(timeout=180)
    assert actions.name_slide(
        lab.settings, "slide-2", accession="S26-0000777", block="", stain="", by=BERT, why="order"
    ).done
    lab.identify_again(2, "S26-0000777", HER2)
    fill(page, 0, Accession="S26-0000555", Block="A2")
    said = lab.rows()[0][1].said
    press(page, "Say what it is")
    assert "its name or its state changed since you opened it" in markup(page)
    assert lab.rows()[0][1].said == said and "Accession S26-0000777" in markup(page)
    press(page, "Say what it is")  # the colleague's name was shown meanwhile
    now = json.loads(lab.rows()[0][1].said)
    assert (now["accession"], now["block"], now["by"]) == ("S26-0000555", "A2", ANNA.name)
    assert [box.value for box in page.text_input[:3]] == ["", "", ""]


def test_a_slide_that_a_colleague_tried_again_is_not_tried_again_by_a_page_that_shows_it_set_aside(
    lab: Lab, findings: Findings
) -> None:
    case = lab.slide("S26-0000001", HE)
    bad = lab.quarantine("S26-0000001_A1_HER2.svs", "unreadable")
    page = AppTest.from_function(slide_page)
    page.query_params["slide"] = str(bad)
    page.run(timeout=180)
    assert actions.retry(lab.settings, f"slide-{bad}", by=BERT, why="again").done
    lab.identify(bad, "S26-0000001", "A1", HER2, arrived=True)
    lab.inspect(bad, HER2)
    lab.move_slide(bad, SlideState.READ)
    lab.move_case(case, CaseState.READY)
    lab.score(case, findings)
    lab.write(case)
    lab.deliver(case)
    before = lab.rows()
    fill(page, 2)
    page.radio[0].set_value("Try again")
    press(page, "Do it")
    assert "its state changed since you opened it" in markup(page) and lab.rows() == before


def test_a_case_is_tried_again_only_at_the_state_that_its_page_showed(scored: Lab) -> None:
    before, settings = the_case(scored), scored.settings
    answer = actions.retry(settings, "case-1", by=BERT, why="again", seen=CaseState.FAILED)
    assert not answer.done and answer.text == "case-1 is delivered by now: look at it again."
    assert the_case(scored) == before
    assert actions.retry(settings, "case-1", by=BERT, why="again", seen=CaseState.DELIVERED).done


def test_a_pair_is_of_both_files_that_the_page_showed(lab: Lab) -> None:
    lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    page = AppTest.from_function(slide_page)
    page.query_params["slide"] = "1"
    page.run(timeout=180)

    def press_it() -> bool:
        """Press the button; return whether something was done."""
        for name, text in (("Reason", "Seen."), ("Your name", ANNA.name)):
            [box for box in page.text_input if box.label == name][1].input(text)
        before = lab.rows()[0]
        press(page, "Pair them")
        return lab.rows()[0] != before

    def replace_file(tx: Transaction, _now: float) -> None:
        row = tx.slide(2)
        assert row is not None
        row.size_bytes, row.fingerprint = 7, "of another patient"
        tx.session.add(row)

    next(box for box in page.text_input if box.label == "Other slide").input("slide-2")
    assert not press_it()  # it is named, and was not looked at
    assert "slide-2: S26-0000001_A1_HER2.svs" in markup(page)
    assert "Accession S26-0000001, block A1, stain HER2" in markup(page)
    lab.do(replace_file)
    assert not press_it()
    assert "slide-2: its file, its name or its state changed since you opened it" in markup(page)
    assert press_it()


def test_the_forms_of_a_slide_choose_nothing_and_say_who_signed(scored: Lab) -> None:
    contents = {"objects": [], "sign_offs": [{"by": ANNA.name}]}
    key = ArtifactKey.of("objects", case=1)
    with ArtifactStore(scored.settings.artifacts_dir).writing(key) as folder:
        (folder / "objects.json").write_text(json.dumps(contents))
    page = AppTest.from_function(slide_page)
    page.query_params["slide"] = "2"
    assert "signed the result" not in markup(page.run(timeout=180))
    change(scored, objects_key=str(key))
    page.run(timeout=180)
    assert "Meyer^Anna signed the result of case-1. Another name or pair" in markup(page)
    before = scored.rows()
    for name, text in (("Reason", "Seen."), ("Your name", BERT.name)):
        [box for box in page.text_input if box.label == name][2].input(text)
    press(page, "Do it")
    assert "Action: choose one." in markup(page) and scored.rows() == before
    page.radio[0].set_value("Try again")
    press(page, "Do it")
    assert "slide-2: Meyer^Anna signed the result of case-1" in markup(page)
    assert scored.rows() == before
    # Nor does the first run take it away, which asks for no reason.
    other = scored.quarantine("x.svs", "no-accession")
    admin = Person("Vera^Ops", Role.ADMIN)
    said = actions.try_pair(scored.settings, "slide-1", f"slide-{other}", by=admin)
    assert not said.done and "Meyer^Anna signed the result of case-1" in said.text


BERT = Person("Ito^Bert", Role.OPERATOR)


def sign(lab: Lab) -> str:
    """Let the result be confirmed, and be delivered again; return the key of what is signed."""
    seen = the_case(lab).findings_key
    assert actions.confirm(lab.settings, "case-1", seen="2+", result=seen, by=ANNA).done
    for state in (CaseState.WRITTEN, CaseState.DELIVERED):
        lab.move_case(1, state)
    return the_case(lab).findings_key


def correct(lab: Lab, score: str, seen: str) -> actions.Answer:
    """Let a person give the case another score, and let it be delivered again."""
    answer = actions.correct(
        lab.settings, "case-1", score, standing="2+", result=seen, by=ANNA, why="pale"
    )
    for state in (CaseState.WRITTEN, CaseState.DELIVERED):
        lab.move_case(1, state)
    return answer


def rerun(lab: Lab, by: Person, seen: str) -> str:
    """Ask for a rerun; return what is said, and check that a refusal changes nothing."""
    before = the_case(lab)
    answer = actions.rerun(lab.settings, "case-1", result=seen, by=by)
    assert answer.done == (the_case(lab).state == CaseState.READY)
    assert answer.done or the_case(lab) == before
    return answer.text


@pytest.mark.parametrize("damaged", [False, True])
def test_a_signed_result_is_given_up_by_a_pathologist_who_saw_it(
    scored: Lab, damaged: bool
) -> None:
    first = the_case(scored).findings_key
    signed = sign(scored)
    if damaged:
        folder = ArtifactStore(scored.settings.artifacts_dir).path(ArtifactKey.parse(signed))
        flip(folder / "rasters.npz")
    assert "its result changed since you opened it" in rerun(scored, ANNA, first)
    told = rerun(scored, BERT, signed)
    assert "by Meyer^Anna: it takes a pathologist" in told
    said = "signed by" if damaged else "confirmed by"
    told = rerun(scored, ANNA, signed)
    assert f"The result is {said} Meyer^Anna: this is undone, unless" in told


@pytest.mark.parametrize("word", ["confirmed", "corrected"])
def test_a_word_that_stands_after_a_rerun_counts_as_one(
    scored: Lab, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, nothing, settings = the_case(scored).findings_key, cast("Any", None), scored.settings
    sign(scored)
    if word == "corrected":
        seen = the_case(scored).findings_key
        assert correct(scored, "1+", seen).done
    signed = the_case(scored).findings_key
    assert "is undone, unless" in rerun(scored, ANNA, signed)
    monkeypatch.setattr(case_steps, "analyze_case", lambda *_, **__: Outcome(key=first, times=()))
    monkeypatch.setattr(case_steps, "standing", lambda *_: signed)
    found = case_steps.analyze("her2", *[nothing] * 3, "objects/1", settings, nothing)
    scored.move_case(1, CaseState.ALIGNED)

    def case_in(tx: Transaction) -> CaseRow:
        row = tx.case(1)
        assert row is not None
        return row

    def finish(tx: Transaction, now: float) -> None:
        finish_analyze(tx, nothing, case_in(tx), Done(value=found, seconds=0.0), now)
        told = "score 2+ confirmed" if word == "confirmed" else "corrected from 2+ to 1+"
        assert event_text(tx.events("case-1")[-1]) == f"aligned → scored: {told}"

    scored.do(finish)
    for state in (CaseState.WRITTEN, CaseState.DELIVERED):
        scored.move_case(1, state)
    # So it does once it was written again only, for a damaged object.
    scored.do(lambda tx, now: take_back(tx, case_in(tx), "SR", now))
    scored.move_case(1, CaseState.WRITTEN)
    with scored.ledger.transaction() as tx:
        assert (tx.scored_by("case-1"), tx.case(1).findings_key) == (word, signed)
    flip(ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(signed)) / "rasters.npz")
    assert "signed by Meyer^Anna: it takes a pathologist" in rerun(scored, BERT, signed)
    scored.do(lambda tx, now: take_back(tx, case_in(tx), "SR", now))
    none = Done(value=WrittenCase(objects_key="", notes=()), seconds=0.0)
    scored.do(lambda tx, now: finish_write(tx, nothing, case_in(tx), none, now))
    case = the_case(scored)
    assert (case.state, case.reason) == (CaseState.FAILED, "correction-damaged")


def test_the_command_says_what_a_rerun_undoes(scored: Lab) -> None:
    first, config = the_case(scored).findings_key, os.environ["TANDEM_CONFIG"]
    sign(scored)
    stale = ["rerun", "case-1", "--config", config, "--seen", first]
    assert "its result changed" in str(CliRunner().invoke(app, stale).exception)
    done = CliRunner().invoke(app, ["rerun", "case-1", "--config", config])
    assert "The result is confirmed by Meyer^Anna: this is undone" in done.output


def test_an_operator_has_what_nobody_signed_analyzed_again(scored: Lab) -> None:
    told = rerun(scored, BERT, the_case(scored).findings_key)
    assert "analyzed again" in told and "undone" not in told


def may_no_more_than_an_operator(needed: Role = Role.OPERATOR) -> bool:
    return needed == Role.OPERATOR


def test_the_form_of_a_rerun_says_what_it_undoes(
    scored: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(scored)
    page = open_case()
    press(page, "Rerun")
    assert "The result is confirmed by Meyer^Anna: this is undone" in markup(page)
    assert not any("Try again" in each.value for each in page.markdown)
    scored.move_case(1, CaseState.SCORED)
    scored.move_case(1, CaseState.FAILED)
    page = open_case()
    press(page, "Rerun")
    assert any("Try again* keeps the result" in each.value for each in page.markdown)

    monkeypatch.setattr("dashboard.views.acting.may_act", may_no_more_than_an_operator)
    (button,) = [each for each in open_case().button if each.label == "Rerun"]
    assert button.disabled and button.help is not None and "takes a pathologist" in button.help


@pytest.mark.parametrize("gone", [False, True])
def test_the_form_of_a_rerun_says_who_signed_a_result_that_cannot_be_read(
    scored: Lab, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    signed = ArtifactStore(scored.settings.artifacts_dir).path(ArtifactKey.parse(sign(scored)))
    if gone:
        shutil.rmtree(signed)
    else:
        flip(signed / "rasters.npz")
    page = open_case()
    press(page, "Rerun")
    assert "The result is signed by Meyer^Anna: this is undone" in markup(page)
    monkeypatch.setattr("dashboard.views.acting.may_act", may_no_more_than_an_operator)
    (button,) = [each for each in open_case().button if each.label == "Rerun"]
    assert button.disabled and "takes a pathologist" in (button.help or "")


def test_a_rerun_of_a_case_without_a_result_is_no_word_on_a_later_one(
    lab: Lab, findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.move_case(case_id, CaseState.FAILED)
    page = open_case()
    press(page, "Rerun")
    said: list[str] = []

    def keep(*_: object, result: str, by: Person) -> actions.Answer:
        said.append(result)
        return actions.Answer(False, "")

    with monkeypatch.context() as patched:
        patched.setattr(actions, "rerun", keep)
        for button in [button for button in page.button if button.label == "Rerun"]:
            button.click()  # that of the page, and that of the form
        page.run(timeout=180)
    assert not page.exception and said == ["none"]
    # A colleague tries again meanwhile, and somebody signs what comes of it.
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id)
    lab.deliver(case_id)
    sign(lab)
    assert "its result changed since you opened it" in rerun(lab, ANNA, *said)
    lab.move_case(case_id, CaseState.READY, findings_key="", score="")
    lab.move_case(case_id, CaseState.FAILED)
    assert "is analyzed again" in rerun(lab, ANNA, *said)
