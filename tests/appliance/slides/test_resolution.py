"""Resolution of a header: both axes, the objective, and the unit that a writer mistook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tifffile import TiffWriter

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.reader import SlideReader
from appliance.slides.resolution import stated_mpp

EDGE = 512
PIXELS = np.random.default_rng(3).integers(0, 255, (EDGE, EDGE, 3), dtype=np.uint8)


def write_tiff(
    path: Path,
    *,
    mpp: tuple[float, float] | None = None,
    unit: str = "CENTIMETER",
    text: str | None = None,
) -> Path:
    """Write a generic tiled TIFF; `mpp` goes into its tags as px per centimeter whatever `unit`."""
    resolution = None if mpp is None else (1e4 / mpp[0], 1e4 / mpp[1])
    with TiffWriter(path) as writer:
        writer.write(
            PIXELS,
            tile=(256, 256),
            photometric="rgb",
            resolution=resolution,
            resolutionunit=None if mpp is None else unit,
            description=None if text is None else text.encode(),
            metadata=None,
        )
    return path


def aperio(mpp: float, power: str = "40") -> str:
    return f"Aperio Image Library v12\n{EDGE}x{EDGE} |AppMag = {power}|MPP = {mpp}"


def ome(x: str, y: str, unit: str | None, objective: str = "", images: str = "") -> str:
    units = "" if unit is None else f'PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/'
        f'OME/2016-06">{objective}{images}<Image ID="Image:0"><Pixels ID="Pixels:0" SizeX="{EDGE}" '
        f'SizeY="{EDGE}" SizeC="3" SizeT="1" SizeZ="1" Type="uint8" DimensionOrder="XYCZT" '
        f'PhysicalSizeX="{x}" PhysicalSizeY="{y}" {units}><TiffData/></Pixels></Image></OME>'
    )


def reason_and_detail(path: Path) -> tuple[QuarantineReason, str]:
    with pytest.raises(SlideError) as caught:
        SlideReader.open(path)
    return caught.value.reason, caught.value.detail


def mpp_of(path: Path) -> float:
    with SlideReader.open(path) as slide:
        return slide.facts.mpp


def test_axes_that_differ_are_anisotropic_and_a_person_may_overrule(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", mpp=(0.25, 0.5))
    reason, detail = reason_and_detail(path)
    assert reason is QuarantineReason.ANISOTROPIC
    assert "0.25 x 0.5" in detail
    with SlideReader.open(path, mpp=0.25) as slide:
        assert slide.facts.mpp == 0.25


def test_axes_that_differ_as_those_of_scanners_give_their_mean(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", mpp=(0.2204, 0.2210))
    assert mpp_of(path) == pytest.approx(0.2207, rel=1e-4)


def test_one_implausible_axis_is_implausible(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", mpp=(0.25, 2.5))
    assert reason_and_detail(path)[0] is QuarantineReason.IMPLAUSIBLE_MPP


def test_centimeters_as_inches_do_not_fit_the_objective(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.svs", text=aperio(0.635))
    reason, detail = reason_and_detail(path)
    assert reason is QuarantineReason.IMPLAUSIBLE_MPP
    assert "40x" in detail and "per cm it would be 0.25" in detail


def test_inches_as_centimeters_do_not_fit_the_objective(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.svs", text=aperio(0.197, "20"))
    reason, detail = reason_and_detail(path)
    assert reason is QuarantineReason.IMPLAUSIBLE_MPP
    assert "per inch it would be 0.5004" in detail
    path = write_tiff(tmp_path / "b.svs", text=aperio(0.0984))
    assert "per inch it would be 0.2499" in reason_and_detail(path)[1]


def test_a_generic_tiff_without_objective_is_asked_about_its_inches(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", mpp=(0.25, 0.25), unit="INCH")
    reason, detail = reason_and_detail(path)
    assert reason is QuarantineReason.IMPLAUSIBLE_MPP
    assert "per cm it is 0.25" in detail
    path = write_tiff(tmp_path / "a.ome.tiff", text=ome("0.635", "0.635", "µm"))
    assert mpp_of(path) == pytest.approx(0.635)  # in no unit of the tags
    right = 0.25 / 2.54
    path = write_tiff(tmp_path / "b.tiff", mpp=(right, right), unit="INCH")
    assert mpp_of(path) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize(
    ("power", "mpp"),
    [("40", 0.2263), ("40", 0.2527), ("40x", 0.2626), ("20", 0.4990), ("20", 0.44), ("10", 1.0)],
)
def test_what_scanners_write_fits(tmp_path: Path, power: str, mpp: float) -> None:
    assert mpp_of(write_tiff(tmp_path / "a.svs", text=aperio(mpp, power))) == mpp


@pytest.mark.parametrize(
    ("power", "mpp", "fits"),
    [
        ("20", 0.2339, True),  # 3DHISTECH's lens of 20x before an adapter
        ("20", 0.2204, True),  # Zeiss
        ("20", 0.1969, False),
        ("40", 0.635, False),
        ("40", 0.2204, True),
        ("0", 0.635, True),
        ("nan", 0.635, True),
        ("none", 0.635, True),
    ],
)
def test_the_power_of_a_lens_may_be_half_of_that_of_the_image(
    power: str, mpp: float, fits: bool
) -> None:
    header = {
        "openslide.mpp-x": str(mpp),
        "openslide.mpp-y": str(mpp),
        "openslide.objective-power": power,
    }
    if fits:
        assert stated_mpp(header, (EDGE, EDGE)) == mpp
        return
    with pytest.raises(SlideError):
        stated_mpp(header, (EDGE, EDGE))


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("0.25", "µm"),
        ("0.25", "μm"),
        ("0.25", "um"),
        ("0.25", "&#181;m"),
        ("0.25", None),
        ("250", "nm"),
        ("0.00025", "mm"),
        ("2.5E-4", "mm"),
    ],
)
def test_the_resolution_of_an_ome_document_is_read_in_its_unit(
    tmp_path: Path, value: str, unit: str | None
) -> None:
    path = write_tiff(tmp_path / "a.ome.tiff", text=ome(value, value, unit))
    assert mpp_of(path) == pytest.approx(0.25)
    # 72 px per inch is what programs write that do not know the resolution.
    path = write_tiff(tmp_path / "b.ome.tiff", mpp=(352.8, 352.8), text=ome(value, value, unit))
    assert mpp_of(path) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("x", "y", "unit"),
    [("0.25", "0.25", "pixel"), ("0.25", "", "µm"), ("nan", "nan", "µm"), ("-1", "-1", "µm")],
)
def test_an_ome_document_without_a_length_gives_no_resolution(
    tmp_path: Path, x: str, y: str, unit: str
) -> None:
    path = write_tiff(tmp_path / "a.ome.tiff", text=ome(x, y, unit))
    assert reason_and_detail(path)[0] is QuarantineReason.NO_MPP


def test_both_axes_and_the_objective_of_an_ome_document_count(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.ome.tiff", text=ome("0.25", "500", "nm"))
    assert reason_and_detail(path)[0] is QuarantineReason.IMPLAUSIBLE_MPP
    path = write_tiff(tmp_path / "b.ome.tiff", text=ome("250", "500", "nm"))
    assert reason_and_detail(path)[0] is QuarantineReason.ANISOTROPIC
    lens = '<Objective ID="Objective:0" NominalMagnification="40.0"/>'
    path = write_tiff(tmp_path / "c.ome.tiff", text=ome("0.635", "0.635", "µm", lens))
    reason, detail = reason_and_detail(path)
    assert reason is QuarantineReason.IMPLAUSIBLE_MPP
    assert "it would be 0.25" in detail


def test_the_image_of_an_ome_document_is_found_by_its_size(tmp_path: Path) -> None:
    label = '<Image><Pixels SizeX="100" SizeY="100" PhysicalSizeX="40" PhysicalSizeY="40"/></Image>'
    path = write_tiff(tmp_path / "a.ome.tiff", text=ome("0.25", "0.25", "µm", images=label))
    assert mpp_of(path) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("size", "refused"),
    [("512x512", False), ("1024x1024", True), ("9000x512", False), ("0x0", False)],
)
def test_a_description_of_the_picture_before_it_was_resized_is_not_believed(
    tmp_path: Path, size: str, refused: bool
) -> None:
    """The file has 512 x 512 px; a part cut out of a slide has its resolution."""
    line = f"Aperio Image Library v11.2.1\r\n{size} (256x256) JPEG/RGB Q=70|AppMag = 40|MPP = 0.25"
    cut = line.replace(" (", " [0,0 512x512] (")
    width, _, height = size.partition("x")
    edges = f'SizeX="{EDGE}" SizeY="{EDGE}"'
    document = ome("0.25", "0.25", "µm").replace(edges, f'SizeX="{width}" SizeY="{height}"')
    for number, text in enumerate((line, document)):
        path = write_tiff(tmp_path / f"{number}.tiff", text=text)
        if refused:
            with pytest.raises(
                SlideError, match=r"is of 1024 x 1024 px, the picture has"
            ) as caught:
                mpp_of(path)
            assert caught.value.reason is QuarantineReason.IMPLAUSIBLE_MPP
        else:
            assert mpp_of(path) == pytest.approx(0.25)
    for number, text in enumerate((cut, cut.replace("0,0 512", "0,0,512"))):
        assert mpp_of(write_tiff(tmp_path / f"cut{number}.tiff", text=text)) == pytest.approx(0.25)
