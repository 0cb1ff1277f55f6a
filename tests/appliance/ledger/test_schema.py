"""A ledger of another build: readers and commands say in one line what is to be done."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
from fixtures.daemon import tandem
from fixtures.ledgers import LEDGERS, load_ledger

from appliance.errors import LedgerError
from appliance.ledger.ledger import Ledger
from appliance.ledger.reader import LedgerReader
from appliance.ledger.schema import SCHEMA
from appliance.operations.retry import retry_subject
from appliance.operations.status import status_of
from appliance.settings.settings import Settings

OLDER = "The daemon migrates it at its next start"
NEWER = "a newer build made this ledger (schema 99; this build has"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """State folder with the newest of the old ledgers, and a settings file beside it."""
    made = Settings(state_dir=tmp_path / "state")
    load_ledger(LEDGERS[-1], made.ledger_file)
    (tmp_path / "scans").mkdir()
    (tmp_path / "tandem.toml").write_text(
        f'state_dir = "{made.state_dir}"\n[watch]\nfolder = "{tmp_path / "scans"}"\n'
    )
    return made


def set_number(settings: Settings, number: int) -> None:
    with sqlite3.connect(settings.ledger_file) as connection:
        connection.execute(f"PRAGMA user_version = {number}")
    connection.close()


def content(settings: Settings) -> list[str]:
    with sqlite3.connect(settings.ledger_file) as connection:
        found = list(connection.iterdump())
    connection.close()
    return found


@pytest.mark.parametrize(("number", "words"), [(3, OLDER), (0, OLDER), (99, NEWER)])
def test_all_but_the_daemon_leave_it_as_it_is(settings: Settings, number: int, words: str) -> None:
    set_number(settings, number)
    before = content(settings)
    for opened in (
        lambda: Ledger(settings.ledger_url),
        lambda: LedgerReader(settings.ledger_url).ready,
        lambda: status_of(settings),
        lambda: retry_subject(settings, "slide-1"),
    ):
        with pytest.raises(LedgerError) as caught:
            opened()
        assert words in str(caught.value) and str(settings.state_dir) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert content(settings) == before


@pytest.mark.parametrize(("command", "number"), [("run", 99), ("status", 99), ("status", 3)])
def test_commands_say_it_in_one_line(settings: Settings, command: str, number: int) -> None:
    set_number(settings, number)
    config = settings.state_dir.parent / "tandem.toml"
    done = tandem(command, "--config", config, check=False)
    assert done.returncode == 1
    assert (OLDER if number == 3 else NEWER) in done.stderr
    assert done.stderr.strip().count("\n") == 0 and "Traceback" not in done.stderr


def test_a_database_of_something_else_is_no_ledger(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("CREATE TABLE song (title)")
    connection.close()
    with pytest.raises(LedgerError, match="other tables than a ledger"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def test_a_new_ledger_has_its_number_and_opens_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    connection.close()
    Ledger(url).close()
    reader = LedgerReader(url)
    assert reader.ready
    reader.close()


def test_the_number_is_raised_with_each_change_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    digest = hashlib.sha256("\n".join(sql or "" for (sql,) in rows).encode()).hexdigest()[:16]
    assert (SCHEMA, digest) == (5, "47d9cbf5ea02bcfa"), "raise SCHEMA, then put both here"


def test_an_empty_file_is_no_ledger_yet(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    reader = LedgerReader(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert not reader.ready
    status = status_of(Settings(state_dir=tmp_path))
    assert (status["cases"], status["slides"]) == ([], [])
    reader.close()
