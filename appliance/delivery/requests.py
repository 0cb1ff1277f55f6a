"""Request of the laboratory that a case's results answer, frozen with its first objects."""

from __future__ import annotations

import json
from dataclasses import replace

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import vocabulary
from appliance.delivery.order_stains import asked_stains
from appliance.delivery.orders import kept_order, they_know
from appliance.domain import UNIDENTIFIED, Stain
from appliance.findings.findings import Findings
from appliance.settings.settings import Settings
from dicom.order import are_others, name_block
from dicom.request import NO_REQUEST, OrderedRequest, common_request, one_request

REQUEST_NAME, NOTE_NAME = "request.json", "note.txt"


def request_of(
    findings: Findings, stain: Stain, patient: str, settings: Settings, *, first: bool
) -> tuple[OrderedRequest, str]:
    """Return the request that the results of a case answer, and a note for the operator.

    It is frozen with the `first` objects of the case, even where none is known: a correction must
    answer the same request, and objects that are written again have equal bytes. A case whose
    objects an earlier edition wrote has none. Objects that are written anew for another `patient`,
    else empty, answer a request of their own: the laboratory corrected the order.
    """
    accession, block = findings.accession, findings.block
    if accession == UNIDENTIFIED:
        return NO_REQUEST, ""
    store = ArtifactStore(settings.artifacts_dir)
    of_patient = {"patient": patient} if patient else {}
    key = ArtifactKey.of("request", accession=accession, block=block, stain=stain, **of_patient)
    if not store.has(key):
        asks = first or patient
        known = answered_request(accession, block, stain, settings) if asks else (NO_REQUEST, "")
        with store.writing(key) as folder:
            (folder / REQUEST_NAME).write_text(json.dumps(known[0].as_json()))
            (folder / NOTE_NAME).write_text(known[1])
    folder = store.path(key)
    request = OrderedRequest.of_json(json.loads((folder / REQUEST_NAME).read_text()))
    return request, (folder / NOTE_NAME).read_text()


def answered_request(
    accession: str, block: str, stain: Stain, settings: Settings
) -> tuple[OrderedRequest, str]:
    """Return the request that the result of a block answers by the kept order, and a note.

    An order that names the block and the stain comes before one for all stains (`orders.general`,
    or without a text). Where several orders are left, only what they have in common is stated: a
    laboratory's system would file the result under a wrong order. One whose block cannot be read
    counts where none names this block.
    """
    kept = kept_order(accession, settings)
    if kept is None:
        return NO_REQUEST, ""
    words, general = vocabulary(settings), {text.casefold() for text in settings.orders.general}
    named: list[OrderedRequest] = []
    for_all: list[OrderedRequest] = []
    for each in kept.requests:
        if are_others(each.blocks, block):
            continue
        if stain in asked_stains(each.asked, words):
            named.append(each)
        elif not each.asked or general & {text.casefold() for text in each.asked}:
            for_all.append(each)
    found, note = _surest(named or for_all, block), ""
    one = one_request(found) if found else NO_REQUEST
    if one is None:
        one = common_request(found)
        note = f"{they_know(settings)} several orders for this stain: results state what is common"
    return replace(one, accession_issuer=kept.accession_issuer, blocks=(), asked=()), note


def _surest(found: list[OrderedRequest], block: str) -> list[OrderedRequest]:
    """Requests without those that only may be of a block, where some name it surely."""
    if not any(name_block(each.blocks, block) for each in found):
        return found
    return [each for each in found if not each.blocks or name_block(each.blocks, block)]
