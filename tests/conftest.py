"""Fixtures of all tests, and the judges' versions in the report's header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.daemon import Daemon
from fixtures.judges import judge_versions
from fixtures.orthanc import Orthanc

from benchmarks.scanner.tissue import Sections, draw_sections
from models.synthesis.slides import SyntheticCase, synthesize_case

SHARED = Path(__file__).resolve().parents[2] / "shared"
REAL, CASES = SHARED / "real", SHARED / "cases"


def pytest_report_header() -> list[str]:
    return judge_versions()


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


@pytest.fixture(scope="session")
def small_case(tmp_path_factory: pytest.TempPathFactory) -> SyntheticCase:
    """Return a synthetic 2+ case of 4,096 x 3,072 px, made once."""
    return synthesize_case(
        tmp_path_factory.mktemp("case"), seed=5, score="2+", width_px=4096, height_px=3072
    )


@pytest.fixture(scope="session")
def sections() -> Sections:
    """Return the pixels of simulated slides of score 3+, drawn once."""
    return draw_sections(("3+",), lambda _what, _done, _total: None)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon with default settings, not started yet."""
    made = Daemon(tmp_path / "appliance")
    yield made
    made.close()
