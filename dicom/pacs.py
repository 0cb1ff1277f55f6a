"""The wire to a PACS: C-ECHO, C-STORE, and proof by QIDO-RS or C-FIND.

What can be tried again and what cannot follows the DICOM status (PS3.4 B.2.3, PS3.7 C).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification
from pynetdicom.status import STATUS_SUCCESS, STATUS_WARNING, code_to_category

from dicom.errors import PacsRejectedError, PacsUnavailableError

log = logging.getLogger(__name__)

MAX_CONTEXTS = 128
"""Of one association (PS3.8 9.3.2)."""
SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)
COME_BACK = frozenset({0x0110, 0x0213, *range(0xA700, 0xA800)})
"""Trouble of the PACS's own: processing failure, resource limitation (PS3.7 C), out of resources
(PS3.4 B.2.3)."""
REJECTED_FOR_NOW = 0x02
"""Result of A-ASSOCIATE-RJ, rejected-transient (PS3.8 9.3.4): too busy, not unwilling."""


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
        _judge(address, association.send_c_echo())


def store(
    address: PacsAddress,
    paths: Sequence[Path],
    *,
    on_stored: Callable[[Path, int], None] | None = None,
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
    # A slide of some GB is sent from disk in pieces instead of being read into memory first.
    _config.STORE_SEND_CHUNKED_DATASET = True
    while paths:
        now = _of_one_association(paths, kinds)
        _store(address, {path: kinds[path] for path in now}, on_stored)
        paths = paths[len(now) :]


def _of_one_association(
    paths: Sequence[Path], kinds: Mapping[Path, tuple[str, str]]
) -> Sequence[Path]:
    """As many of the first files as do with `MAX_CONTEXTS` kinds."""
    seen: set[tuple[str, str]] = set()
    for count, path in enumerate(paths):
        seen.add(kinds[path])
        if len(seen) > MAX_CONTEXTS:
            return paths[:count]
    return paths


def _store(
    address: PacsAddress,
    kinds: Mapping[Path, tuple[str, str]],
    on_stored: Callable[[Path, int], None] | None,
) -> None:
    contexts = sorted(set(kinds.values()))
    with _association(address, contexts) as association:
        accepted = {
            (str(c.abstract_syntax), str(c.transfer_syntax[0]))
            for c in association.accepted_contexts
        }
        for path, kind in kinds.items():
            if kind not in accepted:
                sop_class, syntax = kind
                raise PacsRejectedError(
                    f"{_name(address)} takes no {_title(sop_class)} as {_title(syntax)}. "
                    "Allow it in the PACS, then: tandem retry."
                )
            try:
                status = association.send_c_store(path)
            except RuntimeError as err:  # the association is gone
                raise PacsUnavailableError(f"{_name(address)} closed the connection") from err
            _judge(address, status)
            code = int(status.Status)
            if code != SUCCESS:
                log.warning("%s stored an object with a warning (0x%04X)", _name(address), code)
            if on_stored is not None:
                on_stored(path, code)


def _judge(address: PacsAddress, status: Dataset) -> None:
    if not status or "Status" not in status:
        raise PacsUnavailableError(
            f"{_name(address)} lost the connection or did not answer in time"
        )
    code = int(status.Status)
    if code_to_category(code) in (STATUS_SUCCESS, STATUS_WARNING):
        return
    detail = str(status.get("ErrorComment", ""))
    if code in COME_BACK:
        raise PacsUnavailableError(
            f"{_name(address)} cannot take it now (0x{code:04X}) {detail}".rstrip()
        )
    raise PacsRejectedError(
        f"{_name(address)} refused (0x{code:04X}) {detail}".rstrip()
        + ". Look into its log; after a change there: tandem retry.",
        code,
    )


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
        items = _qido(address, path, {"SOPInstanceUID": sop_instance_uid})
        return any(_value(item, "00080018") == sop_instance_uid for item in items)
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    query.SOPInstanceUID = sop_instance_uid
    model = StudyRootQueryRetrieveInformationModelFind
    found = False
    with _association(address, [(model, None)]) as association:
        for status, item in association.send_c_find(query, model):
            if status and status.Status in PENDING:
                # Read on to the end: a release amid answers is an abort to the other side.
                if item is not None and item.get("SOPInstanceUID") == sop_instance_uid:
                    found = True
            else:
                _judge(address, status)
    return found


def find_study(address: PacsAddress, accession: str) -> list[StoredInstance]:
    """All instances under an accession number, by QIDO-RS.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
        Also if `dicomweb_url` is not set: there is no other way to ask for a whole study.
    """
    if not address.dicomweb_url:
        raise PacsRejectedError(f"{_name(address)} has no dicomweb_url to ask for a study")
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
    try:
        items: list[dict[str, Any]] = answer.json() if answer.content else []
    except requests.JSONDecodeError as err:
        raise PacsRejectedError(f"{_name(address)}: QIDO answered no JSON; dicomweb_url?") from err
    return items


def _value(item: dict[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
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
        raise _refusal(address, association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _refusal(address: PacsAddress, association: Any) -> PacsUnavailableError | PacsRejectedError:
    """Why there is no association: nobody there, too busy, unwilling, or nothing in common."""
    answer = association.acceptor.primitive
    if association.is_rejected:
        if answer is not None and answer.result == REJECTED_FOR_NOW:
            return PacsUnavailableError(f"{_name(address)} is too busy for an association")
        return PacsRejectedError(
            f"{_name(address)} rejected the association: check called_aet, calling_aet and the "
            "PACS's list of known modalities"
        )
    if association.rejected_contexts:
        # It accepted the association but not one of its contexts.
        wanted = sorted({_title(str(c.abstract_syntax)) for c in association.rejected_contexts})
        return PacsRejectedError(
            f"{_name(address)} takes none of: {', '.join(wanted)}. Allow it in the PACS, then: "
            "tandem retry."
        )
    return PacsUnavailableError(f"{_name(address)} cannot be reached: is it up, is the port open?")


def _kind(path: Path) -> tuple[str, str]:
    meta = read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _title(uid: str) -> str:
    return str(UID(uid).name)


def _name(address: PacsAddress) -> str:
    return f"{address.called_aet} at {address.host}:{address.port}"
