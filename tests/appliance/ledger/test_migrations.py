"""Ledgers of every earlier schema become today's, whole, and nothing in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fixtures.ledgers import LEDGERS, load_ledger
from sqlalchemy import Engine, event
from sqlmodel import SQLModel

from appliance.errors import DiskFullError, LedgerError
from appliance.ledger.backups import backups_of, folder_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.migrations import columns as migration_columns
from appliance.ledger.migrations import migrate
from appliance.ledger.queries import RESTORED
from appliance.ledger.schema import SCHEMA, TABLES
from appliance.ledger.start import open_at_start
from appliance.ledger.verify import verify
from appliance.operations.backup import restore_ledger
from appliance.operations.status import status_of
from appliance.settings.settings import Settings

Rows = dict[str, dict[str, Any]]


def start(file: Path) -> Ledger:
    return open_at_start(f"sqlite:///{file}", threading.Event())


def columns(file: Path) -> dict[str, set[tuple[str, str, int, int]]]:
    """Name, type, NOT NULL and place in the primary key of each column of each table."""
    query = (
        'SELECT m.name, p.name, p.type, p."notnull", p.pk FROM sqlite_master m, '
        "pragma_table_info(m.name) p WHERE m.type = 'table'"
    )
    found: dict[str, set[tuple[str, str, int, int]]] = {}
    with sqlite3.connect(file) as connection:
        for table, *facts in connection.execute(query):
            found.setdefault(table, set()).add(tuple(facts))
    connection.close()
    return found


def indexes(file: Path) -> set[str]:
    with sqlite3.connect(file) as connection:
        found = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
            if not name.startswith("sqlite_autoindex")
        }
    connection.close()
    return found


def test_there_is_a_ledger_of_each_revision_before_today() -> None:
    assert [dump.stem for dump in LEDGERS] == [f"{number:04d}" for number in range(1, 9)]


@pytest.mark.parametrize("dump", LEDGERS, ids=lambda dump: dump.stem)
def test_each_schema_becomes_todays(tmp_path: Path, dump: Path) -> None:
    file = load_ledger(dump, tmp_path / "ledger.sqlite")
    start(file).close()
    new = tmp_path / "new.sqlite"
    Ledger(f"sqlite:///{new}").close()
    assert columns(file) == columns(new)
    assert indexes(file) == indexes(new)
    assert verify(file).problems == ()
    # The backup is the ledger as it was.
    (backup,) = backups_of(file)
    kept = sqlite3.connect(folder_of(file) / backup.name)
    old = sqlite3.connect(load_ledger(dump, tmp_path / "old.sqlite"))
    assert list(kept.iterdump()) == list(old.iterdump())
    kept.close()
    old.close()


@pytest.mark.parametrize("dump", LEDGERS, ids=lambda dump: dump.stem)
def test_what_people_see_is_kept(tmp_path: Path, dump: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    start(load_ledger(dump, settings.ledger_file)).close()
    report = status_of(settings)
    cases: Rows = {case["accession"]: case for case in report["cases"]}
    slides: Rows = {slide["file"]: slide for slide in report["slides"]}
    corrected = cases["S26-1"]
    assert (corrected["state"], corrected["score"], corrected["assay"]) == (
        "delivered",
        "2+",
        "her2",
    )
    assert corrected["slides"] == {"HE": "slide-1", "HER2": "slide-2"}
    told = [step["text"] for step in corrected["steps"]]
    assert "corrected from 1+ to 2+ by Meyer^Anna" in told
    assert "delivered → scored: corrected from 1+ to 2+" in told
    assert "align 1.75 s" in told
    assert cases["S26-3"]["state"] == "partnerless"
    assert cases["S26-3"]["remedy"].startswith("No HER2 slide of this block came.")
    assert cases["S26-4"]["remedy"].startswith("ValueError: no place: here. See the log")
    assert cases["S26-5"]["review"] == [
        "No control tissue was found on the HER2 slide: nothing shows that the staining run worked."
    ]
    assert [(sent["kind"], sent["state"]) for sent in cases["S26-5"]["deliveries"]] == [
        ("WSM", "queued"),
        ("SEG", "sent"),
        ("SR", "queued"),
    ]
    assert cases["S26-5"]["deliveries"][0]["error"] == "'archive' 0xA700: out of resources"
    assert cases["S26-6"]["state"] == "undelivered"
    damaged = slides["S26-7_A1_HE.svs"]
    assert (damaged["reason"], damaged["detail"]) == (
        "damaged",
        "12 % of level 0 cannot be decoded",
    )
    assert slides["Müller_A1_HE.svs"]["detail"] == "ValueError: bad: tag"
    assert slides["S26-8_A1_HER2.svs"]["detail"] == "3 times"
    assert slides["S26-9_A1_HE.svs"]["state"] == "superseded"


def test_rows_are_converted_few_at_once_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "SELECT id, at, subject, kind, text, hash FROM event"
    before = sqlite3.connect(load_ledger(LEDGERS[0], tmp_path / "before.sqlite"))
    (events,) = before.execute("SELECT max(id) FROM event").fetchone()
    before.close()

    def migrated(name: str) -> tuple[dict[str, Any], int]:
        """Migrate; return the rows, without the events of the migrations, and the reads of old
        events."""
        asked: list[str] = []

        def keep(_c: object, _k: object, statement: str, *_: object) -> None:
            asked.append(statement.replace('"', ""))

        event.listen(Engine, "before_cursor_execute", keep)
        file = load_ledger(LEDGERS[0], tmp_path / name)
        start(file).close()
        event.remove(Engine, "before_cursor_execute", keep)
        with sqlite3.connect(file) as connection:
            rows = {
                table: connection.execute(f'SELECT * FROM "{table}"').fetchall()  # noqa: S608
                for table in ("slide", "case", "delivery")
            }
            own = connection.execute("SELECT * FROM event WHERE id <= ?", (events,)).fetchall()
        connection.close()
        return rows | {"event": own}, sum(each.startswith(query) for each in asked)

    at_once, _ = migrated("whole.sqlite")
    monkeypatch.setattr(migration_columns, "AT_ONCE", 3, raising=False)
    few, reads = migrated("few.sqlite")
    assert few == at_once
    assert reads == events // 3 + 1 + bool(events % 3)


@pytest.mark.parametrize("dump", LEDGERS[:4], ids=lambda dump: dump.stem)
def test_slides_without_the_words_of_their_sidecar_are_identified_anew(
    tmp_path: Path, dump: Path
) -> None:
    """A slide that a result has used already stays as it is."""
    ledger = start(load_ledger(dump, tmp_path / "ledger.sqlite"))
    with ledger.transaction() as tx:
        (ready,) = [case for case in tx.cases() if case.accession == "S26-2"]
        anew = {row.accession for row in tx.slides() if row.state == SlideState.ARRIVING}
        read = {row.accession for row in tx.slides() if row.state == SlideState.READ}
    ledger.close()
    assert ready.state == "waiting"
    assert anew == {"S26-2", "S26-3", "S26-4", "S26-9", "S26-10"}
    assert read == {"S26-1", "S26-5", "S26-6"}


def test_a_changed_event_of_an_old_ledger_is_told(tmp_path: Path) -> None:
    """Converted events get new hashes, which must not hide what was wrong with the old ones."""
    file = load_ledger(LEDGERS[0], tmp_path / "ledger.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE event SET text = 'a note' WHERE id = 7")
    connection.close()
    ledger = start(file)
    with ledger.transaction() as tx:
        (event,) = tx.events("ledger")
    ledger.close()
    assert (event.code, event.params) == ("chain-was-broken", '{"event": 7}')


@pytest.mark.parametrize("number", [0, 3, SCHEMA])
@pytest.mark.parametrize(
    ("table", "column"),
    [("slide", "organ"), ("slide", "params"), ("delivery", "reason"), ("case", "review")],
)
def test_a_column_that_is_missing_is_added(
    tmp_path: Path, table: str, column: str, number: int
) -> None:
    file = tmp_path / "ledger.sqlite"
    Ledger(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("DROP INDEX ix_case_review")
        connection.execute(f'ALTER TABLE "{table}" DROP COLUMN {column}')
        connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    with pytest.raises(LedgerError, match="migrates it at its next start"):
        Ledger(f"sqlite:///{file}")
    ledger = start(file)
    with ledger.transaction() as tx:
        tx.add_slide("a.svs", 1.0)
    ledger.close()
    assert "ix_case_review" in indexes(file)
    assert len(backups_of(file)) == 1


def test_a_column_whose_values_cannot_be_known_is_not_made_up(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    Ledger(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("ALTER TABLE event DROP COLUMN at")
    connection.close()
    with pytest.raises(LedgerError, match="lacks the column 'at'"):
        start(file)


def test_rows_that_refer_to_nothing_hinder_a_migration(tmp_path: Path) -> None:
    file = load_ledger(LEDGERS[0], tmp_path / "ledger.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE delivery SET case_id = 99 WHERE id = 1")
        before = list(connection.iterdump())
    connection.close()
    with pytest.raises(LedgerError, match="refer to rows that are gone"):
        start(file)
    after = sqlite3.connect(file)
    assert list(after.iterdump()) == before
    after.close()


KILLED = """
import os, signal, sys, threading
from sqlalchemy import Engine, event
from appliance.ledger.start import open_at_start
left = int(sys.argv[2])
@event.listens_for(Engine, "before_cursor_execute")
def count(_connection, _cursor, statement, *_more):
    global left
    writes = ("INSERT", "UPDATE", "DROP", "ALTER", "CREATE", "PRAGMA")
    left -= statement.startswith(writes)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
open_at_start(f"sqlite:///{sys.argv[1]}", threading.Event()).close()
"""


@pytest.mark.parametrize("after", [12, 40, 200, 240, 280])
def test_a_kill_in_the_middle_leaves_the_old_ledger(tmp_path: Path, after: int) -> None:
    """The numbers fall on conversions, on rebuilds of tables and on the last steps."""
    file = load_ledger(LEDGERS[0], tmp_path / "ledger.sqlite")
    before = sqlite3.connect(load_ledger(LEDGERS[0], tmp_path / "old.sqlite"))
    done = subprocess.run([sys.executable, "-c", KILLED, str(file), str(after)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = sqlite3.connect(file)
    assert list(left.iterdump()) == list(before.iterdump())
    left.close()
    before.close()
    start(file).close()
    assert verify(file).problems == ()


def test_columns_of_the_model_are_those_of_the_tables() -> None:
    """`lacking` compares by the names of fields."""
    for table in TABLES:
        assert set(SQLModel.metadata.tables[str(table.__tablename__)].columns.keys()) == set(
            table.model_fields
        )


def test_a_migration_that_fails_again_and_again_makes_one_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path)
    file = load_ledger(LEDGERS[-1], settings.ledger_file)

    def full(*_: object) -> str:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    def fail_thrice() -> None:
        with monkeypatch.context() as disk:
            disk.setattr(migrate, "migrate", full)
            for _ in range(3):
                with pytest.raises(DiskFullError):
                    start(file)

    fail_thrice()
    (backup,) = backups_of(file)
    start(file).close()
    assert backups_of(file) == [backup]
    # One that was restored is not the one before its own migration: it would not be taken up.
    restore_ledger(settings)
    fail_thrice()
    assert len(backups_of(file)) == 2
    for _ in range(2):
        ledger = start(file)
        with ledger.transaction() as tx:
            assert tx.was_restored() and len(tx.notes(RESTORED)) == 1
        ledger.close()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_backup_that_its_disk_lost_is_not_the_one_before_a_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    file = load_ledger(LEDGERS[-1], Settings(state_dir=tmp_path).ledger_file)

    def fail(*_: object) -> str:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as disk:
        disk.setattr(migrate, "migrate", fail)
        with pytest.raises(Exception, match="disk I/O error"):
            start(file)
    (lost,) = backups_of(file)
    path = folder_of(file) / lost.name
    os.truncate(path, int(share * path.stat().st_size))
    start(file).close()
    made = [each for each in backups_of(file) if each.name != lost.name]
    assert [(each.event, each.head, each.schema) for each in made] == [
        (lost.event, lost.head, lost.schema)
    ]
    kept = sqlite3.connect(folder_of(file) / made[0].name)
    assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept.execute("SELECT max(id) FROM event").fetchone() == (lost.event,)
    kept.close()
