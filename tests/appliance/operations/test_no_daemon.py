"""Restore and upgrade, while a daemon on another machine has the state folder mounted."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fixtures.ledgers import LEDGERS, load_ledger
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.errors import SettingsError
from appliance.ledger.heartbeat import Sign, write_sign
from appliance.ledger.ledger import Ledger
from appliance.operations.backup import back_up
from appliance.settings.settings import Settings


@pytest.fixture(autouse=True)
def _short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for 6 s, in which the other machine's daemon gives a dozen signs."""
    monkeypatch.setattr("appliance.ledger.heartbeat.SILENT_SECONDS", 4.0)


@contextmanager
def daemon_elsewhere(settings: Settings) -> Iterator[None]:
    """Give the sign of life of a daemon of another boot."""
    end = threading.Event()

    def sign() -> None:
        now, boot = time.time(), "another machine"
        write_sign(settings, Sign(at=now, monotonic=1.0, boot=boot, pid=1, born=1, started=now))

    def beat() -> None:
        while not end.wait(0.5):
            sign()

    sign()  # before anybody looks
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def run(settings: Settings, *words: str) -> BaseException | None:
    """Run a command; return what it raised."""
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    done = CliRunner().invoke(app, [*words, "--config", str(config)])
    return done.exception


def test_no_ledger_is_replaced_under_a_daemon_of_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(settings.ledger_url)
    back_up(settings)
    with daemon_elsewhere(settings):
        refused = run(settings, "ledger", "restore")
        with ledger.transaction() as tx:
            tx.add_slide("/scans/a.svs", 1.0)
    ledger.close()
    assert isinstance(refused, SettingsError) and "another machine" in str(refused)
    again = Ledger(settings.ledger_url)
    with again.transaction() as tx:
        assert tx.slide(1) is not None
    again.close()
    # One that fell silent is no hindrance, however long it is looked for.
    monkeypatch.setattr("appliance.ledger.heartbeat.SILENT_SECONDS", 0.0)
    assert run(settings, "ledger", "restore") is None


def test_no_ledger_is_migrated_under_a_daemon_of_another_machine(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    load_ledger(LEDGERS[-1], settings.ledger_file)
    before = hashlib.sha256(settings.ledger_file.read_bytes()).digest()
    with daemon_elsewhere(settings):
        refused = run(settings, "upgrade")
    assert isinstance(refused, SettingsError) and "another machine" in str(refused)
    assert hashlib.sha256(settings.ledger_file.read_bytes()).digest() == before
