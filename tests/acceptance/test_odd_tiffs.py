"""A pair of TIFFs that OpenSlide reads in part is scored and written as DICOM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
from fixtures.daemon import tandem
from fixtures.judges import dicom_errors
from fixtures.odd_tiffs import MPP, label_first, ome_tiff
from numpy.typing import NDArray
from pydicom import dcmread

from models.synthesis.slides import SyntheticCase


def pixels(path: Path) -> NDArray[np.uint8]:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]


def test_a_label_first_and_an_ome_tiff_are_scored_and_written(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    he = label_first(tmp_path / "S26-1_A1_HE.tiff", pixels(small_case.he_path), tiled=True)
    ihc = ome_tiff(tmp_path / "S26-1_A1_HER2.ome.tiff", pixels(small_case.ihc_path))
    done = tandem("process", he, ihc, "--out", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["score"] == small_case.score
    levels = {}
    for path in sorted((tmp_path / "out").glob("*.dcm")):
        assert dicom_errors(path) == []
        found = dcmread(path, stop_before_pixels=True)
        if found.Modality == "SM":
            size = found.TotalPixelMatrixColumns, found.TotalPixelMatrixRows
            spacing = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
            levels[found.SeriesInstanceUID, size] = float(spacing[0])
    assert sorted({size for _, size in levels}) == [(1024, 768), (2048, 1536), (4096, 3072)]
    assert len(levels) == 6
    for (_, (width, _height)), spacing_mm in levels.items():
        assert abs(spacing_mm * 1000 - MPP * 4096 / width) < 1e-4
