"""Start the dashboard's server: ``python -m dashboard.serve --config tandem.toml``."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from appliance.errors import SettingsError
from appliance.operations.users import Users
from appliance.settings.settings_file import find_settings_file, load_settings
from dashboard.guard import NAMES, needs_login

DEFAULT_PORT = 8501
_LISTENS = "0A"
"""State of a listening socket in ``/proc/net/tcp``."""

OPTIONS: dict[str, str] = {
    "server.headless": "true",
    # Code does not change in production, and the watcher would walk every imported package.
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    # Seconds until the session of a closed browser tab is discarded.
    "server.disconnectedSessionTTL": "60",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    # Errors go to the log, not onto the page.
    "client.showErrorDetails": "none",
    "runner.magicEnabled": "false",
    # Else each refresh of each part ends with a full collection of garbage, which costs more than
    # the refresh; Python's own collects what refreshes leave.
    "runner.postScriptGC": "false",
    # Light or dark, as the viewer's system is.
    "theme.light.primaryColor": "#0f6b6b",
    "theme.light.backgroundColor": "#f5f7f8",
    "theme.light.secondaryBackgroundColor": "#ffffff",
    "theme.light.textColor": "#1c2833",
    "theme.light.borderColor": "#dfe5e8",
    "theme.dark.primaryColor": "#1f7f7c",
    "theme.dark.backgroundColor": "#11181c",
    "theme.dark.secondaryBackgroundColor": "#1a2329",
    "theme.dark.textColor": "#e3e9ec",
    "theme.dark.borderColor": "#3a4850",
    "theme.baseRadius": "small",
    "theme.baseFontSize": "15",
}


def command(port: int, address: str) -> list[str]:
    """Return the command line of the server."""
    options = OPTIONS | {"server.port": str(port), "server.address": address}
    return [
        sys.executable,
        "-m",
        "dashboard.served",
        "run",
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def serve(config: Path | None, port: int, address: str, names: Sequence[str] = ()) -> int:
    """Replace this process by the dashboard's server; return 2 where it cannot be.

    `names` are added to those of the settings.

    The process is replaced, not spawned, so that signals reach the server.
    """
    try:
        settings = load_settings(config)
        path = find_settings_file(config)
    except SettingsError as err:
        print(err, file=sys.stderr)
        return 2
    os.environ[NAMES] = ",".join((*settings.dashboard.names, *names))
    try:
        known = settings.dashboard.oidc is not None or Users(settings).all()
        if needs_login(settings, address) and not known:
            print(
                f"{address}: people must sign in here, and there is no user yet. Add one: "
                "tandem users add NAME --role admin, or set [dashboard.oidc]",
                file=sys.stderr,
            )
            return 2
    except SettingsError as err:
        print(err, file=sys.stderr)
        return 2
    if taken := _taken(port, address):
        print(taken, file=sys.stderr)
        return 2
    environment = dict(os.environ)
    if path is not None:
        environment["TANDEM_CONFIG"] = str(path.absolute())
    # Streamlit runs every refresh in a new thread; one allocator arena per thread never shrinks.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    arguments = command(port, address)
    os.execve(arguments[0], arguments, environment)  # noqa: S606  our own interpreter, no shell


def _taken(port: int, address: str) -> str:
    """Return who has the port, and what to do; empty where the server can have it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A server that has just ended leaves connections that hold up no other one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as err:
            if err.errno != errno.EADDRINUSE:
                return f"{address}, port {port}: the dashboard cannot listen there: {err.strerror}."
            holder = _holder(port)
            by = f" by {holder}" if holder else ""
            return f"{address}: port {port} is taken{by}. Choose another one: --port {port + 1}"
    return ""


def _holder(port: int) -> str:
    """Return the process that listens at a port, as far as this user may see it (proc(5))."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for opened in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(opened.readlink()) in inodes:
                        name = (process / "comm").read_text().strip()
                        return f"process {process.name} ({name})"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and start the server."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.serve", description=__doc__)
    parser.add_argument("--config", type=Path, help="settings file (else TANDEM_CONFIG)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--name", action="append", default=[], help="name under which a proxy is asked for it"
    )
    given = parser.parse_args(arguments)
    return serve(given.config, given.port, given.address, given.name)


if __name__ == "__main__":
    sys.exit(main())
