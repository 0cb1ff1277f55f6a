"""Rules for what Streamlit's pages load, and the scripts of Tandem's own that they name."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import Message, Scope, Send

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
KEYS, TIMES, WATCH = "/zoom-files/keys.js", "/zoom-files/times.js", "/access/watch.js"
"""Scripts of Tandem's own in pages: keys of the work list; times in the viewer's zone; leaving a
page whose session is over."""


@cache
def page_rules() -> str:
    """Return the Content Security Policy of Streamlit's pages.

    Scripts are the server's own files, and the one that stands in the page, by its hash. Styles
    are made in the browser, so they may stand in the page.
    """
    page = files("streamlit").joinpath("static/index.html").read_text(encoding="utf-8")
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in _INLINE.findall(page)
    )
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
        "manifest-src 'self'; frame-src 'self'; object-src 'self'; worker-src 'self' blob:; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    )


def with_scripts(scope: Scope, send: Send, scripts: Sequence[str]) -> tuple[Scope, Send]:
    """Return both ends of a request for a page, in which scripts of this server are named.

    The page is asked for whole: not compressed, not only if it changed.
    """
    left_out = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in left_out]
    start: Message = {}
    body = b""

    async def sending(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            start = message
            return
        body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(scope=start)
        if headers.get("content-type", "").startswith("text/html") and body:
            named = "".join(f'<script src="{script}" defer></script>' for script in scripts)
            body = body.replace(b"</head>", named.encode() + b"</head>", 1)
            headers["content-length"] = str(len(body))
            headers["cache-control"] = "no-store"
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return {**scope, "headers": kept}, sending
