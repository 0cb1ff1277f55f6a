"""Orders of the lab's worklist: whose study a slide is that its file does not tell."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, datetime

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.pacs import tls_files
from appliance.errors import WorklistUnavailableError
from appliance.settings import Settings, Worklist
from dicom import pacs
from dicom.association import PacsAddress
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.study import StudyFacts
from dicom.worklist import find_orders

ORDER_NAME = "order.json"


def order_of(accession: str, settings: Settings) -> tuple[StudyFacts | None, str]:
    """The study of an accession by the worklist, and what an operator should know of it.

    What was found is kept: all blocks of an accession are of one study, and worklists drop an order
    when it is done.

    Raises
    ------
    WorklistUnavailableError
        If the worklist cannot be asked.
    """
    if settings.worklist is None:
        return None, ""
    store = ArtifactStore(settings.artifacts_dir)
    key = ArtifactKey.of("order", accession=accession)
    if not store.exists(key):
        try:
            orders = find_orders(_address(settings.worklist), accession)
        except (PacsUnavailableError, PacsRejectedError) as err:
            raise WorklistUnavailableError(f"worklist: {err}") from err
        if len(orders) != 1:
            known = "no order" if not orders else f"{len(orders)} orders that contradict each other"
            return None, f"the worklist knows {known} for this accession: objects name no patient"
        with store.writing(key) as folder:
            (folder / ORDER_NAME).write_text(json.dumps(asdict(orders[0]), default=str))
    order = json.loads((store.path(key) / ORDER_NAME).read_text())
    born, started = order["patient_birth_date"], order["started"]
    order["patient_birth_date"] = date.fromisoformat(born) if born else None
    order["started"] = datetime.fromisoformat(started) if started else None
    return StudyFacts(**order), ""


def check_worklist(worklist: Worklist) -> str:
    """One line for ``tandem doctor``: C-ECHO, and a query for an accession that is nobody's.

    Raises
    ------
    WorklistUnavailableError
    """
    address = _address(worklist)
    try:
        pacs.echo(address)
        find_orders(address, "TANDEM-DOCTOR")
    except (PacsUnavailableError, PacsRejectedError) as err:
        raise WorklistUnavailableError(f"worklist: {err}") from err
    return f"C-ECHO and a query answered at {address.host}:{address.port}"


def _address(worklist: Worklist) -> PacsAddress:
    return PacsAddress(
        host=worklist.host,
        port=worklist.port,
        called_aet=worklist.called_aet,
        calling_aet=worklist.calling_aet,
        timeout_s=worklist.timeout_seconds,
        tls=tls_files(worklist) if worklist.tls else None,
    )
