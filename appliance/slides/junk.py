"""Names of files and folders that servers and desktops leave in shared folders."""

from __future__ import annotations

JUNK_NAMES = frozenset(
    {
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@sharebin",
        "@tmp",
        "config.msi",
        "desktop.ini",
        "found.000",
        "lost+found",
        "network trash folder",
        "recycled",
        "recycler",
        "system volume information",
        "temporary items",
        "thumbs.db",
    }
)
"""Names, in lower case, that file servers and desktops leave in shared folders."""
JUNK_BEGINNINGS = (".", "~", "@gmt-")
"""Beginnings of hidden and temporary names: ``.Trash-1000``, ``._x``, ``~$x``, ``@GMT-…``."""


def is_junk(name: str) -> bool:
    """Return whether a name is hidden, temporary, or one that servers leave."""
    if name[:1] in ".~#@$" or not name:
        lower = name.lower()
        return lower.startswith(JUNK_BEGINNINGS) or lower in JUNK_NAMES
    return name.lower() in JUNK_NAMES
