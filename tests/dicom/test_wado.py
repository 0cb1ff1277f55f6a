"""WADO-RS: a multipart body in pieces of any size becomes files, or nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from fixtures.series import write_instance
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom import wado
from dicom.dicomweb import WebAddress
from dicom.errors import (
    ConnectionLostError,
    ObjectError,
    PacsRejectedError,
    PacsUnavailableError,
    SpoolError,
)
from dicom.wado import Series, retrieve_series

BOUNDARY = "b0undary"
SERIES = Series(study_uid="1.2.3", series_uid="1.2.3.4")


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("instances")
    paths = [write_instance(folder / f"{n}.dcm", tiles=n + 1) for n in range(3)]
    return [path.read_bytes() for path in paths]


def multipart(parts: list[bytes], before: bytes = b"") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return before + b"".join(head + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--".encode()


def written(body: bytes, sizes: list[int], folder: Path) -> list[bytes]:
    """What a body that comes in pieces of these sizes becomes."""

    def pieces() -> Iterator[bytes]:
        at, turn = 0, 0
        while at < len(body):
            yield body[at : at + sizes[turn % len(sizes)]]
            at, turn = at + sizes[turn % len(sizes)], turn + 1

    return [p.read_bytes() for p in wado._written(pieces(), BOUNDARY.encode(), folder)]


@given(
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=5),
    before=st.sampled_from([b"", b"\r\n", b"preamble\r\n"]),
)
@settings(max_examples=25, deadline=None)
def test_pieces_of_any_size_give_the_same_files(
    instances: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    before: bytes,
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    assert written(multipart(instances, before), sizes, folder) == instances
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("cut", [10, 200, 900, -12, -3])
def test_a_body_that_ends_early_leaves_no_half_of_a_file(
    instances: list[bytes], tmp_path: Path, cut: int
) -> None:
    body = multipart(instances[:1])[:cut]
    with pytest.raises(ConnectionLostError):
        written(body, [700], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_no_instance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PacsRejectedError, match="no DICOM instance"):
        written(multipart([b"<html>not found</html>"]), [50], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_deflated_part_is_refused_and_not_inflated(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    path = write_instance(tmp_path_factory.mktemp("made") / "1.dcm")
    dataset = dcmread(path)
    dataset["PixelData"].value = bytes(2**25)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(PacsRejectedError, match="deflated"):
            written(multipart([path.read_bytes()]), [2**16], tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert not list(tmp_path.iterdir())


def test_a_file_meta_of_endless_sequences_is_refused(tmp_path: Path) -> None:
    nested = b"\x02\x00\x02\x01SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(PacsRejectedError, match="no DICOM instance"):
        written(multipart([bytes(128) + b"DICM" + nested * 3000]), [2**16], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_head_without_an_end_is_refused(tmp_path: Path) -> None:
    body = f"--{BOUNDARY}\r\n".encode() + b"x" * (wado.MOST_HEAD_BYTES + 100)
    with pytest.raises(PacsRejectedError, match="head"):
        written(body, [4096], tmp_path)


def test_a_folder_that_cannot_be_written_is_no_trouble_of_the_server(
    instances: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(SpoolError, match="gone"):
        written(multipart(instances), [4096], tmp_path / "gone")


class Answering(BaseHTTPRequestHandler):
    """Server whose answer is the class's."""

    status, kind, body = 200, f'multipart/related; boundary="{BOUNDARY}"', b""
    asked = ""

    def do_GET(self) -> None:
        type(self).asked = self.path
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[WebAddress, type[Answering]]]:
    handler = type("One", (Answering,), {})
    made = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{made.server_address[1]}/dicom-web"
    yield WebAddress(url=url, timeout_s=300), handler
    made.shutdown()
    made.server_close()


def test_a_series_is_fetched(
    server: tuple[WebAddress, type[Answering]], instances: list[bytes], tmp_path: Path
) -> None:
    address, handler = server
    handler.body = multipart(instances)
    assert retrieve_series(address, SERIES, tmp_path) == 3
    assert handler.asked == "/dicom-web/studies/1.2.3/series/1.2.3.4"
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == sorted(instances)


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (404, "text/html", PacsRejectedError),
        (406, "text/html", PacsRejectedError),
        (401, "text/html", PacsUnavailableError),
        (503, "text/html", PacsUnavailableError),
        (206, f"multipart/related; boundary={BOUNDARY}", PacsUnavailableError),
        (200, "text/html", PacsRejectedError),
        (200, "multipart/related", PacsRejectedError),
        (204, f"multipart/related; boundary={BOUNDARY}", PacsRejectedError),
    ],
)
def test_an_answer_that_is_none(
    server: tuple[WebAddress, type[Answering]],
    instances: list[bytes],
    tmp_path: Path,
    status: int,
    kind: str,
    error: type[Exception],
) -> None:
    address, handler = server
    handler.status, handler.kind, handler.body = status, kind, multipart(instances)
    with pytest.raises(error):
        retrieve_series(address, SERIES, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_uid_that_is_none_reaches_no_server(tmp_path: Path) -> None:
    with pytest.raises(ObjectError):
        retrieve_series(
            WebAddress(url="http://127.0.0.1:9"),
            Series(study_uid="1.2", series_uid="../../etc"),
            tmp_path,
        )
