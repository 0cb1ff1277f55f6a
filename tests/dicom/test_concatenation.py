"""Images in parts: all readers take them for the one image that they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
from fixtures.judges import dicom_errors
from fixtures.slide_objects import HEIGHT, MPP, WIDTH, identity
from pydicom import dcmread
from pydicom.encaps import generate_frames

from appliance.intake.series import part_of, series_is_whole
from dicom.concatenation import split_instance
from dicom.errors import ObjectError
from dicom.source import convert_slide, read_headers

MAX_BYTES = 60_000


def frames(path: Path) -> list[bytes]:
    dataset = dcmread(path)
    return list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)))


def level_0(paths: list[Path]) -> list[Path]:
    found = [path for path in paths if dcmread(path).TotalPixelMatrixColumns == WIDTH]
    return sorted(found, key=lambda path: dcmread(path).get("ConcatenationFrameOffsetNumber") or 0)


def shown(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions))


def test_a_large_instance_is_written_in_parts(svs: Path, ihc: list[Path], tmp_path: Path) -> None:
    made = convert_slide(svs, tmp_path, identity("HER2"), mpp=MPP, max_bytes=MAX_BYTES)
    assert sorted(made.paths) == sorted(tmp_path.glob("*"))
    assert all(path.stat().st_size <= MAX_BYTES for path in made.paths)
    # dciodvfy of 2022 expects the frames of the whole matrix in each part.
    told = [error for path in made.paths for error in dicom_errors(path)]
    assert [error for error in told if "NumberOfFrames does not match" not in error] == []
    (whole,), parts = level_0(ihc), level_0(list(made.paths))
    assert len(parts) > 2
    assert [frame for part in parts for frame in frames(part)] == frames(whole)
    headers = [dcmread(part, stop_before_pixels=True) for part in parts]
    assert [h.InConcatenationNumber for h in headers] == list(range(1, len(parts) + 1))
    assert {h.InConcatenationTotalNumber for h in headers} == {len(parts)}
    source = dcmread(whole, stop_before_pixels=True).SOPInstanceUID
    assert {h.SOPInstanceUIDOfConcatenationSource for h in headers} == {source}
    assert len({h.SOPInstanceUID for h in headers} | {source}) == len(parts) + 1
    # The readers of the line: OpenSlide, the check whether a series is there, the headers.
    assert np.array_equal(shown(parts[1]), shown(whole))
    assert series_is_whole([part_of(path) for path in made.paths])
    assert not series_is_whole([part_of(path) for path in made.paths if path != parts[1]])
    first, *_ = read_headers(sorted(made.paths, reverse=True))
    assert first.SOPInstanceUID == headers[0].SOPInstanceUID
    from wsidicom import WsiDicom  # loaded by the conversion, without the warning of its import

    with WsiDicom.open(tmp_path) as slide:
        region = np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)))
    assert np.abs(region.astype(int) - shown(whole)[..., :3]).max() <= 3
    again = convert_slide(svs, tmp_path / "b", identity("HER2"), mpp=MPP, max_bytes=MAX_BYTES)
    assert {p.name: p.read_bytes() for p in again.paths} == {
        p.name: p.read_bytes() for p in made.paths
    }


def test_what_is_small_or_no_slide_stays_one_file(ihc: list[Path], tmp_path: Path) -> None:
    (whole,) = level_0(ihc)
    copy = tmp_path / whole.name
    copy.write_bytes(whole.read_bytes())
    assert split_instance(copy, copy.stat().st_size) == [copy]
    assert copy.read_bytes() == whole.read_bytes()
    two_planes = dcmread(whole)
    two_planes.TotalPixelMatrixColumns = WIDTH // 2
    two_planes.save_as(tmp_path / "planes.dcm")
    with pytest.raises(ObjectError, match="one plane"):
        split_instance(tmp_path / "planes.dcm", 1000)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ObjectError):
        split_instance(cut, 1000)
    # Smaller than any frame: a part for each.
    assert len(split_instance(copy, 1)) == len(frames(whole))
