"""The one guard before pages, tiles and downloads: it sees each request before anything else.

It asks four questions, in this order. Is the host a name of this machine? A foreign page could
point a name of its own here, read what is served and act (DNS rebinding). Does a request that can
change something, or a WebSocket, come from a page of this server (its Origin)? Does it come without
a proxy, where nobody signs in? Has the session of a signed-in user not ended? Only then a request
goes on.
"""

from __future__ import annotations

import os
import re
import socket
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.websockets import WebSocketClose

from dashboard.access import chose_hidden, token_of
from dashboard.page_rules import KEYS, TIMES, WATCH, page_rules, with_scripts
from dashboard.sign_in import SIGN_IN

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from appliance.settings.settings import Settings
    from dashboard.access import Access

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    # Addresses of pages hold accessions that were looked for; a proxy's log holds the Referer.
    "Referrer-Policy": "strict-origin",
}
"""Headers of every answer."""
NAMES = "TANDEM_DASHBOARD_NAMES"
"""Variable of the environment with the names that a site gives the server, with commas between."""
_REFUSED = 1008
"""Code of a WebSocket that is closed because of a rule (RFC 6455, 7.4.1)."""
_OPEN = frozenset(("/healthz", "/readyz", "/_stcore/health"))
"""Addresses that answer without a session: signs of life, without patient data."""
_OWN = re.compile(r"/access/(in|out|alive|oidc|oidc-back|access\.css|watch\.js)")
_CASE = re.compile(r"/(?:zoom|reports|overlays)/0*(\d{1,15})(?![^./])")
"""Addresses of a case; the routes take a number with any zeros before it."""
_BY_HAND = re.compile(r"/(zoom|tiles|overlays|reports)/|/[a-z-]*$")
"""Addresses that a browser asks for because a person did something."""
_NAMED = re.compile(r"/reports/")
"""Addresses whose answers name patients, and have no form without names."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_OF_PROXIES = ("forwarded", "via", "x-real-ip")
"""Headers that a proxy adds, beside those that begin with ``x-forwarded-``."""


class Guard:
    """Middleware of the whole application: pages, their WebSocket, media, tiles and downloads."""

    def __init__(self, app: ASGIApp, access: Access | None = None) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or let it through and add headers to its answer."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        why = refusal(headers)
        if scope["type"] == "websocket":
            why = why or foreign_origin(headers)
        elif scope["method"] not in _SAFE:
            why = why or foreign_origin(headers, needed=True)
        if not why and self._access is not None and _NAMED.match(scope["path"]):
            why = hidden_here(self._access, headers)
        is_closed = self._access is not None and self._access.required
        if not is_closed and not _is_open(self._access, scope["path"]):
            why = why or by_proxy(headers)
        if why:
            await _refuse(why, 403, scope, receive, send)
        elif self._access is None or not is_closed:
            send = _with_headers(send)
            if _is_page(scope) and not _is_zoom(scope):
                scope, send = with_scripts(scope, send, (KEYS, TIMES))
            await self._app(scope, receive, send)
        else:
            await self._signed_in(self._access, scope, receive, _with_headers(send))

    async def _signed_in(self, access: Access, scope: Scope, receive: Receive, send: Send) -> None:
        path, is_page = scope["path"], _is_page(scope)
        if _is_open(access, path) or _OWN.fullmatch(path):
            await self._app(scope, receive, send)
            return
        token = token_of(Headers(scope=scope).get("cookie", ""))
        by_hand = scope["type"] == "http" and _BY_HAND.match(path) is not None
        if access.user(token, active=by_hand) is None:
            if is_page:
                query = scope["query_string"].decode("latin-1")
                to = quote(f"{path}?{query}" if query else path, safe="")
                answer = RedirectResponse(f"{SIGN_IN}?to={to}", 303)
                await answer(scope, receive, send)
            else:
                await _refuse("Sign in to the dashboard first.", 401, scope, receive, send)
            return
        if (case := _CASE.match(path)) is not None:
            await run_in_threadpool(access.opened, token, int(case[1]))
        if scope["type"] == "websocket":
            receive, send = _while_signed_in(access, token, receive, send)
        elif is_page:
            scripts = (WATCH,) if _is_zoom(scope) else (KEYS, TIMES, WATCH)
            scope, send = with_scripts(scope, send, scripts)
        await self._app(scope, receive, send)


def _is_open(access: Access | None, path: str) -> bool:
    return path in _OPEN or (path == "/metrics" and (access is None or access.open_metrics))


async def _refuse(why: str, status: int, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        headers = HEADERS | {"Cache-Control": "no-store"}
        await PlainTextResponse(why, status, headers)(scope, receive, send)
    else:
        await WebSocketClose(_REFUSED, why[:120])(scope, receive, send)


def _is_page(scope: Scope) -> bool:
    """Return whether a browser asks for a page to show in its window, or in a frame of a page."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    shown = "text/html" in Headers(scope=scope).get("accept", "")
    return shown and re.fullmatch(r"/[a-z-]*|/zoom/\d+", scope["path"]) is not None


def _is_zoom(scope: Scope) -> bool:
    """Return whether a page is that of the deep zoom, which has keys of its own."""
    return bool(scope["path"].startswith("/zoom/"))


def _while_signed_in(
    access: Access, token: str, receive: Receive, send: Send
) -> tuple[Receive, Send]:
    """Return both ends of a WebSocket, which is closed at the first word after its session."""
    closed = False

    async def receiving() -> Message:
        nonlocal closed
        message = await receive()
        if message["type"] == "websocket.receive":
            active = _is_by_hand(message.get("bytes") or b"")
            if access.user(token, active=active) is None:
                if not closed:
                    closed = True
                    await send({"type": "websocket.close", "code": _REFUSED, "reason": "Sign in."})
                return {"type": "websocket.disconnect", "code": _REFUSED}
        return message

    async def sending(message: Message) -> None:
        nonlocal closed
        if closed:
            return
        if message["type"] == "websocket.send" and access.user(token) is None:
            message = {"type": "websocket.close", "code": _REFUSED, "reason": "Sign in."}
        closed = message["type"] == "websocket.close"
        await send(message)

    return receiving, sending


def _is_by_hand(data: bytes) -> bool:
    """Return whether a message of Streamlit's browser side is a person's doing, not a refresh."""
    from google.protobuf.message import DecodeError
    from streamlit.proto.BackMsg_pb2 import BackMsg

    try:
        message = BackMsg.FromString(data)
    except DecodeError:
        return False
    asks = message.WhichOneof("type") == "rerun_script"
    return asks and not message.rerun_script.is_auto_rerun


def refusal(headers: Headers) -> str:
    """Return why a request is refused, for people; empty where it is not."""
    name = _host_name(headers.get("host", ""))
    if is_address(name.strip("[]")) or name.lower() in _own_names() | site_names():
        return ""
    return (
        "This name is not one of the machine that serves the dashboard. Use its address, "
        "localhost, or its own host name; or state the name in the settings: dashboard.names."
    )


def by_proxy(headers: Headers) -> str:
    """Return why a request is refused where nobody signs in: a proxy brings those of others.

    A proxy may ask by the address of this machine, so that the host does not tell it.
    """
    if not any(name in _OF_PROXIES or name.startswith("x-forwarded-") for name in headers):
        return ""
    return (
        "The request came by a proxy, and nobody signs in here. State the name under which people "
        "ask the proxy in the settings, so that they sign in: dashboard.names."
    )


def hidden_here(access: Access, headers: Headers) -> str:
    """Return why a screen does not get what names a patient; empty where it does.

    Who is not signed in is not told by this.
    """
    cookies = headers.get("cookie", "")
    token = token_of(cookies)
    if access.required and access.user(token) is None:
        return ""
    if access.hides(token, chosen=chose_hidden(cookies)):
        return "Names are hidden on this screen, and the report names the patient."
    return ""


def foreign_origin(headers: Headers, *, needed: bool = False) -> str:
    """Return why the page that a request comes from is refused; empty where it is not.

    A browser names it in every WebSocket and POST; `needed`: it must be named. Other requests only
    read, and a browser hides their answers from foreign pages.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is None:
        return "The request names no Origin: use a browser." if needed else ""
    place = urlsplit(origin).netloc.lower()
    if place and (place == host.lower() or _host_name(place) in site_names()):
        return ""
    return "The request comes from a page of another server."


def _host_name(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host


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


def needs_login(settings: Settings, address: str) -> bool:
    """Return whether people sign in: by the settings, or where other machines reach the server."""
    return settings.dashboard.login == "always" or not is_own_machine(address)


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
            if headers.get("content-type", "").startswith("text/html"):
                headers.setdefault("Content-Security-Policy", page_rules())
        await send(message)

    return sending
