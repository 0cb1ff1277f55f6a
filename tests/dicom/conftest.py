"""Converted slides for the DICOM tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.slide_objects import MPP, identity, write_svs
from pydicom import Dataset

from dicom.source import convert_slide, read_headers


@pytest.fixture(scope="session")
def svs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_svs(tmp_path_factory.mktemp("svs") / "S26-0042_A1_HER2.svs")


@pytest.fixture(scope="session")
def ihc(svs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The converted IHC slide."""
    folder = tmp_path_factory.mktemp("ihc")
    return list(convert_slide(svs, folder, identity("HER2"), mpp=MPP).paths)


@pytest.fixture(scope="session")
def he(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The converted H&E slide of the same study."""
    folder = tmp_path_factory.mktemp("he")
    slide = write_svs(folder / "S26-0042_A1_HE.svs", seed=1)
    return list(convert_slide(slide, folder / "wsm", identity("HE"), mpp=MPP).paths)


@pytest.fixture
def ihc_images(ihc: list[Path]) -> list[Dataset]:
    return read_headers(ihc)


@pytest.fixture
def he_images(he: list[Path]) -> list[Dataset]:
    return read_headers(he)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Dataset], Path]:
    """Write a dataset and return its path."""

    def write(dataset: Dataset) -> Path:
        path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write
