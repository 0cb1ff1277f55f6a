"""The system page: what the daemon says, destinations, checks on request, a destination asked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.domain import HE, HER2
from appliance.findings.findings import Findings
from appliance.ledger.heartbeat import LaneSign, write_sign
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.transaction import Transaction
from appliance.operations.doctor import Examined
from appliance.operations.users import Role
from appliance.readers.device import DeviceSign, write_device
from appliance.readers.site_calibrations import calibration_path
from dashboard import actions
from dashboard import system as facts
from dashboard.actions import Person
from dashboard.system import read_system
from models.spec import Task, read_manifest, reference_folder

if TYPE_CHECKING:
    from conftest import Lab

ADMIN = Person("Meyer^Anna", Role.ADMIN)


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    """Clear the caches, which are per server; each test is a server of its own."""
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def system_page() -> None:
    from dashboard.views import system

    system.render()


def markup(page: AppTest) -> str:
    assert not page.exception
    return "".join(element.proto.body for element in page.get("html"))


def test_lanes_destinations_and_readers_are_told(lab: Lab, findings: Findings) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id, ("folder",))

    def refuse(tx: Transaction, now: float) -> None:
        first, second, third = tx.deliveries(case_id)
        tx.advance(first, DeliveryState.SENT, now=now)
        tx.advance(first, DeliveryState.PROVEN, now=now)
        second.reason, second.params = "failed", '{"message": "no answer"}'
        tx.advance(third, DeliveryState.REFUSED, now=now)

    settings = lab.settings
    (name,) = [section.name for section in settings.destinations]
    lab.do(lambda tx, now: [setattr(row, "destination", name) for row in tx.deliveries(case_id)])
    lab.do(refuse)
    working = lab.sign(gpu=LaneSign(doing="analyze case-1", since=time.time()))
    gpu = DeviceSign(
        name="Some GPU", runtime="torch 2", memory=80 * 2**30, used=2**30, at=time.time()
    )
    write_device(settings, gpu)
    reader = LedgerReader(settings.ledger_url)
    found = read_system(reader, settings)
    reader.close()
    assert found.lanes["gpu"].doing == "analyze case-1"
    (place,) = found.places
    assert place.objects[DeliveryState.QUEUED] == place.objects[DeliveryState.REFUSED] == 1
    assert place.proven_at > 0 and place.held is not None and place.held.objects == 1
    assert "tumor" in {each.name for each in found.readers}
    assert all("sha256" in each.weights for each in found.readers if each.name == "tumor")
    machine = found.machine
    assert machine.memory_size > machine.memory_free > 0
    assert machine.disk_size > machine.disk_free > 0 and machine.device == gpu
    assert machine.busy is not None and 0 <= machine.busy <= 1
    page = markup(AppTest.from_function(system_page).run(timeout=180))
    assert "analyze case-1" in page and "GiB free" in page and "none yet" in page
    assert "% busy" in page and "Some GPU, 1.0 of 80.0 GiB in use" in page
    write_sign(settings, replace(working, ended="it received SIGTERM."))
    st.cache_resource.clear()
    page = markup(AppTest.from_function(system_page).run(timeout=180))
    assert "analyze case-1" not in page and "The appliance does not run." in page


def test_a_damaged_calibration_is_told_where_the_weights_are(lab: Lab) -> None:
    lab.slide("S26-0000001", HE)
    spec = read_manifest(reference_folder(Task.TUMOR))
    path = calibration_path(spec, lab.settings)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    reader = LedgerReader(lab.settings.ledger_url)
    found = {each.name: each.weights for each in read_system(reader, lab.settings).readers}
    reader.close()
    assert found["tumor"].startswith(f"{path}: not a usable calibration")
    assert "sha256" in found["intensity"]


def test_a_destination_that_cannot_be_reached_is_told_before_what_it_cannot_say(
    lab: Lab, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id, ("folder",))
    (name,) = [section.name for section in lab.settings.destinations]

    def fail(tx: Transaction, now: float) -> None:
        for row in tx.deliveries(case_id):
            row.destination = name
        first, second, _ = tx.deliveries(case_id)
        tx.advance(first, DeliveryState.SENT, now=now)
        tx.advance(first, DeliveryState.UNPROVEN, now=now)
        first.reason, first.params = "cannot-say", '{"answer": "it cannot say"}'
        second.reason, second.params = "away", '{"message": "no route to it"}'

    lab.do(fail)
    page = markup(AppTest.from_function(system_page).run(timeout=180))
    assert "no route to it" in page


def test_checks_run_when_somebody_asks_and_are_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.slide("S26-0000001", HE)
    runs: list[float] = []

    def examine(_config: object) -> list[Examined]:
        runs.append(time.time())
        return [Examined("scanner's folder", False, "it is <away>")]

    monkeypatch.setattr(facts, "examine", examine)
    monkeypatch.setattr("dashboard.views.acting.may_act", lambda *_: True)
    page = AppTest.from_function(system_page).run(timeout=180)
    assert not runs and "Nobody ran them" in markup(page)
    page.button[1].click().run(timeout=180)
    assert "it is &lt;away&gt;" in markup(page) and len(runs) == 1
    page.button[2].click().run(timeout=180)
    assert "events fit together" in markup(page)
    # Another session sees both.
    other = markup(AppTest.from_function(system_page).run(timeout=180))
    assert "&lt;away&gt;" in other and "events fit together" in other and len(runs) == 1


def test_an_admin_asks_a_destination_and_it_is_kept(lab: Lab) -> None:
    lab.slide("S26-0000001", HE)
    (name,) = [section.name for section in lab.settings.destinations]
    operator = Person("Ito^Bert", Role.OPERATOR)
    refused = actions.test_destination(lab.settings, name, by=operator)
    assert not refused.done and "needs admin" in refused.text
    assert actions.test_destination(lab.settings, name, by=ADMIN).done
    missing = actions.test_destination(lab.settings, "elsewhere", by=ADMIN)
    assert not missing.done and "no destination 'elsewhere'" in missing.text
    with lab.ledger.transaction() as tx:
        kept = [
            (event.by, event.params)
            for event in tx.events("dashboard")
            if event.code == "destination-tested"
        ]
    assert [by for by, _ in kept] == [ADMIN.name] * 2
    assert "it answers" in kept[0][1] and "it does not answer" in kept[1][1]


def first_run_page() -> None:
    from dashboard.views import first_run

    first_run.render()


def test_the_first_run_ends_with_settings_and_is_for_admins(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = AppTest.from_function(first_run_page).run(timeout=180)
    assert "needs the role admin" in markup(page) and not page.button
    monkeypatch.setattr("dashboard.views.acting.may_act", lambda *_: True)
    lab.settings.watch.folder.mkdir()
    (lab.settings.watch.folder / "S26-0000001_A1_HER2.svs").touch()
    page = AppTest.from_function(first_run_page).run(timeout=180)
    page.button[0].click().run(timeout=180)
    assert "S26-0000001" in markup(page) and "can be read there: 1." in markup(page)
    page.text_input(key="pacs-host").input("127.0.0.1")
    page.text_input(key="pacs-called").input("PACS")
    page.number_input(key="pacs-port").set_value(1)
    page.text_input[-3].input(ADMIN.name)
    page.button[1].click().run(timeout=180)
    assert "127.0.0.1" in markup(page) and "refused" in markup(page)
    page.checkbox[0].check().run(timeout=180)
    assert 'called_aet = "PACS"' in page.code[1].value
    with lab.ledger.transaction() as tx:
        (event,) = [e for e in tx.events("dashboard") if e.code == "destination-tested"]
    assert event.by == ADMIN.name and "does not answer" in event.params


def test_one_pair_goes_first_by_a_person_and_is_shown_until_it_is_delivered(
    lab: Lab, findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.views.acting.may_act", lambda *_: True)
    lab.slide("S26-0000009", HE)
    lab.quarantine("R03-S07.svs", "no-accession")
    page = AppTest.from_function(first_run_page).run(timeout=180)
    assert any("tandem synth" in each.value for each in page.markdown)  # no daemon: it says how
    lab.sign()
    page.run(timeout=180)
    assert [box.value for box in page.selectbox] == [None, None]
    page.button[-1].click().run(timeout=180)
    assert "Choose both slides" in markup(page)
    for box, slide in zip(page.selectbox, ("slide-1", "slide-2"), strict=True):
        box.select(next(text for text in box.options if slide in text))
    page.button[-1].click().run(timeout=180)
    assert "--by" not in markup(page) and "Your name: say who says so" in markup(page)
    page.text_input[-1].input(ADMIN.name)
    page.button[-1].click().run(timeout=180)
    assert dict(page.query_params) == {"he": "1", "other": "2"} and "not one case" in markup(page)
    assert all(slide.stat for slide in lab.rows()[0])
    with lab.ledger.transaction() as tx:
        (word,) = [event for event in tx.events("slide-2") if event.code == "word-pair"]
    assert word.by == ADMIN.name and "First run" in word.params
    # The daemon does what was said.
    case_id = lab.identify_again(2, "S26-0000009", HER2)
    lab.move_case(case_id, CaseState.READY)
    page.run(timeout=180)
    assert "Scoring" in markup(page) and "These settings work" not in markup(page)
    lab.score(case_id, findings)
    lab.write(case_id)
    lab.deliver(case_id)
    page.run(timeout=180)
    assert "These settings work" in markup(page) and f"case?case={case_id}" in markup(page)
    # Slides that are one case already are not paired again.
    said = actions.try_pair(lab.settings, "slide-1", "slide-2", by=ADMIN)
    assert said.done and "before all others" in said.text
    with lab.ledger.transaction() as tx:
        assert len([e for e in tx.events("slide-2") if e.code == "word-pair"]) == 1
    viewer = Person("v", Role.VIEWER)
    assert not actions.try_pair(lab.settings, "slide-1", "slide-2", by=viewer).done


def test_slides_of_two_patients_are_no_pair_of_the_first_run(lab: Lab) -> None:
    lab.slide("S26-0000009", HE)
    lab.slide("S26-0000008", HER2)
    lab.slide("S26-0000009", HER2, block="B2")
    before = lab.rows()
    for other in ("slide-2", "slide-3"):
        said = actions.try_pair(lab.settings, "slide-1", other, by=ADMIN)
        assert not said.done and "on the slide's page" in said.text
    assert lab.rows() == before


def test_the_first_run_pairs_no_slide_whose_name_is_not_read_and_no_other_file(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.views.acting.may_act", lambda *_: True)
    lab.slide("S26-0000009", HE)
    number = lab.arrive("S26-0000077_A1_HER2.svs")
    lab.move_slide(number, SlideState.ARRIVED)
    lab.sign()
    page = AppTest.from_function(first_run_page).run(timeout=180)

    def press() -> str:
        for box, slide in zip(page.selectbox, ("slide-1", "slide-2"), strict=True):
            box.select(next(text for text in box.options if slide in text))
        page.text_input[-1].input(ADMIN.name)
        page.button[-1].click().run(timeout=180)
        return markup(page)

    assert "slide-2 is not identified yet" in press()
    lab.move_slide(number, SlideState.QUARANTINED, reason="no-accession")
    page.run(timeout=180)
    lab.move_slide(number, SlideState.ARRIVED)
    lab.move_slide(number, SlideState.QUARANTINED, reason="no-accession", size_bytes=7)
    before = lab.rows()
    assert "slide-2: its file, its name or its state changed since you opened it" in press()
    assert lab.rows() == before
    press()
    assert dict(page.query_params) == {"he": "1", "other": "2"}


def test_who_wants_a_block_first_stands_beside_the_event(lab: Lab) -> None:
    lab.slide("S26-0000009", HE)
    lab.slide("S26-0000009", HER2)

    def people() -> list[tuple[str, str]]:
        with lab.ledger.transaction() as tx:
            found = tx.events("slide-1") + tx.events("slide-2")
        return [(each.code, each.by) for each in found if each.code.startswith("stat")]

    for times in (1, 2):  # a second word changes nothing, and is one
        assert actions.try_pair(lab.settings, "slide-1", "slide-2", by=ADMIN).done
        assert people() == [("stat", ADMIN.name)] * 2 * times
    given = ["stat", "slide-1", "--off", "--config", os.environ["TANDEM_CONFIG"]]
    CliRunner().invoke(app, [*given, "--by", "Ito^Bert"])
    assert people().count(("stat-off", "Ito^Bert")) == 2
    refused = CliRunner().invoke(app, [*given, "--by", "torn \x0b"])
    assert "--by: say who wants it" in str(refused.exception)
