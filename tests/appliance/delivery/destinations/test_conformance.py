"""Every kind of destination keeps the contract: one factory a kind, the same checks for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fixtures.toy_destination  # noqa: F401  registers the kind
import pytest
import requests
from fixtures.conformance import CHECKS, Factory, Place, loses, three_objects
from fixtures.instances import made_object
from fixtures.lis import FhirServer, MllpServer
from fixtures.orthanc import Orthanc, free_port
from fixtures.peer import Peer
from fixtures.reports import written_report
from fixtures.toy_destination import ShelfDestination
from pynetdicom.sop_class import ParametricMapStorage

from appliance.delivery.destinations.contract import Instance
from appliance.settings.destinations import (
    DicomWebDestination,
    FhirDestination,
    FolderDestination,
    Hl7Destination,
    PacsDestination,
)
from appliance.settings.settings import Settings
from dicom.directory import file_id
from dicom.kinds import SENT_KINDS

Results = tuple[list[Instance], Instance]
"""Reports that a laboratory's system takes, and an object that it refuses."""


def _away(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Unmount and mount a folder: rename it, and rename it back."""
    elsewhere = folder.with_name("unmounted")
    return lambda: folder.rename(elsewhere), lambda: elsewhere.rename(folder)


@contextmanager
def folder(tmp_path: Path) -> Iterator[Place]:
    """Folder archive. A folder takes any file, and refuses only an object whose UID is none."""
    archive = tmp_path / "archive"
    archive.mkdir()
    section = FolderDestination(folder=archive)
    objects = three_objects(tmp_path / "objects")
    leave, come_back = _away(archive)
    nameless = replace(made_object(tmp_path / "nameless.dcm"), sop_instance_uid="../1")
    yield Place(
        settings=Settings(state_dir=tmp_path / "state", destinations=(section,)),
        section=section,
        instances=objects,
        refused=Instance(path=tmp_path / "nameless.dcm", ref=nameless),
        refused_because="has no valid UID",
        leave=leave,
        come_back=come_back,
        lose=lambda lost: (
            archive / lost.ref.study_uid / f"{lost.ref.sop_instance_uid}.dcm"
        ).unlink(),
    )


@contextmanager
def dicomdir(tmp_path: Path) -> Iterator[Place]:
    """Folder archive with DICOMDIRs. It refuses an object whose place another object has."""
    with folder(tmp_path) as plain:
        section = FolderDestination(folder=tmp_path / "archive", dicomdir=True)

        def place_of(instance: Instance) -> Path:
            ref = instance.ref
            names = file_id(ref.series_uid, ref.sop_instance_uid)
            return (tmp_path / "archive" / ref.study_uid).joinpath(*names)

        made_object(tmp_path / "late.dcm", study="late")
        late = Instance(
            path=tmp_path / "late.dcm", ref=made_object(tmp_path / "late.dcm", study="late")
        )
        place_of(late).parent.mkdir(parents=True)
        made_object(place_of(late), study="another")
        yield replace(
            plain,
            settings=Settings(state_dir=tmp_path / "state", destinations=(section,)),
            section=section,
            refused=late,
            refused_because="has another object at",
            lose=lambda lost: place_of(lost).unlink(),
        )


def _pacs(tmp_path: Path, **commitment: Any) -> Iterator[Place]:
    """Embedded PACS that negotiates no Parametric Maps, and no query where it commits."""
    kinds = tuple(kind for kind in SENT_KINDS if kind[0] != ParametricMapStorage)
    port = commitment.get("commitment_port")
    peer = Peer(tmp_path / "peer", kinds=kinds, query=port is None, report_to=port).start()
    section = PacsDestination(
        kind="dicom",
        host="127.0.0.1",
        port=peer.port,
        called_aet="PEER",
        timeout_seconds=300,
        objects=("SEG", "SR"),
        **commitment,
    )
    refused = made_object(tmp_path / "map.dcm", sop_class=ParametricMapStorage)
    try:
        yield Place(
            settings=Settings(state_dir=tmp_path / "state", destinations=(section,)),
            section=section,
            instances=three_objects(tmp_path / "objects"),
            refused=Instance(path=tmp_path / "map.dcm", ref=refused),
            refused_because="takes no Parametric Map Storage",
            leave=peer.stop,
            come_back=lambda: _do(peer.start),
            lose=lambda lost: (peer.folder / f"{lost.ref.sop_instance_uid}.dcm").unlink(),
        )
    finally:
        peer.stop()


def _do(call: Callable[[], object]) -> None:
    call()


@contextmanager
def dimse(tmp_path: Path) -> Iterator[Place]:
    """PACS over DIMSE, proven by C-FIND."""
    yield from _pacs(tmp_path)


@contextmanager
def dimse_with_commitment(tmp_path: Path) -> Iterator[Place]:
    """PACS over DIMSE, proven by storage commitment."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dicom.commitment.REPORT_WAIT_S", 300)  # a busy machine reports late
        yield from _pacs(tmp_path, commitment_port=free_port(), commitment_host="127.0.0.1")


@contextmanager
def dicomweb(tmp_path: Path) -> Iterator[Place]:
    """Orthanc over DICOMweb. It refuses a file that is no DICOM."""
    server = Orthanc(tmp_path / "orthanc").start()
    section = DicomWebDestination(kind="dicomweb", url=server.dicomweb_url, timeout_seconds=300)
    broken = made_object(tmp_path / "broken.dcm")
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")

    def lose(lost: Instance) -> None:
        base = f"http://127.0.0.1:{server.http_port}"
        (found,) = requests.post(
            f"{base}/tools/lookup", data=lost.ref.sop_instance_uid, timeout=300
        ).json()
        requests.delete(f"{base}{found['Path']}", timeout=300).raise_for_status()

    try:
        yield Place(
            settings=Settings(state_dir=tmp_path / "state", destinations=(section,)),
            section=section,
            instances=three_objects(tmp_path / "objects"),
            refused=Instance(path=tmp_path / "broken.dcm", ref=broken),
            refused_because="refused it",
            leave=server.stop,
            come_back=lambda: _do(server.start),
            lose=lose,
        )
    finally:
        server.stop()


@contextmanager
def shelf(tmp_path: Path) -> Iterator[Place]:
    """Toy kind of an extension. It refuses a file that is no DICOM."""
    board = tmp_path / "board"
    board.mkdir()
    section = ShelfDestination(kind="shelf", board=board)
    leave, come_back = _away(board)
    broken = made_object(tmp_path / "broken.dcm")
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    yield Place(
        settings=Settings(state_dir=tmp_path / "state", destinations=(section,)),
        section=section,
        instances=three_objects(tmp_path / "objects"),
        refused=Instance(path=tmp_path / "broken.dcm", ref=broken),
        refused_because="is no DICOM file",
        leave=leave,
        come_back=come_back,
        lose=lambda lost: (board / lost.ref.sop_instance_uid).unlink(),
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three reports of three blocks, and an object that is no report."""
    folder = tmp_path_factory.mktemp("reports")
    reports = [written_report(folder / f"{block}.dcm", block=block) for block in ("A1", "A2", "B")]
    return reports, Instance(path=folder / "seg.dcm", ref=made_object(folder / "seg.dcm"))


@contextmanager
def hl7(tmp_path: Path, results: Results) -> Iterator[Place]:
    """Laboratory's system over MLLP. It refuses what is no report; what it loses nobody can ask."""
    server = MllpServer().start()
    section = Hl7Destination(kind="hl7", host="127.0.0.1", port=server.port, timeout_seconds=300)
    reports, refused = results
    try:
        yield Place(
            settings=Settings(state_dir=tmp_path / "state", destinations=(section,)),
            section=section,
            instances=reports,
            refused=refused,
            refused_because="is no structured report",
            leave=server.stop,
            come_back=lambda: _do(server.start),
            lose=lambda _: pytest.fail("HL7 has no question for what is there"),
        )
    finally:
        server.stop()


@contextmanager
def fhir(tmp_path: Path, results: Results) -> Iterator[Place]:
    """Laboratory's system over FHIR. It refuses what is no report."""
    servers = [FhirServer(free_port()).start()]  # it is given up, and taken again
    section = FhirDestination(kind="fhir", url=servers[0].url, timeout_seconds=300)
    reports, refused = results
    kept = servers[0].resources["DiagnosticReport"]

    def come_back() -> None:
        servers.append(FhirServer(servers[0].server_address[1]).start())
        servers[-1].resources = servers[0].resources

    def lose(lost: Instance) -> None:
        uid = f"urn:oid:{lost.ref.sop_instance_uid}"
        (number,) = (key for key, each in kept.items() if each["identifier"][1]["value"] == uid)
        del kept[number]

    try:
        yield Place(
            settings=Settings(state_dir=tmp_path / "state", destinations=(section,)),
            section=section,
            instances=reports,
            refused=refused,
            refused_because="is no structured report",
            leave=servers[0].stop,
            come_back=come_back,
            lose=lose,
        )
    finally:
        servers[-1].stop()


FACTORIES = (
    folder,
    dicomdir,
    dimse,
    dimse_with_commitment,
    pytest.param(dicomweb, marks=pytest.mark.judge),
    shelf,
)
WITHOUT_A_QUESTION = tuple(check for check in CHECKS if check is not loses)
"""Checks for kinds whose proof is the answer to the sending alone."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.__name__)
def test_a_kind_of_destination_keeps_the_contract(
    factory: Factory, check: Callable[[Place], None], tmp_path: Path
) -> None:
    with factory(tmp_path) as place:
        check(place)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_fhir_keeps_the_contract(
    check: Callable[[Place], None], tmp_path: Path, results: Results
) -> None:
    with fhir(tmp_path, results) as place:
        check(place)


@pytest.mark.parametrize("check", WITHOUT_A_QUESTION, ids=lambda check: check.__name__)
def test_a_kind_without_a_question_keeps_the_rest(
    check: Callable[[Place], None], tmp_path: Path, results: Results
) -> None:
    with hl7(tmp_path, results) as place:
        check(place)
