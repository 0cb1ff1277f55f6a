"""Servers on loopback that answer what they are told, for ``benchmarks/fuzz.py``."""

from __future__ import annotations

import asyncio
import json
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from appliance.delivery.destinations.fhir_rest import Fhir
from appliance.delivery.destinations.mllp import Hl7
from appliance.delivery.result_hl7 import Hl7Message
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.settings.destinations import FhirDestination, Hl7Destination
from appliance.settings.settings import Settings
from benchmarks.fuzz_target import Target
from dicom.association import PacsAddress
from dicom.dicomweb import WebAddress, find_instances
from dicom.errors import PacsRejectedError, PacsUnavailableError, SpoolError
from dicom.pacs import find_instances as find_by_dimse
from dicom.status import InstanceRef
from dicom.stow_answer import judge_stow
from dicom.ups import find_work, read_work
from dicom.wado import Series, retrieve_series
from dicom.worklist import WORKLIST, find_orders

ACCESSION, UID = "S26-00031", "2.25.12345678901234567890"
SECONDS = 20.0
REF = InstanceRef(study_uid=UID, series_uid=UID, sop_instance_uid=UID, sop_class_uid=UID)
OF_THE_WIRE = (PacsUnavailableError, PacsRejectedError)
BOUNDARY = "part"


@contextmanager
def readers_of_answers(scratch: Path) -> Iterator[Mapping[str, Target]]:
    """Start the servers and give the readers of their answers; end them with the block."""
    with _web() as (web, tell_web), _mllp() as (mllp_port, tell_mllp), _worklist() as (pacs, tell):
        address = WebAddress(url=web, timeout_s=SECONDS)
        fhir = Fhir.open(FhirDestination(kind="fhir", url=web), Settings())
        lis = Hl7.open(Hl7Destination(kind="hl7", host="127.0.0.1", port=mllp_port), Settings())
        message = Hl7Message(control_id="7", text="MSH|^~\\&|A|B|C|D|20260304||ORU^R01|7|P|2.5.1\r")

        def over_web(read: Callable[[], object]) -> Callable[[bytes], object]:
            return lambda data: (tell_web(data), read())

        def retrieve() -> None:
            spool = scratch / "spool"
            spool.mkdir(exist_ok=True)
            retrieve_series(address, Series(study_uid=UID, series_uid=UID), spool)
            shutil.rmtree(spool)

        def acknowledged(data: bytes) -> None:
            tell_mllp(data)
            asyncio.run(lis._exchange(message))

        yield {
            "QIDO-RS": Target(
                samples=(_QIDO,),
                call=over_web(lambda: find_instances(address, [REF])),
                documented=OF_THE_WIRE,
            ),
            "STOW-RS": Target(
                samples=(_STOW,), call=lambda data: judge_stow(409, _json(data), UID)
            ),
            "UPS-RS search": Target(
                samples=(_UPS,), call=over_web(lambda: find_work(address)), documented=OF_THE_WIRE
            ),
            "UPS-RS item": Target(
                samples=(_UPS,),
                call=over_web(lambda: read_work(address, UID)),
                documented=OF_THE_WIRE,
            ),
            "WADO-RS": Target(
                samples=(_MULTIPART,),
                call=over_web(retrieve),
                documented=(*OF_THE_WIRE, SpoolError),
            ),
            "FHIR": Target(
                samples=(_CAPABILITIES,),
                call=over_web(fhir.kinds),
                documented=(DestinationUnavailableError, DestinationRejectedError),
            ),
            "MLLP": Target(samples=(_ACK,), call=acknowledged, documented=OF_THE_WIRE),
            "C-FIND proof": Target(
                samples=(_encoded_answer(),),
                call=lambda data: (tell(data), find_by_dimse(pacs, [REF])),
                documented=OF_THE_WIRE,
            ),
            "C-FIND worklist": Target(
                samples=(_encoded_order(),),
                call=lambda data: (tell(data), find_orders(pacs, ACCESSION)),
                documented=OF_THE_WIRE,
            ),
        }


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


@contextmanager
def _web() -> Iterator[tuple[str, Callable[[bytes], None]]]:
    """Serve HTTP that answers each request by the same body."""
    body = b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            multipart = "studies" in self.path and "instances" not in self.path
            kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
            self.send_header("Content-Type", kind if multipart else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    def tell(data: bytes) -> None:
        nonlocal body
        body = data

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", tell
        server.shutdown()


@contextmanager
def _mllp() -> Iterator[tuple[int, Callable[[bytes], None]]]:
    """Serve MLLP that acknowledges each message by the same bytes."""
    answer = b""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            seen = b""
            while b"\x1c" not in seen and (piece := self.request.recv(65536)):
                seen += piece
            self.request.sendall(answer)

    def tell(data: bytes) -> None:
        nonlocal answer
        answer = data

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1]), tell
        server.shutdown()


@contextmanager
def _worklist() -> Iterator[tuple[PacsAddress, Callable[[bytes], None]]]:
    """Serve a worklist whose one order is the bytes that it is told, whatever they are."""
    order = b""

    def tell(data: bytes) -> None:
        nonlocal order
        order = data

    def found(_event: Any) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xFF00, Dataset()

    entity = AE(ae_title="WORKLIST")
    entity.add_supported_context(WORKLIST)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    with patch("pynetdicom.service_class.encode", lambda *_: BytesIO(order).getvalue()):
        server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, found)]
        )
        port = server.socket.getsockname()[1] if server is not None else 0
        yield (
            PacsAddress(host="127.0.0.1", port=port, called_aet="WORKLIST", timeout_s=SECONDS),
            tell,
        )
        entity.shutdown()


def _encoded_order() -> bytes:
    described = _dataset(SpecimenIdentifier=f"{ACCESSION}A1")
    step = _dataset(ScheduledProcedureStepDescription="HER2", ScheduledSpecimenSequence=[described])
    order = _dataset(
        SpecificCharacterSet="ISO_IR 100",
        AccessionNumber=ACCESSION,
        PatientID="4711",
        PatientName="Meier^Anna",
        PatientBirthDate="19600229",
        PatientSex="F",
        StudyInstanceUID=UID,
        RequestedProcedureID="RP-7",
        ScheduledProcedureStepSequence=[step],
    )
    return encode(order, is_implicit_vr=True, is_little_endian=True) or b""


def _encoded_answer() -> bytes:
    answer = _dataset(QueryRetrieveLevel="IMAGE", StudyInstanceUID=UID, SOPInstanceUID=UID)
    return encode(answer, is_implicit_vr=True, is_little_endian=True) or b""


def _encoded_instance() -> bytes:
    instance = _dataset(
        SOPClassUID=UID,
        SOPInstanceUID=UID,
        PatientID="4711",
        BitsAllocated=8,
        PixelData=bytes(64),
    )
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = BytesIO()
    dcmwrite(stream, instance, enforce_file_format=True)
    return stream.getvalue()


def _dataset(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def _attribute(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


_QIDO = json.dumps(
    [{"00080018": _attribute("UI", UID), "00080016": _attribute("UI", UID)}]
).encode()
_STOW = json.dumps(
    {
        "00081198": _attribute(
            "SQ", {"00081155": _attribute("UI", UID), "00081197": _attribute("US", 0xA700)}
        ),
        "00081199": _attribute("SQ", {"00081155": _attribute("UI", "2.25.1")}),
    }
).encode()
_UPS = json.dumps(
    [
        {
            "00080018": _attribute("UI", UID),
            "00741000": _attribute("CS", "SCHEDULED"),
            "00404041": _attribute("CS", "READY"),
            "00404018": _attribute("SQ", {"00080100": _attribute("SH", "1")}),
            "00404021": _attribute(
                "SQ",
                {
                    "0020000D": _attribute("UI", UID),
                    "0020000E": _attribute("UI", UID),
                    "0040E025": _attribute("SQ", {"00081190": _attribute("UR", "http://a/b")}),
                },
            ),
        }
    ]
).encode()
_MULTIPART = (
    f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    + _encoded_instance()
    + f"\r\n--{BOUNDARY}--\r\n".encode()
)
_CAPABILITIES = json.dumps(
    {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "rest": [
            {
                "interaction": [{"code": "transaction"}],
                "resource": [{"type": "DiagnosticReport"}, {"type": "Observation"}],
            }
        ],
    }
).encode()
_ACK = (
    b"\x0bMSH|^~\\&|LIS|LAB|TANDEM||20260304||ACK|9|P|2.5.1\rMSA|AA|7\r"
    b"ERR|||207^no^HL70357|E\r\x1c\r"
)
