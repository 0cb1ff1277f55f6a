"""Ports of the tests' servers: not of connections, of one process each; a taken one is told."""

from __future__ import annotations

import socket
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from fixtures import ports
from fixtures.orthanc import Orthanc
from fixtures.ports import SHARE, WORKERS, free_port


def test_no_connection_and_no_other_process_takes_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    for number in range(WORKERS):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        seen |= set(islice(ports._ports(), SHARE))
    assert len(seen) == SHARE * WORKERS
    assert max(seen) < 32768  # where Linux begins to number connections


def test_a_port_is_given_once_and_a_taken_one_never() -> None:
    port = free_port()
    following = port + 1
    with socket.socket() as taken:
        with suppress(OSError):  # another program has it: that is as good
            taken.bind(("127.0.0.1", following))
        assert not {port, following} & {free_port() for _ in range(SHARE // 2)}


def test_an_orthanc_whose_port_is_taken_is_told_at_once(tmp_path: Path) -> None:
    server = Orthanc(tmp_path / "orthanc")
    with (
        socket.create_server(("127.0.0.1", server.http_port)),
        pytest.raises(RuntimeError, match="port"),
    ):
        server.start()
