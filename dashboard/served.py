"""Process of the dashboard's server: one application of Streamlit's pages and of the deep zoom.

``python -m dashboard.served run --server.port=…`` takes options of Streamlit. A thread tells the
service manager of it. ``health`` in place of ``run`` asks a server that runs: exit status 0 if it
answers, else 1.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.settings.service import ALIVE, BEAT_SECONDS, READY, tell_manager

if TYPE_CHECKING:
    from streamlit.starlette import App

PAGES = Path(__file__).with_name("app.py")
HEALTH = "/_stcore/health"
"""Path at which Streamlit answers 200 while its server runs."""
_LOOK_SECONDS = 0.25
_EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  asked, not bound


def answers(address: str, port: int) -> bool:
    """Return whether the server answers at its own address."""
    connection = HTTPConnection(_EVERY.get(address, address), port, timeout=BEAT_SECONDS)
    try:
        connection.request("GET", HEALTH)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def tell_health(address: str, port: int) -> None:
    """Say that the server is ready once it answers, and then, while it answers, that it lives."""
    while not answers(address, port):
        time.sleep(_LOOK_SECONDS)
    tell_manager(READY)
    while True:
        if answers(address, port):
            tell_manager(ALIVE)
        time.sleep(BEAT_SECONDS)


def application(address: str) -> App:
    """Return the application: the guard, the routes of slides and reports, Streamlit's pages.

    `address`: where it listens, which decides whether people sign in.
    """
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    from appliance.settings.logs import configure_logging
    from appliance.settings.settings_file import load_settings
    from dashboard.access import Access, serve_by
    from dashboard.guard import Guard, needs_login
    from dashboard.monitoring import monitoring_routes
    from dashboard.names import names_routes
    from dashboard.reports import report_routes
    from dashboard.sign_in import access_routes
    from dashboard.zoom.routes import zoom_routes

    settings = load_settings()
    configure_logging(settings.logging)
    access = Access(settings, required=needs_login(settings, address))
    serve_by(access)
    routes = [*zoom_routes(settings), *report_routes(settings), *monitoring_routes(settings)]
    routes += [*access_routes(access), *names_routes(access)]
    return App(PAGES, routes=routes, middleware=[Middleware(Guard, access=access)])


def load_pages() -> None:
    """Import what pages need, readers and assays too: else the first page takes seconds longer."""
    from appliance.assays.registry import assays
    from dashboard import views

    for module in pkgutil.iter_modules(views.__path__):
        importlib.import_module(f"{views.__name__}.{module.name}")
    assays()
    # Modules stay for good: the collector need not walk them each time.
    gc.collect()
    gc.freeze()


def main(arguments: list[str]) -> None:
    """Run the server in this process, or ask one that runs."""
    options = dict(each.removeprefix("--").split("=", 1) for each in arguments if "=" in each)
    place = options.get("server.address", ""), int(options["server.port"])
    if arguments[0] == "health":
        raise SystemExit(not answers(*place))
    if "NOTIFY_SOCKET" in os.environ:
        threading.Thread(target=tell_health, args=place, name="health", daemon=True).start()
    threading.Thread(target=load_pages, name="pages", daemon=True).start()
    application(place[0]).run(config={name: _typed(text) for name, text in options.items()})


def _typed(text: str) -> Any:
    """Return the value of an option: a number or a truth value where it is written as one."""
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main(sys.argv[1:])
