"""Restores that fail, and starts that end, before all is in its place."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from fixtures.ledgers import LEDGERS, load_ledger

from appliance.ledger.backups import folder_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.queries import RESTORED
from appliance.ledger.start import open_at_start
from appliance.ledger.transaction import Transaction
from appliance.operations.audit import NAME
from appliance.operations.backup import restore_ledger
from appliance.settings.settings import Settings

TRAIL = '{"event": 1000000}'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """State folder with a ledger, and a backup of it by the edition before."""
    made = Settings(state_dir=tmp_path / "state")
    made.state_dir.mkdir()
    load_ledger(LEDGERS[-1], made.ledger_file)
    ledger = start(made)
    with ledger.transaction() as tx:
        tx.note("case-1", "retry", 1.0)
    ledger.close()
    (made.state_dir / NAME).write_text(TRAIL)
    return made


def start(settings: Settings) -> Ledger:
    return open_at_start(settings.ledger_url, threading.Event())


def restored(settings: Settings) -> int:
    """Start, and return how often the ledger says that it was restored."""
    ledger = start(settings)
    with ledger.transaction() as tx:
        found = len(tx.notes(RESTORED))
    ledger.close()
    return found


def test_a_restore_that_fails_leaves_the_trail_and_the_ledger_as_they_were(
    settings: Settings,
) -> None:
    unreadable = folder_of(settings.ledger_file) / "left_alone-1.txt"
    unreadable.mkdir()
    before = settings.ledger_file.read_bytes()
    with pytest.raises(IsADirectoryError):
        restore_ledger(settings)
    assert settings.ledger_file.read_bytes() == before
    assert (settings.state_dir / NAME).read_text() == TRAIL
    assert restored(settings) == 0
    unreadable.rmdir()
    done = restore_ledger(settings)
    assert (settings.state_dir / NAME).read_text() == f'{{"event": {done.backup.event}}}'
    assert [restored(settings), restored(settings)] == [1, 1]


def go_on(settings: Settings) -> None:
    """Let an earlier edition append an event."""
    with closing(sqlite3.connect(settings.ledger_file)) as ledger, ledger:
        names = [name for _, name, *_ in ledger.execute("PRAGMA table_info(event)")]
        kept = ", ".join(f'"{name}"' for name in names if name not in ("id", "hash"))
        ledger.execute(
            f"INSERT INTO event (hash, {kept}) "  # noqa: S608
            f"SELECT 'another', {kept} FROM event ORDER BY id DESC LIMIT 1"
        )


@pytest.mark.parametrize("gone_on", [False, True])
def test_a_start_that_ends_after_the_migration_does_not_forget_the_restore(
    gone_on: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_ledger(settings)
    if gone_on:
        go_on(settings)
    with monkeypatch.context() as ended:
        ended.setattr(Transaction, "take_up", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(settings)
    assert restored(settings) == 1
