"""Header and extent of a DICOM file, read element by element (PS3.5 section 7, PS3.10 section 7).

pydicom keeps what it reads, and reads a cut file without an error. The reader here keeps a few
attributes, skips all other values, and tells where the last element ends. It is bounded: the thread
that scans the scanner's folder reads files that are still being written, or are damaged.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from appliance.slides.untouched import open_untouched

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class VL Whole Slide Microscopy Image Storage."""
MOST_ELEMENTS = 2_000_000
"""Most elements of a file, those of sequences included, beside those of its frames."""
MOST_OF_FRAME = 64
"""Most elements of a frame: a sparse slide has about 25 that place it, and the item of its px."""
MOST_FRAMES = 1_000_000
"""Most frames that a file is believed to have: a wrong number is not to cost minutes."""
MOST_DEPTH = 32
"""Most sequences within each other."""
MOST_VALUE = 4096
"""Most bytes of a value that is kept."""
UNDEFINED = 0xFFFFFFFF
"""Length of an element that ends with a delimiter (PS3.5 section 7.1)."""
PIXEL_DATA, ITEM, ITEM_END, SEQUENCE_END = 0x7FE00010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
TRANSFER_SYNTAX, FRAMES = 0x00020010, 0x00280008
IMPLICIT, BIG_ENDIAN, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"}) | {
    b"UT",
    b"UV",
}
"""Value representations whose length has four bytes (PS3.5 section 7.1.2)."""
_TEXTS = {
    0x00080008: "image_type",
    0x00080016: "class_uid",
    0x0020000D: "study_uid",
    0x0020000E: "series_uid",
    0x00209161: "concatenation_uid",
    0x00209311: "organization",
    FRAMES: "frames",  # IS
    0x00400512: "container",
}
_NUMBERS = {
    0x00280002: "samples",
    0x00209162: "part",
    0x00209163: "parts",
    0x00280010: "rows",
    0x00280011: "columns",
    0x00480006: "matrix_columns",
    0x00480007: "matrix_rows",
    0x00480302: "optical_paths",
    0x00480303: "focal_planes",
}
PLACES = 0x52009230
"""Per-frame Functional Groups Sequence, which has the positions of frames (PS3.3 C.7.6.16)."""
LAST_TAG = 0x00480303
"""Last attribute that is kept; elements of a file have ascending tags."""


MOST_KEPT = 1 << 16
"""Headers of a generation in a process that does not scan."""
_Asked: TypeAlias = tuple[str, int, int]
"""Path of a file, its size in bytes and time of change in ns."""


class DamagedDicomError(Exception):
    """The bytes are no DICOM file, or it ends within an element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomHeader:
    """Attributes that tell which slide an instance belongs to, and which part of it that is.

    0 and empty where a file does not say. Parts are those of a concatenation (PS3.3 C.7.6.16.2.2).
    """

    study_uid: str = ""
    series_uid: str = ""
    container: str = ""
    class_uid: str = ""
    image_type: tuple[str, ...] = ()
    samples: int = 0
    rows: int = 0
    columns: int = 0
    frames: int = 0
    matrix_rows: int = 0
    matrix_columns: int = 0
    optical_paths: int = 0
    focal_planes: int = 0
    organization: str = ""
    concatenation_uid: str = ""
    part: int = 0
    parts: int = 0

    @property
    def is_volume(self) -> bool:
        """Return whether it holds px of the pyramid: neither label, overview nor thumbnail."""
        return "VOLUME" in self.image_type[2:3]

    @property
    def is_base(self) -> bool:
        """Return whether it holds px of level 0: a file that does not say is taken for it."""
        return self.is_volume and self.image_type[3:4] != ("RESAMPLED",)


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    length: int
    offset: int


def header_of(path: Path | str, size_bytes: int, modified_ns: int) -> DicomHeader | None:
    """Header of a file of this size and time; None where the file is no DICOM file.

    Empty where the header is damaged or not all written yet. Headers are kept: each file of a
    folder is asked for at each scan. Raises OSError where the file cannot be read.
    """
    return _kept.get((str(path), size_bytes, modified_ns))


def begin_scan() -> None:
    """Forget headers that were not asked for since the scan before the last one.

    A process that scans keeps those of all files, however many; others keep up to `MOST_KEPT`.
    """
    _kept.begin_scan()


class _Kept:
    """Headers that were asked for lately; two generations of them."""

    def __init__(self) -> None:
        self._now: dict[_Asked, DicomHeader | None] = {}
        self._before: dict[_Asked, DicomHeader | None] = {}
        self._scans = False

    def get(self, asked: _Asked) -> DicomHeader | None:
        """Return a header, read once as long as it is asked for."""
        now, before = self._now, self._before
        if asked not in now:
            now[asked] = before[asked] if asked in before else _header_of(*asked)
            if len(now) >= MOST_KEPT and not self._scans:
                self._turn()
        return now[asked]

    def begin_scan(self) -> None:
        """Begin a generation with a scan, and no more by number."""
        self._scans = True
        self._turn()

    def _turn(self) -> None:
        self._now, self._before = {}, self._now


def _header_of(path: str, size_bytes: int, _modified_ns: int) -> DicomHeader | None:
    with open_untouched(path) as stream:
        if not is_dicom(stream):
            return None
        return _read_header(stream, size_bytes)


_kept = _Kept()


def is_dicom(stream: BinaryIO) -> bool:
    """Return whether a file begins as a DICOM file (PS3.10 section 7.1)."""
    return stream.read(132)[128:] == b"DICM"


def reaches_end(stream: BinaryIO, size_bytes: int) -> bool:
    """Return whether the last element of a DICOM file ends with the file.

    A whole slide image needs its pixel data. Zeros after the last element are allowed. A deflated
    data set is not looked into, and taken as whole: nobody waits for one that is never read.
    """
    class_uid, pixels = "", False
    if not is_dicom(stream):
        return False
    try:
        for element in _Reader(stream, size_bytes).elements():
            if element.tag == TRANSFER_SYNTAX and _text(stream, element) == DEFLATED:
                return True
            if element.tag == 0x00080016:
                class_uid = _text(stream, element)
            pixels = pixels or element.tag == PIXEL_DATA
    except DamagedDicomError:
        return False
    return pixels if class_uid == WHOLE_SLIDE else bool(class_uid)


def is_deflated(stream: BinaryIO, size_bytes: int) -> bool:
    """Return whether a DICOM file has its data set deflated (PS3.5 A.5); OpenSlide reads none."""
    if not is_dicom(stream):
        return False
    try:
        for element in _Reader(stream, size_bytes).elements():
            if element.tag == TRANSFER_SYNTAX:
                return _text(stream, element) == DEFLATED
    except DamagedDicomError:
        return False
    return False


def has_places(stream: BinaryIO, size_bytes: int) -> bool:
    """Return whether a DICOM file states the positions of its frames, as TILED_SPARSE needs."""
    if not is_dicom(stream):
        return False
    try:
        for element in _Reader(stream, size_bytes).elements(PLACES):
            if element.tag >= PLACES:
                return element.tag == PLACES
    except DamagedDicomError:
        return False
    return False


def _read_header(stream: BinaryIO, size_bytes: int) -> DicomHeader:
    found: dict[str, object] = {}
    try:
        reader = _Reader(stream, size_bytes)
        for element in reader.elements(LAST_TAG + 1):
            if element.tag > LAST_TAG:
                break
            if element.tag in _TEXTS:
                found[_TEXTS[element.tag]] = _text(stream, element)
            elif element.tag in _NUMBERS and element.length in (2, 4):
                stream.seek(element.offset)
                data = stream.read(element.length)
                code = reader.order + ("H" if element.length == 2 else "I")
                found[_NUMBERS[element.tag]] = struct.unpack(code, data)[0]
    except DamagedDicomError:
        pass
    frames = _number(str(found.pop("frames", "")))
    kinds = str(found.pop("image_type", "")).split("\\")
    return DicomHeader(
        frames=frames,
        image_type=tuple(sys.intern(kind.strip()) for kind in kinds if kind),
        **found,  # type: ignore[arg-type]  # names and types are those of the tables above
    )


def _text(stream: BinaryIO, element: _Element) -> str:
    if element.length > MOST_VALUE:
        return ""
    stream.seek(element.offset)
    data = stream.read(element.length)
    return sys.intern(data.decode("ascii", "replace").strip(" \0"))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


class _Reader:
    """Elements of a DICOM file whose stream stands after the preamble."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream, self._size = stream, size_bytes
        self._left = MOST_ELEMENTS
        self.order, self._implicit = "<", False

    def elements(self, until: int = UNDEFINED) -> Iterator[_Element]:
        """Yield the elements of file meta information and data set; those of sequences are skipped.

        An element is yielded when it is known that all its value is there, and at once where its
        tag is `until` or above: callers want no more then. The stream may be moved meanwhile.

        Raises
        ------
        DamagedDicomError
            Where the file ends within an element, or the bytes are none.
        """
        stream, at, syntax = self._stream, self._stream.tell(), ""
        in_meta = True
        while at < self._size:
            stream.seek(at)
            if in_meta and struct.unpack("<H", self._read(2))[0] != 2:
                in_meta = False
                self._take_syntax(syntax)
            stream.seek(at)
            tag, length, kind = self._head()
            if tag == 0 and self._only_zeros(at):
                return
            element = _Element(tag, length, stream.tell())
            if tag >= until:
                yield element
                return
            if length == UNDEFINED:
                at = self._skip_undefined(kind, tag, 0)
            else:
                at = element.offset + length
                if at > self._size:
                    raise DamagedDicomError("the file ends within an element")
            if tag == TRANSFER_SYNTAX:
                syntax = _text(stream, element)
            elif tag == FRAMES:
                self._left = MOST_ELEMENTS + self._of_frames(element)
            yield element

    def _of_frames(self, element: _Element) -> int:
        return MOST_OF_FRAME * min(_number(_text(self._stream, element)), MOST_FRAMES)

    def _take_syntax(self, syntax: str) -> None:
        if syntax == DEFLATED:
            raise DamagedDicomError("deflated data sets are not looked into")
        self._implicit = syntax == IMPLICIT
        self.order = ">" if syntax == BIG_ENDIAN else "<"

    def _head(self) -> tuple[int, int, bytes]:
        """Read the tag, length and value representation of the element that begins here."""
        self._left -= 1
        if self._left < 0:
            raise DamagedDicomError("too many elements")
        order, data = self.order, self._read(8)
        group, number = struct.unpack_from(order + "HH", data)
        tag = (group << 16) | number
        if self._implicit or group == 0xFFFE:
            return tag, struct.unpack_from(order + "I", data, 4)[0], b""
        kind = data[4:6]
        if kind in _LONG:
            return tag, struct.unpack(order + "I", self._read(4))[0], kind
        if not (kind.isalpha() and kind.isupper()) and tag != 0:
            raise DamagedDicomError("an element has no value representation")
        return tag, struct.unpack_from(order + "H", data, 6)[0], kind

    def _skip_undefined(self, kind: bytes, tag: int, depth: int) -> int:
        """Skip the items of an element of undefined length; return the offset after it."""
        if depth > MOST_DEPTH:
            raise DamagedDicomError("too many sequences within each other")
        implicit = self._implicit
        self._implicit = implicit or kind == b"UN"  # PS3.5 section 6.2.2
        while True:
            number, length, _ = self._head()
            if number == SEQUENCE_END:
                self._implicit = implicit
                return self._stream.tell()
            if number != ITEM:
                raise DamagedDicomError("an item was expected")
            if length != UNDEFINED:
                self._skip(length)
            elif tag == PIXEL_DATA:
                raise DamagedDicomError("a fragment has no length")
            else:
                self._skip_item(depth)

    def _skip_item(self, depth: int) -> None:
        while True:
            tag, length, kind = self._head()
            if tag == ITEM_END:
                return
            if length == UNDEFINED:
                self._skip_undefined(kind, tag, depth + 1)
            else:
                self._skip(length)

    def _skip(self, length: int) -> None:
        if self._stream.tell() + length > self._size:
            raise DamagedDicomError("the file ends within an element")
        self._stream.seek(length, os.SEEK_CUR)

    def _only_zeros(self, at: int) -> bool:
        self._stream.seek(at)
        rest = self._stream.read(1 << 20)
        return not rest.strip(b"\0")

    def _read(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise DamagedDicomError("the file ends within an element")
        return data
