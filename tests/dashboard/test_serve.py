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
from pydantic import ValidationError

from appliance.settings.dashboard import Dashboard
from dashboard.guard import needs_login, site_names
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


def test_a_name_in_the_settings_asks_people_to_sign_in(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in no unit, which an upgrade writes anew."""
    monkeypatch.setenv("TANDEM_DASHBOARD_NAMES", "")
    config = Path(os.environ["TANDEM_CONFIG"])
    config.write_text(config.read_text() + '[dashboard]\nnames = ["her2.lab.example"]\n')
    assert main(["--name", "other.example"]) == 2
    assert "people must sign in here" in capsys.readouterr().err
    assert needs_login(lab.settings, "127.0.0.1")
    assert site_names() == {"her2.lab.example", "other.example"}


@pytest.mark.parametrize(
    "name", ["https://her2.lab.example", "her2.lab:443", "her2.lab.", "a,b", "a\n", ""]
)
def test_a_name_that_no_browser_asks_for_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"names[\s\S]* without https://, port or final dot"):
        Dashboard(names=(name,))
