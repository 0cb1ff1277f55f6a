"""Retention: a month of nights by a fake clock, what stays, what a crash leaves, short room."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fixtures.daemon import TANDEM
from pydicom import Dataset
from sqlalchemy import event
from typer.testing import CliRunner

from appliance.artifacts import ASIDE, ArtifactKey, ArtifactStore
from appliance.cli.main import app
from appliance.delivery import retired
from appliance.delivery.left_out import leave_out
from appliance.ledger.backups import newest_good
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.queries import CLOCK_DOUBTED, LEDGER
from appliance.ledger.start import open_at_start
from appliance.ledger.tables import CaseRow, id_of
from appliance.ledger.transaction import Transaction
from appliance.ledger.verify import verify
from appliance.operations import retention, retention_plan
from appliance.operations.alert_causes import causes_of_machine
from appliance.operations.backup import restore_ledger, verify_ledger
from appliance.operations.disk import read_samples, set_retained
from appliance.operations.doctor import examine
from appliance.operations.metrics import metrics_text
from appliance.operations.retention import EARLIER_ASIDE, retain, retain_if_due, settle
from appliance.operations.retention_plan import Plan, plan_retention, report_of
from appliance.operations.status import status_of
from appliance.settings.retention import Retention
from appliance.settings.settings import Settings
from appliance.words.events import event_text
from benchmarks.month import DAY, FIRST, Month, Night, month_settings

KEEP_DAYS = 4
LATER = FIRST + 60 * DAY


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[Night]]:
    """Return a state folder after 30 simulated days, and its nights."""
    settings = month_settings(tmp_path_factory.mktemp("month") / "state", keep_days=KEEP_DAYS)
    return settings, list(Month(settings, slides=4, kilobytes=20).nights(30))


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = month_settings(tmp_path_factory.mktemp("days") / "state", keep_days=KEEP_DAYS)
    assert list(Month(settings, slides=6, kilobytes=20).nights(2))[-1].lost == 0
    return settings


@pytest.fixture
def young(two_days: Settings, tmp_path: Path) -> Settings:
    """Return a state folder after two days: nothing was removed yet, one case is refused."""
    copy = tmp_path / "state"
    shutil.copytree(two_days.state_dir, copy)
    return two_days.model_copy(update={"state_dir": copy})


def folders(settings: Settings) -> list[str]:
    root = settings.artifacts_dir
    return sorted(f"{path.parent.name}/{path.name}" for path in root.glob("*/*"))


def test_the_disk_stays_flat_over_a_month_and_nothing_undelivered_goes(
    month: tuple[Settings, list[Night]],
) -> None:
    settings, nights = month
    working = [night.working for night in nights]
    assert max(working[20:]) == working[29] == min(working[20:])
    assert working[29] <= working[8] * 1.3  # those of the case that is refused and the one held
    assert {night.lost for night in nights} == {0}
    assert nights[-1].backups == 3
    # While the destination was away nothing of the cases of those days went.
    assert max(working[13:16]) > working[9]
    with closing(Ledger(settings.ledger_url)) as ledger, ledger.transaction() as tx:
        notes = tx.notes("retired")
        cases = {case.accession: case.state for case in tx.cases()}
    told = [key for note in notes for key in json.loads(note.params)["keys"]]
    assert len(told) == len(set(told)) and not set(told) & set(folders(settings))
    assert cases["S1-0"] == "undelivered" and cases["S1-1"] == "held"
    assert "working data removed" in event_text(notes[0])
    assert verify_ledger(settings).problems == ()


def test_a_backup_in_a_second_folder_goes_on_where_it_was(
    month: tuple[Settings, list[Night]], tmp_path: Path
) -> None:
    settings, _ = month
    second = settings.model_copy(update={"state_dir": tmp_path / "second"})
    shutil.copytree(settings.state_dir / "backups", second.state_dir / "backups")
    backup = newest_good(settings.ledger_file)
    assert restore_ledger(second).backup == backup and backup is not None
    opened = closing(open_at_start(second.ledger_url, threading.Event()))
    with opened as ledger, ledger.transaction() as tx:
        states = [case.state for case in tx.cases()]
        tx.note("case-1", "stat", LATER)
    assert len(states) == backup.cases and states.count("delivered") == backup.cases - 2
    found = verify(second.ledger_file)
    assert found.problems == () and found.events == backup.event + 2  # restored, stat


def test_a_dry_run_says_what_goes_and_changes_nothing(young: Settings) -> None:
    before = folders(young)
    plan = plan_retention(young, LATER)
    # One of six cases is refused and one held; each has two slides.
    assert {(each.stays, each.key.step) for each in plan.kept} >= {("in-work", "wsm")}
    assert {each.why for each in plan.gone} == {"age"} and plan.size > 0
    assert folders(young) == before
    done = retain_later(young)
    assert {each.key for each in done.gone} == {each.key for each in plan.gone}
    kept = {f"headers/{each.key.digest}" for each in plan.gone if each.key.step == "wsm"}
    expected = {*before, *kept} - {str(each.key) for each in plan.gone}
    assert set(folders(young)) == expected
    assert plan_retention(young, LATER).gone == ()


def retain_later(settings: Settings) -> Plan:
    with closing(Ledger(settings.ledger_url)) as ledger:
        return retain(settings, ledger, LATER)


def test_the_command_prints_each_with_its_reason(young: Settings, tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{young.state_dir}"\n[retention]\nkeep_days = {KEEP_DAYS}\n')
    asked = ["retain", "--dry-run", "--config", str(config)]
    with closing(Ledger(young.ledger_url)) as ledger, ledger.transaction() as tx:
        tx.note("case-1", "stat", time.time())  # the clock is near the last event
    said = CliRunner().invoke(app, [*asked, "--json"])
    report = json.loads(said.stdout)
    assert report["removed"] and report["stays"]["in-work"]["count"] > 0
    assert {each["why"] for each in report["removed"]} == {"age"}
    text = CliRunner().invoke(app, asked).stdout
    assert f"would go: {len(report['removed'])}" in text and "stays (in-work)" in text


def test_a_case_that_nobody_signed_stays_where_the_settings_say_so(young: Settings) -> None:
    only_signed = Retention(keep_days=KEEP_DAYS, free_gib=0, only_signed=True)
    settings = young.model_copy(update={"retention": only_signed})
    plan = plan_retention(settings, LATER)
    assert {each.key.step for each in plan.gone} == {"seen"}
    assert "unsigned" in {each.stays for each in plan.kept}


def test_short_room_takes_what_is_delivered_before_its_days_and_the_last_day_stays(
    young: Settings,
) -> None:
    short = Retention(keep_days=1000, free_gib=1e9)
    settings = young.model_copy(update={"retention": short})
    plan = plan_retention(settings, FIRST + 1.8 * DAY)
    assert {each.why for each in plan.gone} == {"space"}
    owners = {owner for each in plan.gone for owner in each.owners}
    assert owners == {f"case-{n}" for n in range(1, 4)} | {f"slide-{n}" for n in range(1, 7)}
    # Of the last day one case is delivered: nothing but its age keeps it.
    assert {each.stays for each in plan.kept if each.owners == ("case-6",)} == {"young"}
    plenty = young.model_copy(update={"retention": Retention(keep_days=1000, free_gib=0)})
    assert plan_retention(plenty, LATER).gone == ()


@pytest.mark.parametrize("earlier", [False, True], ids=["today's", "of an earlier edition"])
def test_what_a_crash_left_aside_goes_back_unless_the_ledger_says_that_it_went(
    young: Settings, earlier: bool
) -> None:
    store = young.artifacts_dir
    gone, back = (each.key for each in plan_retention(young, LATER).gone[:2])
    for key in (gone, back):
        aside = store / key.step / f"{ASIDE}{key.digest}"
        if earlier:
            aside = store / EARLIER_ASIDE / f"{key.step}.{key.digest}"
        aside.parent.mkdir(exist_ok=True)
        (store / key.step / key.digest).rename(aside)
    ArtifactStore(store).sweep()  # at the daemon's start, before the ledger was asked
    with closing(Ledger(young.ledger_url)) as ledger:
        with ledger.transaction() as tx:
            params = {"keys": [str(gone)], "bytes": 1, "why": "age"}
            tx.note("case-1", "retired", LATER, params=params)
        asked: list[str] = []
        event.listen(
            ledger._engine, "before_cursor_execute", lambda *given: asked.append(str(given[2]))
        )
        settle(young, ledger)
        assert not any("FROM event" in each for each in asked)  # years of events; writers wait
    assert not (store / gone.step / gone.digest).exists()
    assert (store / back.step / back.digest).is_dir()
    assert not list(store.glob("*/.*")) and not list(store.glob(f"{EARLIER_ASIDE}/*"))


def test_a_removal_that_the_ledger_cannot_note_takes_nothing_away(
    young: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folders(young)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no room")

    with closing(Ledger(young.ledger_url)) as ledger, monkeypatch.context() as patched:
        patched.setattr("appliance.ledger.transaction.Transaction.note", refuse)
        with pytest.raises(OSError, match="no room"):
            retain(young, ledger, LATER)
    left = [name for name in folders(young) if not name.startswith("headers/")]
    assert left == before


def test_an_artifact_that_no_record_names_stays(young: Settings) -> None:
    key = ArtifactKey("tumor", "0" * 32)
    stray = young.artifacts_dir / key.step / key.digest
    stray.mkdir()
    os.utime(stray, (FIRST, FIRST))
    done = retain_later(young)
    assert stray.is_dir()
    assert [each.stays for each in done.kept if each.key == key] == ["unknown"]


def test_a_damaged_slide_stays_and_keeps_no_other_from_going(young: Settings) -> None:
    plan = plan_retention(young, LATER)
    damaged = next(each.key for each in plan.gone if each.key.step == "wsm")
    folder = young.artifacts_dir / "wsm" / damaged.digest
    (folder / "1.dcm").write_bytes(b"no DICOM")
    done = retain_later(young)
    assert folder.is_dir() and damaged not in {each.key for each in done.gone}
    assert "wsm" in {each.key.step for each in done.gone}
    assert not (young.artifacts_dir / "headers" / damaged.digest).exists()


def test_a_slide_that_the_disk_cannot_read_stays_and_keeps_no_other_from_going(
    young: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    planned = plan_retention(young, LATER).gone
    bad = next(each for each in planned if each.key.step == "wsm")
    folder = young.artifacts_dir / "wsm" / bad.key.digest
    real = retired.dcmread

    def read(file: Path, **more: Any) -> Dataset:
        if file.parent == folder:
            raise OSError(errno.EIO, "Input/output error", str(file))
        return real(file, **more)

    monkeypatch.setattr(retired, "dcmread", read)
    done = retain_later(young)
    assert folder.is_dir()
    assert {each.key for each in planned} - {bad.key} == {each.key for each in done.gone}
    assert report_of(done)["stays"]["unreadable"] == {"count": 1, "bytes": bad.size}
    assert "Input/output error" in caplog.text and str(young.state_dir) not in caplog.text
    # The next night it goes, where the disk gives it.
    monkeypatch.setattr(retired, "dcmread", real)
    assert [each.key for each in retain_later(young).gone] == [bad.key]


def told_of(settings: Settings) -> str:
    """Return the trouble of retention, which status, figures, doctor and alerts say alike."""
    said = status_of(settings)["appliance"]["retention_trouble"]
    assert isinstance(said, str)
    assert f"tandem_retention_trouble {float(bool(said))}".encode() in metrics_text(settings)
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    lines = [each for each in examine(config) if each.what == "retention"]
    assert [each.text for each in lines if not each.ok] == ([said] if said else [])
    causes = [each for each in causes_of_machine(settings, LATER) if each.key == "retention"]
    assert [each.sentence for each in causes] == ([said] if said else [])
    return said


def test_what_cannot_be_moved_stays_is_told_and_keeps_no_other_from_going(
    young: Settings,
) -> None:
    retain_later(young.model_copy(update={"retention": Retention(keep_days=1e4, free_gib=0)}))
    before = read_samples(young).retained_at
    assert before == LATER and told_of(young) == ""
    planned = plan_retention(young, LATER).gone
    stuck = planned[0].key
    aside = young.artifacts_dir / stuck.step / f"{ASIDE}{stuck.digest}"
    aside.write_bytes(b"x")  # no folder takes the place of a file
    with closing(Ledger(young.ledger_url)) as ledger:
        retain_if_due(young, ledger, LATER + DAY)
    assert (young.artifacts_dir / stuck.step / stuck.digest).is_dir()
    assert {each.key for each in plan_retention(young, LATER).gone} == {stuck}
    assert f"could not be moved: 1, such as {stuck}" in told_of(young)
    assert read_samples(young).retained_at == before
    aside.unlink()
    with closing(Ledger(young.ledger_url)) as ledger:
        retain_if_due(young, ledger, LATER + 2 * DAY)
    assert told_of(young) == "" and read_samples(young).retained_at == LATER + 2 * DAY


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)
@pytest.mark.parametrize("inner", [False, True])
def test_what_another_user_made_stays_is_told_and_is_not_told_as_removed(
    young: Settings, tmp_path: Path, inner: bool
) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(
        f'state_dir = "{young.state_dir}"\n[retention]\nkeep_days = {KEEP_DAYS}\nfree_gib = 0\n'
    )
    with closing(Ledger(young.ledger_url)) as ledger, ledger.transaction() as tx:
        tx.note("case-1", "stat", time.time())  # the clock is near the last event
    planned = [each.key for each in plan_retention(young).gone]
    stuck = next(key for key in planned if key.step == "seen")
    folder = young.artifacts_dir / stuck.step / stuck.digest
    other = folder / "inner" if inner else folder
    other.mkdir(exist_ok=True)
    (other / "file").write_bytes(b"x")
    os.utime(folder, (FIRST, FIRST))
    os.chown(other, 65534, 65534)
    less = ("--bounding-set", "-dac_override,-dac_read_search,-fowner", "--inh-caps", "-all")
    command = ["setpriv", *less, str(TANDEM), "retain", "--json", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    gone = {each["key"] for each in json.loads(done.stdout)["removed"]}
    assert gone == {str(key) for key in planned} - {str(stuck)}
    assert (other / "file").exists() and not list(young.artifacts_dir.glob("*/.*"))
    assert f"could not be moved: 1, such as {stuck} (no right to write there)" in told_of(young)


def test_what_cannot_be_deleted_is_told(young: Settings) -> None:
    gone = plan_retention(young, LATER).gone
    stuck = next(each.key for each in gone if each.key.step == "seen")
    retain_later(young)
    left = young.artifacts_dir / stuck.step / f"{ASIDE}{stuck.digest}"
    left.write_bytes(b"x")  # no folder: what is left of one on a disk with a fault
    retain_later(young)
    assert f"could not be deleted: 1, such as {stuck}" in told_of(young)
    left.unlink()
    retain_later(young)
    assert told_of(young) == ""


def test_where_room_is_short_the_next_oldest_goes_for_one_that_cannot(
    young: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = 2**30
    short = young.model_copy(update={"retention": Retention(keep_days=1e4, free_gib=1)})
    for module in (retention, retention_plan):
        monkeypatch.setattr(module, "free_bytes", lambda _: wanted - 1)
    (first,) = plan_retention(short, LATER).gone
    aside = short.artifacts_dir / first.key.step / f"{ASIDE}{first.key.digest}"
    aside.write_bytes(b"x")
    (gone,) = retain_later(short).gone
    assert gone.key != first.key and gone.why == "space"
    assert not (short.artifacts_dir / gone.key.step / gone.key.digest).exists()
    assert (short.artifacts_dir / first.key.step / first.key.digest).is_dir()


def test_a_folder_that_cannot_be_read_keeps_no_other_from_going(
    young: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = [each.key for each in plan_retention(young, LATER).gone]
    stuck = next(key for key in planned if key.step == "seen")
    folder, real, scan = young.artifacts_dir / stuck.step / stuck.digest, Path.stat, os.scandir

    def stat(self: Path, **how: Any) -> os.stat_result:
        if self == folder:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return real(self, **how)

    def scandir(path: Any = ".") -> Any:
        if str(path) == str(folder):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scan(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        assert {each.key for each in plan_retention(young, LATER).gone} == set(planned)
        patched.setattr(Path, "stat", stat)
        gone = {each.key for each in retain_later(young).gone}
    assert gone == {*planned} - {stuck}
    assert f"could not be moved: 1, such as {stuck} (it cannot be read)" in told_of(young)


def test_many_that_cannot_be_moved_are_one_line(
    young: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", read_only)
        retain_later(young)
    (line,) = [each for each in caplog.messages if not each.startswith("wsm/")]  # their headers
    assert "could not be moved: " in line and line.endswith("(Read-only file system)")


def test_a_retention_that_fails_is_told(young: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "artifacts/bag")

    before = read_samples(young).retained_at
    with closing(Ledger(young.ledger_url)) as ledger, monkeypatch.context() as patched:
        patched.setattr("appliance.ledger.transaction.Transaction.note", away)
        with pytest.raises(OSError, match="Input/output"):
            retain_if_due(young, ledger, LATER)
    assert "failed at" in told_of(young) and "Input/output error (artifacts/bag)" in told_of(young)
    assert read_samples(young).retained_at == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_step_on_another_disk_is_retained_too(young: Settings, tmp_path: Path) -> None:
    key = next(each.key for each in plan_retention(young, LATER).gone if each.key.step == "seen")
    folder, copy = young.artifacts_dir / key.step, tmp_path / "copy"
    shutil.copytree(folder, copy)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(copy, folder, dirs_exist_ok=True)
        assert key in {each.key for each in retain_later(young).gone}
        assert not (folder / key.digest).exists()
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "no daemon ran since"])
def test_the_command_heeds_a_doubted_clock(young: Settings, tmp_path: Path, noted: bool) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{young.state_dir}"\n[retention]\nkeep_days = {KEEP_DAYS}\n')
    if noted:
        with closing(Ledger(young.ledger_url)) as ledger, ledger.transaction() as tx:
            ahead_s = time.time() - FIRST - 2 * DAY  # the clock was set from the data's time to now
            tx.note(LEDGER, CLOCK_DOUBTED, time.time(), params={"ahead_s": ahead_s})
    before = folders(young)
    for more in (["--dry-run"], []):
        done = CliRunner().invoke(app, ["retain", *more, "--config", str(config)])
        assert done.exit_code == 0 and "days ahead" in done.output
        assert ": 0, 0.0 MB" in done.output.splitlines()[1]
    assert folders(young) == before


def test_retention_runs_on_a_disk_that_takes_no_byte(
    young: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("appliance.operations.disk.write_whole", full)
    monkeypatch.setattr(retired, "keep_headers", full)
    planned = {each.key for each in plan_retention(young, LATER).gone}
    with closing(Ledger(young.ledger_url)) as ledger:
        retain_if_due(young, ledger, LATER)
    left = {each.key for each in plan_retention(young, LATER).gone}
    assert left == {key for key in planned if key.step == "wsm"} and left != planned


def objects_after_a_rerun(settings: Settings) -> str:
    key = ArtifactKey.of("objects", rerun=1)
    if not (store := ArtifactStore(settings.artifacts_dir)).has(key):
        with store.writing(key) as folder:
            (folder / "objects.json").write_text(json.dumps({"objects": []}))
    return str(key)


@pytest.mark.parametrize("how", ["left out", "replaced"])
def test_a_refused_object_that_is_not_sent_again_keeps_nothing(how: str, young: Settings) -> None:
    with closing(Ledger(young.ledger_url)) as ledger, ledger.transaction() as tx:
        case = next(case for case in tx.cases() if case.state == "undelivered")
        refused = [row for row in tx.deliveries(case.id) if row.state == "refused"]
        for row in refused:
            if how == "left out":
                leave_out(tx, row, FIRST)
            else:
                case.objects_key = objects_after_a_rerun(young)
        for state in (CaseState.WRITTEN, CaseState.DELIVERED):
            tx.advance(case, state, now=FIRST)
        subject = case.subject
    assert refused
    kept = [each for each in plan_retention(young, LATER).kept if subject in each.owners]
    assert [each.stays for each in kept if each.stays == "in-work"] == []


def changed_case(change: Callable[[Transaction, CaseRow], None]) -> Callable[[Transaction], None]:
    """Return a change of the first case, which is delivered."""

    def do(tx: Transaction) -> None:
        case = tx.case(1)
        assert case is not None and case.state == CaseState.DELIVERED
        change(tx, case)
        tx.session.add(case)

    return do


def changed_slide(**values: object) -> Callable[[Transaction], None]:
    """Return a change of the first case's H&E slide."""

    def do(tx: Transaction) -> None:
        slide = tx.slide(1)
        assert slide is not None and slide.state == SlideState.READ
        for name, value in values.items():
            setattr(slide, name, value)
        tx.session.add(slide)

    return do


def ask_for_another_result(tx: Transaction, case: CaseRow) -> None:
    tx.advance(case, CaseState.READY, now=FIRST, code="rerun")


def hold_it(tx: Transaction, case: CaseRow) -> None:
    tx.advance(case, CaseState.HELD, now=FIRST)


def claim_it(_tx: Transaction, case: CaseRow) -> None:
    case.claimed_by = "a daemon"


def doubt_one_object(tx: Transaction, case: CaseRow) -> None:
    row = tx.deliveries(id_of(case))[0]
    row.state = DeliveryState.UNPROVEN
    tx.session.add(row)


@pytest.mark.parametrize(
    ("subject", "change"),
    [
        ("case-1", changed_case(ask_for_another_result)),
        ("case-1", changed_case(hold_it)),
        ("case-1", changed_case(claim_it)),
        ("case-1", changed_case(doubt_one_object)),
        ("slide-1", changed_case(ask_for_another_result)),
        ("slide-1", changed_slide(state=SlideState.INSPECTED)),
        ("slide-1", changed_slide(claimed_by="a daemon")),
        ("slide-1", changed_slide(accession="S9")),
    ],
    ids=["rerun", "held", "claimed", "unproven", "rerun-slide", "unread", "claimed-slide", "alone"],
)
def test_what_is_in_work_again_stays(
    young: Settings, subject: str, change: Callable[[Transaction], None]
) -> None:
    """All objects were proven once, and all data are old: what a row says keeps them."""
    mine = {each.key for each in plan_retention(young, LATER).gone if each.owners == (subject,)}
    assert mine
    with closing(Ledger(young.ledger_url)) as ledger, ledger.transaction() as tx:
        change(tx)
    kept = {each.key: each.stays for each in plan_retention(young, LATER).kept}
    assert {kept.get(key) for key in mine} == {"in-work"}


def test_a_case_that_is_rerun_after_the_plan_keeps_its_data(
    young: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = retention.plan_retention

    def plan_then_rerun(settings: Settings, now: float | None = None) -> Plan:
        plan = real(settings, now)
        with closing(Ledger(settings.ledger_url)) as ledger, ledger.transaction() as tx:
            changed_case(ask_for_another_result)(tx)
        return plan

    planned = [each for each in plan_retention(young, LATER).gone if "case-1" in each.owners]
    monkeypatch.setattr(retention, "plan_retention", plan_then_rerun)
    done = retain_later(young)
    assert planned and {str(each.key) for each in planned} <= set(folders(young))
    assert "case-2" in {owner for each in done.gone for owner in each.owners}
    assert "case-1" not in {owner for each in done.gone for owner in each.owners}


def test_a_last_time_of_the_future_keeps_retention_from_nothing(young: Settings) -> None:
    set_retained(young, LATER + 30 * DAY)
    assert plan_retention(young, LATER).gone
    with closing(Ledger(young.ledger_url)) as ledger:
        retain_if_due(young, ledger, LATER)
    assert plan_retention(young, LATER).gone == ()
