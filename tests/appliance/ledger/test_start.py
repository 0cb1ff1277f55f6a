"""The ledger at the start of the daemon: damaged, emptied, exchanged, locked, without room."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fixtures.daemon import tandem
from sqlalchemy import event

from appliance.errors import DiskFullError, LedgerError, StoppedError
from appliance.ledger.backups import make_backup
from appliance.ledger.ledger import Ledger
from appliance.ledger.queries import BEGUN_ANEW
from appliance.ledger.start import open_at_start
from appliance.ledger.transaction import Transaction
from appliance.operations.status import status_of
from appliance.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """State folder whose ledger has slides, a backup and results."""
    made = Settings(state_dir=tmp_path / "state")
    ledger = start(made)
    with ledger.transaction() as tx:
        for number in range(200):
            tx.add_slide(f"/scans/{number}.svs", 1.0)
    ledger.close()
    make_backup(made.ledger_file)
    (made.artifacts_dir / "inspect").mkdir(parents=True)
    (tmp_path / "scans").mkdir()
    (tmp_path / "tandem.toml").write_text(
        f'state_dir = "{made.state_dir}"\n[watch]\nfolder = "{tmp_path / "scans"}"\n'
    )
    return made


def start(settings: Settings, stop: threading.Event | None = None) -> Ledger:
    return open_at_start(settings.ledger_url, stop or threading.Event())


def no_bytes(file: Path) -> None:
    os.truncate(file, 0)


def random_pages(file: Path) -> None:
    rng = random.Random(7)  # noqa: S311
    with file.open("r+b") as opened:
        for page in range(1, file.stat().st_size // 4096, 2):
            opened.seek(4096 * page)
            opened.write(rng.randbytes(4096))


def all_random(file: Path) -> None:
    file.write_bytes(random.Random(7).randbytes(50_000))  # noqa: S311


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 3)


def a_text(file: Path) -> None:
    file.write_text("This is not a database.\n" * 100)


def gone(file: Path) -> None:
    file.unlink()


def no_rows(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        for table in ("slide", "event"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
    connection.close()


def no_slides(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM slide")
    connection.close()


def new_tables(file: Path) -> None:
    file.unlink()
    Ledger(f"sqlite:///{file}").close()


DAMAGES: tuple[Callable[[Path], None], ...] = (
    no_bytes,
    random_pages,
    all_random,
    cut,
    a_text,
    gone,
    no_rows,
    no_slides,
    new_tables,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_lost_ledger_is_not_begun_anew(
    settings: Settings, damage: Callable[[Path], None]
) -> None:
    damage(settings.ledger_file)
    with pytest.raises(LedgerError) as caught:
        start(settings)
    said = str(caught.value)
    assert "tandem ledger restore" in said and "The last good backup is ledger-" in said
    assert "\n" not in said
    if damage not in (random_pages, cut):  # readers meet those pages when they read them
        with pytest.raises(LedgerError, match="tandem ledger restore"):
            status_of(settings)


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_give_no_traceback(settings: Settings, seed: int) -> None:
    """SQLite itself does not check what is in a row."""
    rng = random.Random(seed)  # noqa: S311
    flipped = bytearray(settings.ledger_file.read_bytes())
    for _ in range(400):
        flipped[rng.randrange(100, len(flipped))] ^= 1 << rng.randrange(8)
    settings.ledger_file.write_bytes(bytes(flipped))
    with pytest.raises(LedgerError, match="tandem ledger restore"):
        start(settings)
    with suppress(LedgerError):
        status_of(settings)


@pytest.mark.parametrize("damage", [no_bytes, all_random], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("command", [("run",), ("status",), ("retry", "slide-1")])
def test_commands_say_it_in_one_line(
    settings: Settings, command: tuple[str, ...], damage: Callable[[Path], None]
) -> None:
    damage(settings.ledger_file)
    before = settings.ledger_file.read_bytes()
    done = tandem(*command, "--config", settings.state_dir.parent / "tandem.toml", check=False)
    assert done.returncode == 1
    assert "tandem ledger restore" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert settings.ledger_file.read_bytes() == before


@pytest.mark.parametrize("damage", [no_bytes, no_rows], ids=lambda damage: damage.__name__)
def test_results_without_backup_are_a_sign_too(
    settings: Settings, damage: Callable[[Path], None]
) -> None:
    shutil.rmtree(settings.state_dir / "backups")
    damage(settings.ledger_file)
    with pytest.raises(LedgerError, match=r"emptied.*There is no backup. Move this state folder"):
        start(settings)


def test_a_ledger_that_begins_beside_results_begins_once(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "new")
    (settings.state_dir / "artifacts" / "objects").mkdir(parents=True)
    for _ in range(2):  # before any slide came
        ledger = open_at_start(settings.ledger_url, threading.Event())
        with ledger.transaction() as tx:
            assert len(tx.notes(BEGUN_ANEW)) == 1
        ledger.close()


def test_a_start_beside_results_that_was_cut_off_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / "new")
    (settings.state_dir / "artifacts" / "objects").mkdir(parents=True)

    def full(*_: object, **__: object) -> None:
        raise DiskFullError("no room")

    with monkeypatch.context() as cut:
        cut.setattr(Transaction, "note", full)
        with pytest.raises(DiskFullError):
            open_at_start(settings.ledger_url, threading.Event())
    ledger = open_at_start(settings.ledger_url, threading.Event())
    with ledger.transaction() as tx:
        assert len(tx.notes(BEGUN_ANEW)) == 1
    ledger.close()


def test_a_new_installation_starts_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = Settings(state_dir=tmp_path / "new")
    for _ in range(2):
        start(settings).close()
    assert caplog.messages == []


def test_a_ledger_that_goes_on_from_its_backup_starts(settings: Settings) -> None:
    ledger = start(settings)
    with ledger.transaction() as tx:
        tx.add_slide("/scans/new.svs", 2.0)
    ledger.close()
    start(settings).close()


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "exclusive":
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
connection.execute("UPDATE slide SET not_before = 0 WHERE id = 1")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


class Locker:
    """Process that holds the ledger locked; in SQLite's exclusive mode nobody can read either."""

    def __init__(self, settings: Settings, mode: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOCKER, str(settings.ledger_file), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "locked\n"

    def let_go(self) -> None:
        if self._process.poll() is None:
            self._process.communicate("\n", timeout=600)

    def __enter__(self) -> Locker:
        return self

    def __exit__(self, *_error: object) -> None:
        self.let_go()


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in message for message in caplog.messages)


class WhenTold(logging.Handler):
    """Does what is to happen once the wait for the lock is told."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    def emit(self, record: logging.LogRecord) -> None:
        if "locked by another process; waiting" in record.getMessage():
            self._act()


@contextmanager
def when_told(act: Callable[[], None]) -> Iterator[None]:
    """Act when the ledger says that it waits for the lock."""
    handler, log = WhenTold(act), logging.getLogger("appliance.ledger.lock")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@pytest.mark.parametrize("mode", ["normal", "exclusive"])
def test_a_locked_ledger_is_waited_for_at_start(
    settings: Settings, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Locker(settings, mode) as locker, when_told(locker.let_go):
        ledger = start(settings)
    with ledger.transaction() as tx:
        assert len(tx.slides()) == 200
    ledger.close()
    assert said(caplog, "the ledger is locked by another process; waiting") == 1
    assert said(caplog, "the ledger is free again") == 1


def test_a_ledger_that_is_locked_meanwhile_is_waited_for(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ledger = start(settings)
    with (
        Locker(settings, "normal") as locker,
        when_told(locker.let_go),
        ledger.transaction() as tx,
    ):
        tx.add_slide("/scans/late.svs", 2.0)
    ledger.close()
    assert said(caplog, "the ledger is locked by another process; waiting") == 1


def test_the_daemon_can_be_stopped_while_it_waits(settings: Settings) -> None:
    stop = threading.Event()
    ledger = start(settings, stop)
    with (
        Locker(settings, "normal"),
        when_told(stop.set),
        pytest.raises(StoppedError),
        ledger.transaction(),
    ):
        raise AssertionError("the lock is another's")
    ledger.close()


def test_a_command_does_not_wait_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(settings.ledger_url)
    monkeypatch.setattr("appliance.ledger.lock.LONGEST_LOCK_S", 1.5)
    words = "another process holds the ledger locked"
    with Locker(settings, "normal"):
        with pytest.raises(LedgerError, match=words), ledger.transaction():
            raise AssertionError("the lock is another's")
        assert len(status_of(settings)["slides"]) == 200  # readers do not wait
    ledger.close()


def test_status_says_that_nobody_can_read(settings: Settings) -> None:
    with Locker(settings, "exclusive"):
        done = tandem("status", "--config", settings.state_dir.parent / "tandem.toml", check=False)
    assert done.returncode == 1
    assert "another process holds the ledger locked" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_the_sites_trouble_and_changes_nothing(settings: Settings) -> None:
    ledger = Ledger(settings.ledger_url)

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    ledger.close()
    event.listen(ledger._engine, "connect", limit)
    words = "full, and the ledger cannot be written"
    with pytest.raises(DiskFullError, match=words), ledger.transaction() as tx:
        for number in range(500):
            tx.add_slide(f"/scans/more-{number}.svs", 1.0)
    event.remove(ledger._engine, "connect", limit)
    ledger.close()
    with ledger.transaction() as tx:
        assert len(tx.slides()) == 200
        tx.add_slide("/scans/there-is-room.svs", 1.0)
    ledger.close()
