"""Reading of the scanner's files without a trace: neither bytes nor times of a file change."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path


def open_untouched(path: Path | str) -> BufferedReader:
    """Open a regular file for reading, without an update of its time of access where allowed.

    Pipes and devices are refused, and not waited for.

    Raises
    ------
    OSError
        If it cannot be opened, or is no regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        number = os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # O_NOATIME is for the owner of a file
        number = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("no regular file")
    return os.fdopen(number, "rb")
