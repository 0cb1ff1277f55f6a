"""Storage commitment: with and without TLS, and the interpretation of its answers."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.certificates import Certificates, make_certificates
from fixtures.instances import made_object
from fixtures.orthanc import free_port
from fixtures.peer import Peer

from appliance.delivery.destinations.contract import Instance, Proof
from appliance.delivery.destinations.dimse import Pacs
from appliance.settings.destinations import PacsDestination
from dicom import pacs
from dicom.association import PacsAddress
from dicom.commitment import Commitment
from dicom.errors import ClassesRejectedError, PacsUnavailableError
from dicom.listening import MOST_PDU_BYTES, PLACES, _Connection, words_of
from dicom.status import InstanceRef
from dicom.tls import TlsFiles


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a report as long as a busy machine needs; a short timeout limits it still."""
    monkeypatch.setattr("dicom.commitment.REPORT_WAIT_S", 300)


@pytest.fixture
def peer_of(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    started = []

    def start(**options: object) -> Peer:
        peer = Peer(tmp_path / "peer", **options).start()  # type: ignore[arg-type]
        peer.address = replace(peer.address, timeout_s=300)
        started.append(peer)
        return peer

    yield start
    for peer in started:
        peer.stop()
    # pynetdicom leaves the sockets of failed handshakes to the collector: here, not in other tests.
    gc.collect()


def send(peer: Peer, folder: Path, *names: str) -> list[InstanceRef]:
    refs = [made_object(folder / name) for name in names]
    pacs.store(
        peer.address,
        [folder / name for name in names],
        before=lambda _path: None,
        after=lambda _path, _outcome: None,
    )
    return refs


def ask_once(address: PacsAddress, ref: InstanceRef) -> dict[str, bool | str]:
    commitment = Commitment(address, free_port(), "127.0.0.1")
    try:
        return commitment.ask([ref])
    finally:
        commitment.close()


def test_a_pacs_commits_itself_to_what_it_has(peer_of: Callable[..., Peer], tmp_path: Path) -> None:
    port = free_port()
    peer = peer_of(report_to=port)
    peer.faults = [None, "lose"]
    kept, lost = send(peer, tmp_path, "kept", "lost")
    commitment = Commitment(peer.address, port, "127.0.0.1")
    try:
        said = commitment.ask([kept, lost])
        assert said == {kept.sop_instance_uid: True, lost.sop_instance_uid: False}
        assert commitment.ask([kept]) == {kept.sop_instance_uid: True}
        peer.reason = 0x0119
        text = str(commitment.ask([lost])[lost.sop_instance_uid])
        assert "does not commit itself" in text and "another SOP class" in text
        peer.silent = True
        hasty = replace(peer.address, timeout_s=2.0)
        assert ask_once(hasty, kept) == {}
    finally:
        commitment.close()


def test_a_report_that_is_slower_than_the_next_question_counts(
    peer_of: Callable[..., Peer], tmp_path: Path
) -> None:
    port = free_port()
    peer = peer_of(report_to=port)
    peer.silent, peer.faults = True, [None, "lose"]
    kept, lost = send(peer, tmp_path, "kept", "lost")
    commitment = Commitment(replace(peer.address, timeout_s=2.0), port, "127.0.0.1")
    try:
        for _ in range(3):
            assert commitment.ask([kept, lost]) == {}
        peer.report_late(0)
        # The PACS may have got since what it lacked at the first question.
        assert commitment.ask([kept, lost]) == {kept.sop_instance_uid: True}
        peer.report_late(-1)
        assert commitment.ask([lost]) == {lost.sop_instance_uid: False}
        # An object that is sent again is asked for anew.
        assert commitment.ask([kept]) == {}
        commitment.forget(kept.sop_instance_uid)
        peer.report_late(-1)
        assert commitment.ask([kept]) == {}
    finally:
        commitment.close()


def test_a_report_that_is_odd_or_comes_twice_is_read_to_its_end(
    peer_of: Callable[..., Peer], tmp_path: Path
) -> None:
    port = free_port()
    peer = peer_of(report_to=port)
    peer.silent = True
    refs = send(peer, tmp_path, "one", "two", "three")
    commitment = Commitment(replace(peer.address, timeout_s=2.0), port, "127.0.0.1")
    try:
        assert commitment.ask(refs) == {}
        items = peer.promised[0].ReferencedSOPSequence
        items.insert(0, items[0])  # an archive may name an instance twice
        peer.report_late(0)
        uids = [ref.sop_instance_uid for ref in refs]
        assert commitment.ask(refs) == dict.fromkeys(uids, True)
        peer.report_late(0)  # our answer to it was lost
        assert peer.answers == [0, 0]
        assert commitment.ask(refs) == {}  # asked anew: what came twice is of no question
        peer.folder = tmp_path / "empty"
        peer.reason = None  # type: ignore[assignment]  a reason without a value
        peer.report_late(1)
        said = commitment.ask(refs)
        assert all("does not commit itself" in str(said[uid]) for uid in uids)
    finally:
        commitment.close()


def test_what_another_way_proves_is_not_remembered(
    peer_of: Callable[..., Peer], tmp_path: Path
) -> None:
    """A PACS that takes questions and never reports on them would fill the memory."""
    port = free_port()
    peer = peer_of(report_to=port)
    peer.silent, peer.faults = True, [None, "lose"]
    refs = send(peer, tmp_path, "kept", "lost")
    archive = Pacs(
        PacsDestination(
            kind="dicom",
            host="127.0.0.1",
            port=peer.port,
            called_aet="PEER",
            commitment_port=port,
            commitment_host="127.0.0.1",
            timeout_seconds=2,
        )
    )
    try:
        asked = [Instance(path=tmp_path / "kept", ref=ref) for ref in refs]
        kept, lost = archive.prove(asked).values()
        assert (kept.proof, lost.proof) == (Proof.THERE, Proof.ABSENT)
        assert archive._commitment is not None
        assert list(archive._commitment._asked) == [refs[1].sop_instance_uid]
        peer.report_late(0)
        assert peer.answers == [0]  # though nothing of it is waited for
    finally:
        archive.close()


@pytest.mark.parametrize("certified", [True, False])
def test_the_check_says_where_no_report_can_come(
    certified: bool, peer_of: Callable[..., Peer], certificates: Certificates
) -> None:
    # The PACS asks for no certificate when it is called; our port does, of it and of us.
    peer, mine = peer_of(report_to=free_port()), certificates.files("client")
    archive = Pacs(
        PacsDestination(
            kind="dicom",
            host="127.0.0.1",
            port=peer.port,
            called_aet="PEER",
            tls=True,
            ca_file=mine.ca,
            certificate=mine.certificate if certified else None,
            key=mine.key if certified else None,
            commitment_port=free_port(),
        )
    )
    assert ("set certificate and key" in archive._deaf()) != certified


def test_without_the_service_the_class_is_rejected(
    peer_of: Callable[..., Peer], tmp_path: Path
) -> None:
    peer = peer_of()
    commitment = Commitment(peer.address, free_port(), "127.0.0.1")
    with pytest.raises(ClassesRejectedError, match="Storage Commitment"):
        commitment.ask(send(peer, tmp_path, "one"))
    commitment.close()


def test_mutual_tls_both_ways(
    peer_of: Callable[..., Peer], certificates: Certificates, tmp_path: Path
) -> None:
    port = free_port()
    peer = peer_of(report_to=port, tls=certificates.files("server"))
    peer.address = replace(peer.address, tls=certificates.files("client"))
    (ref,) = send(peer, tmp_path, "one")
    assert peer.has(ref.sop_instance_uid)
    # Our port, too, is for those with a certificate; the peer checks that it is Tandem's.
    commitment = Commitment(peer.address, port, "127.0.0.1")
    try:
        assert commitment.ask([ref]) == {ref.sop_instance_uid: True}
    finally:
        commitment.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("own", "theirs", "reason"),
    [
        (False, "ca", "NO_SHARED_CIPHER"),
        (True, "", "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        (True, "stranger", "ALERT_UNKNOWN_CA): the PACS refuses Tandem's certificate"),
        (
            True,
            "other",
            "CERTIFICATE_VERIFY_FAILED): the certificate of the PACS is not ",
        ),
        (True, "old", "UNSUPPORTED_PROTOCOL): the PACS needs TLS 1.2"),
    ],
)
def test_a_handshake_that_fails_at_our_port_is_logged_once(
    own: bool,
    theirs: str,
    reason: str,
    peer_of: Callable[..., Peer],
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, tell = [], _Connection._tell

    def counted(connection: _Connection, err: OSError) -> None:
        tell(connection, err)
        told.append(err)

    def wait_for(number: int) -> None:
        end = time.monotonic() + 120
        while len(told) < number and time.monotonic() < end:
            time.sleep(0.01)
        assert len(told) == number

    monkeypatch.setattr(_Connection, "_tell", counted)
    port, files = free_port(), certificates.files("server")
    mine = certificates.files("client")
    commitment = Commitment(
        replace(
            peer_of(report_to=port, tls=files).address,
            tls=mine if own else replace(mine, certificate=None, key=None),
        ),
        port,
        "127.0.0.1",
    )
    shown = files if theirs else replace(files, certificate=None, key=None)
    if theirs == "stranger":
        shown = replace(files, ca=certificates.folder / "stranger.pem")
    if theirs == "other":
        folder = certificates.folder
        shown = TlsFiles(
            ca=files.ca, certificate=folder / "stranger.pem", key=folder / "stranger.key"
        )
    commitment._listen()
    try:
        for scan in (b"GET / HTTP/1.0\r\n\r\n", bytes(16)):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 300) as line:
                line.sendall(scan)
                line.recv(1)
        wait_for(2)
        assert "failed (" not in caplog.text
        context = shown.client()
        if theirs == "old":
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        for source in ("127.0.0.2", "127.0.0.1", "127.0.0.1"):  # a stranger first
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", port), 300, (source, 0)) as line,
                context.wrap_socket(line, server_hostname="tandem") as secured,
            ):
                secured.recv(1)
        wait_for(5)
    finally:
        commitment.close()
    for source in ("127.0.0.1", "127.0.0.2"):
        told = f"connection from {source} to commitment_port failed ("
        assert caplog.text.count(told) == 1
    assert caplog.text.count(reason) == 2


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "Tandem's certificate has expired"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "the PACS refuses Tandem's certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "the PACS needs TLS 1.2"),
        ("TLSV1_ALERT_INTERNAL_ERROR", ""),
    ],
)
def test_the_reason_of_a_failed_handshake_has_its_own_words(reason: str, words: str) -> None:
    err = ssl.SSLError(1, "x")
    err.reason = reason
    assert words in words_of(err) and bool(words_of(err)) == bool(words)


def stranger(port: int, announced: int | None, address: str = "127.0.0.2") -> socket.socket:
    """Connect as another machine, and announce a request of a length."""
    line = socket.create_connection(("127.0.0.1", port), 300, source_address=(address, 0))
    if announced is not None:
        line.sendall(struct.pack(">BBL", 1, 0, announced))
    return line


@pytest.fixture
def opened(peer_of: Callable[..., Peer]) -> Iterator[tuple[Commitment, int]]:
    """Commitment whose port is open, with its port."""
    port = free_port()
    peer = peer_of(report_to=port)
    commitment = Commitment(replace(peer.address, timeout_s=2.0), port, "127.0.0.1")
    commitment._listen()
    yield commitment, port
    commitment.close()


def test_a_request_of_a_stranger_that_is_too_long_is_not_collected(
    opened: tuple[Commitment, int],
) -> None:
    with stranger(opened[1], MOST_PDU_BYTES + 1) as line, pytest.raises(ConnectionError):
        began = time.monotonic()
        while time.monotonic() < began + 300:
            line.sendall(bytes(2**20))
    # One that is short enough is cut off when its time is over, whatever it still sends.
    with stranger(opened[1], MOST_PDU_BYTES) as line, pytest.raises(ConnectionError):
        began = time.monotonic()
        while time.monotonic() < began + 300:
            line.sendall(b"\0")
            time.sleep(0.1)


@pytest.mark.parametrize("announced", [2**16, None])
def test_strangers_do_not_take_the_places_of_the_pacs(
    announced: int | None,
    peer_of: Callable[..., Peer],
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    port = free_port()
    files = None if announced else certificates.files("server")
    peer = peer_of(report_to=port, tls=files)
    if files is not None:
        peer.address = replace(peer.address, tls=certificates.files("client"))
    first, second = send(peer, tmp_path, "first", "second")
    commitment = Commitment(peer.address, port, "127.0.0.1")
    try:
        assert commitment.ask([first]) == {first.sop_instance_uid: True}
        with ExitStack() as lines:
            for _ in range(PLACES + 2):
                lines.enter_context(stranger(port, announced))
            # TLS: these have not even begun a handshake.
            assert commitment.ask([second]) == {second.sop_instance_uid: True}
    finally:
        commitment.close()


@pytest.mark.parametrize(
    ("server", "client", "message"),
    [
        ("elsewhere", "client", "IP address mismatch"),
        ("stranger", "client", "self-signed|unable to get|not be trusted|verify failed"),
        ("server", "stranger", "cannot be reached|closed|lost"),
    ],
)
def test_tls_with_the_wrong_other_side_is_no_connection(
    server: str,
    client: str,
    message: str,
    peer_of: Callable[..., Peer],
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = peer_of(tls=certificates.files(server))
    address = replace(peer.address, tls=certificates.files(client), timeout_s=60)
    with pytest.raises(PacsUnavailableError, match=message):
        pacs.echo(address)


def test_files_of_tls_are_named_when_they_are_not_there(
    certificates: Certificates, tmp_path: Path
) -> None:
    files = replace(certificates.files("client"), key=tmp_path / "gone.key")
    with pytest.raises(PacsUnavailableError, match=r"gone\.key.*Check ca_file"):
        files.client()
