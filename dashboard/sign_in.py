"""Pages to sign in and out, and the address at which a page asks whether its session lives."""

from __future__ import annotations

from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from html import escape
from math import ceil
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from appliance.findings.findings import RESEARCH_USE
from dashboard.access import COOKIE, Access, token_of
from dashboard.answers import NOT_KEPT
from dashboard.sessions import session_name

SIGN_IN = "/access/in"
STATIC = Path(__file__).with_name("static")
RULES = (
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
"""Content Security Policy of these pages: they run no script."""
_MOST_BYTES = 4096
_WORKERS = ThreadPoolExecutor(2, "sign-in")
"""A check of a password takes 64 MiB: no more than two at a time."""
OIDC = "/access/oidc"
"""Address that leads to the hospital's own sign-in."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tandem: {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="access.css"></head>
<body><main><h1>Tandem</h1><p class="ruo">{research}</p>{told}
{form}
</main></body></html>
"""
_FORM = '<form method="post" action="{action}">{fields}<button>{button}</button></form>'
_FIELDS = """
<label>Name <input name="name" autocomplete="username" autofocus required maxlength="64"></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required
 maxlength="256"></label>
"""


def access_routes(access: Access) -> list[BaseRoute]:
    """Return the routes; the guard lets everyone reach them, and checks the origin of each POST.

    Where nobody signs in, only the style of such pages is among them.
    """

    async def sign_in(request: Request) -> Response:
        to = local(request.query_params.get("to", "/"))
        if request.method != "POST":
            return sign_in_page(access, request, to)
        given = await _form(request)
        peer = request.client.host if request.client else ""
        told = await get_running_loop().run_in_executor(
            _WORKERS, access.sign_in, given.get("name", ""), given.get("password", ""), peer
        )
        if not told.token:
            status = 429 if told.wait_s else 401
            page = sign_in_page(access, request, to, told.why, status)
            if told.wait_s:
                page.headers["Retry-After"] = str(ceil(told.wait_s))
            return page
        return let_in(access, request, told.token, to)

    async def sign_out(request: Request) -> Response:
        token = token_of(request.headers.get("cookie", ""))
        if request.method != "POST":
            return small_page("sign out", "out", "Sign out", told=_who(access, token))
        await get_running_loop().run_in_executor(_WORKERS, access.sign_out, token)
        answer = Response(status_code=303, headers=NOT_KEPT | {"Location": SIGN_IN})
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
        return answer

    async def alive(request: Request) -> Response:
        token = token_of(request.headers.get("cookie", ""))
        if access.user(token) is None:
            return PlainTextResponse("Sign in.", 401, NOT_KEPT)
        return PlainTextResponse(session_name(token), 200, NOT_KEPT)

    styled = Route("/access/access.css", _style)
    if not access.required:
        return [styled]
    routes: list[BaseRoute] = []
    if access.oidc is not None:
        # Its libraries are loaded only where it is used.
        from dashboard.oidc_routes import oidc_routes

        routes = oidc_routes(access, access.oidc)
    return [
        *routes,
        styled,
        Route(SIGN_IN, sign_in, methods=["GET", "POST"]),
        Route("/access/out", sign_out, methods=["GET", "POST"]),
        Route("/access/alive", alive),
        Route("/access/watch.js", _watch),
    ]


async def _style(_request: Request) -> Response:
    return FileResponse(STATIC / "access.css")


async def _watch(_request: Request) -> Response:
    return FileResponse(STATIC / "watch.js")


def local(to: str) -> str:
    """Return an address of this server where `to` is one, else the first page."""
    plain = to.startswith("/") and to.isprintable() and to.isascii() and "\\" not in to
    return to if plain and not to.startswith(("//", "/access/")) else "/"


def is_https(request: Request) -> bool:
    """Return whether the browser came over https, here or at a proxy that says so."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


def let_in(access: Access, request: Request, token: str, to: str) -> Response:
    """Return the answer that begins a session in a browser and leads to a page of this server.

    The session that the browser had ends: its other pages would go on as the former person. It ends
    after the answer: a page that asks before the browser has the new session would be sent away.
    """
    former = token_of(request.headers.get("cookie", ""))

    async def end_former() -> None:
        await get_running_loop().run_in_executor(_WORKERS, access.sign_out, former)

    ends = BackgroundTask(end_former)
    answer = Response(status_code=303, headers=NOT_KEPT | {"Location": to}, background=ends)
    answer.set_cookie(
        COOKIE, token, httponly=True, samesite="lax", secure=is_https(request), path="/"
    )
    return answer


def sign_in_page(
    access: Access, request: Request, to: str, why: str = "", status: int = 200
) -> Response:
    """Return the page to sign in: by a password, by the hospital's account, or either.

    It says who is signed in already.
    """
    told = f'<p role="alert">{escape(why)}</p>' if why else ""
    if who := _who(access, token_of(request.headers.get("cookie", ""))):
        told += f"{who}<p>Signing in ends that session, also in other tabs.</p>"
    asked = urlencode({"to": to})
    if access.oidc is not None:
        words = f"Sign in with {access.oidc.title}"
        told += f'<p><a class="other" href="oidc?{escape(asked)}">{escape(words)}</a></p>'
        if not access.has_users():
            return small_page("sign in", told=told, status=status)
    return small_page("sign in", f"in?{asked}", "Sign in", told=told, fields=_FIELDS, status=status)


def small_page(
    title: str,
    action: str = "",
    button: str = "",
    *,
    told: str,
    fields: str = "",
    status: int = 200,
) -> Response:
    """Return a page of one form, or of none without an `action`; `told`, `fields` are markup."""
    form = _FORM.format(action=escape(action), fields=fields, button=button) if action else ""
    text = _PAGE.format(title=title, research=escape(RESEARCH_USE), told=told, form=form)
    return HTMLResponse(text, status, NOT_KEPT | {"Content-Security-Policy": RULES})


def _who(access: Access, token: str) -> str:
    """Return who is signed in, as markup; empty for nobody."""
    user = access.user(token)
    return f"<p>Signed in: {escape(user.person)} ({user.role}).</p>" if user else ""


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form; none of one that is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}
