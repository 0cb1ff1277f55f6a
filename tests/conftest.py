"""Fixtures of all tests, and the judges' versions in the report's header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.judges import judge_versions
from fixtures.orthanc import Orthanc

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


def pytest_report_header() -> list[str]:
    return judge_versions()


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real images; the test skips where it is not beside the checkout."""
    if not REAL.is_dir():
        pytest.skip("../shared/real is not there: real images are not part of the project")
    return REAL


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """A running Orthanc."""
    server = Orthanc(tmp_path / "orthanc").start()
    yield server
    server.stop()
