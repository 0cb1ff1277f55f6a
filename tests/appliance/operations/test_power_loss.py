"""A disk loses its power: what Tandem said to be there is there when it is mounted again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR

from appliance.artifacts import ArtifactKey, ArtifactStore, sync_tree
from appliance.domain import HE, Identity
from appliance.errors import LedgerError, LedgerUnwritableError
from appliance.ledger.backups import goes_on_from, newest_good
from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.ledger.reader import LedgerReader
from appliance.ledger.start import open_at_start
from appliance.operations.backup import restore_ledger, verify_ledger
from appliance.settings.installation import installation_salt
from appliance.settings.settings import Settings
from benchmarks.trial.disk import SmallDisk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as found:
        if found is None or found.image is None:
            pytest.skip("no disk that loses power: that needs root, loop devices and mkfs.ext4")
        yield found


def lose_power(disk: SmallDisk) -> None:
    disk.cut_power()
    disk.mount_again()


def add_case(settings: Settings, accession: str) -> None:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        tx.case_for(Identity(accession=accession, block="A1", stain=HE), 1.0, HER2_PAIR)
    ledger.close()


def test_what_is_not_synced_is_lost_with_the_power(disk: SmallDisk) -> None:
    (disk.place / "file").write_text("text")
    disk.cut_power()
    with pytest.raises(OSError, match="Input/output"):
        (disk.place / "other").write_text("text")
    disk.mount_again()
    assert not (disk.place / "file").exists()


def test_a_ledger_on_a_disk_that_fails_is_not_called_damaged(disk: SmallDisk) -> None:
    settings = Settings(state_dir=disk.place / "state")
    add_case(settings, "S26-1")
    ledger, reader = Ledger(settings.ledger_url), LedgerReader(settings.ledger_url)
    assert reader.ready
    disk.cut_power()
    for _ in range(3):  # SQLite says "I/O error" once, then "malformed"
        with pytest.raises(LedgerUnwritableError), ledger.transaction() as tx:
            tx.move_waits(1.0)
        with pytest.raises(LedgerError, match="cannot be read"), reader.reading() as read:
            read.cases()
    ledger.close()
    reader.close()


def test_a_backup_that_was_made_can_be_restored(disk: SmallDisk) -> None:
    settings = Settings(state_dir=disk.place / "state")
    add_case(settings, "S26-1")
    made = backup_ledger(settings)
    lose_power(disk)
    assert newest_good(settings.ledger_file) == goes_on_from(settings.ledger_file) == made
    add_case(settings, "S26-2")
    settings.ledger_file.write_bytes(b"no ledger any more")
    assert restore_ledger(settings).backup == made
    lose_power(disk)
    open_at_start(settings.ledger_url, threading.Event()).close()
    assert verify_ledger(settings).problems == ()


def test_results_and_transactions_that_ended_well_stay(disk: SmallDisk) -> None:
    settings = Settings(state_dir=disk.place / "state")
    store, key = ArtifactStore(settings.artifacts_dir), ArtifactKey.of("inspect", slide=1)
    add_case(settings, "S26-1")
    with store.writing(key) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("text")
    lose_power(disk)
    assert store.has(key)
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        assert [case.accession for case in tx.cases()] == ["S26-1"]
    ledger.close()


def test_the_salt_and_fetched_series_stay(disk: SmallDisk) -> None:
    state, part = disk.place / "state", disk.place / "part"
    state.mkdir()
    salt = installation_salt(state)
    lose_power(disk)
    assert installation_salt(state) == salt
    part.mkdir()
    (part / "1.dcm").write_bytes(b"pixels")
    sync_tree(part)
    part.rename(disk.place / "series")
    lose_power(disk)
    found = [path for path in (part, disk.place / "series") if path.is_dir()]
    assert [(path / "1.dcm").read_bytes() for path in found] == [b"pixels"]
