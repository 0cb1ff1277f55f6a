"""Access to the dashboard: sessions, the guard before every address, roles, and the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher
from fixtures.dashboard import dashboard_server, open_browser
from fixtures.judges import require_viewer
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.proto.BackMsg_pb2 import BackMsg

from appliance.domain import HE, HER2
from appliance.findings.findings import Findings
from appliance.ledger.ledger import Ledger
from appliance.ledger.tables import EventRow
from appliance.operations import users as users_module
from appliance.operations.users import Role, Users
from appliance.settings.dashboard import Dashboard
from appliance.settings.settings import Settings
from dashboard import actions
from dashboard.access import Access
from dashboard.actions import Person
from dashboard.guard import Guard, needs_login
from dashboard.monitoring import monitoring_routes
from dashboard.reports import report_routes
from dashboard.serve import serve
from dashboard.sign_in import access_routes
from dashboard.zoom.routes import zoom_routes

if TYPE_CHECKING:
    from conftest import Lab

SECRET = "several words are good"  # noqa: S105  of made users
SOCKET = "ws://127.0.0.1/_stcore/stream"
ORIGIN = {"origin": "http://127.0.0.1"}
PICTURES = (
    "/tiles/1/0/0_0.jpg",
    "/overlays/1/he/tumor/0/0_0.png",
    "/reports/1.pdf",
    "/reports/1.png",
    "/zoom/1",
    "/zoom/1/case.json",
    "/zoom/1/he.png",
    "/zoom-files/zoom.js",
    "/media/0123.png",
    "/static/js/index.js",
    "/_stcore/host-config",
    "/_stcore/stream",
    "/queue",
    "/first-run",
    "/nothing",
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hash of a password cost little; its kind stays."""
    monkeypatch.setattr(users_module, "_HASHER", PasswordHasher(1, 64, 1))
    users_module._nobody.cache_clear()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await socket.send_bytes(await socket.receive_bytes())


async def page(_request: object) -> HTMLResponse:
    return HTMLResponse("<html><head></head><body>S26-0000001</body></html>")


@pytest.fixture
def client(lab: Lab, cheap: None, clock: Clock) -> TestClient:
    settings = lab.settings
    users = Users(settings)
    users.add("v", "viewer", "Viewer^Vera", SECRET)
    users.add("p", "pathologist", "Meyer^Anna", SECRET)
    access = Access(settings, required=True, clock=clock)
    routes = [
        *zoom_routes(settings),
        *report_routes(settings),
        *monitoring_routes(settings),
        *access_routes(access),
        WebSocketRoute("/_stcore/stream", echo),
        Route("/", page),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, access=access)])
    return TestClient(app, "http://127.0.0.1", follow_redirects=False)


def sign_in(client: TestClient, name: str = "v", password: str = SECRET, to: str = "/") -> int:
    form = {"name": name, "password": password}
    return client.post("/access/in", params={"to": to}, data=form, headers=ORIGIN).status_code


def events(settings: Settings) -> list[EventRow]:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        found = list(tx.events("dashboard"))
    ledger.close()
    return found


def refresh(*, auto: bool) -> bytes:
    message = BackMsg()
    message.rerun_script.is_auto_rerun = auto
    return bytes(message.SerializeToString())


def test_logged_out_nothing_is_had_by_address(client: TestClient) -> None:
    for address in PICTURES:
        answer = client.get(address)
        assert (answer.status_code, answer.text) == (401, "Sign in to the dashboard first.")
        assert client.head(address).status_code == 401
    answer = client.get("/case?case=3", headers={"accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/access/in?to=%2Fcase%3Fcase%3D3"
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect(SOCKET),
    ):
        pass
    assert refused.value.reason == "Sign in to the dashboard first."
    client.cookies.set("tandem_session", "made-up")
    assert client.get("/zoom/1").status_code == 401
    assert client.get("/healthz").status_code == client.get("/metrics").status_code == 200


def test_signing_in_opens_and_signing_out_closes(client: TestClient, lab: Lab) -> None:
    for stain in (HE, HER2):
        lab.slide("S26-0000001", stain)
    assert sign_in(client, to="//evil.example/") == 303
    (cookie,) = client.cookies.jar
    assert cookie.has_nonstandard_attr("HttpOnly") and not cookie.secure
    assert client.get("/zoom/1").status_code == 200
    client.get("/zoom/999")  # there is no such case, and no event of it
    assert client.get("/tiles/1/0/0_0.jpg").status_code == 404  # let through: no such slide
    shown = client.get("/", headers={"accept": "text/html"})
    assert (
        "watch.js" in shown.text and "frame-ancestors" in shown.headers["content-security-policy"]
    )
    stolen = client.cookies["tandem_session"]
    assert client.post("/access/out", headers=ORIGIN).status_code == 303
    client.cookies.set("tandem_session", stolen)
    assert client.get("/zoom/1").status_code == client.get("/access/alive").status_code == 401
    told = [(event.code, event.by) for event in events(lab.settings)]
    who = "Viewer^Vera"
    assert told == [("signed-in", who), ("case-opened", who), ("signed-out", who)]


def test_signing_in_ends_the_session_that_the_browser_had(client: TestClient, lab: Lab) -> None:
    sign_in(client, "p")
    former = client.cookies["tandem_session"]
    name = client.get("/access/alive").text
    assert "Signed in: Meyer^Anna (pathologist)" in client.get("/access/in").text
    with client.websocket_connect(SOCKET) as socket:  # of another tab
        assert sign_in(client, "v", "not this one") == 401
        socket.send_bytes(refresh(auto=False))
        assert socket.receive_bytes()
        assert sign_in(client, "v") == 303
        socket.send_bytes(refresh(auto=False))
        with pytest.raises(WebSocketDisconnect):
            socket.receive_bytes()
    assert client.get("/access/alive").text not in ("", name)  # by this that tab is drawn anew
    client.cookies.clear()
    assert "Signed in" not in client.get("/access/in").text
    client.cookies.set("tandem_session", former)
    assert client.get("/access/alive").status_code == 401
    told = [(each.code, each.by) for each in events(lab.settings)]
    assert told[0] == ("signed-in", "Meyer^Anna") and told[-1] == ("signed-out", "Meyer^Anna")


def test_a_session_leads_only_to_addresses_of_this_server(client: TestClient) -> None:
    form = {"name": "v", "password": SECRET}
    for to, lands in {
        "/case?case=3": "/case?case=3",
        "//evil.example": "/",
        "https://evil.example": "/",
        "/\\evil.example": "/",
        "/access/out": "/",
    }.items():
        answer = client.post(
            "/access/in",
            params={"to": to},
            data=form,
            headers=ORIGIN | {"x-forwarded-proto": "https"},
        )
        assert answer.headers["location"] == lands
        assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("auto", [True, False])
def test_a_session_ends_when_nobody_does_anything(
    client: TestClient, clock: Clock, auto: bool
) -> None:
    sign_in(client)
    with client.websocket_connect(SOCKET) as socket:
        for _ in range(3):
            clock.now += 20 * 60
            socket.send_bytes(refresh(auto=auto))
            if auto and clock.now > 1000 + 30 * 60:
                with pytest.raises(WebSocketDisconnect):
                    socket.receive_bytes()
                break
            assert socket.receive_bytes()
    assert client.get("/zoom/1").status_code == (401 if auto else 200)


def test_a_session_ends_after_its_longest_life_however_busy(
    client: TestClient, clock: Clock
) -> None:
    sign_in(client)
    for _ in range(12 * 3 - 1):
        clock.now += 20 * 60
        assert client.get("/zoom/1").status_code == 200
    clock.now += 20 * 60
    assert client.get("/zoom/1").status_code == 401


@pytest.mark.parametrize(
    "change",
    [lambda users: users.remove("v"), lambda users: users.set_password("v", "other words 12345")],
)
def test_a_session_ends_with_its_user_or_password(
    client: TestClient, lab: Lab, change: Callable[[Users], None]
) -> None:
    sign_in(client)
    assert client.get("/zoom/1").status_code == 200
    change(Users(lab.settings))
    assert client.get("/zoom/1").status_code == 401


def test_failed_tries_wait_longer_and_tell_nothing(
    client: TestClient, clock: Clock, lab: Lab
) -> None:
    form = {"name": "v", "password": "not this one"}
    first = client.post("/access/in", data=form, headers=ORIGIN)
    other = client.post("/access/in", data=form | {"name": "hunter2"}, headers=ORIGIN)
    assert (first.status_code, first.text) == (other.status_code, other.text)
    assert first.status_code == 401 and "Name or password is wrong." in first.text
    assert sign_in(client, password="no") == 401  # noqa: S106
    waits = []
    for _ in range(4):
        late = client.post("/access/in", data=form, headers=ORIGIN)
        assert late.status_code == 429
        # The right password is not looked at either.
        assert sign_in(client) == 429
        waits.append(int(late.headers["retry-after"]))
        clock.now += waits[-1]
        assert sign_in(client, password="no") == 401  # noqa: S106
    assert waits == [1, 2, 4, 8]
    clock.now += 16
    assert sign_in(client) == 303
    told = " ".join(f"{event.code} {event.params}" for event in events(lab.settings))
    assert "sign-in-failed" in told
    assert "hunter2" not in told and "not this one" not in told and SECRET not in told


def test_a_foreign_page_can_neither_post_nor_open_a_socket(client: TestClient) -> None:
    form = {"name": "v", "password": SECRET}
    for headers in ({}, {"origin": "null"}, {"origin": "http://evil.example"}):
        assert client.post("/access/in", data=form, headers=headers).status_code == 403
    sign_in(client)
    for origin in ("http://evil.example", "http://127.0.0.1:9999", "null"):
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(SOCKET, headers={"origin": origin}),
        ):
            pass
    with client.websocket_connect(SOCKET, headers=ORIGIN) as socket:
        socket.send_bytes(refresh(auto=False))
        assert socket.receive_bytes()
    assert client.get("/zoom/1", headers={"host": "evil.example"}).status_code == 403


def test_a_role_is_checked_where_the_action_is_done(lab: Lab, findings: Findings) -> None:
    case = lab.slide("S26-0000001", "HE")
    subject, settings = f"case-{case}", lab.settings
    viewer, operator = Person("v", Role.VIEWER), Person("o", Role.OPERATOR)
    why = "So."
    refused = [
        actions.confirm(settings, subject, seen="2+", result="", by=operator),
        actions.correct(settings, subject, "1+", standing="2+", result="", by=operator, why=why),
        actions.cannot_score(settings, subject, result="", by=operator, why=why),
        actions.rerun(settings, subject, by=viewer),
        actions.retry(settings, subject, by=viewer, why=why),
        actions.keep(settings, "slide-1", by=viewer, why=why),
        actions.let_go_on(settings, subject, held="", by=viewer, why=why),
        actions.exclude(settings, "slide-1", by=viewer, why=why),
        actions.pair(settings, "slide-1", "slide-1", by=viewer, why=why),
        actions.name_slide(
            settings, "slide-1", accession="X", block="", stain="", by=viewer, why=why
        ),
    ]
    assert [answer.done for answer in refused] == [False] * len(refused)
    assert all("Your role is" in answer.text for answer in refused)
    assert actions.exclude(settings, "slide-1", by=operator, why=why).done


def test_a_login_is_needed_beyond_this_machine_and_no_server_starts_without_a_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TANDEM_DASHBOARD_NAMES", raising=False)
    settings = Settings()
    assert needs_login(settings, "0.0.0.0") and not needs_login(settings, "127.0.0.1")  # noqa: S104
    always = settings.model_copy(update={"dashboard": Dashboard(login="always")})
    assert needs_login(always, "127.0.0.1")
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    assert serve(config, 8501, "0.0.0.0") == 2  # noqa: S104
    assert "tandem users add NAME --role admin" in capsys.readouterr().err


# in a browser


@pytest.fixture
def browser_page(twin_lab: Lab) -> Iterator[Page]:
    """Yield a page of a server where people sign in; users are removed afterwards."""
    folder = twin_lab.settings.state_dir.parent
    config = folder / "login.toml"
    config.write_text((folder / "tandem.toml").read_text() + '[dashboard]\nlogin = "always"\n')
    users = Users(twin_lab.settings)
    users.add("vera", "viewer", "Viewer^Vera", SECRET)
    users.add("anna", "pathologist", "Meyer^Anna", SECRET)
    try:
        with dashboard_server(config, folder / "login.log") as address, open_browser() as browser:
            size = {"width": 1280, "height": 720}
            opened = browser.new_context(viewport=size, base_url=address).new_page()
            yield opened
    finally:
        users.file.unlink()


def enter(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(SECRET)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.judge
def test_people_sign_in_act_by_their_role_and_leave(browser_page: Page, twin_lab: Lab) -> None:
    page, refused = browser_page, []
    page.on(
        "console",
        lambda said: refused.append(said.text) if "Content Security" in said.text else None,
    )
    number = twin_lab.quarantine("locked.svs", "unknown-stain")
    page.goto("/case?case=1")
    expect(page.get_by_role("heading", name="Tandem")).to_be_visible()
    assert "S26-0000001" not in page.content()
    page.evaluate(f"{(require_viewer() / 'js' / 'axe.min.js').read_text()}; 0")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    enter(page, "vera")
    # A viewer sees each page, and has no button.
    expect(page.get_by_text("Your role, viewer, sees")).to_be_visible()
    assert page.url.endswith("/case?case=1")
    expect(page.locator(".td-line")).to_contain_text("S26-0000001")
    expect(page.get_by_role("button", name="Confirm", exact=True)).to_have_count(0)
    for address in ("/", "/worklist", "/system", "/first-run", f"/slide?slide={number}"):
        page.goto(address)
        expect(page.get_by_text("a pathologist decides.")).to_be_visible()
    expect(page.get_by_text("Your role, viewer, sees")).to_be_visible()
    page.get_by_role("link", name="Viewer^Vera: sign out").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert page.request.get("/tiles/1/0/0_0.jpg", timeout=180_000).status == 401
    # A pathologist acts, under the name of the users' file.
    page.goto(f"/slide?slide={number}")
    enter(page, "anna")
    page.get_by_role("tab", name="Leave out, try again, keep").click()
    page.get_by_text("Leave out of every case", exact=True).click()
    panel = page.get_by_role("tabpanel")
    expect(panel.get_by_role("textbox", name="Your name")).to_have_count(0)
    panel.get_by_role("textbox", name="Reason").fill("A control.")
    panel.get_by_role("button", name="Do it").click()
    expect(page.locator(".td-said:not(.refused)")).to_contain_text(f"slide-{number}")
    with twin_lab.ledger.transaction() as tx:
        (event,) = [e for e in tx.events(f"slide-{number}") if e.code == "word-exclude"]
        opened = [e.by for e in tx.events("dashboard") if e.code == "case-opened"]
    assert event.by == "Meyer^Anna" and opened == ["Viewer^Vera"]
    page.goto("/case?case=1")
    expect(page.get_by_role("button", name="Correct", exact=True)).to_be_visible()
    assert refused == []
    # The screen is left when the session ends; the page to sign in is shown in no frame of it.
    Users(twin_lab.settings).remove("anna")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert "S26-0000001" not in page.content()


def test_a_page_goes_on_as_who_signs_in_beside(browser_page: Page) -> None:
    page, beside = browser_page, browser_page.context.new_page()
    page.goto("/worklist")
    enter(page, "anna")
    expect(page.get_by_role("link", name="Meyer^Anna: sign out")).to_be_visible()
    beside.goto("/access/in")
    expect(beside.get_by_text("Signing in ends that session")).to_be_visible()
    enter(beside, "vera")
    expect(page.get_by_role("link", name="Viewer^Vera: sign out")).to_be_visible()
