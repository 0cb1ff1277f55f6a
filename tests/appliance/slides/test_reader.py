"""Slide reader on real and on broken files."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from fixtures.series import write_instance
from pydicom import Dataset, FileDataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLSLossless

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP, TILE_PX, TileIndex
from appliance.intake.completeness import is_whole
from appliance.line.analyze_slide import inspect_slide, open_facts
from appliance.settings.settings import Settings
from appliance.slides import dicom_header, files
from appliance.slides.dicom_header import header_of
from appliance.slides.files import fingerprint, slide_files
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import find_tissue, tissue_share
from models.synthesis.pyramid import write_pyramid
from models.synthesis.slides import SyntheticCase


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken/broken.svs", QuarantineReason.UNREADABLE),
        ("broken/unopenable.tiff", QuarantineReason.UNSUPPORTED),
        ("broken/unreadable.svs", QuarantineReason.DAMAGED),
        ("broken/flat-not-pyramidal.tif", QuarantineReason.NOT_PYRAMIDAL),
        ("broken/dicom-missing-tags.dcm", QuarantineReason.MISSING_TAGS),
        ("slides/TCGA-CR-7395-01A-01-TS1.svs", QuarantineReason.NO_MPP),
        ("slides/sm_annotations.dcm", QuarantineReason.UNREADABLE),
    ],
)
def test_each_bad_file_has_its_own_reason(real: Path, name: str, reason: QuarantineReason) -> None:
    with pytest.raises(SlideError) as caught:
        open_facts(real / name)
    assert caught.value.reason is reason
    assert Path(name).name not in str(caught.value)  # names hold accessions


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "sm_image.dcm"])
def test_real_slides_go_through_inspection(real: Path, tmp_path: Path, name: str) -> None:
    settings = Settings(state_dir=tmp_path)
    facts = open_facts(real / "slides" / name)
    assert facts.mpp == pytest.approx(0.499)
    outcome = inspect_slide(facts, settings)
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(outcome.key))
    assert {p.name for p in folder.iterdir()} == {
        *("SHA256SUMS", "thumbnail.png", "tissue.npz", "picture.json")
    }
    assert inspect_slide(facts, settings).times[0].reused


OPENS = "import sys; from pathlib import Path; from appliance.slides.reader import SlideReader; "
"""Program of a process of its own, which OpenSlide may end."""


def test_a_sparse_series_without_positions_ends_no_process(real: Path, tmp_path: Path) -> None:
    slide = dcmread(real / "slides" / "sm_image.dcm")
    slide.DimensionOrganizationType = "TILED_SPARSE"
    slide.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    code = f"{OPENS}SlideReader.open(Path(sys.argv[1])).probe()"
    command = [sys.executable, "-c", code, str(tmp_path / "a.dcm")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "have no positions" in done.stderr
    with pytest.raises(SlideError) as caught:
        SlideReader.open(tmp_path / "a.dcm")
    assert caught.value.reason is QuarantineReason.MISSING_TAGS
    columns = -(-slide.TotalPixelMatrixColumns // slide.Columns)
    frames = []
    for number in range(slide.NumberOfFrames):
        place, frame = Dataset(), Dataset()
        place.ColumnPositionInTotalImagePixelMatrix = 1 + number % columns * slide.Columns
        place.RowPositionInTotalImagePixelMatrix = 1 + number // columns * slide.Rows
        frame.PlanePositionSlideSequence = [place]
        frames.append(frame)
    slide.PerFrameFunctionalGroupsSequence = frames
    slide.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with SlideReader.open(tmp_path / "a.dcm") as placed:
        placed.probe()


def _gray(slide: FileDataset) -> None:
    slide.PixelData = np.ascontiguousarray(pixel_array(slide)[..., 0]).tobytes()
    slide.SamplesPerPixel, slide.PhotometricInterpretation = 1, "MONOCHROME2"
    del slide.PlanarConfiguration


def _of_16_bits(slide: FileDataset) -> None:
    slide.PixelData = pixel_array(slide).astype(np.uint16).tobytes()
    slide.BitsAllocated = slide.BitsStored = 16
    slide.HighBit = 15


def _planar(slide: FileDataset) -> None:
    slide.PixelData = np.ascontiguousarray(np.moveaxis(pixel_array(slide), 3, 1)).tobytes()
    slide.PlanarConfiguration = 1


def _jpeg_ls(slide: FileDataset) -> None:
    slide.PixelData = encapsulate([imagecodecs.jpegls_encode(f) for f in pixel_array(slide)])
    slide["PixelData"].VR, slide["PixelData"].is_undefined_length = "OB", True
    slide.file_meta.TransferSyntaxUID = JPEGLSLossless


def _in_unlisted_fragments(slide: FileDataset) -> None:
    frames = [imagecodecs.jpeg8_encode(f) for f in pixel_array(slide)]
    slide.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=False)
    slide["PixelData"].VR, slide["PixelData"].is_undefined_length = "OB", True
    slide.PhotometricInterpretation = "YBR_FULL_422"
    slide.file_meta.TransferSyntaxUID = JPEGBaseline8Bit


def _deflated(slide: FileDataset) -> None:
    slide.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _part_of_two(slide: FileDataset) -> None:
    slide.ConcatenationUID, slide.InConcatenationNumber = "1.2.3.9", 1
    slide.InConcatenationTotalNumber, slide.ConcatenationFrameOffsetNumber = 2, 0
    slide.SOPInstanceUIDOfConcatenationSource = "1.2.3.10"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_gray, QuarantineReason.UNSUPPORTED),
        (_of_16_bits, QuarantineReason.UNSUPPORTED),
        (_planar, QuarantineReason.UNSUPPORTED),
        (_jpeg_ls, QuarantineReason.UNSUPPORTED),
        (_in_unlisted_fragments, QuarantineReason.UNSUPPORTED),
        (_deflated, QuarantineReason.UNSUPPORTED),
        (_part_of_two, QuarantineReason.NEVER_FINISHED),
    ],
)
def test_a_series_that_cannot_be_read_says_why(
    real: Path, tmp_path: Path, change: Callable[[FileDataset], None], reason: QuarantineReason
) -> None:
    slide = dcmread(real / "slides" / "sm_image.dcm")
    change(slide)
    slide.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(SlideError) as caught:
        open_facts(tmp_path / "a.dcm")
    assert caught.value.reason is reason
    assert is_whole(tmp_path / "a.dcm", (tmp_path / "a.dcm",)) or change is _part_of_two


def test_a_tiff_of_samples_that_nobody_reads_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    light = np.random.default_rng(0).random((512, 512, 3), np.float32)
    tifffile.imwrite(path, light, tile=(256, 256), photometric="rgb", metadata=None)
    with SlideReader.open(path, mpp=0.25) as slide, pytest.raises(SlideError) as caught:
        slide.read_tile(TileIndex(column=0, row=0))
    assert caught.value.reason is QuarantineReason.UNSUPPORTED


def test_a_sparse_series_may_have_any_number_of_frames(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.dcm"
    slide = dcmread(real / "slides" / "sm_image.dcm")
    place, frame = Dataset(), Dataset()
    place.ColumnPositionInTotalImagePixelMatrix = place.RowPositionInTotalImagePixelMatrix = 1
    frame.PlanePositionSlideSequence = [place]
    slide.PerFrameFunctionalGroupsSequence = [frame] * slide.NumberOfFrames
    # Elements of sequences are counted where their lengths are not stated.
    for outer, inner in ((slide, "PerFrameFunctionalGroups"), (frame, "PlanePositionSlide")):
        outer[f"{inner}Sequence"].is_undefined_length = True
    frame.is_undefined_length_sequence_item = place.is_undefined_length_sequence_item = True
    slide.save_as(path, enforce_file_format=True)
    monkeypatch.setattr(dicom_header, "MOST_ELEMENTS", 150)
    size = path.stat().st_size
    with path.open("rb") as stream:
        assert dicom_header.reaches_end(stream, size)
    with path.open("rb") as stream:
        assert dicom_header.has_places(stream, size)
    # A number of frames that is none: the bound holds, and the positions are found all the same.
    del slide.NumberOfFrames
    slide.save_as(path, enforce_file_format=True)
    size = path.stat().st_size
    with path.open("rb") as stream:
        assert not dicom_header.reaches_end(stream, size)
    with path.open("rb") as stream:
        assert dicom_header.has_places(stream, size)


def test_truncated_slide_is_damaged(small_case: SyntheticCase, tmp_path: Path) -> None:
    data = small_case.ihc_path.read_bytes()
    cut = tmp_path / "cut.svs"
    # Tiles beyond the middle are zeros; the index is whole: it opens and reads, down to some row.
    middle = len(data) // 2
    cut.write_bytes(data[:middle] + bytes(len(data) - middle - 60_000) + data[-60_000:])
    with pytest.raises(SlideError) as caught:
        open_facts(cut)
    assert caught.value.reason in (QuarantineReason.DAMAGED, QuarantineReason.UNREADABLE)


def test_tile_is_exactly_the_slides_pixels_at_its_own_mpp(small_case: SyntheticCase) -> None:
    reference = openslide.OpenSlide(small_case.he_path)
    with SlideReader.open(small_case.he_path) as slide:
        tile = slide.read_tile(TileIndex(column=3, row=2))
        beyond = slide.read_tile(TileIndex(column=slide.grid.columns + 5, row=0))
    expected = reference.read_region((3 * TILE_PX, 2 * TILE_PX), 0, (TILE_PX, TILE_PX))
    reference.close()
    np.testing.assert_array_equal(tile, np.asarray(expected)[..., :3])
    assert (beyond == 255).all()


@pytest.mark.parametrize("mpp", [0.12, 0.25, 0.46, 1.0])
def test_tile_shows_the_same_tissue_at_any_mpp(mpp: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(60, 250, (8, 8, 3), dtype=np.uint8)
    side_px = int(2.5 * TILE_PX * TILE_MPP / mpp / 256 + 1) * 256
    image = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "slide.svs"
    write_pyramid(path, [image], width_px=side_px, height_px=side_px, mpp=mpp, file_format="svs")
    with SlideReader.open(path) as slide:
        tile = slide.read_tile(TileIndex(column=1, row=1))
    edge = TILE_PX * TILE_MPP / mpp
    box = image[round(edge) : round(2 * edge), round(edge) : round(2 * edge)]
    expected = cv2.resize(box, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
    assert np.abs(tile.astype(int) - expected.astype(int)).mean() < 3


def test_thumbnail_has_the_size_it_promises(small_case: SyntheticCase) -> None:
    with SlideReader.open(small_case.he_path) as slide:
        thumbnail = slide.thumbnail(4.0)
        facts = slide.facts
    assert thumbnail.shape[1] == -(-facts.width_px * facts.mpp // 4.0)
    whole = openslide.OpenSlide(small_case.he_path)
    size = thumbnail.shape[1], thumbnail.shape[0]
    other = np.asarray(whole.get_thumbnail((size[0] + 50, size[1] + 50)).resize(size))
    whole.close()
    assert np.abs(thumbnail.astype(int) - other.astype(int)).mean() < 6


def test_fingerprint_is_of_the_bytes(small_case: SyntheticCase, tmp_path: Path) -> None:
    copy = tmp_path / "copy.svs"
    copy.write_bytes(small_case.he_path.read_bytes())
    assert fingerprint(copy) == fingerprint(small_case.he_path)
    copy.write_bytes(small_case.he_path.read_bytes() + b"x")
    assert fingerprint(copy) != fingerprint(small_case.he_path)


def test_empty_slide_has_no_tissue_and_tissue_shares_add_up() -> None:
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(240, 1.5, (300, 400, 3)), 0, 255).astype(np.uint8)
    assert find_tissue(glass, 8.0).area_mm2 == 0
    glass[100:200, 100:300] = (200, 120, 180)
    tissue = find_tissue(glass, 8.0)
    assert tissue.area_mm2 == pytest.approx(0.8 * 1.6, rel=0.1)
    assert all(abs(w - 240) < 6 for w in tissue.white_rgb)
    from appliance.geometry import TILE_UM, TileGrid

    share = tissue_share(tissue, TileGrid.of(400 * 8.0, 300 * 8.0))
    assert share.sum() * TILE_UM**2 / 1e6 == pytest.approx(tissue.area_mm2, rel=1e-3)


@pytest.mark.parametrize("suffix", [".mrxs", ".MRXS"])
def test_mrxs_is_known_in_any_case_of_its_suffix(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(links))
    slide = tmp_path / f"a{suffix}"
    slide.write_bytes(b"x")
    slide.with_suffix("").mkdir()
    (slide.with_suffix("") / "Slidedat.ini").write_text("[GENERAL]\nSLIDE_VERSION = 01.02\n")
    with pytest.raises(SlideError, match="SLIDE_ID"):  # OpenSlide has read the index
        SlideReader.open(slide)
    assert list(links.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EMFILE, True), (errno.ESTALE, True), (errno.EBUSY, False), (errno.ELOOP, False)],
)
def test_what_a_machine_without_open_files_cannot_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    """The slide would have other files and another fingerprint; a file that nobody can read is of
    no slide."""
    first, second = (write_instance(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert slide_files(first) == [first, second]

    def header(path: Path, *facts: int) -> object:
        if path == second:
            raise OSError(number, "trouble")
        return header_of(path, *facts)

    monkeypatch.setattr(files, "header_of", header)
    if told:
        with pytest.raises(OSError, match="trouble"):
            slide_files(first)
    else:
        assert slide_files(first) == [first]


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "sm_image.dcm"])
def test_a_process_without_open_files_blames_no_slide(real: Path, name: str) -> None:
    path = real / "slides" / name
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with SlideReader.open(path):
        pass  # what is loaded at first needs files, too
    used = len(list(Path("/proc/self/fd").iterdir())) - 1
    for free in (0, 1, 2):
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, before[1]))
        try:
            with SlideReader.open(path):
                continue
        except OSError as err:
            found = err.errno
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert found == errno.EMFILE
