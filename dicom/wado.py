"""WADO-RS client: a series is written to a folder as it comes (PS3.18 10.4)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import requests
from pydicom import Dataset
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom.characters import UNREADABLE
from dicom.deadline import Deadline, limit_s
from dicom.dicomweb import PIECE_BYTES, WebAddress, explain
from dicom.errors import (
    ConnectionLostError,
    ObjectError,
    PacsRejectedError,
    PacsUnavailableError,
    SpoolError,
)
from dicom.header import WSM_STORAGE
from dicom.http_status import find_http_status
from dicom.status import Verdict
from dicom.uids import uid_as_name

STRETCH_BYTES = 2**24
"""Part of a body for which the time limit of an exchange holds anew."""
MOST_HEAD_BYTES = 2**14
"""Largest head of a part of a multipart body."""
MOST_META_BYTES = 2**16
"""Part of an instance that is read for its File Meta Information."""
IMAGE_TYPE = 0x00080008
_END_OF_HEAD = b"\r\n\r\n"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Series at a server."""

    study_uid: str
    series_uid: str


def retrieve_series(address: WebAddress, series: Series, folder: Path) -> int:
    """Write the instances of a series to `folder`, each under its UID; return their number.

    They come in the transfer syntax in which the server has them: pixels are not decoded.

    Raises
    ------
    PacsUnavailableError
        The server cannot be asked now, or has not all of the series. What was written stays and is
        written again.
    PacsRejectedError
        The server has no such series, or its answer is none.
    SpoolError
        The folder cannot be written.
    """
    study, uid = uid_as_name(series.study_uid), uid_as_name(series.series_uid)
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    longest_s = limit_s(address.timeout_s, STRETCH_BYTES, address.mib_s)
    with address.opened(
        "GET", f"studies/{study}/series/{uid}", longest_s, headers={"Accept": accept}
    ) as (response, deadline):
        _check(address, response)
        pieces = _watched(response, deadline, longest_s)
        count = sum(1 for _ in _written(pieces, _boundary(address, response), folder))
    if count == 0:
        raise PacsRejectedError(f"{address.url}: WADO-RS gave no instance of the series.")
    return count


def may_be_slide(folder: Path) -> bool:
    """Return whether a series has a level of a slide, or a file of which it is not known; so does
    an empty one.

    Reports, presentation states, other images of a study, and labels or overviews in series of
    their own lie beside its slides.
    """
    files = list(folder.iterdir())
    return not files or any(_may_be_level(path) for path in files)


def _may_be_level(path: Path) -> bool:
    try:
        meta = _file_meta(path)
        sop_class = meta.get("MediaStorageSOPClassUID")
        if sop_class != WSM_STORAGE or meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            return sop_class in (None, "", WSM_STORAGE)
        with path.open("rb") as file:
            header = read_partial(file, stop_when=lambda tag, _vr, _length: tag > IMAGE_TYPE)
        kind = header.get("ImageType")
    except (RecursionError, *UNREADABLE):
        return True
    return not kind or "VOLUME" in kind


def _check(address: WebAddress, response: requests.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status == 206:  # without a Range: some instances are left out, and a slide lacks a part
        raise PacsUnavailableError(f"{address.url}: WADO-RS gives not all of the series now.")
    row = find_http_status(status)
    told = explain(address, "WADO-RS", status)
    if row.verdict is Verdict.LATER or (row.of_server and status != 404):
        raise PacsUnavailableError(told)
    if status == 404:
        told = f"{address.url}: WADO-RS has no such series."
    raise PacsRejectedError(told)


def _boundary(address: WebAddress, response: requests.Response) -> bytes:
    head = Message()
    head["Content-Type"] = response.headers.get("Content-Type", "")
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/related" or not boundary:
        raise PacsRejectedError(f"{address.url}: WADO-RS gave no multipart body. Is the url right?")
    return boundary.encode()


def _watched(response: requests.Response, deadline: Deadline, longest_s: float) -> Iterator[bytes]:
    """Yield the pieces of a body; each stretch of it has the whole time limit."""
    seen = 0
    for piece in response.iter_content(PIECE_BYTES):
        seen += len(piece)
        if seen >= STRETCH_BYTES and not deadline.is_over:
            seen = 0
            deadline.start(longest_s)
        yield piece
    if deadline.is_over:
        raise ConnectionLostError("the series did not come in time")


def _written(pieces: Iterable[bytes], boundary: bytes, folder: Path) -> Iterator[Path]:
    """Write the parts of a multipart body to files, and yield each that is whole."""
    for part in _parts(pieces, boundary, folder):
        yield _named(part)


def _parts(pieces: Iterable[bytes], boundary: bytes, folder: Path) -> Iterator[Path]:
    """Yield a file with the body of each part; a body that ends within one raises."""
    delimiter = b"\r\n--" + boundary
    source, held = iter(pieces), b"\r\n"
    # The first delimiter has no line before it; what stands before it is no part.
    held = _until(source, held, delimiter, None)
    while True:
        while len(held) < 2:
            held += _next(source)
        if held.startswith(b"--"):
            return
        while (end := held.find(_END_OF_HEAD)) < 0:
            if len(held) > MOST_HEAD_BYTES:
                raise PacsRejectedError("WADO-RS gave a part without an end of its head")
            held += _next(source)
        path = folder / f".{uuid.uuid4().hex}.part"
        held = _until(source, held[end + len(_END_OF_HEAD) :], delimiter, path)
        yield path


def _until(source: Iterator[bytes], held: bytes, delimiter: bytes, path: Path | None) -> bytes:
    """Write what comes before the delimiter to a file; return what follows it."""
    keep = len(delimiter) - 1
    with _writing(path) as write:
        while (at := held.find(delimiter)) < 0:
            write(held[:-keep])
            held = held[-keep:] + _next(source)
        write(held[:at])
    return held[at + len(delimiter) :]


@contextmanager
def _writing(path: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that appends to a file, which is removed where the block fails.

    Errors of the network are errors of the operating system too; those of the file are told apart.
    """
    if path is None:
        yield lambda _: None
        return
    out = _spooled(path, lambda: path.open("wb"))

    def write(data: bytes) -> None:
        _spooled(path, lambda: out.write(data))

    try:
        yield write
        _spooled(path, out.close)
    except BaseException:
        with suppress(OSError):
            out.close()
        path.unlink(missing_ok=True)
        raise


def _spooled(path: Path, act: Callable[[], T]) -> T:
    try:
        return act()
    except OSError as err:
        raise SpoolError(f"{path.parent}: cannot be written ({err.strerror})") from err


def _next(source: Iterator[bytes]) -> bytes:
    for piece in source:
        return piece
    raise ConnectionLostError("the series ended in the middle of an instance")


def _named(part: Path) -> Path:
    """Give a file the name of its instance."""
    try:
        meta = _file_meta(part)
        name = uid_as_name(str(meta.get("MediaStorageSOPInstanceUID", "")))
    except (ObjectError, RecursionError, *UNREADABLE) as err:
        if isinstance(err, OSError) and err.errno:  # not of pydicom, for damaged bytes
            raise SpoolError(f"{part.parent}: cannot be read ({err.strerror})") from err
        part.unlink(missing_ok=True)
        raise PacsRejectedError("WADO-RS gave a part that is no DICOM instance") from err
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        part.unlink(missing_ok=True)
        raise PacsRejectedError("WADO-RS gave a deflated instance, which is not looked into")
    return _spooled(part, lambda: part.replace(part.with_name(f"{name}.dcm")))


def _file_meta(part: Path) -> Dataset:
    """Read the File Meta Information alone: a data set may be inflated to any size in memory."""
    with part.open("rb") as file:
        head = BytesIO(file.read(MOST_META_BYTES))
    read_preamble(head, force=False)
    return read_dataset(
        head,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag >> 16 != 2,
    )
