"""Backup and restore of the ledger, and what a restore says of people's words on scores."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from fixtures.daemon import tandem
from fixtures.ledgers import LEDGERS, load_ledger
from fixtures.pairings import HER2_PAIR

from appliance.delivery.index import INDEX_NAME
from appliance.domain import HE, HER2, Identity, Stain
from appliance.errors import LedgerError, SettingsError
from appliance.intake.scan import FolderScan
from appliance.ledger.backups import backups_of, folder_of, newest_good
from appliance.ledger.daily import backup_if_due, backup_ledger, backup_trouble
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.queries import RESTORED
from appliance.ledger.schema import SCHEMA
from appliance.ledger.start import open_at_start
from appliance.ledger.transaction import NewDelivery
from appliance.ledger.verify import verify
from appliance.line.daemon import Daemon
from appliance.operations.audited import Word
from appliance.operations.backup import restore_ledger, verify_ledger
from appliance.operations.corrections import rerun_case
from appliance.operations.doctor import examine
from appliance.operations.metrics import metrics_text
from appliance.operations.retry_word import retry
from appliance.operations.status import status_of
from appliance.operations.word import SlideWords, exclude_slide, say_slide, unpair_case
from appliance.settings.installation import installation_salt
from appliance.settings.intake import Watch
from appliance.settings.ledger import LedgerSettings
from appliance.settings.settings import Settings
from benchmarks.trial.disk import small_disk
from dicom.derived import observer_uid

SCORE = {"was": "1+", "score": "2+"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """State folder whose ledger has a delivered case."""
    made = Settings(
        state_dir=tmp_path / "state", ledger=LedgerSettings(backup_hours=24, keep_backups=2)
    )
    ledger = Ledger(made.ledger_url)
    with ledger.transaction() as tx:
        case = tx.case_for(Identity(accession="S26-1", block="A1", stain=HE), 1.0, HER2_PAIR)
        case.score = "1+"
        for state in ("ready", "aligned", "scored", "written", "delivered"):
            tx.advance(case, CaseState(state), now=2.0)
    ledger.close()
    return made


def correct(settings: Settings, by: str) -> None:
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        case = tx.case(1)
        assert case is not None
        case.score = "2+"
        tx.note(case.subject, "corrected-by", time.time(), params=SCORE | {"by": by}, by=by)
        tx.advance(case, CaseState.SCORED, now=3.0, code="corrected", params=SCORE, by=by)
        tx.advance(case, CaseState.WRITTEN, now=3.0)
    ledger.close()


def test_a_backup_is_whole_and_named_by_the_head_of_the_chain(settings: Settings) -> None:
    made = backup_ledger(settings)
    copy = folder_of(settings.ledger_file) / made.name
    found = verify(copy)
    assert found.problems == () and found.head == made.head
    assert made.head[:12] in made.name and (made.cases, made.whole) == (1, True)
    assert backups_of(settings.ledger_file) == [made]


def test_a_backup_is_made_while_another_writes(settings: Settings) -> None:
    ledger, begun, end = Ledger(settings.ledger_url), threading.Event(), threading.Event()

    def write() -> None:
        while not end.is_set():
            with ledger.transaction() as tx:
                tx.note("case-1", "retry", 1.0)
            begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(300)
    made = [backup_ledger(settings) for _ in range(5)]
    end.set()
    writer.join()
    ledger.close()
    for each in made[-2:]:
        assert verify(folder_of(settings.ledger_file) / each.name).problems == ()


def test_only_the_newest_are_kept(settings: Settings) -> None:
    made = [backup_ledger(settings) for _ in range(4)]
    assert backups_of(settings.ledger_file) == made[:1:-1]
    files = {path.name for path in folder_of(settings.ledger_file).glob("ledger-*.sqlite")}
    assert files == {made[2].name, made[3].name}


@pytest.mark.parametrize("keep", [1, 3])
def test_the_way_back_to_the_edition_before_stays(tmp_path: Path, keep: int) -> None:
    settings = Settings(state_dir=tmp_path, ledger=LedgerSettings(keep_backups=keep))
    load_ledger(LEDGERS[-2], settings.ledger_file)
    much_earlier = backup_ledger(settings)
    settings.ledger_file.unlink()
    load_ledger(LEDGERS[-1], settings.ledger_file)
    open_at_start(settings.ledger_url, threading.Event()).close()
    (before, *_) = backups_of(settings.ledger_file)
    assert much_earlier.schema < before.schema < SCHEMA
    made = [backup_ledger(settings).name for _ in range(keep + 2)]
    kept = {each.name for each in backups_of(settings.ledger_file)}
    assert kept == {*made[-keep:], before.name}
    assert restore_ledger(settings, before.name).backup == before


def copied_alone(settings: Settings, to: Path) -> tuple[Settings, str]:
    """Make a state folder that has the file of a backup, a day old, without its description."""
    made = backup_ledger(settings)
    new = settings.model_copy(update={"state_dir": to})
    folder_of(new.ledger_file).mkdir(parents=True)
    copy = shutil.copy2(folder_of(settings.ledger_file) / made.name, folder_of(new.ledger_file))
    os.utime(copy, (time.time() - 86400,) * 2)
    return new, made.name


def test_a_backup_without_its_description_is_restored(settings: Settings, tmp_path: Path) -> None:
    new, name = copied_alone(settings, tmp_path / "new")
    with pytest.raises(LedgerError, match="there are backups"):  # nothing begins beside it
        open_at_start(new.ledger_url, threading.Event())
    assert restore_ledger(new).backup.name == name
    other = folder_of(new.ledger_file) / "before-the-move.sqlite"
    shutil.copy(folder_of(new.ledger_file) / name, other)
    assert restore_ledger(new, other.name).backup.cases == 1
    assert not other.with_suffix(".json").exists()
    assert not verify_ledger(new).problems


def test_a_backup_without_its_description_is_not_removed(
    settings: Settings, tmp_path: Path
) -> None:
    new, name = copied_alone(settings, tmp_path / "new")
    others = [f"ledger-2026010{day}T000000000000Z-aaa.sqlite" for day in range(1, 6)]
    for other in others:
        shutil.copy2(folder_of(new.ledger_file) / name, folder_of(new.ledger_file) / other)
    with pytest.raises(LedgerError, match="there are backups"):
        open_at_start(new.ledger_url, threading.Event())
    assert restore_ledger(new, others[2]).backup.name == others[2]
    backup_ledger(new)
    assert {path.name for path in folder_of(new.ledger_file).glob("*.sqlite")} > {name, *others}


def test_a_copy_with_its_write_ahead_log_is_restored_with_all_events(settings: Settings) -> None:
    backup_ledger(settings)
    folder = folder_of(settings.ledger_file)
    ledger = Ledger(settings.ledger_url)
    for at in (5.0, 6.0):
        with ledger.transaction() as tx:
            tx.note("case-1", "retry", at)
    for end in ("", "-wal"):  # the daemon runs on
        shutil.copy(f"{settings.ledger_file}{end}", folder / f"before.sqlite{end}")
    ledger.close()
    last = verify(settings.ledger_file).events
    assert restore_ledger(settings, "before.sqlite").lost == ()
    open_at_start(settings.ledger_url, threading.Event()).close()
    assert verify(settings.ledger_file).events > last


def test_a_copy_that_was_in_use_is_looked_at_without_files_beside_it(settings: Settings) -> None:
    ledger = Ledger(settings.ledger_url)
    ledger.close()
    folder_of(settings.ledger_file).mkdir()
    copy = folder_of(settings.ledger_file) / "ledger-20260101T000000000000Z-aaa.sqlite"
    shutil.copy(settings.ledger_file, copy)
    assert copy.read_bytes()[18] == 2  # it asks for a write-ahead log
    assert backups_of(settings.ledger_file, alone=True)[0].whole
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_restore_takes_no_other_file_of_the_same_name(settings: Settings, tmp_path: Path) -> None:
    name = backup_ledger(settings).name
    other = shutil.copy(folder_of(settings.ledger_file) / name, tmp_path / "before.sqlite")
    shutil.copy(
        folder_of(settings.ledger_file) / name, folder_of(settings.ledger_file) / other.name
    )
    before = settings.ledger_file.read_bytes()
    with pytest.raises(SettingsError, match=r"Copy it there, then: .* restore before\.sqlite"):
        restore_ledger(settings, str(other))
    assert settings.ledger_file.read_bytes() == before
    path = folder_of(settings.ledger_file) / name
    assert restore_ledger(settings, str(path)).backup.name == name


@pytest.mark.parametrize("ledger", [None, b""], ids=["none", "empty"])
def test_where_nothing_was_ever_written_a_restore_takes_the_salt_of_the_backups(
    settings: Settings, tmp_path: Path, ledger: bytes | None
) -> None:
    salt = installation_salt(settings.state_dir)
    backup_ledger(settings)
    new = settings.model_copy(update={"state_dir": tmp_path / "new"})
    installation_salt(new.state_dir)
    shutil.copytree(folder_of(settings.ledger_file), folder_of(new.ledger_file))
    if ledger is not None:
        new.ledger_file.write_bytes(ledger)
    restore_ledger(new)
    assert installation_salt(new.state_dir) == salt


@pytest.mark.parametrize("report", ["of the first editions", "damaged"])
def test_a_lost_ledgers_objects_that_name_no_installation_may_have_been_sent(
    settings: Settings, tmp_path: Path, report: str
) -> None:
    installation_salt(settings.state_dir)
    backup_ledger(settings)
    new = settings.model_copy(update={"state_dir": tmp_path / "new"})
    salt = installation_salt(new.state_dir)
    shutil.copytree(folder_of(settings.ledger_file), folder_of(new.ledger_file))
    objects = new.artifacts_dir / "objects"
    (objects / "0a1b").mkdir(parents=True)
    (objects / "Thumbs.db").write_bytes(b"x")
    facts = {"made_from": {"software": "1.0"}} if report != "damaged" else {}
    (objects / "0a1b" / INDEX_NAME).write_text(json.dumps(facts))
    (objects / "0a1b" / "sr.dcm").write_text(observer_uid("1.0", ""))
    with pytest.raises(SettingsError, match="may have been sent"):
        restore_ledger(new)
    assert installation_salt(new.state_dir) == salt


def test_a_start_that_is_refused_draws_no_salt(settings: Settings, tmp_path: Path) -> None:
    new, _ = copied_alone(settings, tmp_path / "new")
    (tmp_path / "scans").mkdir()
    new = new.model_copy(update={"watch": Watch(folder=tmp_path / "scans")})
    with pytest.raises(LedgerError, match="there are backups"):
        Daemon(new).run()
    assert not (new.state_dir / "installation.txt").exists()


def test_of_two_salts_the_whole_one_is_named(settings: Settings) -> None:
    installation_salt(settings.state_dir)
    backup_ledger(settings)
    (folder_of(settings.ledger_file) / "installation.txt").write_bytes(b"")
    good = f"there is a copy in {settings.state_dir / 'installation.txt'}"
    with pytest.raises(SettingsError, match=re.escape(good)):
        restore_ledger(settings)


@pytest.mark.parametrize("sent", [False, True])
def test_a_restore_takes_the_salt_of_the_backups_unless_objects_were_sent_with_another(
    settings: Settings, tmp_path: Path, sent: bool
) -> None:
    salt = installation_salt(settings.state_dir)
    backup_ledger(settings)
    new = settings.model_copy(update={"state_dir": tmp_path / "new"})
    ledger = Ledger(new.ledger_url)  # the first start of another machine
    other = installation_salt(new.state_dir)
    with ledger.transaction() as tx:
        case = tx.case_for(Identity(accession="S26-1", block="A1", stain=HE), 1.0, HER2_PAIR)
        uids = {"study_uid": "1.2", "series_uid": "1.3", "sop_class_uid": "1.4"}
        new_object = NewDelivery(
            destination="pacs", kind="SR", path="objects/b/sr.dcm", sop_instance_uid="1.5", **uids
        )
        tx.enqueue(case.id or 0, new_object, 1.0)
        (row,) = tx.deliveries()
        if sent:
            tx.advance(row, DeliveryState.SENT, now=2.0)
    ledger.close()
    shutil.copytree(folder_of(settings.ledger_file), folder_of(new.ledger_file))
    if not sent:
        restore_ledger(new)
        assert installation_salt(new.state_dir) == salt
        return
    before = new.ledger_file.read_bytes()
    with pytest.raises(SettingsError, match=r"installation\.txt and .*backups/installation\.txt"):
        restore_ledger(new)
    assert installation_salt(new.state_dir) == other and new.ledger_file.read_bytes() == before
    shutil.copy(folder_of(new.ledger_file) / "installation.txt", new.state_dir)
    assert restore_ledger(new).found  # a person said which one it is


def test_a_backup_is_made_when_the_newest_is_too_old(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_if_due(settings)
    backup_if_due(settings)
    (first,) = backups_of(settings.ledger_file)
    monkeypatch.setattr(time, "time", lambda: first.made_at + 25 * 3600)
    backup_if_due(settings)
    assert len(backups_of(settings.ledger_file)) == 2
    # The clock was a day ahead when the newest was made.
    monkeypatch.setattr(time, "time", lambda: first.made_at + 3600)
    backup_if_due(settings)
    assert len(folder_of(settings.ledger_file).joinpath("newest.json").read_text()) > 0
    assert max(each.made_at for each in backups_of(settings.ledger_file)) > first.made_at


def test_a_backup_is_due_from_its_hour_on_and_is_caught_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_two = time.mktime((2026, 11, 28, 2, 0, 0, 0, 0, -1))

    def made_at(moment: float) -> int:
        monkeypatch.setattr(time, "time", lambda: moment)
        backup_if_due(settings)
        return len(backups_of(settings.ledger_file))

    assert made_at(at_two - 7200) == 1
    assert made_at(at_two - 60) == 1
    assert made_at(at_two + 60) == 2
    (first, _) = backups_of(settings.ledger_file)
    assert made_at(at_two + 82800) == 2
    # The machine was off at two: at nine.
    made_at(at_two + 86400 + 25200)
    assert backups_of(settings.ledger_file)[0] != first


def test_a_backup_that_fails_is_told_until_one_succeeds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_of(settings)["appliance"]["backup_trouble"] == ""
    folder = folder_of(settings.ledger_file)
    folder.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", _full)
        backup_if_due(settings)
    told = status_of(settings)["appliance"]["backup_trouble"]
    assert "The backup of the ledger failed at" in told and "tandem ledger backup" in told
    assert b"tandem_backup_trouble 1.0" in metrics_text(settings)
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    (line,) = [each for each in examine(config) if each.what == "ledger"]
    assert not line.ok and line.text == told
    backup_if_due(settings)
    assert status_of(settings)["appliance"]["backup_trouble"] == ""
    assert b"tandem_backup_trouble 0.0" in metrics_text(settings)


def _full(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_a_backup_that_nobody_makes_is_told(settings: Settings) -> None:
    made = backup_ledger(settings)
    assert backup_trouble(settings, made.made_at + 47 * 3600) == ""
    assert "newest good backup" in backup_trouble(settings, made.made_at + 49 * 3600)


def test_a_damaged_ledger_costs_no_good_backup(settings: Settings) -> None:
    good = backup_ledger(settings)
    size = settings.ledger_file.stat().st_size
    with settings.ledger_file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(size - 4096))
    for _ in range(4):
        with pytest.raises(LedgerError, match="damaged"):
            backup_ledger(settings)
        backup_if_due(settings)
    assert newest_good(settings.ledger_file) == good


def test_restore_keeps_the_old_one_and_tells_missing_corrections(settings: Settings) -> None:
    correct(settings, "Early^Bird")
    backup = backup_ledger(settings)
    correct(settings, "Meyer^Anna")
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        params = {"score": "2+", "by": "Ito^Bert", "given": "1+"}
        tx.note("case-1", "confirmed-by", time.time(), params=params, by="Ito^Bert")
    ledger.close()
    done = restore_ledger(settings)
    assert done.backup == backup
    assert done.lost is not None
    assert [text.partition(" (")[0] for text in done.lost] == [
        "case-1: 1+ to 2+ by Meyer^Anna",
        "case-1: 2+ confirmed by Ito^Bert",
    ]
    assert done.kept is not None and verify(done.kept / "ledger.sqlite").problems == ()
    assert verify_ledger(settings).problems == ()
    # The daemon goes on from it, though the ledger is behind what was kept.
    open_at_start(settings.ledger_url, threading.Event()).close()


def take_in(settings: Settings, name: str, stain: Stain) -> None:
    """Let a slide of the case be there, and be read."""
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        slide = tx.add_slide(f"/scans/{name}", now=1.0)
        slide.accession, slide.block, slide.stain = "S26-1", "A1", stain
        for state in ("arrived", "identified", "inspected", "read"):
            tx.advance(slide, SlideState(state), now=1.0)
    ledger.close()


def test_restore_lists_all_that_people_said_since_the_backup(settings: Settings) -> None:
    take_in(settings, "a.svs", HE)
    take_in(settings, "b.svs", HER2)
    rerun_case(settings, "case-1", by="Early^Bird")
    backup_ledger(settings)
    take_in(settings, "c.svs", HER2)
    word = Word(by="Ito^Bert", why="wrong label")
    unpair_case(settings, "case-1", word)
    retry(settings, "case-1", word)
    exclude_slide(settings, "slide-3", word)
    say_slide(settings, "slide-1", SlideWords(accession="S26-2"), word)
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    done = tandem("ledger", "restore", "--config", config)
    lost = [line for line in done.stdout.splitlines() if line.startswith("MISSING word on ")]
    assert [re.sub(r"\(.* UTC; ", "(", line.removeprefix("MISSING word on ")) for line in lost] == [
        "case-1: a person took its slides apart: wrong label, by Ito^Bert (block A1 of S26-1); "
        "repeat it: tandem identify unpair",
        "case-1: a person had it tried again: wrong label, by Ito^Bert (block A1 of S26-1); "
        "repeat it: tandem identify retry",
        "slide-3: a person left it out: wrong label, by Ito^Bert (/scans/c.svs, not in the "
        "backup); repeat it: tandem identify exclude",
        "slide-1: a person said accession S26-2: wrong label, by Ito^Bert (/scans/a.svs); "
        "repeat it: tandem identify set",
    ]
    assert "repeat them before you start it" in done.stdout
    assert "S26-" not in done.stderr and "/scans/" not in done.stderr
    assert restore_ledger(settings).lost == ()


def test_a_word_of_an_earlier_edition_is_missing_only_where_it_is(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    load_ledger(LEDGERS[0], settings.ledger_file)
    open_at_start(settings.ledger_url, threading.Event()).close()
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        tx.note("case-1", "word-keep", 9.0, params={"why": "same patient"}, by="Ito^Bert")
    ledger.close()
    lost = restore_ledger(settings).lost  # the backup is of the earlier edition
    assert lost is not None and ["a person kept it" in text for text in lost] == [True]


def test_restore_of_an_unreadable_ledger_says_that_it_cannot_know(settings: Settings) -> None:
    backup_ledger(settings)
    settings.ledger_file.write_bytes(os.urandom(20_000))
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        settings.ledger_file.with_name(name).unlink(missing_ok=True)
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    done = tandem("ledger", "restore", "--config", config)
    assert "could not be read: corrections since the backup are lost" in done.stdout
    assert "The ledger is whole." in tandem("ledger", "verify", "--config", config).stdout


def test_a_new_machine_takes_what_came_since_the_backup_and_leaves_alone_what_was_there_before(
    tmp_path: Path,
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    watch = Watch(folder=scans, start_from_now=True, stable_seconds=1)
    first, second = (Settings(state_dir=tmp_path / name, watch=watch) for name in "ab")

    def arrive(name: str) -> None:
        (scans / name).write_bytes(b"II*\0" + name.encode() * 100)

    def scan(settings: Settings) -> set[str]:
        settings.state_dir.mkdir(exist_ok=True)
        ledger = Ledger(settings.ledger_url)
        folder = FolderScan(ledger, watch, settings.state_dir)
        for turn in range(3):
            folder.run(monotonic=1000.0 * turn, now=time.time())
        folder.close()
        with ledger.transaction() as tx:
            found = {Path(slide.path).name for slide in tx.slides()}
        ledger.close()
        return found

    arrive("before.svs")
    assert scan(first) == set()
    arrive("S26-1_A1_HE.svs")
    assert scan(first) == {"S26-1_A1_HE.svs"}
    backup_ledger(first)
    arrive("S26-1_A1_HER2.svs")
    shutil.copytree(first.state_dir / "backups", second.state_dir / "backups")
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{second.state_dir}"\n')
    done = tandem("ledger", "restore", "--config", config)
    assert "There was no ledger here" in done.stdout and "could not be read" not in done.stdout
    assert scan(second) == {"S26-1_A1_HE.svs", "S26-1_A1_HER2.svs"}


def test_a_restore_on_a_full_disk_replaces_nothing(settings: Settings, tmp_path: Path) -> None:
    backup_ledger(settings)
    correct(settings, "Meyer^Anna")
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("no small disk: that needs root")
        moved = disk.place / "state"
        shutil.copytree(settings.state_dir, moved)
        config = tmp_path / "tandem.toml"
        config.write_text(f'state_dir = "{moved}"\n')
        before = (moved / "ledger.sqlite").read_bytes()
        ballast = disk.fill()
        failed = tandem("ledger", "restore", "--config", config, check=False)
        assert failed.returncode == 1 and "Traceback" not in failed.stderr
        assert "is full; no ledger was replaced. Make room" in " ".join(failed.stderr.split())
        assert (moved / "ledger.sqlite").read_bytes() == before
        ballast.unlink()
        done = tandem("ledger", "restore", "--config", config)
        assert "MISSING word on case-1: 1+ to 2+ by Meyer^Anna" in done.stdout
        assert "The ledger is whole." in tandem("ledger", "verify", "--config", config).stdout
        assert not list(moved.glob("*restored*"))


def test_a_restore_that_was_interrupted_still_tells_the_lost_words(settings: Settings) -> None:
    backup_ledger(settings)
    correct(settings, "Meyer^Anna")
    assert restore_ledger(settings).lost
    for path in settings.state_dir.glob("ledger.sqlite*"):
        path.unlink()  # the power went before the other one was in its place
    again = restore_ledger(settings)
    assert again.kept is None and again.lost is not None
    assert [text.partition(" (")[0] for text in again.lost] == ["case-1: 1+ to 2+ by Meyer^Anna"]
    # A ledger that was replaced before the newest backup was made says nothing of it.
    backup_ledger(settings)
    settings.ledger_file.unlink()
    assert restore_ledger(settings).lost is None


def test_restore_of_an_older_backup_by_name(settings: Settings) -> None:
    first = backup_ledger(settings)
    correct(settings, "Meyer^Anna")
    backup_ledger(settings)
    done = restore_ledger(settings, first.name)
    assert done.backup == first
    open_at_start(settings.ledger_url, threading.Event()).close()
    with pytest.raises(SettingsError, match="no backup 'ledger-none' here; there are"):
        restore_ledger(settings, "ledger-none")


def test_a_damaged_backup_is_not_restored(settings: Settings) -> None:
    made = backup_ledger(settings)
    copy = folder_of(settings.ledger_file) / made.name
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE \"case\" SET score = '3+'")
    connection.close()
    before = settings.ledger_file.read_bytes()
    with pytest.raises(LedgerError, match="the backup is damaged"):
        restore_ledger(settings)
    assert settings.ledger_file.read_bytes() == before
    restore_ledger(settings, anyway=True)
    assert any("score '3+'" in problem for problem in verify_ledger(settings).problems)


def test_nothing_is_restored_while_a_daemon_runs(settings: Settings) -> None:
    backup_ledger(settings)
    with (settings.state_dir / "daemon.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match="a daemon runs on this state folder"):
            restore_ledger(settings)


def test_the_backup_before_a_migration_can_be_restored(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    load_ledger(LEDGERS[0], settings.ledger_file)
    open_at_start(settings.ledger_url, threading.Event()).close()
    restore_ledger(settings)
    assert verify_ledger(settings).older
    open_at_start(settings.ledger_url, threading.Event()).close()
    assert verify_ledger(settings).problems == ()


@pytest.mark.parametrize("dump", LEDGERS, ids=lambda dump: dump.stem)
def test_the_backup_before_a_migration_is_taken_up_as_restored_once_it_is_migrated(
    tmp_path: Path, dump: Path
) -> None:
    settings = Settings(state_dir=tmp_path)
    load_ledger(dump, settings.ledger_file)
    ledger = open_at_start(settings.ledger_url, threading.Event())
    with ledger.transaction() as tx:
        assert not tx.was_restored()
        assert dump.stem != "0008" or 0 in {row.attempts for row in tx.deliveries()}
    ledger.close()
    restore_ledger(settings)
    for _ in range(2):  # the second start takes nothing up again
        ledger = open_at_start(settings.ledger_url, threading.Event())
        with ledger.transaction() as tx:
            assert tx.was_restored()
            # Each is looked for at its destination before it is sent.
            assert all(row.attempts >= 1 for row in tx.deliveries())
            assert len(tx.notes(RESTORED)) == 1
        ledger.close()
    assert verify_ledger(settings).problems == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE \"case\" SET score = '3+'", "case-1 has the score '3+', and its last event '1+'"),
        ("UPDATE \"case\" SET state = 'failed'", "case-1 is 'failed', and its last event"),
        ("UPDATE event SET score = '3+' WHERE id = 3", "event 3 was changed"),
        ("UPDATE event SET \"by\" = 'Nobody' WHERE id = 2", "event 2 was changed"),
        ('DELETE FROM "case"', "case-1 has events and no row"),
        ("DELETE FROM event WHERE id = 2", "event 3 was changed, or an event before it"),
    ],
)
def test_verify_finds_what_was_changed_beside_the_chain(
    settings: Settings, change: str, words: str
) -> None:
    with sqlite3.connect(settings.ledger_file) as connection:
        connection.execute(change)
    connection.close()
    assert any(words in problem for problem in verify_ledger(settings).problems)
