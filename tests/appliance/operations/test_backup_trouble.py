"""Trouble of a ledger that cannot be backed up and has no backup is told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appliance.ledger import backups
from appliance.ledger.backups import backups_of, folder_of, make_backup
from appliance.ledger.daily import backup_if_due, backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.operations.doctor import examine
from appliance.operations.metrics import metrics_text
from appliance.operations.status import status_of
from appliance.settings.installation import installation_salt
from appliance.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """State folder with a ledger, whose folder of backups is a link to a share that is away."""
    made = Settings(state_dir=tmp_path / "state")
    Ledger(made.ledger_url).close()
    installation_salt(made.state_dir)
    folder_of(made.ledger_file).symlink_to(tmp_path / "nas")
    return made


def told_of(settings: Settings) -> str:
    """Return the trouble of the backup, which status, figures and doctor say alike."""
    said = status_of(settings)["appliance"]["backup_trouble"]
    assert isinstance(said, str)
    assert f"tandem_backup_trouble {float(bool(said))}".encode() in metrics_text(settings)
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    (line,) = [each for each in examine(config) if each.what == "ledger"]
    assert line.ok == (not said) and said in line.text
    return said


def test_a_backup_that_fails_in_a_folder_that_cannot_be_written_is_told(
    settings: Settings, tmp_path: Path
) -> None:
    assert told_of(settings) == ""
    backup_if_due(settings)
    assert "The backup of the ledger failed at" in told_of(settings)
    (tmp_path / "nas").mkdir()
    backup_if_due(settings)
    assert len(backups_of(settings.ledger_file)) == 1
    assert told_of(settings) == ""


def test_that_there_never_was_a_backup_is_told(settings: Settings) -> None:
    salt = settings.state_dir / "installation.txt"
    for hours, told in ((47, False), (49, True)):
        os.utime(salt, (time.time(), time.time() - 3600 * hours))
        assert ("no good backup" in told_of(settings)) == told


def test_what_killed_backups_left_is_removed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nas").mkdir()
    folder, long_ago = folder_of(settings.ledger_file), time.time() - 4000

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for cut_off in ("copied", "_write", "_sync"):
        with monkeypatch.context() as kill:
            kill.setattr(backups, cut_off, killed)
            with pytest.raises(KeyboardInterrupt):
                make_backup(settings.ledger_file)
    for name in (".111.part", ".111.part-journal", "ledger-20261130T020000000000Z-3c1f.sqlite"):
        (folder / name).write_bytes(b"x")  # of a process that has no chance to clean up
        os.utime(folder / name, (long_ago, long_ago))
    kept = folder / "ledger-before-the-move.sqlite"
    kept.write_bytes(b"x")  # a person's
    os.utime(kept, (long_ago, long_ago))
    (folder / ".222.part").write_bytes(b"x")  # another process writes it now
    backup_ledger(settings)
    known = {each.name for each in backups_of(settings.ledger_file)}
    assert {path.name for path in folder.glob("*.sqlite")} == known | {kept.name}
    assert [path.name for path in folder.glob(".*")] == [".222.part"]
