"""Start of the dashboard's server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dashboard.serve import main

if TYPE_CHECKING:
    from conftest import Lab


@pytest.mark.usefixtures("lab")
def test_a_port_that_is_taken_names_who_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port {port} is taken by process {os.getpid()} (" in said
    assert f"--port {port + 1}" in said


def test_an_address_of_another_machine_is_told(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.serve.needs_login", lambda *_: False)
    assert lab.settings.dashboard.login == "beyond"
    assert main(["--port", "8501", "--address", "192.0.2.1"]) == 2
    assert "192.0.2.1, port 8501: the dashboard cannot listen there" in capsys.readouterr().err


_SERVER = """
import logging
from dashboard.served import application
application("127.0.0.1")
logging.getLogger("dashboard.access").debug("somebody came")
logging.getLogger("dashboard.names").debug("not told")
"""


def test_the_servers_log_has_the_form_and_the_levels_of_the_settings(lab: Lab) -> None:
    config = Path(os.environ["TANDEM_CONFIG"])
    told = '[logs]\nformat = "json"\n[logs.levels]\n"dashboard.access" = "DEBUG"\n'
    config.write_text(config.read_text() + told)
    command = [sys.executable, "-c", _SERVER]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180)
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    (said,) = [json.loads(line) for line in lines]
    assert (said["level"], said["logger"]) == ("DEBUG", "dashboard.access")
    assert said["message"] == "somebody came" and lab.settings.logs.format == "text"
