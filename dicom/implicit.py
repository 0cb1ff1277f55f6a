"""Implicit VR Little Endian (PS3.5 10.1): the transfer syntax that every application takes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom.errors import SourceError

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
_PIXEL_DATA = struct.pack("<HH", 0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
_PIECE_BYTES = 2**20


def write_implicit(source: Path, target: Path) -> None:
    """Write an object of Explicit VR Little Endian as Implicit VR Little Endian.

    Pixel data are copied from disk to disk: they are equal in both (PS3.5 A.1 and A.2). What
    follows them, which may be padding alone, is left out.

    Raises
    ------
    SourceError
        If the file has another transfer syntax, or ends within its pixel data.
    OSError
    """
    with source.open("rb") as stream:
        dataset = dcmread(stream, stop_before_pixels=True)
        if dataset.file_meta.TransferSyntaxUID != EXPLICIT:
            raise SourceError(f"{source.name}: its transfer syntax is not Explicit Little Endian")
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        with target.open("wb") as out:
            dcmwrite(out, dataset, implicit_vr=True, little_endian=True, enforce_file_format=True)
            head = stream.read(12)  # tag, VR, two reserved bytes, length (PS3.5 7.1.2)
            if head[:4] != _PIXEL_DATA:
                return
            (length,) = struct.unpack("<L", head[8:])
            if length == _UNDEFINED or source.stat().st_size < stream.tell() + length:
                raise SourceError(f"{source.name}: its pixel data have no end")
            out.write(_PIXEL_DATA + struct.pack("<L", length))
            _copy(stream, out, length)


def _copy(stream: BinaryIO, out: BinaryIO, length: int) -> None:
    while length:
        piece = stream.read(min(length, _PIECE_BYTES))
        out.write(piece)
        length -= len(piece)
