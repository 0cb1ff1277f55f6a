"""The order of backups, and which ones go: wrong clocks, restored and damaged ledgers."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR

from appliance.domain import HE, Identity
from appliance.ledger.backups import Backup, backups_of, newest_good
from appliance.ledger.daily import backup_if_due, backup_ledger, backup_trouble
from appliance.ledger.ledger import Ledger
from appliance.operations.backup import restore_ledger
from appliance.settings.ledger import LedgerSettings
from appliance.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """State folder whose ledger has a case."""
    made = Settings(
        state_dir=tmp_path / "state", ledger=LedgerSettings(backup_hours=24, keep_backups=2)
    )
    ledger = Ledger(made.ledger_url)
    with ledger.transaction() as tx:
        tx.case_for(Identity(accession="S26-1", block="A1", stain=HE), 1.0, HER2_PAIR)
    ledger.close()
    return made


def go_on(settings: Settings) -> None:
    """Let something happen, so that the chain of events goes on."""
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        tx.note("case-1", "retry", 1.0)
    ledger.close()


def test_a_backup_of_a_clock_that_was_ahead_replaces_no_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, file = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1)), settings.ledger_file
    settings = settings.model_copy(
        update={"ledger": LedgerSettings(backup_hours=24, keep_backups=3)}
    )

    def check(at: float) -> list[Backup]:
        monkeypatch.setattr(time, "time", lambda: at)
        backup_if_due(settings)
        go_on(settings)
        return backups_of(file)

    before = check(start)
    ahead, *_ = check(start + 5 * 86400)
    for minutes in range(0, 120, 10):
        last = check(start + 86400 + 60 * minutes)
    assert len(last) == 3 and set(last) >= {*before, ahead}  # one was made, not twelve
    assert newest_good(file) == last[0] and ahead == last[-1]
    assert restore_ledger(settings).backup == last[0]
    # The days go by; what was made under the wrong clock is the first to go.
    for day in range(2, 6):
        last = check(start + day * 86400)
    assert ahead not in last
    monkeypatch.setattr(time, "time", lambda: start + 6 * 86400)
    assert newest_good(file) == max(last, key=lambda each: each.made_at)


def test_a_backup_of_a_clock_that_was_ahead_is_none_of_today_when_its_day_comes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, file = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1)), settings.ledger_file
    monkeypatch.setattr(time, "time", lambda: start + 86400)
    ahead = backup_ledger(settings)
    go_on(settings)
    monkeypatch.setattr(time, "time", lambda: start)
    real = backup_ledger(settings)
    monkeypatch.setattr(time, "time", lambda: start + 86400 + 60)
    assert backups_of(file) == [real, ahead]
    backup_if_due(settings)
    assert len(backups_of(file)) == 2 and ahead not in backups_of(file)


def test_after_a_restore_the_newest_is_the_one_of_the_restored_ledger(settings: Settings) -> None:
    first = backup_ledger(settings)
    for _ in range(2):
        go_on(settings)
    longer = backup_ledger(settings)
    restore_ledger(settings, first.name)
    after = backup_ledger(settings)
    assert after.event < longer.event
    assert backups_of(settings.ledger_file) == [after, longer]


def test_a_damaged_backup_is_tried_again_and_takes_the_place_of_no_good_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, start = settings.ledger_file, time.time()
    with sqlite3.connect(file) as connection:
        connection.executescript("CREATE TABLE odd (a); CREATE INDEX ix_odd ON odd (a)")
        connection.executescript("INSERT INTO odd VALUES (1); PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    good = [backup_ledger(settings) for _ in range(2)]
    with sqlite3.connect(file) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_odd'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    whole = file.read_bytes()
    with file.open("r+b") as opened:  # readable, and integrity_check finds it
        opened.seek((page - 1) * size)
        opened.write(bytes([10, 0, 0, 0, 0]))
    for minutes in (1500, 1510, 1520):
        monkeypatch.setattr(time, "time", lambda at=start + 60 * minutes: at)
        backup_if_due(settings)
        damaged, *others = backups_of(file)
        assert (damaged.made_at, damaged.whole) == (time.time(), False)
        assert others == good[::-1]
    assert "damaged, as its backup shows" in backup_trouble(settings, time.time())
    file.write_bytes(whole)
    monkeypatch.setattr(time, "time", lambda: start + 60 * 1530)
    backup_if_due(settings)
    assert newest_good(file) == backups_of(file)[0] != good[-1]
    assert backup_trouble(settings, time.time()) == ""
