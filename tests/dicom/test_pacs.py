"""DIMSE against a real Orthanc and faulty storage SCPs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.dripping import dripping
from fixtures.instances import made_object
from fixtures.judges import require_judge
from fixtures.orthanc import Orthanc, free_port
from fixtures.slide_objects import her2_label_map, report, segmentation
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
    VLWholeSlideMicroscopyImageStorage,
)

from dicom import dicomweb, pacs
from dicom.association import Kind, PacsAddress, associate
from dicom.dicomweb import WebAddress
from dicom.errors import ClassesRejectedError, PacsRejectedError, PacsUnavailableError
from dicom.kinds import LABEL_MAP
from dicom.pacs import _answer, echo, find_instances, probe
from dicom.status import (
    NOT_AVAILABLE,
    Failed,
    Found,
    InstanceRef,
    Outcome,
    Said,
    Verdict,
)

ALL_KINDS: list[Kind] = [
    (str(VLWholeSlideMicroscopyImageStorage), str(JPEGBaseline8Bit)),
    (str(SegmentationStorage), str(ExplicitVRLittleEndian)),
    (str(Comprehensive3DSRStorage), str(ExplicitVRLittleEndian)),
]


def address_of(server: Orthanc) -> PacsAddress:
    return PacsAddress(
        host="127.0.0.1", port=server.dicom_port, called_aet="ORTHANC", timeout_s=300
    )


def ref_of(path: Path) -> InstanceRef:
    header = dcmread(path, stop_before_pixels=True)
    return InstanceRef(
        study_uid=header.StudyInstanceUID,
        series_uid=header.SeriesInstanceUID,
        sop_instance_uid=header.SOPInstanceUID,
        sop_class_uid=header.SOPClassUID,
    )


def store(address: PacsAddress, paths: list[Path]) -> dict[Path, Outcome]:
    """Outcome of each file; every file that was sent was announced."""
    outcomes: dict[Path, Outcome] = {}
    announced: list[Path] = []
    pacs.store(address, paths, before=announced.append, after=outcomes.__setitem__)
    assert [path for path in outcomes if path in announced] == announced
    return outcomes


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
        status: int = 0,
        kinds: Any = tuple(ALL_KINDS),
        on_store: Callable[[evt.Event], int] | None = None,
        handlers: Sequence[Any] = (),
        **options: Any,
    ) -> PacsAddress:
        ae = AE(ae_title="SCP")
        for name, value in options.items():
            setattr(ae, name, value)
        for sop_class, syntax in kinds:
            ae.add_supported_context(sop_class, syntax)
        port = free_port()
        ours = [(evt.EVT_C_STORE, on_store or (lambda _event: status)), *handlers]
        servers.append(ae.start_server(("127.0.0.1", port), block=False, evt_handlers=ours))
        return PacsAddress(host="127.0.0.1", port=port, called_aet="SCP", timeout_s=300)

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.judge
def test_round_trip_with_orthanc(orthanc: Orthanc, objects: list[Path]) -> None:
    address, web = address_of(orthanc), WebAddress(url=orthanc.dicomweb_url)
    refs = [ref_of(path) for path in objects]
    uids = {ref.sop_instance_uid for ref in refs}
    echo(address)
    nothing = dict.fromkeys(uids, False)
    assert find_instances(address, refs) == dicomweb.find_instances(web, refs) == nothing
    outcomes = store(address, objects)
    assert list(outcomes) == objects
    assert {outcome.status for outcome in outcomes.values()} == {0}
    absent = replace(refs[0], sop_instance_uid="2.25.404")
    expected = dict.fromkeys(uids, True) | {"2.25.404": False}
    assert find_instances(address, [*refs, absent]) == expected
    assert dicomweb.find_instances(web, [*refs, absent]) == expected
    moved = [replace(refs[0], study_uid="2.25.9", series_uid="2.25.9")]
    elsewhere = {refs[0].sop_instance_uid: Found.ELSEWHERE}
    assert find_instances(address, moved) == dicomweb.find_instances(web, moved) == elsewhere

    found = dicomweb.query(web, "instances", {"AccessionNumber": "S26-0042"})
    assert {item["00080018"]["Value"][0] for item in found} == uids
    assert dicomweb.query(web, "instances", {"AccessionNumber": "S26-9999"}) == []


@pytest.mark.judge
def test_outage_is_transient_and_storage_survives(orthanc: Orthanc, objects: list[Path]) -> None:
    address, web = address_of(orthanc), WebAddress(url=orthanc.dicomweb_url)
    refs = [ref_of(path) for path in objects]
    store(address, objects)
    orthanc.stop()
    for ask in (
        lambda: echo(address),
        lambda: store(address, objects),
        lambda: find_instances(address, refs),
        lambda: dicomweb.find_instances(web, refs),
    ):
        with pytest.raises(PacsUnavailableError):
            ask()
    orthanc.start()
    assert all(find_instances(address, refs).values())
    # Sending twice is sending once.
    store(address, objects)
    found = dicomweb.query(web, "instances", {"AccessionNumber": "S26-0042"})
    assert len(found) == len(objects)


def test_a_label_map_is_proposed_as_it_is_encoded(
    scp: Callable[..., PacsAddress], tmp_path: Path
) -> None:
    path = tmp_path / "map.dcm"
    made_object(path, sop_class=LABEL_MAP[0], syntax=LABEL_MAP[1])
    (taken,) = store(scp(kinds=[LABEL_MAP]), [path]).values()
    (refused,) = store(scp(), [path]).values()
    assert (taken.verdict, refused.verdict) == (Verdict.STORED, Verdict.NEVER)
    assert "Label Map Segmentation Storage" in refused.text


@pytest.mark.parametrize("status", [0xA700, 0x0110, 0x0213])
def test_out_of_resources_is_transient(
    status: int, scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    outcomes = store(scp(status), objects)
    assert list(outcomes) == objects
    assert {(o.verdict, o.status) for o in outcomes.values()} == {(Verdict.LATER, status)}


@pytest.mark.parametrize("status", [0x0122, 0x0124, 0xA777, 0xA900, 0xC000])
def test_refusal_is_permanent(
    status: int, scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    outcomes = store(scp(status), objects)
    assert list(outcomes) == objects
    assert {(o.verdict, o.status) for o in outcomes.values()} == {(Verdict.NEVER, status)}
    assert all(f"0x{status:04X}" in outcome.text for outcome in outcomes.values())


def test_a_librarys_thread_that_rests_late_takes_no_answer(
    scp: Callable[..., PacsAddress],
) -> None:
    """pynetdicom's thread, paused for a request, looks for messages once more."""
    kind = ALL_KINDS[0]
    with associate(scp(), [kind]) as association:
        association._reactor_checkpoint.clear()
        while not association._is_paused:
            time.sleep(0.001)
        association.dimse.msg_queue.put((1, "answer"))
        assert association.dimse.get_msg(block=False) == (None, None)
        assert association.dimse.get_msg(block=True) == (1, "answer")
        association._reactor_checkpoint.set()


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0107, 0x0111])
def test_warning_is_success_with_a_note(
    status: int,
    scp: Callable[..., PacsAddress],
    objects: list[Path],
) -> None:
    (outcome,) = store(scp(status), objects[:1]).values()
    assert (outcome.verdict, outcome.status) == (Verdict.WARNED, status)


def with_pixels(path: Path) -> InstanceRef:
    """Write an object whose explicit and implicit encodings differ: sequence, private, pixels."""
    ref = made_object(path)
    dataset = dcmread(path)
    dataset.PatientName = "Yamada^Tarou=山田^太郎"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ContentSequence = [Dataset()]
    dataset.ContentSequence[0].TextValue = "of an item"
    dataset.private_block(0x0043, "TANDEM", create=True).add_new(1, "LO", "private")
    dataset.Rows = dataset.Columns = 1024
    dataset.BitsAllocated = 16
    dataset.PixelRepresentation = 0
    dataset.PixelData = bytes(range(256)) * 8192
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
    return ref


def test_a_pacs_that_takes_implicit_vr_alone(
    scp: Callable[..., PacsAddress], tmp_path: Path
) -> None:
    got: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        assert event.context.transfer_syntax == ImplicitVRLittleEndian
        got.append(event.dataset)
        return 0

    paths = [tmp_path / "pixels.dcm", tmp_path / "none.dcm"]
    with_pixels(paths[0])
    made_object(paths[1])
    implicit = (str(SegmentationStorage), str(ImplicitVRLittleEndian))
    address = scp(kinds=[implicit], on_store=keep)
    assert {o.verdict for o in store(address, paths).values()} == {Verdict.STORED}
    for path, dataset in zip(paths, got, strict=True):
        sent = dcmread(path)
        private = sent.private_block(0x0043, "TANDEM") if path is paths[0] else None
        if private is not None:  # its VR is not known any more
            assert dataset[private.get_tag(1)].value == b"private "
            del sent[private.get_tag(1)], dataset[private.get_tag(1)]
        del sent[0x00420011], dataset[0x00420011]  # padded to OB or UN by length alone
        assert dataset == sent
    taken = probe(address, ALL_KINDS)
    assert [taken[kind] for kind in ALL_KINDS] == [None, implicit, None]


@contextmanager
def dcmtk(name: str, *arguments: str) -> Iterator[None]:
    """Run a server of dcmtk."""
    with subprocess.Popen([require_judge(name), *arguments]) as server:
        try:
            yield
        finally:
            server.terminate()


def wait_for(address: PacsAddress) -> None:
    """Wait until an archive answers."""
    for _ in range(600):
        with suppress(PacsUnavailableError):
            echo(address)
            return
        time.sleep(0.1)


@pytest.mark.judge
def test_dcmtks_storescp_takes_implicit_vr_alone(tmp_path: Path) -> None:
    path, kept, port = tmp_path / "one.dcm", tmp_path / "kept", free_port()
    ref = with_pixels(path)
    kept.mkdir()
    with dcmtk("storescp", "+xi", "-od", str(kept), "-aet", "STORESCP", str(port)):
        address = PacsAddress(host="127.0.0.1", port=port, called_aet="STORESCP", timeout_s=300)
        wait_for(address)
        (outcome,) = store(address, [path]).values()
    assert outcome.verdict is Verdict.STORED
    (file,) = kept.iterdir()
    received = dcmread(file)
    assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert received.SOPInstanceUID == ref.sop_instance_uid
    assert received.PixelData == dcmread(path).PixelData


@pytest.mark.judge
def test_dcmtks_archive_takes_implicit_vr_and_proves(tmp_path: Path) -> None:
    path, kept, port = tmp_path / "one.dcm", tmp_path / "kept", free_port()
    ref = with_pixels(path)
    absent = replace(ref, sop_instance_uid="2.25.404")
    kept.mkdir()
    config = tmp_path / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {kept} RW (100, 1024mb) ANY\nAETable END\n"
    )
    with dcmtk("dcmqrscp", "+xi", "-c", str(config)):
        address = PacsAddress(host="127.0.0.1", port=port, called_aet="ARCHIVE", timeout_s=300)
        wait_for(address)
        (outcome,) = store(address, [path]).values()
        assert outcome.verdict is Verdict.STORED
        expected = {ref.sop_instance_uid: True, "2.25.404": False}
        assert find_instances(address, [ref, absent]) == expected


FIND: Kind = (str(StudyRootQueryRetrieveInformationModelFind), str(ImplicitVRLittleEndian))


@pytest.mark.parametrize("trouble", [0x0110, 0xC001, "abort"])
def test_an_instance_whose_own_query_fails_is_no_trouble_of_the_archive(
    trouble: int | str, scp: Callable[..., PacsAddress], tmp_path: Path
) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(3)]

    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.SOPInstanceUID == refs[1].sop_instance_uid:
            if isinstance(trouble, str):
                event.assoc.abort()
            yield trouble if isinstance(trouble, int) else 0x0110, None
        elif event.identifier.SOPInstanceUID != "2.25.1":
            yield 0xFF00, event.identifier

    address = scp(kinds=[FIND], handlers=[(evt.EVT_C_FIND, answer)])
    first, odd, last = find_instances(address, refs).values()
    assert first is last is True and isinstance(odd, str)
    (odd,) = find_instances(address, refs[1:2]).values()  # the others are proven by then
    assert isinstance(odd, str)


def test_adjacent_instances_whose_queries_end_the_connection_are_no_trouble_of_the_archive(
    scp: Callable[..., PacsAddress], tmp_path: Path
) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(4)]
    damaged = {ref.sop_instance_uid for ref in refs[1:3]}
    sound: list[str] = ["2.25.1"]

    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        uid = event.identifier.SOPInstanceUID
        if uid in damaged or (uid == "2.25.1" and not sound):
            event.assoc.abort()
        if uid != "2.25.1":
            yield 0xFF00, event.identifier

    address = scp(kinds=[FIND], handlers=[(evt.EVT_C_FIND, answer)])
    said = list(find_instances(address, refs).values())
    assert said[0] is said[3] is True and {type(each) for each in said[1:3]} == {Failed}
    sound.clear()  # no query is answered any more
    with pytest.raises(PacsUnavailableError):
        find_instances(address, refs)


def test_an_answer_that_is_damaged_beside_its_uid_counts() -> None:
    item = Dataset()
    item.SOPInstanceUID, item.StudyInstanceUID = "2.25.7", "2.25.8"
    tag = Tag("InstanceAvailability")
    item[tag] = RawDataElement(tag, "US", 3, b"abc", 0, False, True)
    assert _answer(item, "2.25.7") == ("2.25.8", True)
    tag = Tag("SOPInstanceUID")
    item[tag] = RawDataElement(tag, "US", 3, b"abc", 0, False, True)
    assert _answer(item, "2.25.7") is None


@pytest.mark.parametrize(
    ("way", "said"),
    [("takes", Found.ELSEWHERE), ("refuses", False), ("aborts", False), ("gives all", False)],
)
def test_an_instance_in_another_study_is_found_there(
    way: str, said: Said, scp: Callable[..., PacsAddress], tmp_path: Path
) -> None:
    ref = made_object(tmp_path / "one.dcm")
    given = []

    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.StudyInstanceUID:  # it moved the object into another one
            yield 0x0000, None
        elif way == "takes":
            moved = event.identifier
            moved.StudyInstanceUID = "2.25.9"
            yield 0xFF00, moved
        elif way == "gives all":
            other = event.identifier
            other.SOPInstanceUID = "2.25.8"
            while event.assoc.is_established:
                given.append(other)
                yield 0xFF00, other
        else:
            if way == "aborts":
                event.assoc.abort()
            yield 0xA900, None

    address = scp(kinds=[FIND], handlers=[(evt.EVT_C_FIND, answer)])
    assert find_instances(address, [ref]) == {ref.sop_instance_uid: said}
    assert bool(given) == (way == "gives all")


def test_a_query_that_is_answered_for_ever_ends(
    scp: Callable[..., PacsAddress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = made_object(tmp_path / "one.dcm")

    def answer_on(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        while event.assoc.is_established:
            time.sleep(0.05)
            yield 0xFF00, event.identifier

    address = scp(kinds=[FIND], handlers=[(evt.EVT_C_FIND, answer_on)])
    monkeypatch.setattr("dicom.deadline.TIMEOUTS", 0.2)  # the whole exchange: 4 s
    with pytest.raises(PacsUnavailableError, match=r"did not answer in time.*timeout_seconds"):
        find_instances(replace(address, timeout_s=20), [ref])


def test_an_archive_is_not_asked_for_availability_and_what_it_states_of_it_counts(
    scp: Callable[..., PacsAddress], tmp_path: Path
) -> None:
    ref = made_object(tmp_path / "one.dcm")
    said: list[str | None] = []
    asked: list[bool] = []

    def answer(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        asked.append("InstanceAvailability" in event.identifier)
        for availability in said:
            item = event.identifier
            item.InstanceAvailability = availability
            yield 0xFF00, item

    model = (StudyRootQueryRetrieveInformationModelFind, ImplicitVRLittleEndian)
    address = scp(kinds=[model], handlers=[(evt.EVT_C_FIND, answer)])
    for answers, found in (
        (["UNAVAILABLE"], NOT_AVAILABLE),
        (["UNAVAILABLE", "NEARLINE"], True),
        ([None], True),
        ([], False),
    ):
        said[:] = answers
        assert find_instances(address, [ref]) == {ref.sop_instance_uid: found}
    assert not any(asked)


def test_an_answer_of_a_byte_a_time_ends() -> None:
    with dripping(b"\x02\x00\x00\x00\x10\x00" + bytes(1000)) as port:
        address = PacsAddress(host="127.0.0.1", port=port, called_aet="X", timeout_s=0.2)
        with pytest.raises(PacsUnavailableError):
            echo(address)


def test_class_that_a_pacs_does_not_know_is_permanent_for_that_class(
    scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    """The others are stored; the class is named for the person who must allow it."""
    address = scp(kinds=[ALL_KINDS[0], ALL_KINDS[2]])
    outcomes = store(address, objects)
    refused = {path for path, outcome in outcomes.items() if outcome.verdict is Verdict.NEVER}
    assert refused == {p for p in objects if ref_of(p).sop_class_uid == SegmentationStorage}
    assert refused and all("Segmentation Storage" in outcomes[path].text for path in refused)
    assert {outcomes[p].verdict for p in objects if p not in refused} == {Verdict.STORED}
    taken = probe(address, ALL_KINDS)
    assert taken == dict(zip(ALL_KINDS, (ALL_KINDS[0], None, ALL_KINDS[2]), strict=True))


def test_nothing_in_common_is_permanent(
    scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    address = scp(kinds=[(CTImageStorage, ExplicitVRLittleEndian)])
    outcomes = store(address, objects)
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.NEVER}
    assert all("takes none of" in outcome.text for outcome in outcomes.values())
    with pytest.raises(ClassesRejectedError, match="takes none of"):
        find_instances(address, [ref_of(objects[0])])
    assert set(probe(address, ALL_KINDS).values()) == {None}


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


def test_a_rejection_for_a_limit_of_its_own_is_transient() -> None:
    """Source 3 of A-ASSOCIATE-RJ: congestion, or a local limit, here said to be permanent."""
    with dripping(b"\x03\0\0\0\0\x04\0\x01\x03\x02", each_s=0) as port:
        address = PacsAddress(host="127.0.0.1", port=port, called_aet="X", timeout_s=300)
        with pytest.raises(PacsUnavailableError, match="too busy"):
            echo(address)


def test_nobody_there_is_transient() -> None:
    address = PacsAddress(host="127.0.0.1", port=free_port(), called_aet="X", timeout_s=300)
    with pytest.raises(PacsUnavailableError, match="cannot be reached: Connection refused"):
        echo(address)


def hanging_up_on(scp: Callable[..., PacsAddress], *unlucky: Path) -> PacsAddress:
    uids = {ref_of(path).sop_instance_uid for path in unlucky}

    def hang_up(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID in uids:
            event.assoc.abort()
        return 0

    return scp(on_store=hang_up)


def test_a_line_lost_amid_one_object_is_that_objects_trouble(
    scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    outcomes = store(hanging_up_on(scp, objects[1]), objects)
    later = [path for path, outcome in outcomes.items() if outcome.verdict is Verdict.LATER]
    assert list(outcomes) == objects and later == [objects[1]]


def test_lines_lost_in_a_row_are_the_pacs_trouble(
    scp: Callable[..., PacsAddress], objects: list[Path]
) -> None:
    outcomes: dict[Path, Outcome] = {}
    begun: list[Path] = []
    with pytest.raises(PacsUnavailableError, match="2 times in a row"):
        pacs.store(
            hanging_up_on(scp, *objects),
            objects,
            before=begun.append,
            after=outcomes.__setitem__,
        )
    assert begun == list(outcomes) == objects[:2]


def test_a_file_that_is_gone_stands_in_nobodys_way(
    scp: Callable[..., PacsAddress], objects: list[Path], tmp_path: Path
) -> None:
    gone, other = tmp_path / "gone.dcm", tmp_path / "other.dcm"
    other.write_bytes(b"no DICOM")
    outcomes = store(scp(), [gone, other, *objects])
    assert outcomes.pop(gone).verdict is Verdict.LATER  # perhaps a share is away
    assert outcomes.pop(other).verdict is Verdict.NEVER
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.STORED}


@pytest.mark.parametrize(
    "name", ["MediaStorageSOPClassUID", "TransferSyntaxUID", "MediaStorageSOPInstanceUID"]
)
def test_a_file_whose_header_lacks_what_is_negotiated_stands_in_nobodys_way(
    name: str, scp: Callable[..., PacsAddress], objects: list[Path], tmp_path: Path
) -> None:
    dataset, other = dcmread(objects[0]), tmp_path / "other.dcm"
    del dataset.file_meta[name]
    with other.open("wb") as stream:
        stream.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(stream, dataset.file_meta, enforce_standard=False)
    outcomes = store(scp(), [other, *objects])
    refused = outcomes.pop(other)
    assert refused.verdict is Verdict.NEVER and "lacks class, instance" in refused.text
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.STORED}


def test_more_kinds_than_an_association_holds(
    scp: Callable[..., PacsAddress], objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs, "MAX_CONTEXTS", 1)
    assert list(store(scp(), objects)) == objects


def test_a_capped_line_takes_its_time(scp: Callable[..., PacsAddress], tmp_path: Path) -> None:
    """The clock of the answer starts when the object has gone, not when it was read from disk."""
    big = tmp_path / "big.dcm"
    made_object(big, size_bytes=2**21)
    started = time.monotonic()
    (outcome,) = store(replace(scp(), mib_s=0.5, timeout_s=3.5), [big]).values()
    assert outcome.verdict is Verdict.STORED
    assert time.monotonic() - started > 3.5
    # A slide of some GB is never read into memory.
    assert _config.STORE_SEND_CHUNKED_DATASET
