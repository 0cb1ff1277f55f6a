"""The guard before every address: what a proxy brings, and how a case is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from dashboard.access import Access
from dashboard.guard import Guard
from dashboard.monitoring import monitoring_routes
from dashboard.sign_in import access_routes

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
        assert answer.status_code == 403 and "tandem dashboard --name" in answer.text
        assert "S26-0000001" not in answer.text
    assert client.post("/access/names", headers=ORIGIN | added).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect(SOCKET, headers=added),
    ):
        pass
    assert "by a proxy" in refused.value.reason
    assert client.get("/healthz", headers=added).status_code == 200
