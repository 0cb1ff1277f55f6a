"""The wire to a PACS: C-ECHO, C-STORE, and proof by QIDO-RS or C-FIND.

What can be tried again and what cannot follows the DICOM status (PS3.4 B.2.3, PS3.7 C).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom.errors import PacsRejectedError, PacsUnavailableError

# A slide of some GB is sent from disk in pieces instead of being read into memory first.
_config.STORE_SEND_CHUNKED_DATASET = True

MAX_CONTEXTS = 128
"""Of one association (PS3.8 9.3.2)."""
SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacsAddress:
    """Where a PACS listens. AE titles have at most 16 characters; `timeout_s` is for connecting
    and for each answer. With `dicomweb_url` instances are looked up by QIDO-RS, else by C-FIND."""

    host: str
    port: int
    called_aet: str
    calling_aet: str = "TANDEM"
    timeout_s: float = 30.0
    dicomweb_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInstance:
    """An instance that a PACS says it has."""

    modality: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


def echo(address: PacsAddress) -> None:
    """C-ECHO.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    with _association(address, [(Verification, None)]) as association:
        status = association.send_c_echo()
    if not status:
        raise PacsUnavailableError(f"{_name(address)} did not answer C-ECHO")
    if status.Status != SUCCESS:
        raise PacsRejectedError(f"{_name(address)} refused C-ECHO", status.Status)


def store(
    address: PacsAddress,
    paths: Sequence[Path],
    *,
    on_stored: Callable[[Path, int], None],
) -> None:
    """C-STORE the files in order over as few associations as their kinds allow.

    `on_stored` is called with each accepted file and its status (0, or 0xBxxx: with a warning).

    Raises
    ------
    PacsUnavailableError
        No connection, connection lost, or out of resources (0xA7xx).
    PacsRejectedError
        At the first file that is refused for good; those before it are stored.
    """
    kinds = {path: _kind(path) for path in paths}
    contexts = sorted(set(kinds.values()))
    if len(contexts) > MAX_CONTEXTS:
        half = len(paths) // 2
        store(address, paths[:half], on_stored=on_stored)
        store(address, paths[half:], on_stored=on_stored)
        return
    with _association(address, [(c, t) for c, t in contexts]) as association:
        accepted = {
            (str(c.abstract_syntax), str(c.transfer_syntax[0]))
            for c in association.accepted_contexts
        }
        for path in paths:
            if kinds[path] not in accepted:
                sop_class, syntax = kinds[path]
                raise PacsRejectedError(
                    f"{_name(address)} takes no {_title(sop_class)} as {_title(syntax)}. "
                    "Allow it in the PACS, then: tandem retry."
                )
            try:
                status = association.send_c_store(path)
            except RuntimeError as err:  # the association is gone
                raise PacsUnavailableError(f"{_name(address)} closed the connection") from err
            _judge(address, status)
            on_stored(path, int(status.Status))


def _judge(address: PacsAddress, status: Dataset) -> None:
    if not status or "Status" not in status:
        raise PacsUnavailableError(
            f"{_name(address)} lost the connection or did not answer in time"
        )
    code = int(status.Status)
    if code == SUCCESS or 0xB000 <= code <= 0xBFFF:
        return
    detail = str(status.get("ErrorComment", ""))
    if 0xA700 <= code <= 0xA7FF:
        raise PacsUnavailableError(f"{_name(address)} is out of resources (0x{code:04X}) {detail}")
    raise PacsRejectedError(f"{_name(address)} refused an object (0x{code:04X}) {detail}", code)


def find_instance(
    address: PacsAddress, *, study_uid: str, series_uid: str, sop_instance_uid: str
) -> bool:
    """Whether the PACS has an instance, by its own word: QIDO-RS, or C-FIND at IMAGE level.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    if address.dicomweb_url:
        path = f"studies/{study_uid}/series/{series_uid}/instances"
        found = _qido(address, path, {"SOPInstanceUID": sop_instance_uid})
        return any(_value(item, "00080018") == sop_instance_uid for item in found)
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    query.SOPInstanceUID = sop_instance_uid
    model = StudyRootQueryRetrieveInformationModelFind
    with _association(address, [(model, None)]) as association:
        if not association.accepted_contexts:
            raise PacsRejectedError(f"{_name(address)} allows no C-FIND; set dicomweb_url instead")
        for status, item in association.send_c_find(query, model):
            if not status:
                raise PacsUnavailableError(f"{_name(address)} lost the connection during C-FIND")
            if status.Status in PENDING and item is not None:
                if item.get("SOPInstanceUID") == sop_instance_uid:
                    return True
            elif status.Status != SUCCESS:
                _judge(address, status)
    return False


def find_study(address: PacsAddress, accession: str) -> list[StoredInstance]:
    """All instances under an accession number, by QIDO-RS (`dicomweb_url` must be set)."""
    found = _qido(address, "instances", {"AccessionNumber": accession, "includefield": "00080060"})
    return [
        StoredInstance(
            modality=_value(item, "00080060"),
            study_uid=_value(item, "0020000D"),
            series_uid=_value(item, "0020000E"),
            sop_instance_uid=_value(item, "00080018"),
            sop_class_uid=_value(item, "00080016"),
        )
        for item in found
    ]


def _qido(address: PacsAddress, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    url = f"{str(address.dicomweb_url).rstrip('/')}/{path}"
    try:
        answer = requests.get(
            url,
            params=params,
            headers={"Accept": "application/dicom+json"},
            timeout=address.timeout_s,
        )
    except requests.RequestException as err:
        raise PacsUnavailableError(f"{_name(address)}: QIDO failed ({type(err).__name__})") from err
    if answer.status_code in (204, 404):
        return []
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise PacsUnavailableError(f"{_name(address)}: QIDO answered {answer.status_code}")
    if answer.status_code != 200:
        raise PacsRejectedError(f"{_name(address)}: QIDO answered {answer.status_code}")
    items: list[dict[str, Any]] = answer.json()
    return items


def _value(item: dict[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value", [""])
    return str(values[0])


@contextmanager
def _association(address: PacsAddress, contexts: Sequence[tuple[Any, str | None]]) -> Iterator[Any]:
    """An established association, released at the end (aborted after an error)."""
    ae = AE(ae_title=address.calling_aet)
    ae.connection_timeout = ae.acse_timeout = address.timeout_s
    ae.dimse_timeout = ae.network_timeout = address.timeout_s
    for abstract, syntax in contexts:
        if syntax is None:
            ae.add_requested_context(abstract)
        else:
            ae.add_requested_context(abstract, syntax)
    association = ae.associate(address.host, address.port, ae_title=address.called_aet)
    if not association.is_established:
        if association.is_rejected:
            raise PacsRejectedError(
                f"{_name(address)} rejected the association: check called_aet, calling_aet and the "
                "PACS's list of known modalities"
            )
        raise PacsUnavailableError(
            f"{_name(address)} cannot be reached: is it up, is the port open?"
        )
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _kind(path: Path) -> tuple[str, str]:
    meta = read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _title(uid: str) -> str:
    from pydicom.uid import UID

    return str(UID(uid).name)


def _name(address: PacsAddress) -> str:
    return f"{address.called_aet} at {address.host}:{address.port}"
