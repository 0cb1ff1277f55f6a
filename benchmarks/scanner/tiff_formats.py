"""Single-file formats of scanners: Aperio SVS, generic and Philips TIFF, Hamamatsu NDPI.

A template is made once for each section. `LABEL` marks the place of the slide's identity in it,
so that a slide of its own is a replacement of bytes.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Sequence

import imagecodecs
import numpy as np
from tifffile import TiffWriter

from benchmarks.scanner.tissue import Pixels, Section

LABEL = "@" * 48
"""Place of the slide's barcode in a template; the barcode is padded with points."""
LABEL_64 = "@" * 64
"""The same where the barcode is written in base64."""
WHEN, MINUTE = "10:@@:00", "@@"
"""Time of the scan in a template; the minutes are the number of the scan."""
_DAY = "2026:11:20"
QUALITY = 80
_TILE = 256
_APERIO = "Aperio Image Library v12.0.15 "


def labeled(template: bytes, barcode: str, scan: int = 1) -> bytes:
    """Return the file of one slide: the template with its barcode and the time of its scan.

    Raises
    ------
    ValueError
        If the barcode is longer than its place.
    """
    if len(barcode) > len(LABEL):
        raise ValueError(f"a barcode has at most {len(LABEL)} characters")
    padded = barcode.ljust(len(LABEL), ".").encode()
    coded = template.replace(LABEL_64.encode(), base64.b64encode(padded))
    timed = coded.replace(WHEN.encode(), WHEN.replace(MINUTE, f"{scan % 60:02d}").encode())
    return timed.replace(LABEL.encode(), padded)


def aperio_svs(section: Section) -> bytes:
    """Aperio SVS: level 0, thumbnail, a level of a quarter."""
    rows, columns = section.pixels.shape[:2]
    first = f"{_APERIO}\r\n{columns}x{rows} "
    full, quarter = section.levels((1, 4))
    memory = io.BytesIO()
    with TiffWriter(memory) as writer:
        text = (
            f"{first}[0,0 {columns}x{rows}] ({_TILE}x{_TILE}) JPEG/RGB Q={QUALITY}|AppMag = 40"
            f"|ScanScope ID = SIMULATED|Barcode = {LABEL}|Date = 11/20/26|Time = {WHEN}"
            f"|MPP = {section.mpp}"
        )
        _level(writer, full, section.mpp, text)
        writer.write(
            quarter,
            photometric="rgb",
            compression="jpeg",
            compressionargs={"level": QUALITY},
            rowsperstrip=quarter.shape[0],
            description=f"{first}-> {quarter.shape[1]}x{quarter.shape[0]} - |AppMag = 40",
            software=False,
            metadata=None,
        )
        size = f"-> {quarter.shape[1]}x{quarter.shape[0]}"
        text = f"{first}[0,0 {columns}x{rows}] ({_TILE}x{_TILE}) {size} JPEG/RGB Q={QUALITY}"
        _level(writer, quarter, section.mpp * 4, text)
    return memory.getvalue()


def generic_tiff(section: Section) -> bytes:
    """Generic pyramidal TIFF, each level half of the one before."""
    memory = io.BytesIO()
    with TiffWriter(memory, bigtiff=True) as writer:
        for factor, pixels in zip((1, 2, 4), section.levels((1, 2, 4)), strict=True):
            text = f"slide {LABEL}" if factor == 1 else None
            _level(writer, pixels, section.mpp * factor, text, reduced=factor > 1)
    return memory.getvalue()


def philips_tiff(section: Section) -> bytes:
    """Philips TIFF: the description of level 0 is an XML document."""
    factors = (1, 2, 4)
    memory = io.BytesIO()
    with TiffWriter(memory, bigtiff=True) as writer:
        for factor, pixels in zip(factors, section.levels(factors), strict=True):
            text = _philips_xml(section, factors) if factor == 1 else f"level={factor // 2}"
            _level(
                writer,
                pixels,
                section.mpp * factor,
                text,
                reduced=factor > 1,
                software="Philips DP v1.0",
            )
    return memory.getvalue()


def hamamatsu_ndpi(section: Section) -> bytes:
    """Hamamatsu NDPI: one JPEG strip for each level, directories with offsets of 64 bits."""
    factors = (1, 2, 4)
    body = bytearray(struct.pack("<2sHQ", b"II", 42, 0))
    link = 4
    for factor, pixels in zip(factors, section.levels(factors), strict=True):
        rows, columns = pixels.shape[:2]
        coded = imagecodecs.jpeg8_encode(
            pixels, level=QUALITY, colorspace="RGB", outcolorspace="YCBCR"
        )
        strip = _put(body, bytes(coded))
        per_cm = struct.pack("<II", round(1e7 / (section.mpp * factor)), 1000)
        texts = [_put(body, text.encode() + b"\0") for text in ("Hamamatsu", LABEL)]
        when = _put(body, f"{_DAY} {WHEN}\0".encode())
        bits = _put(body, struct.pack("<3H", 8, 8, 8))
        resolution = _put(body, per_cm)
        entries = [
            (256, 4, 1, columns),
            (257, 4, 1, rows),
            (258, 3, 3, bits),
            (259, 3, 1, 7),
            (262, 3, 1, 6),
            (271, 2, len("Hamamatsu") + 1, texts[0]),
            (272, 2, len(LABEL) + 1, texts[1]),
            (273, 4, 1, strip),
            (277, 3, 1, 3),
            (278, 4, 1, rows),
            (279, 4, 1, len(coded)),
            (282, 5, 1, resolution),
            (283, 5, 1, resolution),
            (296, 3, 1, 3),
            (306, 2, 20, when),
            (65420, 4, 1, 1),
            (65421, 11, 1, struct.unpack("<I", struct.pack("<f", 40 / factor))[0]),
            (65422, 9, 1, 0),
            (65423, 9, 1, 0),
            (65424, 9, 1, 0),
        ]
        directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        # The next directory's offset, then the high halves of all values.
        tail = struct.pack("<Q", 0) + bytes(4 * len(entries))
        at = _put(body, struct.pack("<H", len(entries)) + directory + tail)
        struct.pack_into("<Q", body, link, at)
        link = at + 2 + len(directory)
    return bytes(body)


def _put(body: bytearray, data: bytes) -> int:
    """Append `data` at an even offset; return the offset."""
    body.extend(bytes(len(body) % 2))
    at = len(body)
    body.extend(data)
    return at


def _level(
    writer: TiffWriter,
    pixels: Pixels,
    mpp: float,
    description: str | None,
    *,
    reduced: bool = False,
    software: str | bool = False,
) -> None:
    writer.write(
        iter(_tiles(pixels)),
        shape=pixels.shape,
        dtype=np.uint8,
        tile=(_TILE, _TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": QUALITY},
        description=description,
        subfiletype=1 if reduced else 0,
        resolution=(1e4 / mpp, 1e4 / mpp),
        resolutionunit="CENTIMETER",
        datetime=f"{_DAY} {WHEN}",
        software=software,
        metadata=None,
    )


def _tiles(pixels: Pixels) -> list[Pixels]:
    rows, columns = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -rows % _TILE), (0, -columns % _TILE), (0, 0)), mode="edge")
    return [
        np.ascontiguousarray(padded[y : y + _TILE, x : x + _TILE])
        for y in range(0, padded.shape[0], _TILE)
        for x in range(0, padded.shape[1], _TILE)
    ]


def _philips_xml(section: Section, factors: Sequence[int]) -> str:
    def attribute(name: str, kind: str, text: str) -> str:
        where = 'Group="0x301D" Element="0x1000"'
        return f'<Attribute Name="{name}" {where} PMSVR="{kind}">{text}</Attribute>'

    def spacing(factor: int) -> str:
        mm = f"&quot;{section.mpp * factor / 1000:.9f}&quot;"
        return attribute("DICOM_PIXEL_SPACING", "IDoubleArray", f"{mm} {mm}")

    levels = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(factor)}'
        + attribute("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", "IUInt16", str(number))
        + "</DataObject>"
        for number, factor in enumerate(factors)
    )
    image = (
        '<DataObject ObjectType="DPScannedImage">'
        + attribute("PIM_DP_IMAGE_TYPE", "IString", "WSI")
        + spacing(1)
        + attribute(
            "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE",
            "IDataObjectArray",
            f"<Array>{levels}</Array>",
        )
        + "</DataObject>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        + attribute("DICOM_MANUFACTURER", "IString", "SIMULATED")
        + attribute("PIM_DP_UFS_BARCODE", "IString", LABEL_64)
        + attribute("PIM_DP_SCANNED_IMAGES", "IDataObjectArray", f"<Array>{image}</Array>")
        + "</DataObject>"
    )
