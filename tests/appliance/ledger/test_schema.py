"""A state folder of another build is refused with one clear line, by every opener."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
from fixtures.daemon import tandem

from appliance.errors import SettingsError
from appliance.ledger.ledger import Ledger
from appliance.ledger.reader import LedgerReader
from appliance.ledger.schema import SCHEMA
from appliance.operations.retry import retry_subject
from appliance.operations.status import status_of
from appliance.settings.settings import Settings

FIRST_EDITION = """
CREATE TABLE slide (id INTEGER PRIMARY KEY, path VARCHAR NOT NULL, state VARCHAR NOT NULL,
  detail VARCHAR NOT NULL, case_id INTEGER, deaths INTEGER NOT NULL);
CREATE TABLE event (id INTEGER PRIMARY KEY, at FLOAT NOT NULL, subject VARCHAR NOT NULL,
  kind VARCHAR NOT NULL, text VARCHAR NOT NULL, hash VARCHAR NOT NULL);
INSERT INTO event VALUES (1, 1.0, 'slide-1', 'state', '→ arriving', 'x');
"""
"""Tables of the builds before schema numbers, as far as they matter here."""


@pytest.fixture
def old(tmp_path: Path) -> Settings:
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "scans").mkdir()
    with sqlite3.connect(state / "ledger.sqlite") as connection:
        connection.executescript(FIRST_EDITION)
    connection.close()
    (tmp_path / "tandem.toml").write_text(
        f'state_dir = "{state}"\n[watch]\nfolder = "{tmp_path / "scans"}"\n'
    )
    return Settings(state_dir=state)


def assert_clear(message: str, settings: Settings, found: int) -> None:
    for words in (
        str(settings.state_dir),
        f"schema {found}, this build has {SCHEMA}",
        "Move this state folder away",
        "finish its cases with the build that made it",
        "migrations come with a later version",
    ):
        assert words in message
    assert "\n" not in message and "Traceback" not in message


@pytest.mark.parametrize("number", [0, SCHEMA - 1, SCHEMA + 1])
def test_every_door_refuses_another_schema(old: Settings, number: int) -> None:
    path = old.state_dir / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    for opened in (
        lambda: Ledger(old.ledger_url),
        lambda: LedgerReader(old.ledger_url).ready,
        lambda: status_of(old),
        lambda: retry_subject(old, "slide-1"),
    ):
        with pytest.raises(SettingsError) as caught:
            opened()
        assert_clear(str(caught.value), old, number)
    # What another build made stays as it was.
    with sqlite3.connect(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert connection.execute("PRAGMA user_version").fetchone() == (number,)
    connection.close()
    assert tables == {"slide", "event"}


@pytest.mark.parametrize("command", ["run", "status"])
def test_commands_say_it_in_one_line(old: Settings, command: str) -> None:
    config = old.state_dir.parent / "tandem.toml"
    done = tandem(command, "--config", config, check=False)
    assert done.returncode == 1
    assert_clear(done.stderr.strip(), old, 0)


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
    assert (SCHEMA, digest) == (4, "c342de326b43919f"), "raise SCHEMA, then put both here"


def test_an_empty_file_is_no_ledger_yet(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    reader = LedgerReader(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert not reader.ready
    assert status_of(Settings(state_dir=tmp_path)) == {"cases": [], "slides": []}
    reader.close()
