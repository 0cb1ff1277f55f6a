"""The audit trail: a TLS server of syslog takes what a hospital's repository would."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fixtures.certificates import Certificates, make_certificates
from fixtures.instances import made_object
from fixtures.orthanc import free_port
from fixtures.pairings import HER2_PAIR
from pydicom import dcmread

from appliance.domain import HER2, Identity
from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.tables import DeliveryRow, SlideRow, id_of
from appliance.ledger.transaction import NewDelivery
from appliance.line.auditing import Auditing
from appliance.operations.audit import AuditTrail
from appliance.operations.backup import restore_ledger
from appliance.operations.doctor import examine
from appliance.settings.audit import Audit
from appliance.settings.settings import Settings

NOW = 1_750_000_000.0
STUDY = "2.25.7"


class Repository:
    """Server of syslog over TLS that needs a certificate of the caller; keeps whole messages."""

    def __init__(self, certificates: Certificates, port: int, side: str = "server") -> None:
        self.messages: list[ElementTree.Element] = []
        self.heads: list[str] = []
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._context = certificates.files(side).server()
        self._connections: list[ssl.SSLSocket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                plain, _ = self._listener.accept()
                connection = self._context.wrap_socket(plain, server_side=True)
            except OSError:
                continue
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: ssl.SSLSocket) -> None:
        stream = connection.makefile("rb")
        try:
            # b"" is the end
            while size := b"".join(iter(lambda: stream.read(1) or b" ", b" ")):
                head, _, xml = stream.read(int(size)).decode().partition("\ufeff")
                self.heads.append(head)
                self.messages.append(ElementTree.fromstring(xml))  # noqa: S314  of our own
        except (OSError, ValueError, ElementTree.ParseError):
            pass  # cut off; ParseError is a SyntaxError

    def wait_for(self, number: int) -> list[ElementTree.Element]:
        end = time.monotonic() + 600
        while len(self.messages) < number and time.monotonic() < end:
            time.sleep(0.01)
        assert len(self.messages) == number
        return self.messages

    def stop(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):  # the other side may have ended it
                connection.shutdown(socket.SHUT_RDWR)  # its reader holds it open otherwise
        self._thread.join()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def audit(certificates: Certificates) -> Audit:
    files = certificates.files("client")
    return Audit(
        host="127.0.0.1",
        port=free_port(),
        source="lab 1",
        ca_file=files.ca,
        certificate=files.certificate,
        key=files.key,
        timeout_seconds=300,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    opened = Ledger(settings.ledger_url)
    yield opened
    opened.close()


def told(message: ElementTree.Element) -> dict[str, Any]:
    """Return what a message says, by the names of the standard."""
    event = message.find("EventIdentification")
    assert event is not None
    kind = event.find("EventTypeCode")
    return {
        "event": event.find("EventID").get("csd-code"),  # type: ignore[union-attr]
        "kind": None if kind is None else kind.get("csd-code"),
        "action": event.get("EventActionCode"),
        "outcome": event.get("EventOutcomeIndicator"),
        "users": [each.get("UserID") for each in message.iter("ActiveParticipant")],
        "objects": [
            (each.get("ParticipantObjectTypeCode"), each.get("ParticipantObjectID"))
            for each in message.iter("ParticipantObjectIdentification")
        ],
        "source": message.find("AuditSourceIdentification").get("AuditSourceID"),  # type: ignore[union-attr]
    }


def happen(ledger: Ledger) -> None:
    """Let people sign in, open and correct a case, and an object of it be delivered."""
    with ledger.transaction() as tx:
        case = tx.case_for(Identity(accession="S26-00031", block="A1", stain=HER2), NOW, HER2_PAIR)
        slide = tx.add_slide("/scans/S26-00031_A1_HER2.svs", NOW)
        slide.accession, slide.block, slide.stain = "S26-00031", "A1", "HER2"
        slide.patient = json.dumps({"patient_id": "4711"})
        tx.session.add(slide)
        name = {"name": "meyer", "address": "10.0.0.7"}
        tx.note("dashboard", "sign-in-failed", NOW, params=name, by="")
        tx.note("dashboard", "signed-in", NOW, params=name, by="Meyer^Anna")
        opened = {"case": case.subject}
        tx.note("dashboard", "case-opened", NOW, params=opened, by="Meyer^Anna")
        tx.note(case.subject, "confirmed", NOW, params={"score": "2+"}, by="Meyer^Anna")
        tx.note(case.subject, "stat-off", NOW, params={}, by="")
        new = NewDelivery(
            destination="pacs",
            kind="SR",
            path="a/sr.dcm",
            study_uid=STUDY,
            series_uid="2.25.8",
            sop_instance_uid="2.25.9",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        )
        tx.enqueue(id_of(case), new, NOW)
    with ledger.transaction() as tx:
        row = tx.session.get(DeliveryRow, 1)
        assert row is not None
        tx.advance(row, DeliveryState.SENT, now=NOW)
        tx.advance(row, DeliveryState.PROVEN, now=NOW)


def test_access_changes_and_transfers_are_told_once_over_a_restart_and_an_outage(
    settings: Settings, ledger: Ledger, audit: Audit, certificates: Certificates
) -> None:
    trail = AuditTrail(settings, audit)
    assert trail.tell() == 0  # begins with what comes after
    happen(ledger)
    assert trail.tell() == 0  # nobody is there
    trail.close()
    server = Repository(certificates, audit.port)
    trail = AuditTrail(settings, audit)
    assert trail.tell() == 5
    failed, signed, opened, confirmed, transferred = map(told, server.wait_for(5))
    assert (failed["event"], failed["kind"], failed["outcome"]) == ("110114", "110122", "4")
    assert failed["users"] == ["meyer"] and signed["users"] == ["Meyer^Anna"]
    assert (signed["kind"], signed["outcome"]) == ("110122", "0")
    assert (opened["event"], opened["action"]) == ("110110", "R")
    assert (confirmed["event"], confirmed["action"]) == ("110110", "U")
    assert opened["objects"] == confirmed["objects"] == [("1", "4711")]
    assert (transferred["event"], transferred["users"]) == ("110104", ["tandem", "pacs"])
    assert transferred["objects"] == [("2", STUDY), ("1", "4711")]
    assert {each["source"] for each in map(told, server.messages)} == {"lab 1"}
    assert all(head.startswith("<85>1 2025-06-15T") for head in server.heads)
    assert trail.tell() == 0
    # The repository restarts: the broken connection is seen, and the next event is told.
    server.stop()
    with ledger.transaction() as tx:
        tx.note("dashboard", "signed-out", NOW, params={"name": "meyer"}, by="Meyer^Anna")
    assert trail.tell() == 0
    again = Repository(certificates, audit.port)
    assert trail.tell() == 1
    assert told(again.wait_for(1)[0])["kind"] == "110123"
    trail.close()
    assert told(again.wait_for(2)[1])["kind"] == "110121"  # the program stops
    again.stop()


def test_a_transfer_names_the_patient_of_its_object(
    settings: Settings, ledger: Ledger, audit: Audit, certificates: Certificates
) -> None:
    trail = AuditTrail(settings, audit)
    assert trail.tell() == 0
    happen(ledger)
    file = settings.artifacts_dir / "objects" / "1" / "sr.dcm"
    file.parent.mkdir(parents=True)
    made_object(file)
    report = dcmread(file)
    report.PatientID = "4711"
    report.save_as(file)
    with ledger.transaction() as tx:
        delivery, slide = tx.session.get(DeliveryRow, 1), tx.session.get(SlideRow, 1)
        assert delivery is not None and slide is not None
        delivery.path = "objects/1/sr.dcm"
        # The order is corrected before the repository is there.
        slide.patient = json.dumps({"patient_id": "815"})
        tx.session.add_all([delivery, slide])
    server = Repository(certificates, audit.port)
    assert trail.tell() == 5
    assert told(server.wait_for(5)[-1])["objects"] == [("2", STUDY), ("1", "4711")]
    trail.close()
    server.stop()


def test_words_that_are_repeated_after_a_restore_are_told(
    settings: Settings, audit: Audit, certificates: Certificates
) -> None:
    def say(count: int, by: str) -> None:
        with closing(Ledger(settings.ledger_url)) as ledger, ledger.transaction() as tx:
            for _ in range(count):
                tx.note("dashboard", "signed-in", NOW, params={"name": by}, by=by)

    server = Repository(certificates, audit.port)
    say(1, "Before^Doris")
    trail = AuditTrail(settings, audit)
    assert trail.tell() == 0
    say(2, "Meyer^Anna")
    assert trail.tell() == 2
    backup_ledger(settings)
    say(20, "Lost^Bert")
    assert trail.tell() == 20
    trail.close()
    server.wait_for(23)  # with an end; each connection has a reader of its own
    restore_ledger(settings)
    say(5, "Again^Carla")  # before the daemon starts
    trail = AuditTrail(settings, audit)
    assert trail.tell() == 5
    users = [told(each)["users"] for each in server.wait_for(28)]
    assert users[-5:] == [["Again^Carla"]] * 5
    say(1, "Meyer^Anna")
    assert (trail.tell(), trail.tell()) == (1, 0)
    trail.close()
    server.stop()


def test_a_repository_with_the_certificate_of_another_host_is_told_nothing(
    settings: Settings, ledger: Ledger, audit: Audit, certificates: Certificates
) -> None:
    server = Repository(certificates, audit.port, side="elsewhere")
    trail = AuditTrail(settings, audit)
    assert trail.tell() == 0
    happen(ledger)
    assert trail.tell() == 0
    trail.close()
    assert server.messages == []
    server.stop()


def test_the_thread_tells_of_start_and_end(
    settings: Settings, audit: Audit, certificates: Certificates
) -> None:
    server = Repository(certificates, audit.port)
    stop = threading.Event()
    thread = Auditing(settings, audit, stop, period_s=0.01)
    thread.start()
    assert told(server.wait_for(1)[0])["kind"] == "110120"
    stop.set()
    thread.join(timeout=600)
    assert told(server.wait_for(2)[1])["kind"] == "110121"
    server.stop()


def test_the_doctor_asks_the_repository_for_a_connection_and_tells_it_nothing(
    audit: Audit, certificates: Certificates, tmp_path: Path
) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(
        f"state_dir = '{tmp_path / 'state'}'\n[audit]\nhost = '127.0.0.1'\nport = {audit.port}\n"
        f"ca_file = '{audit.ca_file}'\ncertificate = '{audit.certificate}'\n"
        f"key = '{audit.key}'\n[alerts.webhook]\nurl = 'https://chat.example/hook'\n"
    )

    def lines(what: str) -> list[tuple[bool, str]]:
        return [(line.ok, line.text) for line in examine(config) if line.what == what]

    ((ok, text),) = lines("audit")
    assert not ok and "ConnectionRefusedError" in text
    server = Repository(certificates, audit.port)
    assert lines("audit") == [(True, f"127.0.0.1:{audit.port} takes a connection over TLS")]
    assert server.messages == []
    server.stop()
    ((ok, text),) = lines("alerts")
    assert ok and "tandem alerts --test" in text
