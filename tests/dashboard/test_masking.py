"""Screens with hidden names: no page, answer or picture holds a name of the case."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from appliance.domain import HE, HER2
from appliance.findings.findings import Correction, Findings
from appliance.findings.reasons import Reason, ReviewReason
from appliance.ledger.heartbeat import LaneSign, Sign, boot_id, born, write_sign
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.transaction import Transaction
from appliance.operations import word
from appliance.operations.audited import Word
from appliance.operations.doctor import Examined
from appliance.operations.users import Role, User
from appliance.settings.alerts import Alerts
from appliance.settings.dashboard import Dashboard
from dashboard.access import Access
from dashboard.guard import Guard
from dashboard.masking import facts_shown, hiding
from dashboard.names import names_routes
from dashboard.queries import read_queue
from dashboard.sign_in import access_routes
from dashboard.system import Checks, read_system
from dashboard.views import system
from dashboard.worklist import SpokenCases, read_work_list

if TYPE_CHECKING:
    from conftest import Lab

ACCESSION, NAME, PATIENT = "S26-0000001", "Zweig", "PID-4711"
SECRETS = (ACCESSION, "S26-0000002", NAME, PATIENT, "19510203", ".svs", "Zw")
ORIGIN = {"origin": "http://127.0.0.1"}


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def named(lab: Lab, findings: Findings) -> Lab:
    """Return a laboratory whose ledger has names in each text that comes from elsewhere."""
    whose = f"{NAME}^Ada, {PATIENT}, 19510203"
    case_id = lab.slide(ACCESSION, HE)
    lab.slide(ACCESSION, HER2)
    lab.move_case(case_id, CaseState.READY)
    unknown = ReviewReason(
        code=Reason.ORGAN_UNKNOWN.value,
        params={"what": "organ", "word": NAME, "known": ["breast"], "default": "breast"},
    )
    said = Correction(by="Meyer^Anna", why=f"Seen with {whose}.", was="2+", corrects="")
    lab.score(case_id, replace(findings, review=(unknown,), correction=said))
    lab.write(case_id)

    def refuse(tx: Transaction, now: float) -> None:
        for row in tx.deliveries(case_id):
            row.reason = "refused"
            row.params = json.dumps({"destination": "archive", "answer": f"no {whose}"})
            tx.advance(row, DeliveryState.REFUSED, now=now)

    lab.do(refuse)
    lab.move_case(case_id, CaseState.UNDELIVERED)
    held = lab.slide("S26-0000002", HE)
    params = json.dumps({"he": whose, "ihc": f"{NAME}^Eva"})
    lab.move_case(held, CaseState.HELD, reason="patients-differ", params=params)
    lab.quarantine(f"{NAME}.svs", "sidecar", f"line 3 of {NAME}.tandem.toml")
    word.keep(lab.settings, "slide-1", Word(by="Meyer^Anna", why=f"It is {whose}."))
    return lab


def hide(lab: Lab, rule: str = "always") -> None:
    config = lab.settings.state_dir.parent / "tandem.toml"
    config.write_text(config.read_text() + f'[dashboard]\nmask = "{rule}"\n')


def shown(view: str, **query: str) -> str:
    """Return all that a page sends to the browser."""

    def page(name: str) -> None:
        from importlib import import_module

        from dashboard.views import look

        look.header()
        import_module(f"dashboard.views.{name}").render()

    run = AppTest.from_function(page, kwargs={"name": view})
    for key, value in query.items():
        run.query_params[key] = value
    run.run(timeout=180)
    assert not run.exception
    return "".join(str(element.proto) for element in run.main) + "".join(
        element.proto.body for element in run.get("html")
    )


PAGES: tuple[tuple[str, dict[str, str]], ...] = (
    ("queue", {}),
    ("worklist", {}),
    ("case", {"case": "1"}),
    ("case", {"case": "2"}),
    ("slide", {"slide": "1"}),
    ("slide", {"slide": "4"}),
    ("quality", {}),
    ("system", {}),
    ("first_run", {}),
)


def test_no_page_holds_a_name(named: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    troubled = LaneSign(doing="", since=1.0, trouble=f"/scans/{NAME}.svs is away")
    pid, now = os.getpid(), time.monotonic()
    write_sign(
        named.settings,
        Sign(
            at=1.0,
            monotonic=now,
            boot=boot_id(),
            pid=pid,
            born=born(pid),
            started=1.0,
            lanes={"networks": troubled},
        ),
    )
    checks = Checks(lambda: [Examined("orders", False, f"{PATIENT} twice")])
    checks.run()
    monkeypatch.setattr(system, "_doctor", lambda: checks)
    before = "".join(shown(view, **query) for view, query in PAGES[2:4] + PAGES[5:6])
    before += shown("system")
    assert [secret for secret in SECRETS if secret not in before] == []
    hide(named)
    st.cache_resource.clear()
    for view, query in PAGES:
        page = shown(view, **query)
        assert [secret for secret in SECRETS if secret in page] == [], view
    assert "•••• 001" in shown("queue") and "•••• 002" in shown("queue")
    assert "nothing can be done" in shown("case", case="1")


def test_a_hidden_screen_does_not_tell_what_alerts_told(lab: Lab) -> None:
    sentence = f"Tandem runs, held up in part (scan): /scans/{NAME}.svs is away"
    cause = {"kind": "site", "sentence": sentence, "since": 1.0, "gone": 0.0, "told": [],
             "ended": [], "newest": 0.0, "before": []}  # fmt: skip
    memory = {"causes": {"lane x": cause}, "event": 1, "stat": [], "sent": {}, "failed": {}}
    (lab.settings.state_dir / "alerts.json").write_text(json.dumps(memory))
    hook = Alerts.model_validate({"webhook": {"url": "https://hooks.example/x"}})
    settings = lab.settings.model_copy(update={"alerts": hook})
    reader = LedgerReader(settings.ledger_url)
    assert NAME in str(read_system(reader, settings).alerts)
    hidden = read_system(reader, hiding(settings)).alerts
    reader.close()
    assert hidden and NAME not in str(hidden)


def test_a_search_does_not_tell_an_accession_letter_by_letter(lab: Lab) -> None:
    for accession in ("S26-0000002", "S26-0000001"):
        case_id = lab.slide(accession, HER2)
        for state in (
            CaseState.READY,
            CaseState.ALIGNED,
            CaseState.SCORED,
            CaseState.WRITTEN,
            CaseState.DELIVERED,
        ):
            lab.move_case(case_id, state)
    reader, settings = LedgerReader(lab.settings.ledger_url), hiding(lab.settings)
    assert len(read_queue(reader, lab.settings, "S26-0000001").cases) == 1
    assert read_queue(reader, settings, "S26").cases == ()
    assert [case.id for case in read_queue(reader, settings, "002").cases] == [2]
    assert read_work_list(reader, settings, SpokenCases(), find="S26").total == 0
    usual = [case.id for case in read_work_list(reader, settings, SpokenCases()).cases]
    sorted_ = read_work_list(reader, settings, SpokenCases(), order="accession")
    assert [case.id for case in sorted_.cases] == usual == [1, 2]
    reader.close()


@pytest.mark.parametrize("code", [str(Reason.ORGAN_CONTRADICTED), "own_assay.code-1"])
def test_a_reason_to_look_for_is_a_code_and_no_part_of_what_was_said(lab: Lab, code: str) -> None:
    case_id = lab.slide("S26-0000001", HER2)
    for state in (CaseState.READY, CaseState.ALIGNED):
        lab.move_case(case_id, state)
    review = json.dumps([{"code": code, "params": {"said": PATIENT}}])
    lab.move_case(case_id, CaseState.SCORED, review=review)
    for state in (CaseState.WRITTEN, CaseState.DELIVERED):
        lab.move_case(case_id, state)
    reader, settings = LedgerReader(lab.settings.ledger_url), hiding(lab.settings)

    def found(reason: str) -> int:
        return read_work_list(reader, settings, SpokenCases(), reason=reason).total

    assert found(code) == 1 and found("no-tumor") == 0
    assert found(f'{code}", "params": {{"said": "{PATIENT}') == 0
    assert found(f'{code}", "params') == 0
    reader.close()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"why": NAME, "stain": "HER2"}, {"why": "••••", "stain": "HER2"}),
        ({"slide": "slide-3", "count": 2}, {"slide": "slide-3", "count": 2}),
        ({"slides": [f"{NAME}.svs", "slide-3"]}, {"slides": ["••••", "slide-3"]}),
        ({"detail": {NAME: NAME}}, {"detail": {"••••": "••••"}}),
        (
            {"by": {"kind": "case", "code": "told", "params": {"text": NAME}}},
            {"by": {"kind": "case", "code": "told", "params": {"text": "••••"}}},
        ),
    ],
)
def test_a_text_is_hidden_unless_its_kind_is_known(
    params: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert facts_shown(params, hidden=True) == expected
    assert facts_shown(params, hidden=False) == params


def client_of(access: Access) -> TestClient:
    def report(_request: object) -> PlainTextResponse:
        return PlainTextResponse(ACCESSION)

    routes = [
        *access_routes(access),
        *names_routes(access),
        Route("/reports/1.pdf", report),
        Route("/reports/1.png", report),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, access=access)])
    return TestClient(app, "http://127.0.0.1", follow_redirects=False)


def test_a_browser_hides_names_until_somebody_shows_them_there(lab: Lab) -> None:
    client = client_of(Access(lab.settings, required=False))
    assert client.get("/reports/1.pdf").text == ACCESSION
    assert "Hide names" in client.get("/access/names").text
    assert client.post("/access/names", headers={"origin": "http://x.example"}).status_code == 403
    assert client.post("/access/names", headers=ORIGIN).status_code == 303
    (cookie,) = client.cookies.jar
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.expires is not None
    for address in ("/reports/1.pdf", "/reports/1.png"):
        answer = client.get(address)
        assert answer.status_code == 403 and ACCESSION not in answer.text
    assert client.get("/access/access.css").status_code == 200
    # A look at the page, as a foreign page may cause one, shows nothing again.
    assert "Show names" in client.get("/access/names").text
    assert client.get("/reports/1.pdf").status_code == 403
    client.post("/access/names", headers=ORIGIN)
    assert client.get("/reports/1.pdf").status_code == 200


@pytest.mark.parametrize(
    ("rule", "hidden"), [("by-hand", []), ("viewers", ["v"]), ("always", ["v", "p"])]
)
def test_the_settings_hide_names_of_all_or_of_viewers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, rule: str, hidden: list[str]
) -> None:
    ruled = lab.settings.model_copy(update={"dashboard": Dashboard.model_validate({"mask": rule})})
    access = Access(ruled, required=True)
    people = {"v": Role.VIEWER, "p": Role.PATHOLOGIST}
    users = {
        name: User(name=name, role=role, person=name, password="-")  # noqa: S106
        for name, role in people.items()
    }
    monkeypatch.setattr(access, "user", lambda token, active=False: users.get(token))
    client = client_of(access)
    for name in people:
        client.cookies.set("tandem_session", name)
        status = client.get("/reports/1.pdf").status_code
        assert (status == 403) is (name in hidden)
        page = client.get("/access/names").text
        assert ("The settings hide them here" in page) is (name in hidden)
        client.post("/access/names", headers=ORIGIN)  # where the settings rule, it does nothing
        if name in hidden:
            assert client.get("/reports/1.pdf").status_code == 403
        client.cookies.delete("tandem_names_hidden")
    client.cookies.delete("tandem_session")
    assert client.get("/reports/1.pdf").status_code == 401
    assert Access(ruled, required=False).hides("", chosen=False) is (rule == "always")
