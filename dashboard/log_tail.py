"""The newest lines of the daemon's log, where it is a file; without patients.

By rule no accession stands in a line above DEBUG (`appliance.settings.logs`). Lines are chosen by
what is known to be safe, not by what is known to be unsafe: those of Tandem's own loggers at INFO
and above, the first line of each. Texts of libraries and tracebacks, which may name files, are left
out, and so is what follows a watched folder's path.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.ledger.heartbeat import read_sign
from appliance.settings.logs import JOURNAL
from appliance.settings.settings import Settings

LINES = 30
"""Most lines that are shown."""
READ_BYTES = 128 * 1024
"""End of the file that is read: a log grows without limit."""
SHOWN = ("INFO", "WARNING", "ERROR", "CRITICAL")
_OWN = r"(?:appliance|dashboard|dicom|models)(?:\.[a-z0-9_]+)*"
_LINE = re.compile(
    rf"(?P<time>\d{{4}}-\d\d-\d\d [\d:,]+) (?P<level>[A-Z]+) (?P<name>{_OWN}): (?P<text>.*)"
)
_NAME = re.compile(_OWN)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log; `time` as the daemon wrote it: by the server's clock, UTC in JSON."""

    time: str
    level: str
    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTail:
    """The newest lines, newest first; `said` tells where the log is."""

    lines: tuple[LogLine, ...]
    said: str


def read_log(settings: Settings) -> LogTail:
    """Return the newest lines of the log of the daemon that gave the last sign of life."""
    sign = read_sign(settings)
    if sign is None:
        return LogTail(lines=(), said="No daemon has run here yet.")
    if sign.log == JOURNAL:
        said = "systemd's journal keeps it: journalctl -u tandem -n 50 (-f follows it)."
        return LogTail(lines=(), said=said)
    if not sign.log:
        said = (
            "It goes to the daemon's terminal or to what started it (in a container: docker logs). "
            "To see it here, start the daemon with its standard error in a file."
        )
        return LogTail(lines=(), said=said)
    try:
        lines = _end_of(Path(sign.log))
    except OSError as err:
        said = f"{sign.log} cannot be read by the dashboard: {err.strerror}."
        return LogTail(lines=(), said=said)
    roots = [str(root) for root in settings.watch.roots]
    found = [_without_names(line, roots) for line in _known(lines)]
    return LogTail(lines=tuple(reversed(found[-LINES:])), said=f"The end of {sign.log}.")


def _end_of(path: Path) -> list[str]:
    """Return the last whole lines of a file."""
    with path.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - READ_BYTES))
        lines = opened.read().decode("utf-8", "replace").split("\n")
    return lines[1:-1] if size > READ_BYTES else lines[:-1]


def _known(lines: Sequence[str]) -> Iterator[LogLine]:
    """Yield the lines of Tandem's own loggers at INFO and above, of either form."""
    for line in lines:
        if (found := _LINE.fullmatch(line)) is not None:
            parsed = LogLine(found["time"], found["level"], found["name"], found["text"])
        elif (said := _of_json(line)) is not None:
            parsed = said
        else:
            continue
        if parsed.level in SHOWN:
            yield parsed


def _of_json(line: str) -> LogLine | None:
    try:
        said = json.loads(line)
        found = LogLine(*(str(said[key]) for key in ("time", "level", "logger", "message")))
    except (ValueError, KeyError, TypeError):
        return None
    text = found.text.partition("\n")[0]
    own = _NAME.fullmatch(found.name)
    return LogLine(found.time, found.level, found.name, text) if own else None


def _without_names(line: LogLine, roots: Sequence[str]) -> LogLine:
    """Return a line without what follows a watched folder: names of files hold accessions."""
    text = line.text
    for root in roots:
        before, there, _ = text.partition(f"{root}/")
        text = f"{before}{root}/…" if there else text
    return LogLine(line.time, line.level, line.name, text)
