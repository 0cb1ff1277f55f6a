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
START = "/zoom-files/start.js"
"""Script that runs before Streamlit's own."""
_PARTS = {
    "/": ("Html", "TextInput"),
    "/worklist": ("Html", "TextInput", "Selectbox"),
    "/case": ("Html", "Button", "IFrame", "DownloadButton"),
}
"""Parts of Streamlit's browser side that a page needs. Streamlit asks for each when the page's
first answer names it; named in the page, they come with the others."""
_IMPORT = re.compile(r'(?:from|import)"\./([^"]+\.js)"')


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


@cache
def parts_of(path: str) -> tuple[str, ...]:
    """Return the files of Streamlit's browser side that a page needs and its HTML does not name.

    Parts that this version of Streamlit lacks are left out.
    """
    folder = files("streamlit").joinpath("static/static/js")
    page = files("streamlit").joinpath("static/index.html").read_text(encoding="utf-8")
    there = sorted(each.name for each in folder.iterdir())
    wanted = [name for part in _PARTS[path] for name in there if name.startswith(f"{part}.")]
    for name in wanted:  # grows by what they import
        text = folder.joinpath(name).read_text(encoding="utf-8")
        wanted += [each for each in _IMPORT.findall(text) if each not in wanted]
    return tuple(name for name in wanted if name not in page)


def _started(path: str) -> str:
    """Return the markup by which a page of Streamlit starts sooner; empty for the deep zoom."""
    if path.startswith("/zoom/"):
        return ""
    links = "".join(
        f'<link rel="modulepreload" crossorigin href="/static/js/{name}">'
        for name in (parts_of(path) if path in _PARTS else ())
    )
    return f'<script src="{START}"></script>{links}'


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
            named = _started(scope["path"]) + named
            body = body.replace(b"</head>", named.encode() + b"</head>", 1)
            headers["content-length"] = str(len(body))
            headers["cache-control"] = "no-store"
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return {**scope, "headers": kept}, sending
