"""User of the service: whose the state folder is, where root looks at it."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

from appliance.settings.settings import Settings

CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
"""Files by which Docker and Podman mark a container's root."""


def other_user(settings: Settings) -> str:
    """Return the user of the state folder where root runs this and it is not root's; else nothing.

    In a container root may begin a ledger in a folder that the host gave to somebody.
    """
    owners = []
    for path in (settings.state_dir, settings.ledger_file):
        with suppress(OSError):  # not there, or not to be seen: the command tells
            owners.append(path.stat().st_uid)
    if os.geteuid() != 0 or not owners or 0 in owners:
        return ""
    begun = os.access(settings.ledger_file, os.F_OK)
    if not begun and any(Path(mark).exists() for mark in CONTAINER_MARKS):
        return ""
    try:
        return pwd.getpwuid(owners[0]).pw_name
    except KeyError:
        return f"'#{owners[0]}'"
