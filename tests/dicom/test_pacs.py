"""The wire: a real Orthanc, and storage SCPs that answer as bad days do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.orthanc import Orthanc, free_port
from fixtures.slide_objects import her2_label_map, report, segmentation
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SegmentationStorage,
    Verification,
    VLWholeSlideMicroscopyImageStorage,
)

from dicom import pacs
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.pacs import PacsAddress, echo, find_instance, find_study, store

# pynetdicom drops the socket of a refused connection without closing it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)

ALL_KINDS = [
    (VLWholeSlideMicroscopyImageStorage, JPEGBaseline8Bit),
    (SegmentationStorage, ExplicitVRLittleEndian),
    (Comprehensive3DSRStorage, ExplicitVRLittleEndian),
]


def address_of(server: Orthanc, *, dicomweb: bool = True) -> PacsAddress:
    return PacsAddress(
        host="127.0.0.1",
        port=server.dicom_port,
        called_aet="ORTHANC",
        timeout_s=10,
        dicomweb_url=server.dicomweb_url if dicomweb else None,
    )


def where(path: Path) -> dict[str, str]:
    header = dcmread(path, stop_before_pixels=True)
    return {
        "study_uid": header.StudyInstanceUID,
        "series_uid": header.SeriesInstanceUID,
        "sop_instance_uid": header.SOPInstanceUID,
    }


@pytest.fixture
def objects(
    he: list[Path],
    ihc: list[Path],
    he_images: list[Dataset],
    ihc_images: list[Dataset],
    save: Callable[[Dataset], Path],
) -> list[Path]:
    """A case's objects: slides, segmentations, report."""
    segs = segmentation(ihc_images, her2_label_map())
    return [*he, *ihc, *(save(d) for d in (*segs, report(he_images, ihc_images, segs)))]


@pytest.fixture
def scp() -> Iterator[Callable[..., PacsAddress]]:
    """Starts storage SCPs that answer each C-STORE with a status."""
    servers = []

    def start(
        status: int = 0, kinds: Any = tuple(ALL_KINDS), timeout_s: float = 5, **options: Any
    ) -> PacsAddress:
        def handle_store(event: evt.Event) -> int:
            received.append(event.request.AffectedSOPInstanceUID)
            return status

        received: list[str] = []
        ae = AE(ae_title="SCP")
        for name, value in options.items():
            setattr(ae, name, value)
        for sop_class, syntax in kinds:
            ae.add_supported_context(sop_class, syntax)
        port = free_port()
        handlers = [(evt.EVT_C_STORE, handle_store)]
        servers.append(ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers))
        return PacsAddress(host="127.0.0.1", port=port, called_aet="SCP", timeout_s=timeout_s)

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.judge
def test_round_trip_with_orthanc(orthanc: Orthanc, objects: list[Path]) -> None:
    address = address_of(orthanc)
    echo(address)
    assert not find_instance(address, **where(objects[-1]))
    stored: list[tuple[Path, int]] = []
    store(address, objects, on_stored=lambda path, status: stored.append((path, status)))
    assert stored == [(path, 0) for path in objects]
    by_c_find = address_of(orthanc, dicomweb=False)
    for path in objects:
        assert find_instance(address, **where(path))
        assert find_instance(by_c_find, **where(path))
    absent = where(objects[-1]) | {"sop_instance_uid": "2.25.404"}
    assert not find_instance(address, **absent)
    assert not find_instance(by_c_find, **absent)

    found = find_study(address, "S26-0042")
    headers = [dcmread(path, stop_before_pixels=True) for path in objects]
    assert {(f.modality, f.series_uid, f.sop_instance_uid, f.sop_class_uid) for f in found} == {
        (h.Modality, h.SeriesInstanceUID, h.SOPInstanceUID, h.SOPClassUID) for h in headers
    }
    assert {f.modality for f in found} == {"SM", "SEG", "SR"}
    assert find_study(address, "S26-9999") == []


@pytest.mark.judge
def test_outage_is_transient_and_storage_survives(orthanc: Orthanc, objects: list[Path]) -> None:
    address = address_of(orthanc)
    store(address, objects)
    orthanc.stop()
    with pytest.raises(PacsUnavailableError):
        echo(address)
    with pytest.raises(PacsUnavailableError):
        store(address, objects)
    with pytest.raises(PacsUnavailableError):
        find_instance(address, **where(objects[0]))
    with pytest.raises(PacsUnavailableError):
        find_instance(address_of(orthanc, dicomweb=False), **where(objects[0]))
    orthanc.start()
    assert find_instance(address, **where(objects[0]))
    # Sending twice is sending once.
    store(address, objects)
    assert len(find_study(address, "S26-0042")) == len(objects)


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110, 0x0213])
def test_out_of_resources_is_transient(
    status: int, scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    with pytest.raises(PacsUnavailableError, match=f"0x{status:04X}"):
        store(scp(status), objects)


@pytest.mark.parametrize("status", [0x0122, 0x0124, 0xA900, 0xC000])
def test_refusal_is_permanent(
    status: int, scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    stored: list[Path] = []
    with pytest.raises(PacsRejectedError) as refused:
        store(scp(status), objects, on_stored=lambda path, _: stored.append(path))
    assert refused.value.status == status
    assert stored == []


@pytest.mark.parametrize("status", [0xB000, 0xB007, 0x0107])
def test_warning_is_success_with_a_note(
    status: int,
    scp: Callable[..., PacsAddress],
    objects: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored: list[int] = []
    with caplog.at_level(logging.WARNING, logger="dicom.pacs"):
        store(scp(status), objects[:1], on_stored=lambda _, code: stored.append(code))
    assert stored == [status]
    assert f"0x{status:04X}" in caplog.text


def test_class_that_a_pacs_does_not_know_is_permanent(
    scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    """What comes before it is stored; the class is named for the person who must allow it."""
    stored: list[Path] = []
    with pytest.raises(PacsRejectedError, match="Segmentation Storage"):
        store(
            scp(kinds=ALL_KINDS[:1]), objects, on_stored=lambda path, _status: stored.append(path)
        )
    assert stored == objects[: len(stored)]
    assert len(stored) == 4


def test_nothing_in_common_is_permanent(
    scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    address = scp(kinds=[(Verification, ExplicitVRLittleEndian)])
    with pytest.raises(PacsRejectedError, match="takes none of"):
        store(address, objects)
    with pytest.raises(PacsRejectedError, match="takes none of"):
        find_instance(address, **where(objects[0]))


def test_wrong_title_is_permanent_and_a_full_house_is_transient(
    scp: Callable[..., PacsAddress],
) -> None:
    kinds = [(Verification, ExplicitVRLittleEndian)]
    with pytest.raises(PacsRejectedError, match="called_aet"):
        echo(scp(kinds=kinds, require_calling_aet=["OTHER"]))
    address = scp(kinds=kinds, maximum_associations=1)
    other = AE()
    other.add_requested_context(Verification)
    occupied = other.associate(address.host, address.port)
    with pytest.raises(PacsUnavailableError, match="too busy"):
        echo(address)
    occupied.release()


def test_nobody_there_is_transient() -> None:
    address = PacsAddress(host="127.0.0.1", port=free_port(), called_aet="X", timeout_s=2)
    with pytest.raises(PacsUnavailableError, match="cannot be reached"):
        echo(address)


def test_connection_lost_amid_a_send_is_transient(
    scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    def hang_up(event: evt.Event) -> int:
        event.assoc.abort()
        return 0

    ae = AE(ae_title="SCP")
    for sop_class, syntax in ALL_KINDS:
        ae.add_supported_context(sop_class, syntax)
    port = free_port()
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, hang_up)]
    )
    try:
        with pytest.raises(PacsUnavailableError):
            store(PacsAddress(host="127.0.0.1", port=port, called_aet="SCP", timeout_s=5), objects)
    finally:
        server.shutdown()


def test_more_kinds_than_an_association_holds(
    scp: Callable[..., PacsAddress], objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs, "MAX_CONTEXTS", 1)
    stored: list[Path] = []
    store(scp(), objects, on_stored=lambda path, _: stored.append(path))
    assert stored == objects


def test_slides_are_sent_from_disk(scp: Callable[..., PacsAddress], objects: list[Path]) -> None:
    store(scp(), objects)
    assert _config.STORE_SEND_CHUNKED_DATASET
