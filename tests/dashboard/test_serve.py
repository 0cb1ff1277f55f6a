"""Start of the dashboard's server."""

from __future__ import annotations

import os
import socket
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
