"""Fixtures of all tests, and the judges' versions in the report's header."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from fixtures.daemon import Daemon, case_state
from fixtures.judges import judge_versions
from fixtures.orthanc import Orthanc
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from benchmarks.scanner.tissue import Section, Sections, draw_sections
from models.datasets.generated_tiles import FIRST_HELD_OUT_SEED
from models.synthesis.slides import SyntheticCase, synthesize_case

# Hypothesis takes the time of the clock: a core that others have for 0.2 s would fail a test. It
# looks for counterexamples where a person looks at what it finds, not where a change is judged.
hypothesis_settings.register_profile(
    "tandem", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("tandem")

SHARED = Path(__file__).resolve().parents[2] / "shared"
REAL, CASES = SHARED / "real", SHARED / "cases"


WAIT, COMPUTE = ("acceptance",), ("appliance/evaluation", "models")
"""Folders of tests that take minutes each: those of daemons, which often wait, and of networks."""


def pytest_report_header() -> list[str]:
    return judge_versions()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of `WAIT` and `COMPUTE` in turn; the order of the others stays.

    A long file that is begun last leaves a core idle at the end; files of `WAIT` alone leave both
    idle for a part of the time.
    """
    tests = Path(__file__).parent
    files = list(dict.fromkeys(item.path for item in items))
    place = dict.fromkeys(files, 2 * len(files))
    for first, names in enumerate((WAIT, COMPUTE)):
        folders = [tests / name for name in names]
        chosen = [(k, f) for f in files for k, d in enumerate(folders) if d in f.parents]
        for k, (_, file) in enumerate(sorted(chosen, key=lambda ranked: ranked[0])):
            place[file] = 2 * k + first
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session")
def real() -> Path:
    """Return the folder of real images; skip the test if it is not beside the checkout."""
    if not REAL.is_dir():
        pytest.skip("../shared/real is not there: real images are not part of the project")
    return REAL


@pytest.fixture(scope="session")
def cases() -> Path:
    """Return the folder of cases from the world; skip the test if it is not beside the checkout."""
    if not CASES.is_dir():
        pytest.skip("../shared/cases is not there: it is not part of the project")
    return CASES


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """Run an Orthanc."""
    server = Orthanc(tmp_path / "orthanc").start()
    yield server
    server.stop()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first of this run's processes to ask for it fills by `make`."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed in the middle
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def drawn_once(factory: pytest.TempPathFactory, name: str, seed: int, score: str) -> SyntheticCase:
    """Return a synthetic case of 4,096 x 3,072 px that one process of this run draws."""

    def make(folder: Path) -> None:
        case = synthesize_case(folder, seed=seed, score=score, width_px=4096, height_px=3072)
        (folder / "case.json").write_text(json.dumps(asdict(case), default=str))

    made = json.loads((made_once(factory, name, make) / "case.json").read_text())
    paths = ("he_path", "ihc_path", "truth_path")
    return SyntheticCase(**(made | {name: Path(made[name]) for name in paths}))


@pytest.fixture(scope="session")
def small_case(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCase:
    """Return a synthetic 2+ case."""
    return drawn_once(tmp_path_factory, "small-case", 5, "2+")


@pytest.fixture(scope="session")
def other_case(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCase:
    """Return a synthetic 3+ case of another block."""
    return drawn_once(tmp_path_factory, "other-case", 9, "3+")


@pytest.fixture(scope="session")
def readings(tmp_path_factory: pytest.TempPathFactory, small_case: SyntheticCase) -> Path:
    """Return what a daemon reads of `small_case`, for `Daemon.has_read`: most of a case's time.

    For tests of what comes after it. Scores, objects and deliveries are made by each of them.
    """

    def make(folder: Path) -> None:
        daemon = Daemon(folder / "appliance")
        daemon.drop(small_case.he_path, small_case.ihc_path)
        try:
            daemon.start()
            daemon.wait(case_state("delivered"))
            daemon.stop()
        finally:
            daemon.close()
        for step in ("inspect", "tumor", "align", "stain"):
            shutil.copytree(daemon.state / "artifacts" / step, folder / "artifacts" / step)
        (folder / "artifacts").chmod(0o700)
        shutil.rmtree(daemon.folder)

    return made_once(tmp_path_factory, "readings", make) / "artifacts"


@pytest.fixture(scope="session")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    """Return the pixels of simulated slides of score 3+, drawn once."""

    def make(folder: Path) -> None:
        for (stain, score), section in draw_sections(("3+",), lambda *_: None).items():
            np.save(folder / f"{stain} {score}.npy", section.pixels)

    found: Sections = {}
    for path in sorted(made_once(tmp_path_factory, "sections", make).glob("*.npy")):
        stain, score = path.stem.split()
        found[stain, score] = Section(stain=stain, score=score, pixels=np.load(path))
    return found


@pytest.fixture(scope="session")
def held_out_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache of generated tiles that one process of this run draws.

    It has 64 of the seeds from FIRST_HELD_OUT_SEED + 5,000,000 and 24 from + 6,000,000. Ask for no
    others in it: two processes would draw them into the same files.
    """

    def make(folder: Path) -> None:
        from fixtures.weights import tiles_of

        for millions, count in ((5, 64), (6, 24)):
            tiles_of(folder, FIRST_HELD_OUT_SEED + millions * 1_000_000, count)

    return made_once(tmp_path_factory, "held-out-tiles", make)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon with default settings, not started yet."""
    made = Daemon(tmp_path / "appliance")
    yield made
    made.close()
