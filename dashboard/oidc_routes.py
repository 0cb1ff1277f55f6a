"""Routes of the hospital's own sign-in: the way to its provider, and the way back with a code."""

from __future__ import annotations

import hmac
import logging
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from appliance.settings.dashboard import Oidc
from dashboard.access import Access
from dashboard.answers import NOT_KEPT
from dashboard.oidc import NotVouchedError, Provider
from dashboard.sign_in import OIDC, is_https, let_in, local, sign_in_page

BACK = "/access/oidc-back"
COOKIE = "tandem_oidc"
"""Cookie of a sign-in under way: its state, and the page that was asked for."""
_LASTS_S = 600
_MOST_TO = 1500
_WORKERS = ThreadPoolExecutor(2, "oidc")
"""Those of passwords are others: a provider that does not answer holds up no local user."""
_LOG = logging.getLogger(__name__)


def oidc_routes(access: Access, oidc: Oidc) -> list[BaseRoute]:
    """Return the routes; the guard lets everyone reach them."""
    provider = Provider(oidc)

    def refused(request: Request, why: str, to: str = "/") -> Response:
        page = sign_in_page(access, request, to, why, 401)
        page.delete_cookie(COOKIE, path="/access/", httponly=True, samesite="lax")
        return page

    async def begin(request: Request) -> Response:
        to = local(request.query_params.get("to", "/"))
        try:
            place, state = await get_running_loop().run_in_executor(
                _WORKERS, provider.begin, _back(request)
            )
        except NotVouchedError as err:
            _LOG.warning("%s", err)
            return refused(request, str(err), to)
        return _sent_there(request, place, state, to)

    async def back(request: Request) -> Response:
        given = request.query_params
        state, _, asked = request.cookies.get(COOKIE, "").partition(".")
        to = local(unquote(asked) or "/")
        # Else another page could sign the browser in as somebody else.
        if not state or not hmac.compare_digest(state.encode(), given.get("state", "").encode()):
            return refused(
                request, "This sign-in was not begun in this browser, or is over. Begin again."
            )
        if "code" not in given:
            return refused(request, "The provider did not sign you in. Begin again.", to)
        peer = request.client.host if request.client else ""
        if access.try_of_provider(peer) > 0:
            return refused(request, "Too many failed tries. Wait, and try again.", to)

        def finish() -> tuple[str, str]:
            try:
                vouched = provider.finish(state, given["code"], _back(request))
            except NotVouchedError:
                access.not_vouched(peer)
                raise
            told = access.vouched(vouched, peer)
            return told.token, told.why

        try:
            token, why = await get_running_loop().run_in_executor(_WORKERS, finish)
        except NotVouchedError as err:
            _LOG.warning("%s", err)
            return refused(request, str(err), to)
        if not token:
            return refused(request, why, to)
        answer = let_in(access, request, token, to)
        answer.delete_cookie(COOKIE, path="/access/", httponly=True, samesite="lax")
        return answer

    return [Route(OIDC, begin), Route(BACK, back)]


def _sent_there(request: Request, place: str, state: str, to: str) -> Response:
    """Return the way to the provider; the cookie keeps the state and the page asked for."""
    answer = RedirectResponse(place, 303, NOT_KEPT)
    answer.set_cookie(
        COOKIE,
        f"{state}.{quote(to if len(to) <= _MOST_TO else '/', safe='')}",
        max_age=_LASTS_S,
        httponly=True,
        samesite="lax",  # the provider's page leads back by a link: "strict" would leave it out
        secure=is_https(request),
        path="/access/",
    )
    return answer


def _back(request: Request) -> str:
    """Return the address of the way back as the browser has it; the guard has checked its host."""
    scheme = "https" if is_https(request) else "http"
    return f"{scheme}://{request.headers['host']}{BACK}"
