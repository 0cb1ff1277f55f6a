"""The guard before every address: what a proxy brings, and how a case is named."""

from __future__ import annotations

from errno import ENOSPC
from typing import TYPE_CHECKING

import pytest
from fixtures.dashboard import dashboard_server, open_browser
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from appliance.domain import HE, HER2
from appliance.operations.users import Users
from appliance.settings.settings import Settings
from dashboard import actions
from dashboard.access import Access
from dashboard.guard import Guard
from dashboard.monitoring import monitoring_routes
from dashboard.reports import report_routes
from dashboard.sessions import RETRY_S
from dashboard.sign_in import access_routes
from dashboard.zoom.routes import zoom_routes

SECRET = "several words are good"  # noqa: S105  of a made user

if TYPE_CHECKING:
    from conftest import Lab

SOCKET = "ws://127.0.0.1/_stcore/stream"
ORIGIN = {"origin": "http://127.0.0.1"}


async def accept(socket: WebSocket) -> None:
    await socket.accept()


async def page(_request: object) -> HTMLResponse:
    return HTMLResponse("<html><head></head><body>S26-0000001</body></html>")


@pytest.mark.parametrize(
    "added",
    [{"x-forwarded-for": "10.0.0.9"}, {"X-Forwarded-Proto": "https"}, {"X-Forwarded-Host": "a.b"},
     {"X-Real-IP": "10.0.0.9"}, {"Forwarded": "for=10.0.0.9"}, {"Via": "1.1 proxy"}],
)  # fmt: skip
def test_what_a_proxy_brings_is_refused_where_nobody_signs_in(
    lab: Lab, added: dict[str, str]
) -> None:
    """A proxy asks by the address of this machine: nginx by default, Apache always."""
    access = Access(lab.settings, required=False)
    routes = [
        *access_routes(access),
        *monitoring_routes(lab.settings),
        WebSocketRoute("/_stcore/stream", accept),
        Route("/reports/1.pdf", page),
        Route("/", page),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, access=access)])
    client = TestClient(app, "http://127.0.0.1", follow_redirects=False)
    for address in ("/", "/reports/1.pdf"):
        assert client.get(address).status_code == 200
        answer = client.get(address, headers=added)
        assert answer.status_code == 403 and "dashboard.names" in answer.text
        assert "S26-0000001" not in answer.text
    assert client.post("/access/names", headers=ORIGIN | added).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect(SOCKET, headers=added),
    ):
        pass
    assert "by a proxy" in refused.value.reason
    assert client.get("/healthz", headers=added).status_code == 200


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def signed_in(lab: Lab, clock: Clock | None = None) -> TestClient:
    """A browser in which a viewer signed in; there is one case."""
    for stain in (HE, HER2):
        lab.slide("S26-0000001", stain)
    Users(lab.settings).add("v", "viewer", "Viewer^Vera", SECRET)
    access = Access(lab.settings, required=True, clock=clock or Clock())
    routes = [
        *access_routes(access),
        *zoom_routes(lab.settings),
        *report_routes(lab.settings),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, access=access)])
    client = TestClient(app, "http://127.0.0.1", follow_redirects=False)
    answer = client.post("/access/in", data={"name": "v", "password": SECRET}, headers=ORIGIN)
    assert answer.status_code == 303
    return client


def openings(lab: Lab) -> list[str]:
    with lab.ledger.transaction() as tx:
        return [event.params for event in tx.events("dashboard") if event.code == "case-opened"]


@pytest.mark.parametrize(
    "address", [f"/reports/{1:019}.pdf", f"/zoom/{1:019}", f"/zoom/{1:040}/case.json"]
)
def test_a_case_is_recorded_as_opened_however_its_number_is_written(lab: Lab, address: str) -> None:
    client = signed_in(lab)
    client.get(address)
    assert openings(lab) == ['{"case": "case-1"}']


def test_an_opening_that_could_not_be_kept_is_kept_by_the_next_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    client = signed_in(lab, clock)

    def full(_settings: Settings) -> None:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(actions, "service", full)
        for _ in range(3):
            client.get("/zoom/1")
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [
        "The record lacks 'case-opened of case-1' by v: "
        "It could not be written: No space left on device."
    ]
    assert openings(lab) == []
    clock.now += RETRY_S
    client.get("/zoom/1")
    client.get("/reports/1.pdf")
    assert openings(lab) == ['{"case": "case-1"}']


def test_who_asks_for_a_case_before_it_exists_is_recorded_when_it_does(lab: Lab) -> None:
    clock = Clock()
    client = signed_in(lab, clock)
    assert client.get("/zoom/2/case.json").status_code == 404
    for stain in (HE, HER2):
        lab.slide("S26-0000002", stain)
    clock.now += RETRY_S
    client.get("/zoom/2")
    assert openings(lab) == ['{"case": "case-2"}']


@pytest.mark.parametrize("login", ["beyond", "always"])
def test_what_was_looked_for_is_in_no_referer_and_forms_name_their_page(
    twin_lab: Lab, login: str
) -> None:
    folder = twin_lab.settings.state_dir.parent
    config = folder / "referer.toml"
    config.write_text((folder / "tandem.toml").read_text() + f'[dashboard]\nlogin = "{login}"\n')
    users, asked = Users(twin_lab.settings), []
    users.add("v", "viewer", "Viewer^Vera", SECRET)
    try:
        with dashboard_server(config, folder / "log") as address, open_browser() as browser:
            shown = browser.new_page(base_url=address)
            shown.on("request", lambda each: asked.append(each))
            shown.goto("/worklist?find=S26-0000001")
            if login == "always":
                shown.get_by_label("Name").fill("v")
                shown.get_by_label("Password").fill(SECRET)
                shown.get_by_role("button", name="Sign in").click()  # a POST, by its Origin
            expect(shown.get_by_role("textbox", name="Find")).to_have_value("S26-0000001")
            told = {each.headers.get("referer", "") for each in asked}
    finally:
        users.file.unlink()
    assert told == {"", f"{address}/"}
