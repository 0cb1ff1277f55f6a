"""The slide reader: one fresh OpenSlide handle, tiles and thumbnails at any resolution.

OpenSlide's errors latch: after one, a handle is dead. So a reader is opened per attempt.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from tifffile import TiffFile, TiffFileError

from appliance.domain import QuarantineReason, SlideFacts
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP, TILE_PX, TileGrid, TileIndex

MPP_RANGE = (0.1, 1.1)
"""Plausible µm per px of level 0: 100x oil to 10x."""
PROBE_GRID = 4
"""`probe` decodes so many places per row and column of each level."""
STRIP_PX = 2048
"""A thumbnail is read in strips of so many rows of its level, so memory does not grow."""


class SlideReader:
    """A slide; use as a context manager. Level-0 px unless a name says otherwise."""

    def __init__(self, handle: openslide.OpenSlide, facts: SlideFacts) -> None:
        self._handle = handle
        self.facts = facts
        self.grid = TileGrid.of(facts.width_px * facts.mpp, facts.height_px * facts.mpp)

    @classmethod
    def open(cls, path: Path, *, mpp: float | None = None) -> SlideReader:
        """Open a slide; `mpp` (µm per level-0 px) overrides the header's.

        Raises
        ------
        SlideError
            UNREADABLE, UNSUPPORTED, NOT_PYRAMIDAL, MISSING_TAGS, NO_MPP, IMPLAUSIBLE_MPP.
        """
        try:
            handle = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError as err:
            raise SlideError(_why_no_format(path)) from err
        except (openslide.OpenSlideError, OSError) as err:
            raise SlideError(_why_not_open(path), _without_path(err, path)) from err
        try:
            return cls(handle, _facts(path, handle, mpp))
        except SlideError:
            handle.close()
            raise

    def __enter__(self) -> SlideReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.close()

    @property
    def properties(self) -> Mapping[str, str]:
        """The header, as OpenSlide names it."""
        properties: Mapping[str, str] = self._handle.properties
        return properties

    def probe(self) -> None:
        """Decode a spread of places on every level, the last rows included.

        A damaged slide often opens and reads down to some row. Raises SlideError DAMAGED.
        """
        for level, (width, height) in enumerate(self._handle.level_dimensions):
            for j in range(PROBE_GRID):
                for i in range(PROBE_GRID):
                    x = (width - 1) * i // (PROBE_GRID - 1)
                    y = (height - 1) * j // (PROBE_GRID - 1)
                    self._read(level, x, y, 1, 1)

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at `mpp`: uint8 RGB (rows, cols, 3), cols = ceil(width in µm / mpp)."""
        rows = math.ceil(self.facts.height_px * self.facts.mpp / mpp)
        columns = math.ceil(self.facts.width_px * self.facts.mpp / mpp)
        level, scale = self._level_for(mpp)  # level px per thumbnail px
        width, height = self._handle.level_dimensions[level]
        image = np.empty((rows, columns, 3), dtype=np.uint8)
        strip = max(1, int(STRIP_PX / scale))
        for top in range(0, rows, strip):
            bottom = min(rows, top + strip)
            y0, y1 = round(top * scale), min(height, max(round(bottom * scale), 1))
            y0 = min(y0, y1 - 1)
            pixels = self._read(level, 0, y0, width, y1 - y0)
            image[top:bottom] = _resize(pixels, columns, bottom - top)
        return image

    def read_tile(self, index: TileIndex) -> NDArray[np.uint8]:
        """A tile of the grid: uint8 RGB (512, 512, 3) at `TILE_MPP`, beyond the slide white.

        Raises SlideError DAMAGED where it cannot be decoded.
        """
        level, scale = self._level_for(TILE_MPP)  # level px per tile px
        edge = TILE_PX * scale
        x, y = index.column * edge, index.row * edge
        if abs(scale - 1) < 1e-3:
            return self._read(level, round(x), round(y), TILE_PX, TILE_PX)
        x0, y0 = round(x), round(y)
        pixels = self._read(level, x0, y0, round(x + edge) - x0, round(y + edge) - y0)
        return _resize(pixels, TILE_PX, TILE_PX)

    def _level_for(self, mpp: float) -> tuple[int, float]:
        """(level, scale): the coarsest level at least as fine as `mpp`; its px per wanted px."""
        wanted = mpp / self.facts.mpp
        level = 0
        for candidate, downsample in enumerate(self._handle.level_downsamples):
            if downsample <= wanted * 1.005:
                level = candidate
        return level, wanted / self._handle.level_downsamples[level]

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Level px (x, y) to RGB; what lies beyond the slide is white."""
        down = self._handle.level_downsamples[level]
        try:
            image = self._handle.read_region(
                (round(x * down), round(y * down)), level, (width, height)
            )
        except openslide.OpenSlideError as err:
            detail = _without_path(err, Path(self.facts.path))
            raise SlideError(QuarantineReason.DAMAGED, detail) from err
        rgba = np.asarray(image)
        rgb: NDArray[np.uint8] = rgba[..., :3].copy()
        rgb[rgba[..., 3] == 0] = 255
        return rgb


def slide_files(path: Path) -> list[Path]:
    """All files of the slide that `path` stands for, sorted.

    One file; an MRXS index and its folder; all files of a DICOM file's series in its folder.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        return [path, *sorted(p for p in folder.rglob("*") if p.is_file())]
    if suffix == ".dcm":
        series = _series_uid(path)
        if series:
            return [p for p in sorted(path.parent.glob("*.dcm")) if _series_uid(p) == series]
    return [path]


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) over the bytes of all files of a slide, in order of their names."""
    digest = hashlib.sha256()
    for file in slide_files(path):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _facts(path: Path, handle: openslide.OpenSlide, mpp: float | None) -> SlideFacts:
    properties = handle.properties
    if mpp is None:
        try:
            x = float(properties[openslide.PROPERTY_NAME_MPP_X])
            y = float(properties[openslide.PROPERTY_NAME_MPP_Y])
        except (KeyError, ValueError) as err:
            raise SlideError(QuarantineReason.NO_MPP) from err
        mpp = (x + y) / 2
    if not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise SlideError(QuarantineReason.IMPLAUSIBLE_MPP, f"{mpp:g} µm per px")
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
    width, height = handle.dimensions
    return SlideFacts(
        path=str(path),
        fingerprint="",
        format=vendor,
        width_px=width,
        height_px=height,
        mpp=mpp,
        level_count=handle.level_count,
        is_dicom=vendor == "dicom",
    )


def _why_no_format(path: Path) -> QuarantineReason:
    """OpenSlide knows no such format: is it at least an image, only flat?"""
    try:
        with TiffFile(path) as tiff:
            if len(tiff.pages) > 0 and not tiff.pages.first.is_tiled:
                return QuarantineReason.NOT_PYRAMIDAL
    except (TiffFileError, OSError, ValueError, IndexError, struct.error):
        return QuarantineReason.UNREADABLE
    return QuarantineReason.UNREADABLE


def _why_not_open(path: Path) -> QuarantineReason:
    """OpenSlide knows the format and cannot open the file."""
    if path.suffix.lower() == ".dcm":
        return QuarantineReason.MISSING_TAGS
    try:
        with TiffFile(path) as tiff:
            if len(tiff.pages) > 0:
                return QuarantineReason.UNSUPPORTED
    except (TiffFileError, OSError, ValueError, IndexError, struct.error):
        return QuarantineReason.UNREADABLE
    return QuarantineReason.UNREADABLE


def _without_path(err: Exception, path: Path) -> str:
    # File names hold accessions; details go to logs and events.
    return str(err).replace(str(path), "the file").replace(path.name, "the file")


def _series_uid(path: Path) -> str:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (InvalidDicomError, EOFError, OSError, ValueError, struct.error):
        return ""
    return str(header.get("SeriesInstanceUID", ""))


def _resize(pixels: NDArray[np.uint8], columns: int, rows: int) -> NDArray[np.uint8]:
    """Area average when it shrinks, linear when it grows."""
    if pixels.shape[:2] == (rows, columns):
        return pixels
    shrinks = pixels.shape[0] > rows or pixels.shape[1] > columns
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(pixels, (columns, rows), interpolation=how)
    return resized
