"""Sources of the slide converter: levels that the caller reads, and compressed tiles of a file.

The converter's own readers take the picture of a label for level 0 where a TIFF begins with one,
need a library of the system to pass tiles through, and call what they encoded anew an original.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from dicom.coded_frames import Codec, CodedLevel, photometric_2000, whole_jpeg
from dicom.dyadic import dyadic, keeps_all, sources
from dicom.errors import SourceError
from dicom.placement import matrix_mm, onto_glass

if TYPE_CHECKING:
    from wsidicom.codec import Encoder
    from wsidicom.geometry import Point, Region
    from wsidicom.metadata import LossyCompression

ANEW = "Decoded from the scanner's file and compressed again"
MOST_DIFFERENCE = 4.0
"""Largest mean difference between a frame and the slide, in gray values of blocks. OpenSlide shifts
a level of an odd size by a part of a px; wrong colors differ by more."""
OPAQUE = 255
BLOCK_PX = 16
"""Edge of these blocks: the edges of a TIFF's tiles are multiples of it (TIFF 6.0, section 15)."""
COMPARED = 4
"""Frames that are tried for this comparison; one that decodes is enough."""
BOUNDS = ("x", "y", "width", "height")
"""Ends of OpenSlide's names of the scanned area, which some formats state (MRXS, SCN, BIF)."""
FILL_QUALITY = 90
"""Quality of tiles that the scanner left out."""


class Levels(Protocol):
    """Levels of a slide, largest first, under OpenSlide's names. Sizes are (width, height)."""

    @property
    def level_dimensions(self) -> Sequence[tuple[int, int]]: ...

    @property
    def level_downsamples(self) -> Sequence[float]: ...

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        """Return RGBA of a level; `location` in level-0 px, `size` in px of the level."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyramid:
    """A slide as its caller reads it. `levels` stay the caller's to close.

    `coded` are the compressed tiles of each of the levels; empty where the file's are not known.
    `properties`, `pictures` (label, macro) and `profile` (ImageCmsProfile) are what the file holds
    beside them, under OpenSlide's names. `own`: OpenSlide does not find these levels in the file.
    """

    levels: Levels
    coded: tuple[CodedLevel, ...]
    properties: Mapping[str, str]
    pictures: Mapping[str, Image.Image]
    profile: Any = None
    own: bool = False

    @property
    def bounded(self) -> bool:
        """True where the file states bounds that leave out px: the converter's readers crop to
        them."""
        return is_bounded(self.properties, self.levels.level_dimensions[0])


def is_bounded(properties: Mapping[str, str], size_px: tuple[int, int]) -> bool:
    """Return whether `properties` state a scanned area that is not all of `size_px`."""
    stated = [properties.get(f"openslide.bounds-{side}") for side in BOUNDS]
    return any(
        text is not None and text != str(whole)
        for text, whole in zip(stated, (0, 0, *size_px), strict=True)
    )


def passing_source(pyramid: Pyramid, mpp: float) -> type[Any]:
    """Return a source class whose frames are the file's tiles; `mpp` in µm per level-0 px.

    Raises
    ------
    SourceError
        If the levels have several codecs, one that DICOM does not have, or a factor that is no
        power of two.
    """
    if not keeps_all(pyramid.levels):
        raise SourceError("a level is shrunk by no power of two")
    kinds = {(level.codec, level.rgb) for level in pyramid.coded}
    if len(kinds) != 1 or kinds == {(Codec.JPEG_2000, False)}:
        raise SourceError("the codecs of the levels are not those of one series")
    return _source_type(pyramid, mpp, _passing_level_type(pyramid))


def coding_of(pyramid: Pyramid) -> Any:
    """Return settings of the converter, which takes the transfer syntax from its encoder."""
    from wsidicom.codec import Jpeg2kSettings, JpegSettings

    return Jpeg2kSettings() if pyramid.coded[0].codec is Codec.JPEG_2000 else JpegSettings()


def encoding_source(pyramid: Pyramid, mpp: float) -> type[Any]:
    """Return a source class that decodes the levels of `pyramid` and encodes them again."""
    former = [pyramid.coded[k] for k in sources(pyramid.levels)] if pyramid.coded else ()
    return anew(_source_type(pyramid, mpp, _encoding_level_type(pyramid.levels)), former)


def anew(source: type[Any], former: Sequence[CodedLevel] = ()) -> type[Any]:
    """Return `source` with instances that say that they were encoded anew (PS3.3 C.7.6.1.1.2).

    `former` are the file's compressed levels: the first step of lossy compression. The converter
    adds its own.
    """

    class AnewSource(source):
        def _create_instance(
            self, image_data: Any, image_type: Any, pyramid_index: int | None = None
        ) -> Any:
            instance = super()._create_instance(image_data, image_type, pyramid_index)
            _say_derived(instance.dataset)
            if pyramid_index is not None and former:
                level = former[self.pyramid_levels[pyramid_index, 0.0, "0"]]
                instance.dataset.LossyImageCompression = "01"
                instance.dataset.LossyImageCompressionRatio = [level.ratio]
                instance.dataset.LossyImageCompressionMethod = [_iso(level.codec)]
            return instance

    return AnewSource


def on_glass(source: type[Any]) -> type[Any]:
    """Return `source` with images that lie on the glass, whatever the size of the scan."""

    class GlassSource(source):
        _size_mm: tuple[float, float] | None = None
        """Size of level 0, which is made first: all levels begin at one place."""

        def _create_instance(
            self, image_data: Any, image_type: Any, pyramid_index: int | None = None
        ) -> Any:
            instance = super()._create_instance(image_data, image_type, pyramid_index)
            if pyramid_index is not None:
                self._size_mm = self._size_mm or matrix_mm(instance.dataset)
                onto_glass(instance.dataset, self._size_mm)
                # Each level shows all of the scan (PS3.3 C.8.12.4.1.2); one source writes less.
                width_mm, height_mm = self._size_mm
                instance.dataset.update(
                    {"ImagedVolumeWidth": width_mm, "ImagedVolumeHeight": height_mm}
                )
            return instance

    return GlassSource


def _say_derived(dataset: Dataset) -> None:
    dataset.ImageType = ["DERIVED", *dataset.ImageType[1:]]
    groups = dataset.SharedFunctionalGroupsSequence[0]
    groups.WholeSlideMicroscopyImageFrameTypeSequence[0].FrameType = dataset.ImageType
    dataset.DerivationDescription = ANEW


def _iso(codec: Codec) -> str:
    """Return Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""
    return "ISO_10918_1" if codec is Codec.JPEG else "ISO_15444_1"


def _source_type(pyramid: Pyramid, mpp: float, level_type: type[Any]) -> type[Any]:
    """Return a source whose levels are of `level_type`."""
    from wsidicomizer.sources.openslide_like import OpenSlideLikeProperties, OpenSlideLikeSource
    from wsidicomizer.sources.openslide_like.openslide_like_metadata import OpenSlideLikeMetadata

    levels, vendor = dyadic(pyramid.levels), pyramid.properties.get("openslide.vendor")
    power = pyramid.properties.get("openslide.objective-power") if pyramid.bounded else None

    class PyramidSource(OpenSlideLikeSource):
        def __init__(self, filepath: Path, *arguments: Any, **named: Any) -> None:
            # Without bounds: all levels are whole, as rasters and outlines take them.
            stated = OpenSlideLikeProperties(
                mpp_x=str(mpp),
                mpp_y=str(mpp),
                vendor=vendor,
                objective_power=power,
                background_color=pyramid.properties.get("openslide.background-color"),
            )
            metadata = OpenSlideLikeMetadata(stated, pyramid.profile)
            super().__init__(
                filepath,
                stated,
                levels.level_downsamples,
                levels.level_dimensions,
                pyramid.pictures,
                metadata,
                *arguments,
                **named,
            )

        def close(self) -> None:
            """Leave the levels open."""

        @staticmethod
        def is_supported(path: Path) -> bool:
            return True

        def _create_instance(
            self, image_data: Any, image_type: Any, pyramid_index: int | None = None
        ) -> Any:
            instance = super()._create_instance(image_data, image_type, pyramid_index)
            if pyramid_index is None:  # a picture of label or slide, as OpenSlide decodes it
                _say_derived(instance.dataset)
            return instance

        def _create_level_image_data(self, level_index: int) -> Any:
            return level_type(
                self._blank_color,
                self._base_level_offset,
                self._base_level_size,
                self._level_dimensions,
                self._level_downsamples,
                self.metadata.pyramid.image,
                level_index,
                self._tile_size,
                self._encoder,
            )

    return PyramidSource


def _encoding_level_type(stated: Levels) -> type[Any]:
    from wsidicom.geometry import Region
    from wsidicomizer.sources.openslide_like import OpenSlideLikeLevelImageData

    levels = dyadic(stated)

    class PyramidLevel(OpenSlideLikeLevelImageData):
        def read_region(self, region: Region, z: float, path: str) -> Image.Image:
            place = (
                round(region.start.x * self._downsample),
                round(region.start.y * self._downsample),
            )
            rgba = levels.read_region(place, self._level_index, region.size.to_tuple())
            image: Image.Image = self._remove_alpha(rgba)
            return image

        def get_decoded_tile(self, tile: Point, z: float, path: str) -> Image.Image:
            return self.read_region(Region(tile * self.tile_size, self.tile_size), z, path)

        def get_encoded_tile(self, tile: Point, z: float, path: str) -> bytes:
            coded: bytes = self.encoder.encode(np.asarray(self.get_decoded_tile(tile, z, path)))
            return coded

    return PyramidLevel


def _passing_level_type(pyramid: Pyramid) -> type[Any]:
    """Return image data whose frames are tiles of the file, and the encoder's where it has none."""
    from wsidicom.codec import LossyCompressionIsoStandard
    from wsidicom.geometry import Size
    from wsidicom.metadata import LossyCompression

    class PassingLevel(_encoding_level_type(pyramid.levels)):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._coded = pyramid.coded[self._level_index]
            self._tile_size = Size(*self._coded.tile_px)
            self._file = os.open(self._coded.path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._file)
            self._photometric = _photometric(self._coded, self._file)
            _check_px(pyramid.levels, self._level_index, self._coded, self._file)

        @property
        def photometric_interpretation(self) -> str:
            return self._photometric

        @property
        def transcoder(self) -> Encoder | None:
            return None

        @property
        def lossy_compression(self) -> list[LossyCompression]:
            method = LossyCompressionIsoStandard(_iso(self._coded.codec))
            return [LossyCompression(method, self._coded.ratio)]

        def get_encoded_tile(self, tile: Point, z: float, path: str) -> bytes:
            number = tile.y * self._coded.columns + tile.x
            frame = self._coded.frame(self._file, number)
            if frame is None:
                pixels = np.asarray(self.get_decoded_tile(tile, z, path))
                frame = _filled(pixels, self._coded, self._photometric)
            elif (
                self._coded.codec is Codec.JPEG_2000
                and photometric_2000(frame) != self._photometric
            ):
                raise SourceError("the tiles of a level have several color transforms")
            return frame

    return PassingLevel


def _photometric(level: CodedLevel, file: int) -> str:
    """Return Photometric Interpretation of a level's frames (PS3.5 8.2.1, 8.2.4)."""
    if level.codec is Codec.JPEG:
        # 4:2:0 and 4:4:4, too: JPEG's own header states the subsampling.
        return "RGB" if level.rgb else "YBR_FULL_422"
    first = next(iter(np.flatnonzero(level.counts)), None)
    frame = None if first is None else level.frame(file, int(first))
    return "YBR_ICT" if frame is None else photometric_2000(frame)


def _check_px(levels: Levels, number: int, coded: CodedLevel, file: int) -> None:
    """Compare frames of level `number` with the slide's px.

    Frames are those with most bytes: tiles of glass look alike in any colors. Raises SourceError
    where px differ, or no frame can be compared.
    """
    down = levels.level_downsamples[number]
    for tile in np.argsort(-coded.counts, kind="stable")[:COMPARED].tolist():
        frame = coded.frame(file, tile)
        if frame is None:
            break
        at = tile % coded.columns * coded.tile_px[0], tile // coded.columns * coded.tile_px[1]
        place = round(at[0] * down), round(at[1] * down)
        try:
            pixels = _blocks(_decoded(frame, coded.codec))
            slide = _blocks(np.asarray(levels.read_region(place, number, coded.tile_px)))
        except (RuntimeError, OSError, openslide.OpenSlideError):
            continue  # a damaged tile is no evidence about the others
        there = slide[..., 3] == OPAQUE  # neither beyond the edge nor left out
        if not there.any():
            continue
        if np.abs(pixels[there] - slide[there][:, :3]).mean() > MOST_DIFFERENCE:
            raise SourceError("the tiles alone show other px than the slide")
        return
    if coded.counts.any():
        raise SourceError("no tile can be compared with the slide")


def _blocks(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the means of blocks (rows, columns, samples) of a tile (rows, columns, samples)."""
    rows, columns, samples = pixels.shape
    split = rows // BLOCK_PX, BLOCK_PX, columns // BLOCK_PX, BLOCK_PX, samples
    means: NDArray[np.float64] = pixels.reshape(split).mean(axis=(1, 3))
    return means


def _decoded(frame: bytes, codec: Codec) -> NDArray[np.uint8]:
    """Return the px of a frame, uint8 RGB (rows, columns, 3)."""
    import imagecodecs

    decode = imagecodecs.jpeg8_decode if codec is Codec.JPEG else imagecodecs.jpeg2k_decode
    return np.asarray(decode(frame), dtype=np.uint8)


def _filled(pixels: NDArray[np.uint8], level: CodedLevel, photometric: str) -> bytes:
    """Return a frame of `pixels` in the coding of the level, for a tile that its file lacks."""
    import imagecodecs

    if level.codec is Codec.JPEG_2000:
        return bytes(
            imagecodecs.jpeg2k_encode(
                pixels,
                level=FILL_QUALITY,
                codecformat="j2k",
                mct=photometric != "RGB",
                reversible=photometric == "YBR_RCT",
            )
        )
    coded = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(pixels),
        level=FILL_QUALITY,
        colorspace="rgb",
        outcolorspace="rgb" if level.rgb else "ycbcr",
        subsampling="444",
    )
    return whole_jpeg(bytes(coded), b"", rgb=level.rgb, size_px=level.tile_px)
