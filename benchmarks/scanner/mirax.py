"""3DHISTECH MRXS: a small index file, and a folder with ``Slidedat.ini``, index and data files."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np

from benchmarks.scanner.tiff_formats import LABEL, QUALITY, WHEN
from benchmarks.scanner.tissue import Section

IMAGE_PX = 256
_LEVELS = 3
_VERSION = "01.02"


def mirax(section: Section, left_out: tuple[int, int, int, int] = (0, 0, 0, 0)) -> dict[str, bytes]:
    """Return the files of a slide, in the order of writing; ``""`` is the index file.

    Level 0 lies in the first data file, the reduced levels in the second. `left_out` are rows or
    columns of camera pictures that lie on empty glass and are not written: at the left, at the top,
    at the right and at the bottom.
    """
    rows, columns = (n // IMAGE_PX for n in section.pixels.shape[:2])
    data = (bytearray(16), bytearray(16))
    lists: list[bytes] = []
    pages = bytearray()
    root = len(_VERSION) + len(LABEL) + 8
    heads = root + 4 * _LEVELS
    for level, pixels in enumerate(section.levels([2**n for n in range(_LEVELS)])):
        step = 2**level
        records = []
        for y in range(0, rows, step):
            for x in range(0, columns, step):
                if not _written(x, left_out[0::2], columns, step) or not _written(
                    y, left_out[1::2], rows, step
                ):
                    continue
                top, left = y // step * IMAGE_PX, x // step * IMAGE_PX
                image = pixels[top : top + IMAGE_PX, left : left + IMAGE_PX]
                missing = [(0, IMAGE_PX - n) for n in image.shape[:2]]
                padded = np.ascontiguousarray(np.pad(image, (*missing, (0, 0)), mode="edge"))
                coded = imagecodecs.jpeg8_encode(padded, level=QUALITY)
                number = min(level, 1)
                records.append((y * columns + x, len(data[number]), len(coded), number))
                data[number].extend(coded)
        # A list begins with 0 and the place of its page; the last page names no further one.
        at = heads + 8 * _LEVELS + len(pages)
        lists.append(struct.pack("<ii", 0, at))
        pages += struct.pack("<ii", len(records), 0)
        pages += b"".join(struct.pack("<iiii", *record) for record in records)
    index = _VERSION.encode() + LABEL.encode() + struct.pack("<ii", root, root)
    index += b"".join(struct.pack("<i", heads + 8 * n) for n in range(_LEVELS))
    index += b"".join(lists) + bytes(pages)
    return {
        "": b"\xff\xd8\xff\xe0MRXS" + LABEL.encode(),
        "Slidedat.ini": _slidedat(section, rows, columns).encode(),
        "Index.dat": index,
        "Data0000.dat": bytes(data[0]),
        "Data0001.dat": bytes(data[1]),
    }


def _written(first: int, left_out: tuple[int, ...], count: int, step: int) -> bool:
    """Return whether a picture that shows `step` of `count` of the camera's shows one of these."""
    return first + step > left_out[0] and first < count - left_out[1]


def _slidedat(section: Section, rows: int, columns: int) -> str:
    lines = [
        "[GENERAL]",
        f"SLIDE_ID = {LABEL}",
        f"SLIDE_CREATIONDATETIME = 20/11/2026 {WHEN}",
        f"IMAGENUMBER_X = {columns}",
        f"IMAGENUMBER_Y = {rows}",
        "OBJECTIVE_MAGNIFICATION = 20",
        "CameraImageDivisionsPerSide = 1",
        "[HIERARCHICAL]",
        "HIER_COUNT = 1",
        "NONHIER_COUNT = 0",
        "INDEXFILE = Index.dat",
        "HIER_0_NAME = Slide zoom level",
        f"HIER_0_COUNT = {_LEVELS}",
        *(f"HIER_0_VAL_{n} = ZoomLevel_{n}" for n in range(_LEVELS)),
        *(f"HIER_0_VAL_{n}_SECTION = LAYER_0_LEVEL_{n}_SECTION" for n in range(_LEVELS)),
        "[DATAFILE]",
        "FILE_COUNT = 2",
        "FILE_0 = Data0000.dat",
        "FILE_1 = Data0001.dat",
    ]
    for level in range(_LEVELS):
        lines += [
            f"[LAYER_0_LEVEL_{level}_SECTION]",
            "OVERLAP_X = 0",
            "OVERLAP_Y = 0",
            f"MICROMETER_PER_PIXEL_X = {section.mpp * 2**level}",
            f"MICROMETER_PER_PIXEL_Y = {section.mpp * 2**level}",
            "IMAGE_FORMAT = JPEG",
            "IMAGE_FILL_COLOR_BGR = 16777215",
            f"DIGITIZER_WIDTH = {IMAGE_PX}",
            f"DIGITIZER_HEIGHT = {IMAGE_PX}",
            f"IMAGE_CONCAT_FACTOR = {int(level > 0)}",
        ]
    return "\n".join(lines) + "\n"
