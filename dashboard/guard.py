"""The one guard before pages, tiles and downloads: it sees each request before anything else.

A request whose host is a name that is not this machine's is refused: a foreign page could point a
name of its own at this machine, read what is served and act (DNS rebinding). A site that reaches
the server by another name, through a proxy, states it. There is no login yet, so actions are
offered only where the server is reached from this machine alone.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketClose

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
}
"""Headers of every answer."""
NAMES = "TANDEM_DASHBOARD_NAMES"
"""Variable of the environment with the names that a site gives the server, with commas between."""
_REFUSED = 1008
"""Code of a WebSocket that is closed because of a rule (RFC 6455, 7.4.1)."""


class Guard:
    """Middleware of the whole application: pages, their WebSocket, media, tiles and downloads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or let it through and add `HEADERS` to its answer."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif why := refusal(Headers(scope=scope)):
            refused = scope["type"] == "http"
            answer = PlainTextResponse(why, 403) if refused else WebSocketClose(_REFUSED, why[:120])
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))


def refusal(headers: Headers) -> str:
    """Return why a request is refused, for people; empty where it is not."""
    host = headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if is_address(name.strip("[]")) or name.lower() in _own_names() | site_names():
        return ""
    return (
        "This name is not one of the machine that serves the dashboard. Use its address, "
        "localhost, or its own host name; or state the name: tandem dashboard --name NAME."
    )


def is_address(text: str) -> bool:
    """Return whether a text is an IP address; no foreign page can point one elsewhere."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_own_machine(address: str | None) -> bool:
    """Return whether a server that listens on `address` is reached from this machine alone.

    One that the site gave a name is not: others reach it through a proxy.
    """
    if site_names():
        return False
    if address == "localhost":
        return True
    return address is not None and is_address(address) and ip_address(address).is_loopback


def site_names() -> frozenset[str]:
    """Return the names that the site gave the server, as browsers write them."""
    return frozenset(name.lower() for name in os.environ.get(NAMES, "").split(",") if name)


@cache
def _own_names() -> frozenset[str]:
    return frozenset(("localhost", socket.gethostname().lower(), socket.getfqdn().lower()))


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
