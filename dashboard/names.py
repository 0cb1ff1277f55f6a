"""The page on which somebody hides names in a browser, or shows them again.

A cookie keeps the choice, so a screen on a wall stays as it is when its browser starts again. It is
HttpOnly, and a POST of this server's own page sets it, so no foreign page shows names.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from dashboard.access import CHOSEN, HIDDEN_NAMES, Access, chose_hidden, token_of
from dashboard.answers import NOT_KEPT
from dashboard.sign_in import is_https, small_page

NAMES = "/access/names"
_KEPT_S = 365 * 86400
_WHAT = (
    "<p>Hidden are accessions, names of patients and files, report pages, and texts that may hold "
    "them. Cases are told apart by their number. Nothing can be done on such a screen. Other "
    "windows of this browser follow when they are loaded again.</p>"
)
_RULE = '<p role="alert">The settings hide them here: [dashboard] mask.</p>'


def names_routes(access: Access) -> list[BaseRoute]:
    """Return the route of the page; the guard asks for the session before it."""

    async def names(request: Request) -> Response:
        cookies = request.headers.get("cookie", "")
        chosen = chose_hidden(cookies)
        ruled = access.hides(token_of(cookies), chosen=False)
        if request.method == "POST":
            answer = RedirectResponse("/", 303, NOT_KEPT)
            if ruled:
                return answer
            if chosen:
                answer.delete_cookie(HIDDEN_NAMES, path="/", httponly=True, samesite="lax")
            else:
                answer.set_cookie(
                    HIDDEN_NAMES,
                    CHOSEN,
                    max_age=_KEPT_S,
                    httponly=True,
                    samesite="lax",
                    secure=is_https(request),
                    path="/",
                )
            return answer
        if ruled:
            return small_page("names", "names", "Back", told=_WHAT + _RULE)
        return small_page("names", "names", "Show names" if chosen else "Hide names", told=_WHAT)

    return [Route(NAMES, names, methods=["GET", "POST"])]
