"""Orders of the lab's worklist: patient and study of a slide whose file does not name them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.destinations.network import tls_files
from appliance.errors import WorklistUnavailableError
from appliance.settings.installation import installation_salt
from appliance.settings.settings import Settings
from appliance.settings.tls import Worklist
from dicom import pacs
from dicom.association import PacsAddress
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.study import StudyFacts
from dicom.uids import deterministic_uid
from dicom.worklist import find_orders

ORDER_NAME, NOTE_NAME = "order.json", "note.txt"
KNOWS = "the worklist knows"


def order_of(accession: str, settings: Settings) -> tuple[StudyFacts | None, str]:
    """Return the study of an accession by the worklist, and a note for the operator.

    The first answer is kept as an artifact: all blocks of an accession belong to one study, and a
    worklist drops an order when it is done. The study is None, and the note empty, where no
    worklist is set.

    Raises
    ------
    WorklistUnavailableError
        If the worklist cannot be queried.
    """
    if settings.worklist is None:
        return None, ""
    store = ArtifactStore(settings.artifacts_dir)
    key = ArtifactKey.of("order", accession=accession)
    if not store.has(key):
        try:
            salt = installation_salt(settings.state_dir)
            orders = find_orders(_address(settings.worklist), accession, salt)
        except (PacsUnavailableError, PacsRejectedError) as err:
            raise WorklistUnavailableError(f"worklist: {err}") from err
        agreed, note = _agreed(orders, accession, salt)
        if agreed is None:
            return None, note
        with store.writing(key) as folder:
            (folder / ORDER_NAME).write_text(json.dumps(agreed.as_json()))
            (folder / NOTE_NAME).write_text(note)
    folder = store.path(key)
    order = StudyFacts.of_json(json.loads((folder / ORDER_NAME).read_text()))
    return order, (folder / NOTE_NAME).read_text()


def _agreed(
    found: Sequence[StudyFacts | None], accession: str, salt: str
) -> tuple[StudyFacts | None, str]:
    """Return the study on which all orders of an accession agree, and a note for the operator."""
    orders = [order for order in found if order is not None]
    if len(orders) < len(found):
        return None, f"{KNOWS} orders of this accession that cannot be read: objects name none"
    if not orders:
        return None, f"{KNOWS} no order for this accession: objects name no patient"
    first = min(orders, key=lambda order: (order.uid, order.study_id))
    if any(_patient(order) != _patient(first) for order in orders):
        return None, f"{KNOWS} orders of several patients for this accession: objects name none"
    if any(order.uid != first.uid for order in orders):
        uid = deterministic_uid("study", salt, accession, first.patient_id)
        note = f"{KNOWS} orders of several studies for this accession: objects lie in one of Tandem"
        return replace(first, uid=uid, study_id=""), note
    return first, ""


def _patient(order: StudyFacts) -> tuple[object, ...]:
    return (
        order.patient_id,
        order.patient_name,
        order.patient_birth_date,
        order.patient_sex,
    )


def check_worklist(worklist: Worklist) -> str:
    """Return one line for ``tandem doctor`` after a C-ECHO and a query for an unused accession.

    Raises
    ------
    WorklistUnavailableError
        If the worklist cannot be reached or rejects the query.
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
