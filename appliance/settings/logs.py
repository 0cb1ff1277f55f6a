"""Configuration of logging, the same in the daemon, its workers and the dashboard's server."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pythonjsonlogger.json import JsonFormatter

from appliance.settings.section import Section

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
JSON_FORMAT = "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s"
JSON_NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
CHATTY = (
    "PIL",
    "highdicom",
    "opentile",
    "pydicom",
    "pynetdicom",
    "tifffile",
    "urllib3",
    "wsidicom",
    "wsidicomizer",
)
"""Libraries that log names of files or data sets, and so accessions, at INFO or WARNING."""
OWN = r"^(appliance|dashboard|dicom|models)(\.[a-z0-9_]+)*$"
"""Names of loggers of Tandem: a library's chatter may hold accessions."""


class LogSettings(Section):
    """Form of the log, which goes to standard error. `log_level` sets the level of all of it."""

    format: Literal["text", "json"] = "text"
    """``json``: one JSON object per line (time in UTC, level, logger, process, message), for
    programs that collect logs."""
    levels: dict[Annotated[str, Field(pattern=OWN)], Level] = Field(default_factory=dict)
    """Levels of single parts of Tandem by name of their module, such as
    ``{"appliance.delivery" = "DEBUG"}``. Accessions appear at DEBUG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """Logging of a process: settings `log_level` and `logs`, as a worker process is given them."""

    level: str = "INFO"
    format: str = "text"
    levels: Mapping[str, str] = field(default_factory=dict)


JOURNAL = "journal"
"""Place of a log that the service manager keeps."""


def log_place() -> str:
    """Return where this process's log goes: the path of a file, `JOURNAL`, or empty for elsewhere.

    systemd names device and inode of the journal's socket in ``JOURNAL_STREAM`` (systemd.exec(5)).
    """
    try:
        found = os.fstat(2)
        if os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}":
            return JOURNAL
        if stat.S_ISREG(found.st_mode):
            return str(Path("/proc/self/fd/2").readlink())
    except OSError:
        pass
    return ""


def configure_logging(wanted: Logging) -> None:
    """Log to standard error as wanted; the libraries in `CHATTY` log errors only."""
    handler = logging.StreamHandler()
    if wanted.format == "json":
        formatter = JsonFormatter(
            JSON_FORMAT, rename_fields=JSON_NAMES, datefmt="%Y-%m-%dT%H:%M:%SZ"
        )
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    else:
        handler.setFormatter(logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=wanted.level, handlers=[handler])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, level in wanted.levels.items():
        logging.getLogger(name).setLevel(level)
