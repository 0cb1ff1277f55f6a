"""The read-only door: beside the writer, one consistent view, and no way to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.small_disk import fill, small_disk
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from appliance.errors import DiskFullError, LedgerError, SettingsError
from appliance.ledger.ledger import Ledger
from appliance.ledger.reader import LedgerReader
from appliance.operations.backup import verify_ledger
from appliance.operations.status import status_of
from appliance.operations.users import Users
from appliance.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    made = Ledger(settings.ledger_url)
    yield made
    made.close()


@pytest.fixture
def reader(ledger: Ledger, settings: Settings) -> Iterator[LedgerReader]:
    made = LedgerReader(settings.ledger_url)
    yield made
    made.close()


def test_it_cannot_write_and_keeps_one_view_beside_the_writer(
    ledger: Ledger, reader: LedgerReader
) -> None:
    with reader.reading() as tx:
        assert tx.slides() == []
        with ledger.transaction() as writer:
            writer.add_slide("a.svs", 1.0)
        assert tx.slides() == []
        with pytest.raises(OperationalError, match="readonly"):
            tx.session.connection().execute(text("DELETE FROM slide"))
    with reader.reading() as tx:
        assert [slide.path for slide in tx.slides()] == ["a.svs"]


def test_status_never_waits_for_a_writer(ledger: Ledger, settings: Settings) -> None:
    with ledger.transaction() as tx:
        tx.add_slide("a.svs", 1.0)
        # A reader that waited would wait for this block, and give up.
        assert status_of(settings)["slides"] == []
    assert [slide["file"] for slide in status_of(settings)["slides"]] == ["a.svs"]


def test_no_ledger_is_not_made_by_looking(settings: Settings) -> None:
    elsewhere = settings.state_dir / "other.sqlite"
    reader = LedgerReader(f"sqlite:///{elsewhere}")
    assert not reader.ready
    assert not elsewhere.exists()


def test_on_a_full_disk_a_sound_ledger_is_not_called_damaged(tmp_path: Path) -> None:
    """Without the daemon's files beside it SQLite has no room for those of a reader."""
    with small_disk(tmp_path / "small", 2048) as disk:
        state = disk / "state"
        ledger = Ledger(f"sqlite:///{state}/ledger.sqlite")
        ledger.close()
        settings = Settings(state_dir=state)
        full = fill(disk)
        for look in (lambda: LedgerReader(ledger.url).ready, lambda: verify_ledger(settings)):
            with pytest.raises(LedgerError, match=r"disk of the state folder is full.*Make room"):
                look()
        with pytest.raises(DiskFullError):
            Ledger(ledger.url)
        with pytest.raises(SettingsError, match="the disk is full"):
            Users(settings).add("a.meyer", "viewer", "", "several words are good")
        full.unlink()
        assert LedgerReader(ledger.url).ready and not verify_ledger(settings).problems
