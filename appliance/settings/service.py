"""Words to the service manager that started this process, by the protocol of sd_notify(3).

systemd names a datagram socket in ``NOTIFY_SOCKET`` (``Type=notify``). Without it nothing is sent.
Only the main process of a unit is heard (``NotifyAccess=main``), so worker processes, which inherit
the variable, cannot speak for it.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = "READY=1"
"""The start is over."""
ALIVE = "WATCHDOG=1"
"""The process lives. After ``WatchdogSec=`` without this word it is ended and started again."""
STOPPING = "STOPPING=1"
"""The process ends by itself."""
BEAT_SECONDS = 5.0
"""Period at which a process without a heartbeat of its own says that it lives."""
_START_SECONDS = 60
STARTING = f"EXTEND_TIMEOUT_USEC={_START_SECONDS * 1_000_000}"
"""The start goes on, and is given another minute: the migration of a large ledger takes long."""


def tell_manager(*words: str) -> None:
    """Send words to the service manager, in one datagram; trouble with it is no trouble here."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.setblocking(False)
        to.sendto("\n".join(words).encode(), address)
