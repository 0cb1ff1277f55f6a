"""UIDs of a scanner's DICOM: what is no UID sets the slide aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
from fixtures.slide_objects import MPP, identity, write_svs
from pydicom import dcmread
from pydicom.uid import generate_uid

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.line.analyze_slide import identify_slide, open_facts
from appliance.settings.settings import Settings
from appliance.slides import general
from appliance.slides.reader import SlideReader
from dicom.source import convert_slide
from models.synthesis.pyramid import write_pyramid

KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scanner")
    return list(convert_slide(write_svs(folder / "a.svs"), folder, identity("HE"), mpp=MPP).paths)


def rewritten(series: list[Path], folder: Path, keyword: str, text: bytes) -> Path:
    """Copy a series, and write a text in the place of a UID of each file; return level 0."""
    folder.mkdir()
    for path in series:
        old = str(dcmread(path, stop_before_pixels=True)[keyword].value).encode()
        length = len(old) + len(old) % 2
        new = text[:length].ljust(length, b"\0")
        data = path.read_bytes().replace(old.ljust(length, b"\0"), new)
        (folder / path.name).write_bytes(data)
    return folder / max(series, key=lambda path: path.stat().st_size).name


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize(
    "text", [b"../../pwn", b"", b"1.2.03", b"1..2", b"1.2.", b"1.2.\xe9", b"abc"], ids=repr
)
def test_what_is_no_uid_sets_the_slide_aside(
    series: list[Path], tmp_path: Path, keyword: str, text: bytes
) -> None:
    path = rewritten(series, tmp_path / "scan", keyword, text)
    with pytest.raises(SlideError) as told:
        identify_slide(path, Settings(state_dir=tmp_path / "state"))
    assert told.value.reason is QuarantineReason.INVALID_UID
    assert keyword in str(told.value) and "no valid UID" in str(told.value)
    assert "pwn" not in str(told.value)
    with pytest.raises(SlideError, match="no valid UID"):
        open_facts(path)


def test_valid_uids_are_taken(series: list[Path], tmp_path: Path) -> None:
    found = identify_slide(
        max(series, key=lambda path: path.stat().st_size), Settings(state_dir=tmp_path / "state")
    )
    assert found.verdict.accession == "S26-0042"


def test_a_uid_that_is_too_long(series: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "long.dcm"
    dataset = dcmread(max(series, key=lambda path: path.stat().st_size))
    before = str(dataset.StudyInstanceUID).encode()
    dataset.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    at = data.index(b"UI" + (len(before) + len(before) % 2).to_bytes(2, "little") + before)
    long = b"2.25." + b"1" * 61
    field = b"UI" + len(long).to_bytes(2, "little") + long
    end = at + 4 + len(before) + len(before) % 2
    path.write_bytes(data[:at] + field + data[end:])
    with pytest.raises(SlideError, match="no valid UID"):
        identify_slide(path, Settings(state_dir=tmp_path / "state"))


def test_a_series_of_two_scans_is_set_aside(series: list[Path], tmp_path: Path) -> None:
    """Two regions of one glass, each with levels of its own: one would never be read."""
    folder = tmp_path / "scan"
    folder.mkdir()
    other = tmp_path / "b.svs"
    gray = np.full((512, 1024, 3), 200, np.uint8)
    write_pyramid(other, [gray], width_px=1024, height_px=512, mpp=MPP, file_format="svs")
    second = convert_slide(other, tmp_path, identity("HE"), mpp=MPP).paths
    uid = dcmread(series[0], stop_before_pixels=True).SeriesInstanceUID
    for path in series:
        (folder / path.name).write_bytes(path.read_bytes())
    for number, path in enumerate(second):
        dataset = dcmread(path)
        dataset.SeriesInstanceUID = uid
        dataset.save_as(folder / f"second-{number}.dcm", enforce_file_format=True)
    base = folder / max(series, key=lambda path: path.stat().st_size).name
    with pytest.raises(SlideError, match="scans of several regions") as told:
        open_facts(base)
    assert told.value.reason is QuarantineReason.UNSUPPORTED


def test_a_series_opened_without_its_largest_level_is_not_taken_for_a_slide(
    series: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSlide leaves out files that it cannot open for a moment: the scale would be another."""
    folder, coarse = tmp_path / "scan", tmp_path / "coarse"
    for each in (folder, coarse):
        each.mkdir()
        for path in series:
            (each / path.name).write_bytes(path.read_bytes())
    largest = max(series, key=lambda path: path.stat().st_size).name
    (coarse / largest).unlink()
    path = next(each for each in sorted(folder.iterdir()) if each.name != largest)
    facts = open_facts(path)
    monkeypatch.setattr(general, "_opened", lambda _: openslide.OpenSlide(coarse / path.name))
    with pytest.raises(SlideError, match="px") as told:
        open_facts(path)
    assert told.value.reason is QuarantineReason.DAMAGED
    with pytest.raises(SlideError, match="px") as told:
        SlideReader.of(facts)
    assert told.value.reason is QuarantineReason.DAMAGED


@pytest.mark.parametrize("what", ["regions", "planes"])
def test_what_openslide_does_not_read_of_a_series_is_named(
    series: list[Path], tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    for path in series:
        dataset = dcmread(path)
        if what == "planes":
            dataset.TotalPixelMatrixFocalPlanes = 2
        dataset.save_as(folder / path.name, enforce_file_format=True)
    base = folder / max(series, key=lambda path: path.stat().st_size).name
    if what == "regions":
        dataset = dcmread(base)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / "second.dcm", enforce_file_format=True)
    with pytest.raises(SlideError, match=what) as told:
        open_facts(base)
    assert told.value.reason is QuarantineReason.UNSUPPORTED
