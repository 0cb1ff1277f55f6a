"""Steps on the workers of a cluster: values, errors, deaths, deadlines, paths and words."""

from __future__ import annotations

import errno
import operator
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.cluster import Cluster as Machines
from fixtures.cluster import wait_for
from fixtures.manager import Manager

from appliance.domain import QuarantineReason, SlideFacts
from appliance.errors import (
    ClusterAwayError,
    FolderAwayError,
    SettingsError,
    SlideError,
    SourceChangedError,
    StateFolderError,
    StoppedError,
    TookTooLongError,
    WorkerDiedError,
    WorkerLostError,
    WorkerStartError,
)
from appliance.intake.presence import KnownFolders
from appliance.line.analyze_slide import identify_slide, inspect_slide, open_facts
from appliance.line.child import Limits
from appliance.line.cluster.call import LOCK_NAME, pickled_call, run_call
from appliance.line.cluster.executor import DaskExecutor
from appliance.line.outcomes import ReadSlide
from appliance.line.site_trouble import folder_is_away
from appliance.operations.cluster_check import check_cluster
from appliance.settings.cluster import Cluster
from appliance.settings.intake import Watch
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings
from appliance.slides.places import use_places
from models.synthesis.slides import SyntheticCase

PATIENT = Limits(deadline_s=300.0, silent_s=300.0)
HASTY = Limits(deadline_s=1.0, silent_s=300.0)
LONG_S = 600.0


class Site:
    """A cluster, and the executor of a daemon that uses it."""

    def __init__(self, folder: Path, ttl_s: int = 240) -> None:
        self.manager = Manager(folder)
        self.cluster = Machines(folder, self.manager.environment)
        self.config = folder / "tandem.toml"
        self.config.write_text(
            f'state_dir = "{folder}/state"\n{self.cluster.settings(ttl_s=ttl_s)}'
            f'[watch]\nfolder = "{folder}/scans"\n'
        )
        self.stop = threading.Event()
        self.executor: DaskExecutor | None = None

    def start_worker(self, name: str = "one") -> None:
        self.cluster.start(name, self.config, "--intake", 0, "--cpu", 1, "--gpu", 1)

    def connect(self) -> DaskExecutor:
        self.executor = found = DaskExecutor(load_settings(self.config), self.stop)
        return found

    def close(self) -> None:
        if self.executor is not None:
            self.executor.close()
        self.cluster.close()
        self.manager.close()


@pytest.fixture(autouse=True)
def patient_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker be silent for as long as a busy machine keeps it, where the ttl allows it."""
    monkeypatch.setattr("appliance.line.cluster.link.SILENT_SECONDS", 120.0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a site whose cluster has not started yet."""
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskExecutor]:
    """Return the executor of a site with one worker: a slot each of cpu and gpu."""
    made = Site(tmp_path_factory.mktemp("site"))
    made.cluster.start("scheduler", made.config)
    made.start_worker()
    found = made.connect()
    wait_for(lambda: not found.trouble("gpu"), made.cluster.log("one"))
    yield found
    made.close()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_value_and_an_error_come_back_from_a_process_of_the_worker(
    executor: DaskExecutor,
) -> None:
    with executor.slot("gpu") as slot:
        assert slot is not None
        first = slot.run(PATIENT, os.getpid)
        assert first != os.getpid()
        with pytest.raises(ZeroDivisionError):
            slot.run(PATIENT, operator.truediv, 1, 0)
    with executor.slot("gpu") as slot:
        assert slot is not None
        assert slot.run(PATIENT, os.getpid) == first  # it keeps what it has loaded


def test_a_slot_is_lent_once(executor: DaskExecutor) -> None:
    with executor.slot("gpu") as slot, executor.slot("gpu") as second:
        assert slot is not None
        assert second is None
        assert executor.trouble("gpu") == ""  # all slots are lent: no trouble
        with executor.slot("cpu") as other:
            assert other is not None
    assert "no worker is connected" in executor.trouble("intake")
    with executor.slot("intake") as none:
        assert none is None


def test_the_death_of_a_step_is_its_own(executor: DaskExecutor) -> None:
    with executor.slot("gpu") as slot:
        assert slot is not None
        with pytest.raises(WorkerDiedError):
            slot.run(PATIENT, os._exit, 1)
        assert slot.run(PATIENT, max, 3, 5) == 5


def test_a_step_past_its_deadline_is_ended(executor: DaskExecutor) -> None:
    with executor.slot("gpu") as slot:
        assert slot is not None
        pid = slot.run(PATIENT, os.getpid)
        with pytest.raises(TookTooLongError):
            slot.run(HASTY, time.sleep, LONG_S)
        wait_for(lambda: is_gone(pid), "the process of the step goes on")
        assert slot.run(PATIENT, max, 3, 5) == 5


def test_a_step_is_abandoned_when_the_daemon_stops(site: Site) -> None:
    site.start_worker()
    site.manager.wait("READY=1")  # the boot of a worker's machine waits for no scheduler
    site.cluster.start("scheduler", site.config)
    executor = site.connect()
    wait_for(lambda: not executor.trouble("gpu"), "no worker came")
    with executor.slot("gpu") as slot:
        assert slot is not None
        pid = slot.run(PATIENT, os.getpid)
        threading.Timer(1.0, site.stop.set).start()
        with pytest.raises(StoppedError):
            slot.run(PATIENT, time.sleep, LONG_S)
    wait_for(lambda: is_gone(pid), "the process of the step goes on")


def test_workers_and_the_scheduler_may_go_and_come(site: Site) -> None:
    executor = site.connect()
    assert "tandem scheduler" in executor.trouble("gpu")
    with executor.slot("gpu") as none:
        assert none is None
    site.cluster.start("scheduler", site.config)
    wait_for(lambda: "tandem worker" in executor.trouble("gpu"), "the scheduler was not found")

    site.start_worker()
    wait_for(lambda: not executor.trouble("gpu"), "the worker was not found")
    with executor.slot("gpu") as slot:
        assert slot is not None
        pid = slot.run(PATIENT, os.getpid)
        threading.Timer(1.0, site.cluster.end, ("one",)).start()
        with pytest.raises(WorkerLostError):
            slot.run(PATIENT, time.sleep, LONG_S)
    wait_for(lambda: is_gone(pid), "the process of the step outlives its worker")
    wait_for(lambda: "tandem worker" in executor.trouble("gpu"), "the worker is still there")

    site.start_worker()
    wait_for(lambda: not executor.trouble("gpu"), "the worker did not come back")
    with executor.slot("gpu") as slot:
        assert slot is not None
        pid = slot.run(PATIENT, os.getpid)
        threading.Timer(1.0, site.cluster.end, ("scheduler",)).start()
        with pytest.raises(ClusterAwayError):
            slot.run(PATIENT, time.sleep, LONG_S)
    wait_for(lambda: is_gone(pid), "the process of the step goes on without its scheduler")

    site.cluster.start("scheduler", site.config)
    wait_for(lambda: not executor.trouble("gpu"), "scheduler and worker did not find each other")
    wait_for(lambda: ran(executor), "no step runs after the scheduler came back")
    assert site.cluster.end("one", signal.SIGTERM) == 0
    assert site.cluster.end("scheduler", signal.SIGTERM) == 0


def ran(executor: DaskExecutor) -> bool:
    """Run a step as the line does: one that the cluster could not take is tried again."""
    with executor.slot("gpu") as slot:
        try:
            return slot is not None and slot.run(PATIENT, max, 3, 5) == 5
        except (ClusterAwayError, WorkerLostError):
            return False


def test_a_stopped_worker_is_left_out(tmp_path: Path) -> None:
    with closing(Site(tmp_path, ttl_s=10)) as site:
        site.cluster.start("scheduler", site.config)
        site.start_worker()
        executor = site.connect()
        wait_for(lambda: not executor.trouble("gpu"), "no worker came")
        os.kill(site.cluster.pid("one"), signal.SIGSTOP)
        wait_for(lambda: bool(executor.trouble("gpu")), "a silent worker is still given steps")
        with executor.slot("gpu") as none:
            assert none is None
        os.kill(site.cluster.pid("one"), signal.SIGCONT)
        wait_for(lambda: not executor.trouble("gpu"), "the worker did not come back")


def test_a_worker_that_can_start_no_process_attracts_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_children.py").write_text(
        "import multiprocessing\nassert multiprocessing.parent_process() is None\n"
    )
    monkeypatch.setattr("appliance.line.cluster.executor.LEFT_OUT_SECONDS", 600.0)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with closing(Site(tmp_path)) as site:
        broken = site.config.with_name("broken.toml")
        broken.write_text(f'extensions = ["no_children"]\n{site.config.read_text()}')
        site.cluster.start("scheduler", site.config)
        site.cluster.start("broken", broken, "--intake", 0, "--cpu", 1, "--gpu", 2)
        executor = site.connect()
        wait_for(lambda: not executor.trouble("gpu"), site.cluster.log("broken"))
        with executor.slot("gpu") as slot:
            assert slot is not None
            with pytest.raises(WorkerStartError):
                slot.run(PATIENT, max, 3, 5)
        assert "before it had a step" in executor.trouble("gpu")
        site.start_worker("sound")
        wait_for(lambda: not executor.trouble("gpu"), site.cluster.log("sound"))
        with executor.slot("gpu") as slot:
            assert slot is not None
            assert slot.run(PATIENT, max, 3, 5) == 5


def test_a_stranger_is_refused(site: Site) -> None:
    site.cluster.start("scheduler", site.config)
    stranger = site.config.with_name("stranger.toml")
    stranger.write_text(site.config.read_text().replace("client.", "stranger."))
    site.cluster.start("stranger", stranger, "--intake", 0, "--cpu", 1, "--gpu", 1)
    executor = site.connect()
    wait_for(lambda: "waiting for the scheduler" in site.cluster.log("stranger"), "no worker")
    site.start_worker()
    wait_for(lambda: not executor.trouble("gpu"), "no worker came")
    with executor.slot("gpu") as slot, executor.slot("gpu") as second:
        assert slot is not None
        assert second is None
    assert "answers" in check_cluster(load_settings(site.config).cluster)  # doctor's line
    with pytest.raises(SettingsError, match="certificate"):
        check_cluster(load_settings(stranger).cluster)
    site.cluster.end("scheduler")
    with pytest.raises(SettingsError, match="tandem scheduler"):
        check_cluster(load_settings(site.config).cluster)


# Paths


@pytest.fixture
def mounted(tmp_path: Path, small_case: SyntheticCase) -> Iterator[tuple[Path, Path]]:
    """Return folders of a worker's machine: scans with a slide, and state."""
    scans, state = tmp_path / "scans", tmp_path / "state"
    scans.mkdir()
    state.mkdir()
    (state / LOCK_NAME).touch()
    shutil.copy(small_case.he_path, scans)
    yield scans, state
    use_places(())


def daemons(scans: Path, state: Path) -> tuple[Settings, tuple[tuple[str, str], ...]]:
    """Return settings of a daemon whose folders lie elsewhere, and the paths of both sides."""
    settings = Settings(state_dir=Path("/far/state"), watch=Watch(folder=Path("/far/scans")))
    return settings, (("/far/scans", str(scans)), ("/far/state", str(state)))


def test_paths_of_the_daemon_become_those_of_the_worker(
    mounted: tuple[Path, Path], small_case: SyntheticCase
) -> None:
    scans, state = mounted
    settings, pairs = daemons(scans, state)
    theirs = Path("/far/scans") / small_case.he_path.name
    found = run_call(pickled_call(identify_slide, (theirs, settings)), pairs)
    assert found.facts.width_px == 4096
    facts = SlideFacts(
        path=str(theirs),
        fingerprint=found.facts.fingerprint,
        format=found.facts.format,
        width_px=found.facts.width_px,
        height_px=found.facts.height_px,
        mpp=found.facts.mpp,
        level_count=found.facts.level_count,
        is_dicom=found.facts.is_dicom,
    )
    outcome = run_call(pickled_call(inspect_slide, (facts, settings)), pairs)
    assert outcome.tissue_mm2 > 0
    assert (state / "artifacts" / outcome.key).is_dir()

    with (scans / theirs.name).open("ab") as slide:
        slide.write(b"another")
    shutil.rmtree(state / "artifacts" / outcome.key)
    with pytest.raises(SourceChangedError) as changed:
        run_call(pickled_call(inspect_slide, (facts, settings)), pairs)
    assert changed.value.path == str(theirs)  # by which the daemon knows the slide


def test_a_share_that_the_worker_does_not_see_blames_no_slide(mounted: tuple[Path, Path]) -> None:
    scans, state = mounted
    settings, pairs = daemons(scans, state)
    for slide in scans.iterdir():
        slide.unlink()
    call = pickled_call(identify_slide, (Path("/far/scans/S26-1_A1_HE.svs"), settings))
    with pytest.raises(FolderAwayError, match="scanner's folder"):
        run_call(call, pairs)
    (scans / "another.svs").touch()
    with pytest.raises(SlideError):
        run_call(call, pairs)
    (state / LOCK_NAME).unlink()
    with pytest.raises(FolderAwayError, match="state folder"):
        run_call(call, pairs)
    assert not (state / "artifacts").exists()


def damaged(_slide: Path | SlideFacts | ReadSlide, _settings: Settings) -> None:
    raise SlideError(QuarantineReason.DAMAGED, "tile 7")


@pytest.mark.parametrize("other", ["away", "empty"])
def test_a_damaged_slide_is_not_held_while_another_scanners_folder_is_away(
    mounted: tuple[Path, Path], small_case: SyntheticCase, other: str
) -> None:
    scans, state = mounted
    second = scans.with_name("second")
    if other == "empty":
        second.mkdir()
    settings = Settings(state_dir=state, watch=Watch(folder=scans, folders=(second,)))
    name = small_case.he_path.name
    for folder, error in ((scans, SlideError), (second, FolderAwayError)):
        facts = replace(open_facts(small_case.he_path), path=str(folder / name))
        for slide in (folder / name, facts, ReadSlide(facts=facts, inspect_key="")):
            with pytest.raises(error):
                run_call(pickled_call(damaged, (slide, settings)), ())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_slide_that_was_deleted_from_its_own_folder_is_not_away_on_a_worker(
    mounted: tuple[Path, Path], elsewhere: bool
) -> None:
    scans, state = mounted
    settings, pairs = daemons(scans, state)
    if not elsewhere:
        settings, pairs = Settings(state_dir=state, watch=Watch(folder=scans)), ()
    cluster = Cluster(scheduler="tls://one:1", ca_file=state, certificate=state)
    settings = settings.model_copy(update={"cluster": cluster})
    own = scans / "S26-1"
    own.mkdir()
    theirs = settings.watch.roots[0] / own.name
    seen = own.stat()
    known = KnownFolders(state)
    # The daemon's machine has another number for the share.
    known.update({str(theirs): (seen.st_dev + 7, seen.st_ino)})
    known.save()
    looked = pickled_call(folder_is_away, ((theirs / "1.svs",), settings))
    assert not run_call(looked, pairs)
    own.rename(own.with_name("share"))
    own.mkdir()  # the bare mount point of a share that went
    assert run_call(looked, pairs)


def no_room(_settings: Settings) -> None:
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_state_folder_that_the_worker_cannot_write_blames_no_slide(
    mounted: tuple[Path, Path],
) -> None:
    scans, state = mounted
    settings, pairs = daemons(scans, state)
    with pytest.raises(PermissionError):
        run_call(pickled_call(no_room, (settings,)), pairs)
    shutil.rmtree(state / "artifacts")
    (state / "artifacts").touch()
    with pytest.raises(StateFolderError, match="rights of the state folder"):
        run_call(pickled_call(no_room, (settings,)), pairs)


# Settings


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('scheduler = "tcp://10.0.0.5:8786"', "TLS"),
        ('scheduler = "tls://10.0.0.5:8786"', "ca_file"),
        ('paths = [{here = "scans", there = "/data"}]', "absolute"),
        ('paths = [{here = "/data", there = "/data/scans"}]', "within the other"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f"[cluster]\n{text}\n")
    with pytest.raises(SettingsError, match=wrong):
        load_settings(config)


def test_a_relative_state_folder_is_refused(site: Site) -> None:
    site.config.write_text(site.cluster.settings())
    with pytest.raises(SettingsError, match="absolute"):
        site.connect()


def test_the_local_executor_does_not_import_dask(tmp_path: Path) -> None:
    program = (
        "import pickle, sys, threading\n"
        "import appliance.cli.main, appliance.line.daemon\n"
        "from appliance.line.executors import open_executor\n"
        "settings = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "open_executor(settings, threading.Event()).close()\n"
        "assert not {'dask', 'distributed'} & set(sys.modules)\n"
    )
    settings = pickle.dumps(Settings(state_dir=tmp_path)).hex()
    subprocess.run([sys.executable, "-c", program, settings], check=True, timeout=300)
