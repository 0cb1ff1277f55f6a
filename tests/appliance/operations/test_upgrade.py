"""``tandem upgrade``: what it says of each earlier ledger; a check changes nothing; and back."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from fixtures.ledgers import LEDGERS, load_ledger
from fixtures.small_disk import fill, small_disk
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.errors import LedgerError
from appliance.ledger.ledger import Ledger
from appliance.ledger.schema import SCHEMA
from appliance.ledger.start import open_at_start
from appliance.operations.backup import restore_ledger
from appliance.operations.upgrade import check_upgrade, upgrade_now
from appliance.settings.settings import Settings

FINDINGS = Path(__file__).parents[2] / "fixtures" / "findings_versions"


def bytes_of(folder: Path) -> dict[str, tuple[str, int]]:
    """SHA-256 and time of change of each file below a folder."""
    return {
        str(file.relative_to(folder)): (
            hashlib.sha256(file.read_bytes()).hexdigest(),
            file.stat().st_mtime_ns,
        )
        for file in folder.rglob("*")
        if file.is_file()
    }


def run(settings: Settings, *words: str) -> tuple[int, str]:
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    done = CliRunner().invoke(app, ["upgrade", *words, "--config", str(config)])
    return done.exit_code, done.stdout


@pytest.mark.parametrize("dump", LEDGERS, ids=lambda dump: dump.stem)
def test_a_check_of_each_earlier_ledger_names_the_migrations_and_changes_nothing(
    tmp_path: Path, dump: Path
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    load_ledger(dump, settings.ledger_file)
    before = bytes_of(settings.state_dir)
    code, text = run(settings, "--check")
    assert code == 3
    wanted = [f"migration {number:04d}:" for number in range(int(dump.stem) + 1, 10)]
    assert [line[:15] for line in text.splitlines() if line.startswith("migration")] == wanted
    assert "first: a backup" in text and "tandem ledger restore" in text
    assert bytes_of(settings.state_dir) == before
    upgrade_now(settings)
    assert run(settings, "--check")[0] == 0
    # Back again: the earlier edition finds the ledger that it wrote.
    restore_ledger(settings)
    with closing(sqlite3.connect(settings.ledger_file)) as back:
        kept = list(back.iterdump())
    with closing(sqlite3.connect(load_ledger(dump, tmp_path / "as-it-was.sqlite"))) as first:
        assert kept == list(first.iterdump())


def test_an_upgrade_for_programs_prints_json_alone(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    load_ledger(LEDGERS[-1], settings.ledger_file)
    for _ in ("it migrates", "there is nothing to do"):
        code, text = run(settings, "--json")
        report = json.loads(text)
        assert (code, report["schema"], report["is_older"], report["trouble"]) == (
            0,
            SCHEMA,
            False,
            "",
        )


def test_a_check_beside_a_write_ahead_log_changes_nothing_and_sees_what_is_in_it(
    tmp_path: Path,
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        tx.note("ledger", "retry", 1.0)
    left = tmp_path / "left" / "state"
    shutil.copytree(settings.state_dir, left)  # as a killed daemon leaves it
    ledger.close()
    assert (left / "ledger.sqlite-wal").stat().st_size
    (left / "ledger.sqlite-shm").unlink()
    before = bytes_of(left)
    found = check_upgrade(settings.model_copy(update={"state_dir": left}))
    assert (found.schema, found.is_older, found.trouble) == (SCHEMA, False, "")
    assert bytes_of(left) == before


def test_findings_of_each_version_are_counted_and_those_of_a_later_edition_are_told(
    tmp_path: Path,
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    Ledger(settings.ledger_url).close()
    root = settings.artifacts_dir / "findings"
    for folder in FINDINGS.iterdir():
        shutil.copytree(folder, root / folder.name)
    (root / "later").mkdir()
    (root / "later" / "findings.json").write_text(json.dumps({"version": 99}))
    code, text = run(settings, "--check")
    assert code == 0
    assert "findings of version 5: 1, converted when they are read" in text
    assert "findings that cannot be read: 1; run their cases again" in text
    assert "artifacts 'findings' of an edition that wrote no checksums: 6" in text
    report = json.loads(run(settings, "--check", "--json")[1])
    assert report["findings"] == {"5": 1, "6": 1, "7": 1, "8": 1, "9": 1, "99": 1}


def test_a_ledger_of_a_later_edition_and_a_damaged_one_cannot_be_taken_over(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    Ledger(settings.ledger_url).close()
    with closing(sqlite3.connect(settings.ledger_file)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    code, text = run(settings, "--check")
    assert code == 1 and "a newer build made this ledger" in text
    assert run(settings)[0] == 1
    with pytest.raises(LedgerError):
        open_at_start(settings.ledger_url, threading.Event())
    settings.ledger_file.write_bytes(b"no database at all" * 300)
    code, text = run(settings, "--check")
    assert code == 1 and "damaged" in text


def test_without_room_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    load_ledger(LEDGERS[-1], settings.ledger_file)
    monkeypatch.setattr(
        "appliance.operations.upgrade.shutil.disk_usage",
        lambda _: shutil._ntuple_diskusage(1, 1, 0),
    )
    code, text = run(settings)
    assert code == 1 and "Make room first" in text
    assert check_upgrade(settings).is_older


def test_a_folder_without_a_ledger_has_nothing_to_be_done(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    code, text = run(settings, "--check")
    assert code == 0 and "none yet" in text
    assert not settings.state_dir.exists()


def test_the_edition_is_told() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert told.exit_code == 0
    assert told.stdout == f"tandem {version('tandem-her2')}. For research use only.\n"


def test_a_check_names_the_folder_that_has_no_room_for_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(settings.ledger_url)  # its write-ahead log lies beside it
    with closing(ledger), small_disk(tmp_path / "small", 64) as small:
        monkeypatch.setattr("tempfile.tempdir", str(small))
        trouble = check_upgrade(settings).trouble
        assert trouble.startswith(f"{small}: a copy of the ledger") and "TMPDIR" in trouble
        monkeypatch.setattr("tempfile.tempdir", None)
        assert not check_upgrade(settings).trouble


def test_a_full_disk_of_temporary_files_is_told_where_a_copy_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(settings.ledger_url)
    with closing(ledger), small_disk(tmp_path / "small", 64) as small:
        fill(small)
        monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(small)])
        monkeypatch.setattr("tempfile.tempdir", None)
        code, text = run(settings, "--check")
        assert code == 1 and "no folder for temporary files" in text and "TMPDIR" in text
        ledger.close()  # its write-ahead log goes: no copy is wanted
        assert not settings.ledger_file.with_name(f"{settings.ledger_file.name}-wal").exists()
        assert not check_upgrade(settings).trouble
