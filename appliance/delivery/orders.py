"""Orders of the laboratory: patient, study and specimens of an accession.

The worklist, HL7 messages and a table are asked, in this order, whichever are set. The first answer
is kept as an artifact: all blocks of an accession belong to one study, and a laboratory's system
drops an order when it is done.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import vocabulary
from appliance.delivery.destinations.network import tls_files
from appliance.delivery.order_csv import read_csv
from appliance.delivery.order_files import OrderProblem, OrdersRead
from appliance.delivery.order_hl7 import read_hl7
from appliance.delivery.order_joined import brought_up, joined, say_the_same
from appliance.delivery.order_stains import stain_codes
from appliance.errors import ArtifactDamagedError, WorklistUnavailableError
from appliance.settings.installation import installation_salt
from appliance.settings.settings import Settings
from appliance.settings.tls import Worklist
from dicom import pacs
from dicom.association import PacsAddress
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.order import (
    Order,
    OrderedSpecimen,
    block_key,
    name_block,
    names_several,
    one_patient,
)
from dicom.request import TakenBack
from dicom.study import StudyFacts
from dicom.uids import deterministic_uid
from dicom.worklist import find_orders

ORDER_NAME, NOTE_NAME, TELLER_NAME = "order.json", "note.txt", "slide.txt"
SOURCES = {"worklist": "the worklist", "hl7": "the HL7 messages", "csv": "the table of orders"}
"""Names of the sources in sentences."""
LONGEST_WAIT_S = 10.0
"""Longest wait for an answer of the worklist at identify, and longest time of reading messages
there: the step has a deadline of a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer of the sources on an accession.

    `order` is None where there is none, or where orders name several patients: `conflict` holds
    them. `note` tells the operator why objects will name no patient or no study of the laboratory.
    `problems` are sentences about files that cannot be used, one for each file. `canceled` are
    the requests of orders that were taken back.
    """

    order: Order | None = None
    note: str = ""
    conflict: tuple[Order, ...] = ()
    problems: tuple[str, ...] = ()
    canceled: tuple[TakenBack, ...] = ()


def order_of(accession: str, settings: Settings) -> tuple[StudyFacts | None, str]:
    """Return the study of an accession by its order, and a note for the operator.

    The kept order is returned where there is one. The study is None, and the note empty, where no
    source of orders is set.

    Raises
    ------
    WorklistUnavailableError
        If a source cannot be asked.
    """
    if not _sources(settings):
        return None, ""
    answer = _kept(accession, settings)
    if answer is None:
        answer = _ask(accession, settings)
        if answer.order is not None:
            answer = _keep(accession, answer, settings)
    return answer.order.study() if answer.order else None, answer.note


def ordered_specimen(
    accession: str, block: str, stain: str, settings: Settings
) -> OrderedSpecimen | None:
    """Return the specimen of a slide by the kept order; None where the order does not tell one."""
    kept = kept_order(accession, settings)
    return None if kept is None else _specimen_in(kept, block, stain, settings)


def former_specimens(
    accession: str, block: str, stain: str, settings: Settings
) -> Iterator[OrderedSpecimen]:
    """Yield the specimens that a slide had by orders which were kept before the present one."""
    for former in _revisions(accession, settings):
        if former.order and (found := _specimen_in(former.order, block, stain, settings)):
            yield found


def _specimen_in(
    order: Order, block: str, stain: str, settings: Settings
) -> OrderedSpecimen | None:
    """Specimen of a slide by an order.

    A row of several blocks, or with other words beside the block, counts where none names the block
    alone. The container is that of the order only where it is said to have this stain, and of no
    other block.
    """
    words = vocabulary(settings)
    exact = [each for each in order.specimens if block_key(each.block) == block_key(block)]
    found = exact or [each for each in order.specimens if name_block((each.block,), block)]
    ids = {each.specimen_id for each in found if each.specimen_id}
    glass = {
        each.container_id
        for each in found
        if each.container_id and stain_codes(each.stain, words) == [stain]
        # The slides of several blocks are not one container.
        if exact or not names_several(each.block)
    }
    if len(ids) > 1 or len(glass) > 1 or not (ids or glass):
        return None
    return OrderedSpecimen(
        specimen_id=next(iter(ids), ""), container_id=next(iter(glass), ""), block=block
    )


def they_know(settings: Settings) -> str:
    """Return the beginning of a sentence about what the sources know."""
    sources = _sources(settings)
    names = " and ".join(SOURCES[source] for source in sources)
    return f"{names} {'knows' if sources == ['worklist'] else 'know'}"


def kept_order(accession: str, settings: Settings) -> Order | None:
    """Return the kept order of an accession; None where there is none, or no source is set."""
    kept = _kept(accession, settings) if _sources(settings) else None
    return None if kept is None else kept.order


def ask_orders(accession: str, settings: Settings) -> Answer:
    """Ask all sources for the order of a slide, and keep it.

    The kept order gets what comes later, and loses what is taken back. One that names another
    patient replaces it: the laboratory corrected it.
    Slides that were identified before still name the former patient, which holds their case.

    Raises
    ------
    WorklistUnavailableError
        If a source cannot be asked, and no order is kept.
    """
    if not _sources(settings):
        return Answer()
    kept = _kept(accession, settings)
    try:
        answer = _ask(accession, settings, longest_s=LONGEST_WAIT_S)
    except WorklistUnavailableError:
        if kept is None:
            raise
        return kept
    problems = answer.problems
    if answer.conflict:
        return answer
    if kept is None or kept.order is None:
        found = answer if answer.order is None else _keep(accession, answer, settings)
        return replace(found, problems=problems)
    written = ArtifactKey.of("study", uid=kept.order.uid)
    is_written = ArtifactStore(settings.artifacts_dir).has(written)
    if answer.order is None or _goes_with(answer.order, kept.order, is_written, settings):
        merged, words = settings.patients.merged, vocabulary(settings)
        back = answer.canceled
        order = brought_up(kept.order, answer.order, back, merged, words, is_written=is_written)
        if not say_the_same(order, kept.order):
            _keep(accession, replace(kept, order=order), settings)
        if answer.order is not None:
            # The study stays: blocks that were written before lie in it.
            order = replace(answer.order, uid=kept.order.uid, study_id=kept.order.study_id)
        return Answer(order=order, note=kept.note, problems=problems)
    changed = "the order of this accession names another patient than before"
    answer = _keep(accession, answer, settings)
    note = ". ".join(each for each in (changed, answer.note) if each)
    return replace(answer, note=note, problems=problems)


def _goes_with(later: Order, kept: Order, is_written: bool, settings: Settings) -> bool:
    """Return whether a later order is of the kept one's patient.

    An ID in place of a placeholder is a correction where objects state the placeholder.
    """
    if is_written and later.patient().is_known and not kept.patient().is_known:
        return False
    return one_patient((kept, later), settings.patients.merged)


def _sources(settings: Settings) -> list[str]:
    set_ = {
        "worklist": settings.worklist,
        "hl7": settings.orders.hl7,
        "csv": settings.orders.csv,
    }
    return [name for name, section in set_.items() if section is not None]


def _ask(accession: str, settings: Settings, longest_s: float | None = None) -> Answer:
    found: list[Order | None] = []
    if settings.worklist is not None:
        address = _address(settings.worklist, longest_s)
        try:
            answers = find_orders(address, accession)
        except (PacsUnavailableError, PacsRejectedError) as err:
            raise WorklistUnavailableError(f"worklist: {err}") from err
        found += sorted(answers, key=lambda each: (each.uid, each.study_id) if each else ("", ""))
    problems: list[OrderProblem] = []
    canceled: list[TakenBack] = []
    for read in _files(settings, longest_s):
        found += read.of(accession, settings.identify.writing)
        problems += read.problems
        canceled += read.canceled_of(accession, settings.identify.writing)
    answer = _agreed(found, accession, settings)
    return replace(answer, problems=tuple(_by_file(problems)), canceled=tuple(canceled))


def _files(settings: Settings, longest_s: float | None) -> Iterator[OrdersRead]:
    """Orders of the files that are set.

    Raises
    ------
    WorklistUnavailableError
        If they cannot be read.
    """
    orders = settings.orders
    try:
        if orders.hl7 is not None:
            yield read_hl7(orders.hl7, orders, longest_s, settings.patients.merged)
        if orders.csv is not None:
            yield read_csv(orders.csv, orders)
    except OSError as err:
        raise WorklistUnavailableError(
            f"The orders of orders.hl7 or orders.csv cannot be read ({err.strerror}). Mount the "
            "folder, or take the setting out; they are read again by themselves."
        ) from err


def _by_file(problems: Sequence[OrderProblem]) -> Iterator[str]:
    """A sentence for each file with problems."""
    for file in dict.fromkeys(problem.file for problem in problems):
        of_file = [problem for problem in problems if problem.file == file]
        more = f" ({len(of_file) - 1} more in this file)" if len(of_file) > 1 else ""
        yield of_file[0].sentence + more


def told_by(slide: Path, problems: Sequence[str], settings: Settings) -> Iterator[str]:
    """Yield the sentences that no other slide tells; call it when the slide's step is finished.

    The first slide has them, again when its transaction failed and is done again. Slides are
    finished side by side, so the artifact on disk decides: the first writer's stays.
    """
    store, teller = ArtifactStore(settings.artifacts_dir), os.fsencode(slide)
    for sentence in problems:
        key = ArtifactKey.of("told-by", sentence=sentence)
        if not store.has(key):
            with store.writing(key) as folder:
                (folder / TELLER_NAME).write_bytes(teller)
        if (store.path(key) / TELLER_NAME).read_bytes() == teller:
            yield sentence


def _agreed(found: Sequence[Order | None], accession: str, settings: Settings) -> Answer:
    """Order on which all orders of an accession agree; those of the first source come first."""
    know = they_know(settings)
    orders = [order for order in found if order is not None]
    if len(orders) < len(found):
        return Answer(
            note=f"{know} orders of this accession that cannot be read: objects name none"
        )
    if not orders:
        return Answer(note=f"{know} no order for this accession: objects name no patient")
    if not one_patient(orders, settings.patients.merged):
        note = f"{know} orders of several patients for this accession: objects name none"
        if any(order.source == "hl7" for order in orders):
            note += ". A change (XO) of one order corrects all of its placer's number"
        return Answer(note=note, conflict=tuple(orders))
    first = next((order for order in orders if order.uid), orders[0])
    uids = {order.uid for order in orders if order.source == first.source and order.uid}
    order, note = joined(orders, first), ""
    if len(uids) > 1:
        order = replace(order, uid="", study_id="")
        note = f"{know} orders of several studies for this accession: objects lie in one of Tandem"
    if not order.uid:
        salt = installation_salt(settings.state_dir)
        made = deterministic_uid("study", salt, accession, order.patient_id)
        order = replace(order, uid=made)
    return Answer(order=order, note=note)


# the kept order


def _key(accession: str, revision: int) -> ArtifactKey:
    if not revision:
        return ArtifactKey.of("order", accession=accession)
    return ArtifactKey.of("order", accession=accession, revision=revision)


def _revisions(accession: str, settings: Settings) -> Iterator[Answer]:
    """Orders that were kept of an accession, with their notes, the first one first."""
    store = ArtifactStore(settings.artifacts_dir)
    for key in (_key(accession, number) for number in count()):
        if not store.has(key):
            return
        folder = store.path(key)
        order = Order.of_json(json.loads((folder / ORDER_NAME).read_text()))
        yield Answer(order=order, note=(folder / NOTE_NAME).read_text())


def orders_made_with_salt(accession: str, settings: Settings) -> list[ArtifactKey]:
    """Return the keys of all kept orders of an accession, where one names a study of Tandem's own.

    Such a study is made with the salt of the state folder.
    """
    try:
        known = list(_revisions(accession, settings))
    except (ValueError, LookupError, TypeError, OSError, ArtifactDamagedError):
        return []  # one that cannot be read names no study
    orders = [each.order for each in known if each.order is not None]
    salt = installation_salt(settings.state_dir)
    patients = {"", *(order.patient_id for order in orders)}
    made = {deterministic_uid("study", salt, accession, patient) for patient in patients}
    if not any(order.uid in made for order in orders):
        return []
    return [_key(accession, number) for number in range(len(known))]


def _kept(accession: str, settings: Settings) -> Answer | None:
    """Latest order that was kept of an accession, with its note."""
    return next(iter(deque(_revisions(accession, settings), maxlen=1)), None)


def _keep(accession: str, answer: Answer, settings: Settings) -> Answer:
    """Keep an order; that which another process kept meanwhile stays."""
    store = ArtifactStore(settings.artifacts_dir)
    key = next(_key(accession, n) for n in count() if not store.has(_key(accession, n)))
    with store.writing(key) as folder:
        order = answer.order.as_json() if answer.order is not None else {}
        (folder / ORDER_NAME).write_text(json.dumps(order))
        (folder / NOTE_NAME).write_text(answer.note)
    return _kept(accession, settings) or answer


# tandem doctor


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


def check_order_files(read: OrdersRead) -> str:
    """Return one line for ``tandem doctor`` about the orders of a table or of a folder.

    Raises
    ------
    WorklistUnavailableError
        If nothing of the table can be used.
    """
    unused = [problem for problem in read.problems if not problem.used]
    told = "; ".join(problem.sentence for problem in unused[:3])
    if not read.orders and any(problem.whole for problem in read.problems):
        raise WorklistUnavailableError(told)
    more = len(unused) - 3
    told += f"; and {more} more" if more > 0 else ""
    notes = (f"; {problem.sentence}" for problem in read.problems if problem.used)
    known = "".join((f"orders of {len(read.orders)} accessions", *notes))
    return f"{known}; not used: {told} Correct them at their source." if told else known


def _address(worklist: Worklist, longest_s: float | None = None) -> PacsAddress:
    return PacsAddress(
        host=worklist.host,
        port=worklist.port,
        called_aet=worklist.called_aet,
        calling_aet=worklist.calling_aet,
        timeout_s=min(worklist.timeout_seconds, longest_s or worklist.timeout_seconds),
        tls=tls_files(worklist) if worklist.tls else None,
    )
