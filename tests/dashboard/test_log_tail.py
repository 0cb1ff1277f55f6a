"""The end of the daemon's log on the page: where it is, and never a patient."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.settings.logs import JOURNAL
from dashboard.log_tail import LINES, READ_BYTES, read_log

if TYPE_CHECKING:
    from conftest import Lab

ACCESSION = "S26-0000001"
_LOGGING = r"""
import logging, sys
from appliance.settings.logs import Logging, configure_logging, log_place
configure_logging(Logging(level="DEBUG", format=sys.argv[1]))
log = logging.getLogger("appliance.line.lanes")
log.info("it begins")
log.debug("%s is read", sys.argv[2])
logging.getLogger("somewhere").error("%s: a library's error", sys.argv[2])
log.warning("%s/%s_A1_HE.svs cannot be read", sys.argv[3], sys.argv[2])
try:
    raise OSError(sys.argv[2])
except OSError:
    log.exception("the step failed")
log.info("two lines\n%s", sys.argv[2])
print(log_place())
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_own_lines_are_shown_without_accessions(lab: Lab, tmp_path: Path, form: str) -> None:
    """The log is written by the daemon's own configuration, all levels of it."""
    file, scans = tmp_path / "daemon.log", str(lab.settings.watch.folder)
    with file.open("w") as stream:
        said = subprocess.run(
            [sys.executable, "-c", _LOGGING, form, ACCESSION, scans],
            check=True,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        ).stdout
    assert said.strip() == str(file)
    assert file.read_text().count(ACCESSION) >= 5
    lab.sign(log=said.strip())
    tail = read_log(lab.settings)
    assert [(line.level, line.text) for line in reversed(tail.lines)] == [
        ("INFO", "it begins"),
        ("WARNING", f"{scans}/…"),
        ("ERROR", "the step failed"),
        ("INFO", "two lines"),
    ]
    assert ACCESSION not in repr(tail) and str(file) in tail.said


def test_only_the_end_of_a_long_log_is_read(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "daemon.log"
    line = {"time": "t", "level": "INFO", "logger": "appliance.line", "message": "x" * 100}
    lines = [json.dumps(line | {"time": str(number)}) for number in range(2000)]
    file.write_text("\n".join([*lines, "not ended"]))
    assert file.stat().st_size > READ_BYTES
    lab.sign(log=str(file))
    times = [line.time for line in read_log(lab.settings).lines]
    assert times == [str(number) for number in range(1999, 1999 - LINES, -1)]


def test_it_says_where_else_the_log_is(lab: Lab, tmp_path: Path) -> None:
    assert "No daemon has run" in read_log(lab.settings).said
    for place, words in (
        (JOURNAL, "journalctl -u tandem"),
        ("", "docker logs"),
        (str(tmp_path / "gone.log"), "No such file"),
    ):
        lab.sign(log=place)
        tail = read_log(lab.settings)
        assert words in tail.said and tail.lines == ()


def test_the_journal_is_known_by_its_socket() -> None:
    code = "from appliance.settings.logs import log_place; print(log_place())"
    reading, writing = os.pipe()
    place = os.fstat(writing)
    said = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
        env=os.environ | {"JOURNAL_STREAM": f"{place.st_dev}:{place.st_ino}"},
    ).stdout
    os.close(reading)
    os.close(writing)
    assert said.strip() == JOURNAL
