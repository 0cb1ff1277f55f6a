"""Conversion to VL WSM: valid, same pixels, equal bytes, with and without libturbojpeg."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from datetime import timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import pytest
import tifffile
from fixtures.judges import dicom_errors
from fixtures.slide_objects import HEIGHT, MPP, SCANNED, STUDY_UID, WIDTH, identity, write_svs
from PIL import Image, ImageCms
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array
from pydicom.sr.coding import Code

from appliance.slides.general import pyramid_of
from dicom import source
from dicom.dyadic import PART_PX, dyadic, made_sizes
from dicom.errors import ObjectError, SourceError
from dicom.slide_metadata import SlideUids
from dicom.source import (
    ENCODED_AGAIN,
    PASSED_THROUGH,
    convert_slide,
    input_profile,
    read_headers,
    slide_facts,
)

WITHOUT_TURBO = """
import ctypes.util, logging, pathlib, sys
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if "jpeg" in name else find(name)
import turbojpeg
turbojpeg.DEFAULT_LIB_PATHS.clear()
turbojpeg.DEFAULT_LIB_PATHS.update({name: [] for name in ("Darwin", "Linux", "FreeBSD", "NetBSD",
    "Windows")})
from fixtures.slide_objects import MPP, identity
from appliance.slides.general import pyramid_of
from dicom.source import convert_slide
slide, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
with pyramid_of(slide) as pyramid:
    print(convert_slide(slide, out / "frames", identity(), mpp=MPP, pyramid=pyramid).how)
print(convert_slide(slide, out, identity(), mpp=MPP).how)
"""


def pixels(slide: Path) -> np.ndarray:
    with openslide.OpenSlide(slide) as opened:
        return np.asarray(opened.read_region((0, 0), 0, opened.dimensions).convert("RGB"))


def test_converted_slide_is_valid_and_says_who_it_is(ihc: list[Path]) -> None:
    headers = read_headers(ihc)
    assert [(h.TotalPixelMatrixColumns, h.TotalPixelMatrixRows) for h in headers] == [
        (WIDTH, HEIGHT),
        (WIDTH // 4, HEIGHT // 4),
    ]
    assert {path.name: dicom_errors(path) for path in ihc} == {path.name: [] for path in ihc}
    facts = slide_facts(headers)
    assert (facts.accession, facts.container_id) == ("S26-0042", "S26-0042-A1-HER2")
    assert (facts.stain, facts.stain_texts) == ("HER2", ("HER2 immunohistochemistry",))
    assert facts.mpp == pytest.approx(MPP)
    assert facts.study_uid == STUDY_UID
    assert len({h.FrameOfReferenceUID for h in headers}) == 1
    assert all("LABEL" not in h.ImageType and "OVERVIEW" not in h.ImageType for h in headers)


def test_both_stains_share_the_study_and_nothing_else(
    he_images: list[Dataset], ihc_images: list[Dataset]
) -> None:
    he, ihc = he_images[0], ihc_images[0]
    assert he.StudyInstanceUID == ihc.StudyInstanceUID == STUDY_UID
    assert he.SeriesInstanceUID != ihc.SeriesInstanceUID
    assert he.FrameOfReferenceUID != ihc.FrameOfReferenceUID
    assert slide_facts(he_images).stain == "HE"


def test_tiles_pass_through_with_the_same_pixels(svs: Path, tmp_path: Path) -> None:
    done = convert_slide(svs, tmp_path, identity(), mpp=MPP)
    assert done.how == PASSED_THROUGH
    level_0 = max(done.paths, key=lambda path: path.stat().st_size)
    assert np.array_equal(pixels(level_0), pixels(svs))


def test_conversion_is_deterministic(svs: Path, ihc: list[Path], tmp_path: Path) -> None:
    again = convert_slide(svs, tmp_path, identity(), mpp=MPP).paths
    assert {p.name: p.read_bytes() for p in again} == {p.name: p.read_bytes() for p in ihc}
    # The same moment, told in another time zone.
    elsewhere = identity(scanned=SCANNED.astimezone(timezone(timedelta(hours=5))))
    moved = convert_slide(svs, tmp_path / "moved", elsewhere, mpp=MPP).paths
    assert {p.name: p.read_bytes() for p in moved} == {p.name: p.read_bytes() for p in ihc}


@pytest.mark.parametrize(
    ("changes", "mpp"),
    [
        ({"fingerprint": "other"}, MPP),
        ({"patient_name": "Doe^Jane"}, MPP),
        ({"accession": "S26-0043"}, MPP),
        ({"started": SCANNED - timedelta(days=1)}, MPP),
        ({}, 0.26),
    ],
)
def test_other_facts_are_other_objects(
    changes: dict[str, Any], mpp: float, svs: Path, ihc: list[Path], tmp_path: Path
) -> None:
    other = convert_slide(svs, tmp_path, identity(**changes), mpp=mpp).paths

    def uids(paths: tuple[Path, ...] | list[Path]) -> set[str]:
        return {h.SOPInstanceUID for h in read_headers(list(paths))}

    assert not uids(other) & uids(ihc)


def test_names_beyond_ascii_survive(svs: Path, tmp_path: Path) -> None:
    whose = identity(accession="Ж12", block="ß", patient_name="Müller^Jörg")
    paths = convert_slide(svs, tmp_path, whose, mpp=MPP).paths
    assert [dicom_errors(path) for path in paths] == [[] for _ in paths]
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        assert header.SpecificCharacterSet == "ISO_IR 192"
        assert (header.AccessionNumber, str(header.PatientName)) == ("Ж12", "Müller^Jörg")
        assert "ß" in header.SpecimenDescriptionSequence[0].SpecimenShortDescription


def test_study_date_is_the_studys_not_the_slides(svs: Path, tmp_path: Path) -> None:
    started = SCANNED - timedelta(days=2)
    done = convert_slide(svs, tmp_path, identity(started=started), mpp=MPP)
    header = read_headers(done.paths)[0]
    assert (header.StudyDate, header.ContentDate) == ("20260302", "20260304")


def test_stated_mpp_wins_over_the_files(svs: Path, tmp_path: Path) -> None:
    done = convert_slide(svs, tmp_path, identity(), mpp=0.5)
    headers = read_headers(done.paths)
    assert [slide_facts([h]).mpp for h in headers] == pytest.approx([0.5, 2.0])


def test_without_libturbojpeg_known_tiles_pass_through_and_others_are_encoded_again(
    svs: Path, ihc: list[Path], tmp_path: Path
) -> None:
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TURBO, str(svs), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tests}:{tests.parent}", "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.strip().splitlines()[-2:] == [PASSED_THROUGH, ENCODED_AGAIN]
    passed = max((tmp_path / "frames").glob("*.dcm"), key=lambda path: path.stat().st_size)
    assert np.array_equal(pixels(passed), pixels(svs))
    files = sorted(tmp_path.glob("*.dcm"))
    headers = read_headers(files)
    assert [h.TotalPixelMatrixColumns for h in headers] == [WIDTH, WIDTH // 4]
    assert {path.name: dicom_errors(path) for path in files} == {path.name: [] for path in files}
    assert {(h.ImageType[0], bool(h.DerivationDescription)) for h in headers} == {("DERIVED", True)}
    # Other bytes than passed through: they must not have the same UIDs.
    assert not {h.SOPInstanceUID for h in headers} & {h.SOPInstanceUID for h in read_headers(ihc)}
    slow = pixels(max(files, key=lambda path: path.stat().st_size)).astype(int)
    assert np.abs(slow - pixels(svs)).mean() < 4


@pytest.mark.parametrize(
    ("name", "mpp", "photometric"),
    [
        ("CMU-1-Small-Region.svs", 0.499, "RGB"),
        ("TCGA-CR-7395-01A-01-TS1.svs", 0.5, "YBR_ICT"),  # JPEG 2000, without MPP
    ],
)
def test_real_tiles_are_frames_as_they_are(
    name: str, mpp: float, photometric: str, real: Path, tmp_path: Path
) -> None:
    slide = real / "slides" / name
    with pyramid_of(slide) as pyramid:
        done = convert_slide(slide, tmp_path, identity("HE"), mpp=mpp, pyramid=pyramid)
    assert done.how == PASSED_THROUGH
    assert [dicom_errors(path) for path in done.paths] == [[] for _ in done.paths]
    header = read_headers(done.paths)[0]
    assert (header.PhotometricInterpretation, header.ImageType[0]) == (photometric, "ORIGINAL")
    level_0 = max(done.paths, key=lambda path: path.stat().st_size)
    assert np.array_equal(pixels(level_0), pixels(slide))


def _tiff(path: Path, sizes: list[tuple[int, int]], compression: str) -> Path:
    """Write a generic TIFF with levels of these sizes (width, height), tiles of 128 px."""
    width, height = sizes[0]
    blocks = np.random.default_rng(5).integers(90, 250, (height // 200, width // 200, 3), np.uint8)
    image = cv2.resize(blocks, sizes[0], interpolation=cv2.INTER_LINEAR)
    with tifffile.TiffWriter(path) as tiff:
        for size in sizes:
            factor = width // size[0]  # what is left over at the edge is dropped
            part = image[: size[1] * factor, : size[0] * factor]
            tiff.write(
                cv2.resize(part, size, interpolation=cv2.INTER_AREA),
                tile=(128, 128), photometric="rgb", compression=compression, metadata=None,
                subfiletype=int(size != sizes[0]),
            )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("sizes", "compression", "how", "factors"),
    [
        # Halved, with the rest dropped, until one tile holds all: 1887 / 58 is not 32.
        ([(1887 >> k, 1535 >> k) for k in range(6)], "jpeg", PASSED_THROUGH, [1, 2, 4, 8, 16, 32]),
        ([(1887 >> k, 1535 >> k) for k in range(6)], "zlib", ENCODED_AGAIN, [1, 2, 4, 8, 16, 32]),
        ([(1800, 1500), (600, 500), (200, 166)], "jpeg", ENCODED_AGAIN, [1, 4, 16]),
        ([(1800, 1500), (600, 500), (200, 166)], "zlib", ENCODED_AGAIN, [1, 4, 16]),
        ([(1800, 1500), (900, 750), (300, 250)], "jpeg", ENCODED_AGAIN, [1, 2, 8]),
        ([(1800, 1500), (450, 375), (360, 300), (360, 300)], "jpeg", ENCODED_AGAIN, [1, 4, 8]),
        # The writer takes the last of a rounded power, and passes it through.
        ([(1800, 1500), (486, 405), (450, 375)], "jpeg", PASSED_THROUGH, [1, 4]),
        # 1800 / 448 is near 4, which is kept beside a level of no power of two.
        ([(1800, 1500), (448, 373), (300, 250)], "jpeg", ENCODED_AGAIN, [1, 4.02, 8]),
    ],
)
def test_levels_of_any_factor_are_converted(
    sizes: list[tuple[int, int]], compression: str, how: str, factors: list[int], tmp_path: Path
) -> None:
    slide = _tiff(tmp_path / "slide.tif", sizes, compression)
    with pyramid_of(slide) as pyramid:
        done = convert_slide(slide, tmp_path / "out", identity(), mpp=MPP, pyramid=pyramid)
    assert done.how.startswith(how)
    assert [dicom_errors(path) for path in done.paths] == [[] for _ in done.paths]
    headers = read_headers(done.paths)
    stated = [slide_facts([h]).mpp for h in headers]
    assert stated == pytest.approx([MPP * f for f in factors], rel=1e-3)
    whole = pixels(slide)
    with openslide.OpenSlide(max(done.paths, key=lambda path: path.stat().st_size)) as opened:
        for level, size in enumerate(opened.level_dimensions):
            shown = np.asarray(opened.read_region((0, 0), level, size).convert("RGB")).astype(int)
            factor = factors[level]
            part = whole[: round(size[1] * factor), : round(size[0] * factor)]
            wanted = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            assert np.abs(shown - wanted).mean() < 4


@pytest.mark.parametrize("aperio", [False, True])
@pytest.mark.parametrize(
    ("sizes", "compression", "how"),
    [
        ([(1800, 1500), (900, 750)], "jpeg", PASSED_THROUGH),
        ([(1800, 1500), (900, 750)], "lzw", ENCODED_AGAIN),
        ([(1800, 1500), (600, 500)], "jpeg", ENCODED_AGAIN),
    ],
)
def test_a_macro_among_the_levels_is_not_sent(
    sizes: list[tuple[int, int]], compression: str, how: str, aperio: bool, tmp_path: Path
) -> None:
    slide = tmp_path / ("slide.svs" if aperio else "slide.tif")
    macro = np.full((224, 560, 3), (255, 0, 0), np.uint8)
    cv2.putText(macro, "SMITH 123", (10, 120), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 5)
    image = np.full((1500, 1800, 3), (90, 160, 200), np.uint8)
    with tifffile.TiffWriter(slide) as tiff:
        for level in [*(cv2.resize(image, size) for size in sizes), macro]:
            described = f"Aperio Image Library v1\n{level.shape[1]}x{level.shape[0]}"
            tiff.write(
                level, tile=(128, 128), photometric="rgb", compression=compression, metadata=None,
                subfiletype=int(level is not image),
                description=f"{described}|AppMag = 40|MPP = 0.25" if aperio else None,
            )  # fmt: skip
    with openslide.OpenSlide(slide) as opened:
        assert opened.level_dimensions[-1] == (560, 224)
    with pyramid_of(slide) as pyramid:
        done = convert_slide(slide, tmp_path / "out", identity(), mpp=MPP, pyramid=pyramid)
    assert done.how.startswith(how) and len(done.paths) == 2
    for path in done.paths:
        shown = pixel_array(path).reshape(-1, 3).astype(int)
        assert (shown[:, 0] - shown[:, 2]).max() < 100  # no px of the red label


def _pages(path: Path, pages: list[tuple[np.ndarray, str | None]], compression: str) -> Path:
    """Write tiled pictures with their descriptions, the first as level 0."""
    with tifffile.TiffWriter(path) as tiff:
        for number, (image, text) in enumerate(pages):
            tiff.write(
                image, tile=(128, 128), photometric="rgb", compression=compression, metadata=None,
                subfiletype=int(number > 0), description=text,
            )  # fmt: skip
    return path


@pytest.mark.parametrize("aperio", [False, True])
@pytest.mark.parametrize(
    ("sizes", "label_px", "compression", "named"),
    [
        ([(1800, 1500), (600, 500)], (360, 300), "jpeg", True),
        ([(1800, 1500), (900, 750)], (450, 375), "jpeg", True),
        ([(1800, 1500), (900, 750)], (450, 375), "lzw", True),
        ([(1800, 1500)], (376, 310), "jpeg", True),
        ([(1800, 1500), (600, 500)], (360, 300), "jpeg", False),
        ([(1800, 1500), (900, 750)], (376, 310), "lzw", False),
        ([(1800, 1500)], (376, 310), "jpeg", False),
    ],
)
def test_a_label_of_the_slides_shape_is_not_sent(
    sizes: list[tuple[int, int]],
    label_px: tuple[int, int],
    compression: str,
    named: bool,
    aperio: bool,
    tmp_path: Path,
) -> None:
    """An unnamed one, where its factor is no power of two."""
    label = np.full((*label_px[::-1], 3), (255, 0, 0), np.uint8)
    cv2.putText(label, "SMITH", (5, 150), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 5)
    image = np.full((1500, 1800, 3), (90, 160, 160), np.uint8)
    pages = []
    for level in [*(cv2.resize(image, size) for size in sizes), label]:
        name = "label" if named and level is label else ""
        text = f"Aperio Image Library v1\n{name} {level.shape[1]}x{level.shape[0]}|MPP = 0.25"
        pages.append((level, text if aperio else name or None))
    slide = _pages(tmp_path / ("slide.svs" if aperio else "slide.tif"), pages, compression)
    with openslide.OpenSlide(slide) as opened:
        assert opened.level_dimensions[-1] == label_px
    with pyramid_of(slide) as pyramid:
        done = convert_slide(slide, tmp_path / "out", identity(), mpp=MPP, pyramid=pyramid)
    assert len(done.paths) >= len(sizes)
    for path in done.paths:
        sent = pixel_array(path).reshape(-1, 3).astype(int)
        assert (sent[:, 0] - sent[:, 2]).max() < 100  # no px of the red label


@pytest.mark.parametrize(
    ("name", "texts", "count"),
    [
        ("a.tif", [None, None, "Macro image"], 2),
        ("a.tif", [None, None, "slide_label"], 2),
        ("a.tif", [None, None, "labeled tissue"], 3),
        ("b.tif", ["HER2, label-free", "HER2, label-free", "HER2, label-free"], 3),
        ("c.tif", ["HER2, label-free", "HER2, label-free", "Macro image"], 2),
        ("d.svs", ["Aperio v1|T = macro|MPP = 1", *["Aperio v1|T = macro|Title = label"] * 2], 3),
        ("e.svs", ["Aperio v1|MPP = 1", "Aperio v1|Title = macro", "Aperio v1\nmacro 450x375"], 2),
    ],
)
def test_a_picture_is_told_by_a_name_that_level_0_has_not(
    name: str, texts: list[str | None], count: int, tmp_path: Path
) -> None:
    sizes = [(1800, 1500), (900, 750), (450, 375)]
    with tifffile.TiffFile(_tiff(tmp_path / "levels.tif", sizes, "jpeg")) as tiff:
        images = [page.asarray() for page in tiff.pages]
    slide = _pages(tmp_path / name, list(zip(images, texts, strict=True)), "jpeg")
    with pyramid_of(slide) as pyramid:
        assert len(pyramid.levels.level_dimensions) == len(pyramid.coded) == count


def test_a_level_of_the_size_of_a_named_picture_stays(tmp_path: Path) -> None:
    image = np.full((1500, 1800, 3), 160, np.uint8)
    small = cv2.resize(image, (900, 750))
    slide = _pages(tmp_path / "a.svs", [
        (image, "Aperio v1|MPP = 1"), (small, "Aperio v1|MPP = 2"), (small, "Aperio v1\nmacro"),
    ], "jpeg")  # fmt: skip
    with pyramid_of(slide) as pyramid:
        assert (900, 750) in pyramid.levels.level_dimensions


def test_a_slide_of_few_scanned_tiles_keeps_its_levels(tmp_path: Path) -> None:
    slide = _tiff(tmp_path / "slide.tif", [(1800, 1500), (900, 750), (450, 375)], "jpeg")
    with tifffile.TiffFile(slide) as tiff:
        fields = [tiff.pages[0].tags[name] for name in ("TileOffsets", "TileByteCounts")]
    data = bytearray(slide.read_bytes())
    for field in fields:  # all but the first three tiles
        width = {3: 2, 4: 4, 16: 8}[int(field.dtype)]
        start = field.valueoffset + 3 * width
        data[start : field.valueoffset + field.count * width] = bytes((field.count - 3) * width)
    slide.write_bytes(data)
    with pyramid_of(slide) as pyramid:
        assert len(pyramid.levels.level_dimensions) == 3


def test_a_level_is_made_of_one_of_a_power_of_two_part_by_part(tmp_path: Path) -> None:
    """Large parts of level 0 are not held, whatever the factor; the odd level is not read."""
    slide = _tiff(tmp_path / "slide.tif", [(4200, 3000), (1400, 1000), (46, 33)], "jpeg")
    reads = []
    with pyramid_of(slide) as pyramid:
        levels = dyadic(pyramid.levels)
        assert list(levels.level_downsamples) == [1, 4, 128]
        assert made_sizes(pyramid.levels) == {(1050, 750), (32, 23)}
        read = pyramid.levels.read_region

        def counted(at: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
            reads.append((level, max(size)))
            return read(at, level, size)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pyramid.levels, "read_region", counted)
            shown = [
                np.asarray(levels.read_region((0, 0), k, levels.level_dimensions[k]))[..., :3]
                for k in (1, 2)
            ]
    assert {level for level, _ in reads} == {0} and max(edge for _, edge in reads) <= PART_PX
    whole = pixels(slide)
    for factor, made in zip((4, 128), shown, strict=True):
        part = whole[: made.shape[0] * factor, : made.shape[1] * factor]
        wanted = cv2.resize(part, made.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(made.astype(int) - wanted).max() <= 2


def test_a_level_that_is_made_has_a_uid_of_its_own(tmp_path: Path) -> None:
    """Former editions made it of other px, under the UID of its size."""
    slide = _tiff(tmp_path / "slide.tif", [(1800, 1500), (600, 500)], "zlib")
    with pyramid_of(slide) as pyramid:
        done = convert_slide(slide, tmp_path / "out", identity(), mpp=MPP, pyramid=pyramid)
    whole, made = read_headers(done.paths)
    uids = SlideUids(identity(), MPP, done.how)
    assert whole.SOPInstanceUID == uids.of("VOLUME 1800 x 1500")
    assert made.TotalPixelMatrixColumns == 450
    assert made.SOPInstanceUID != uids.of("VOLUME 450 x 375")
    assert whole.SeriesInstanceUID == made.SeriesInstanceUID


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.svs"
    junk.write_bytes(b"II*\x00" + b"junk" * 100)
    with pytest.raises(SourceError, match="cannot be converted"):
        convert_slide(junk, tmp_path / "out", identity(), mpp=MPP)
    whole = write_svs(tmp_path / "whole.svs")
    cut = tmp_path / "cut.svs"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(SourceError) as refused:
        convert_slide(cut, tmp_path / "out", identity(), mpp=MPP)
    assert not list((tmp_path / "out").glob("*.dcm"))
    # File names hold accessions: PHI stays out of messages.
    assert "cut" not in str(refused.value)


def test_full_disk_is_not_the_slides_fault(
    svs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(source, "_set_content_time", full)
    with pytest.raises(OSError, match="No space left"):
        convert_slide(svs, tmp_path, identity(), mpp=MPP)
    with pytest.raises(FileNotFoundError):
        convert_slide(tmp_path / "gone.svs", tmp_path, identity(), mpp=MPP)


@pytest.mark.parametrize(
    "changes",
    [
        {"accession": "S" * 17},
        {"container_id": "C" * 65},
        {"stain": ""},
        {"uid": "1.2.03"},
        {"accession": "S26\\1"},
    ],
)
def test_identity_that_dicom_cannot_hold_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ObjectError):
        identity(**changes)


def test_scanner_dicom_is_read(real: Path) -> None:
    facts = slide_facts(read_headers([real / "slides" / "sm_image.dcm"]))
    assert facts.stain == "HE"
    assert facts.stain_codes[0] == Code("12710003", "SCT", "Hematoxylin stain")
    assert facts.accession == facts.container_id == "S19-1_A_1_1"
    assert facts.mpp == pytest.approx(0.499)


def test_old_snomed_codes_and_missing_stains(he_images: list[Dataset]) -> None:
    for step in he_images[0].SpecimenDescriptionSequence[0].SpecimenPreparationSequence:
        for item in step.SpecimenPreparationStepContentItemSequence:
            if "ConceptCodeSequence" in item:
                code = item.ConceptCodeSequence[0]
                old = {"12710003": "C-22968", "36879007": "C-2281A"}.get(code.CodeValue)
                if old:
                    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = old, "SRT", "?"
    assert slide_facts(he_images).stain_texts == ("?", "?")
    del he_images[0].SpecimenDescriptionSequence
    facts = slide_facts(he_images)
    assert (facts.stain, facts.stain_texts) == (None, ())


def test_headers_that_place_nothing_are_refused(ihc: list[Path], tmp_path: Path) -> None:
    broken = dcmread(ihc[0])
    del broken.TotalPixelMatrixOriginSequence
    broken.save_as(tmp_path / "broken.dcm")
    with pytest.raises(SourceError, match="lacks TotalPixelMatrixOriginSequence"):
        read_headers([tmp_path / "broken.dcm"])
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(SourceError, match="no readable DICOM"):
        read_headers([tmp_path / "text.dcm"])


def test_the_color_profile_is_that_of_an_input_device(ihc: list[Path]) -> None:
    """The header states class, date and checksum (ICC.1:2022 7.2); colors stay the same."""
    display = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert display[12:16] == b"mntr"
    made = input_profile(display, SCANNED)
    assert (made[:12], made[16:24], made[100:]) == (display[:12], display[16:24], display[100:])
    assert struct.unpack(">6H", made[24:36]) == SCANNED.timetuple()[:6]
    assert input_profile(made, SCANNED) == made
    for path in ihc:
        (optical,) = dcmread(path).OpticalPathSequence
        assert (optical.ICCProfile[12:16], optical.ICCProfile[84:100]) == (b"scnr", bytes(16))
    color, pixels = Image.new("RGB", (1, 1), (200, 40, 90)), []
    for profile in (display, made):
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        lab = ImageCms.createProfile("LAB")
        convert = ImageCms.buildTransform(opened, lab, "RGB", "LAB")
        pixels.append(ImageCms.applyTransform(color, convert).getpixel((0, 0)))
    assert pixels[0] == pixels[1]
