"""Places of px, and detection of damage, on slides made for the test."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP, TILE_UM, TileIndex
from appliance.slides.files import fingerprint, slide_files
from appliance.slides.reader import SlideReader


def write_svs(
    path: Path, image: NDArray[np.uint8], mpp: float | None, *, levels: int = 1
) -> NDArray[np.uint8]:
    """Write a lossless Aperio file whose levels shrink by exactly 4, as a scanner's do."""
    text = f"Aperio Image Library v12\n{image.shape[1]}x{image.shape[0]} "
    text += "" if mpp is None else f"|AppMag = {round(10 / mpp)}|MPP = {mpp}"
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            f = 4**level
            rows, columns = image.shape[0] // f, image.shape[1] // f
            cut = image[: rows * f, : columns * f]
            small = cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA)
            tiff.write(
                small,
                tile=(256, 256),
                compression="deflate",
                photometric="rgb",
                description=text,
                metadata=None,
            )
            if level == 0:
                tiff.write(image[::16, ::16], photometric="rgb", metadata=None)
    return image


def reason_of(path: Path) -> QuarantineReason:
    with pytest.raises(SlideError) as caught, SlideReader.open(path) as slide:
        slide.probe()
    assert path.name not in caught.value.detail  # file names hold accessions
    return caught.value.reason


def noise(rows: int, columns: int) -> NDArray[np.uint8]:
    small = np.random.default_rng(4).integers(0, 255, (rows // 8, columns // 8, 3), np.uint8)
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_person_may_supply_the_missing_resolution(real: Path) -> None:
    path = real / "slides" / "TCGA-CR-7395-01A-01-TS1.svs"
    with SlideReader.open(path, mpp=0.5) as slide:
        assert slide.facts.mpp == 0.5
    with pytest.raises(SlideError) as caught:
        SlideReader.open(path, mpp=5.0)
    assert caught.value.reason is QuarantineReason.IMPLAUSIBLE_MPP


@pytest.mark.parametrize("kept", [0.0005, 0.1, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("source", ["made", "real"])
def test_truncated_slides_are_damaged(
    tmp_path: Path, request: pytest.FixtureRequest, source: str, kept: float
) -> None:
    whole = tmp_path / "whole.svs"
    if source == "made":
        write_svs(whole, noise(1600, 2000), 0.25, levels=2)
    else:
        shutil.copy(request.getfixturevalue("real") / "slides" / "CMU-1-Small-Region.svs", whole)
    data = whole.read_bytes()
    part = tmp_path / "part.svs"
    part.write_bytes(data[: int(len(data) * kept)])
    assert reason_of(part) is QuarantineReason.DAMAGED


@pytest.mark.parametrize("kept", [0.001, 0.3])
def test_a_copy_that_only_reserved_its_length_is_damaged(tmp_path: Path, kept: float) -> None:
    whole = tmp_path / "whole.svs"
    write_svs(whole, noise(1600, 2000), 0.25, levels=2)
    data = whole.read_bytes()
    n = int(len(data) * kept)
    whole.write_bytes(data[:n] + bytes(len(data) - n))
    assert reason_of(whole) is QuarantineReason.DAMAGED


@pytest.mark.parametrize("slide_mpp", [0.25, 0.5])
@pytest.mark.parametrize("mpp", [1.0, 3.3, 8.0])
def test_thumbnail_px_lie_where_their_mpp_says(
    tmp_path: Path, slide_mpp: float, mpp: float
) -> None:
    image = np.full((2003, 3001, 3), 255, np.uint8)
    bars_px = (120, 1500, 2900)
    for x in bars_px:
        image[:, x - 20 : x + 20] = 0
    write_svs(tmp_path / "bars.svs", image, slide_mpp, levels=2)
    with SlideReader.open(tmp_path / "bars.svs") as slide:
        thumbnail = slide.thumbnail(mpp)
    expected = (np.ceil(2003 * slide_mpp / mpp), np.ceil(3001 * slide_mpp / mpp))
    assert thumbnail.shape[:2] == expected
    dark = (255 - thumbnail[..., 0].astype(float)).mean(axis=0)
    for x in bars_px:
        at, reach = x * slide_mpp / mpp, 30 * slide_mpp / mpp + 2
        columns = np.arange(max(0, int(at - reach)), min(len(dark), int(at + reach) + 1))
        found_um = ((columns + 0.5) * dark[columns]).sum() / dark[columns].sum() * mpp
        # One eighth of a px of the thumbnail: 8-bit rounding of wide, shallow flanks.
        assert found_um == pytest.approx(x * slide_mpp, abs=max(0.2, mpp / 8))


@pytest.mark.parametrize("mpp", [0.12, 0.25, TILE_MPP, 0.5, 1.0])
def test_tiles_compose_back_into_the_slide(tmp_path: Path, mpp: float) -> None:
    """Eq. 1-2: at any slide resolution the tiles join to one image at TILE_MPP."""
    px = int(1.6 * TILE_UM / mpp)
    y, x = np.mgrid[:px, :px] * mpp  # a pattern in µm, the same at each resolution
    wave = 128 + 50 * np.sin(x / 9) + 50 * np.cos(y / 7)
    write_svs(tmp_path / "s.svs", np.repeat(wave.astype(np.uint8)[..., None], 3, 2), mpp)
    with SlideReader.open(tmp_path / "s.svs") as slide:
        assert slide.grid.shape == (2, 2)
        whole = np.vstack(
            [np.hstack([slide.read_tile(TileIndex(c, r)) for c in (0, 1)]) for r in (0, 1)]
        )
    covered = int(px * mpp / TILE_MPP)
    r, c = (np.mgrid[: covered - 4, : covered - 4] + 0.5) * TILE_MPP - mpp / 2
    expected = 128 + 50 * np.sin(c / 9) + 50 * np.cos(r / 7)
    got = whole[: covered - 4, : covered - 4, 0]
    assert np.abs(got - expected).max() < 4
    assert (whole[covered + 4 :] == 255).all()
    assert (whole[:, covered + 4 :] == 255).all()


def test_unscanned_places_take_the_color_of_the_glass(tmp_path: Path) -> None:
    image = np.full((1024, 1024, 3), (228, 226, 230), np.uint8)
    path = tmp_path / "sparse.svs"
    write_svs(path, image, 0.25)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tag = tiff.pages.first.tags["TileByteCounts"]
        counts = list(tag.value)
        counts[5] = 0  # Aperio's sign for a tile that was not scanned
        tag.overwrite(counts)
    with SlideReader.open(path) as slide:
        slide.probe()
        thumbnail = slide.thumbnail(2.0)
    assert (np.abs(thumbnail.astype(int) - (228, 226, 230)) <= 1).all()


def test_fingerprint_covers_all_files_of_a_slide(tmp_path: Path, real: Path) -> None:
    index, folder = tmp_path / "a.mrxs", tmp_path / "a"
    folder.mkdir()
    index.write_bytes(b"index")
    (folder / "Slidedat.ini").write_bytes(b"x")
    assert slide_files(index) == [index, folder / "Slidedat.ini"]
    before = fingerprint(index)
    (folder / "Slidedat.ini").write_bytes(b"y")
    assert fingerprint(index) != before

    series = tmp_path / "dicom"
    series.mkdir()
    for name in ("2.dcm", "1.dcm"):
        shutil.copy(real / "slides" / "sm_image.dcm", series / name)
    shutil.copy(real / "slides" / "sm_annotations.dcm", series / "other.dcm")
    assert [p.name for p in slide_files(series / "2.dcm")] == ["1.dcm", "2.dcm"]
    assert fingerprint(series / "1.dcm") == fingerprint(series / "2.dcm")
    assert len(fingerprint(series / "1.dcm")) == hashlib.sha256().digest_size * 2
