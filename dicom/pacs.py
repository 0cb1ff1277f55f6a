"""DIMSE client of a PACS: C-ECHO, C-STORE, C-FIND, and a probe of accepted classes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import _config
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom.association import MAX_CONTEXTS, Kind, PacsAddress, associate, title_of
from dicom.characters import UNREADABLE
from dicom.deadline import Deadline
from dicom.errors import (
    ClassesRejectedError,
    ConnectionLostError,
    PacsRejectedError,
    PacsUnavailableError,
    SourceError,
)
from dicom.implicit import EXPLICIT, IMPLICIT, write_implicit
from dicom.status import (
    FILE_GONE,
    MAX_LOST,
    NOBODY,
    UNAVAILABLE,
    After,
    Before,
    Failed,
    InstanceRef,
    Outcome,
    Said,
    Service,
    Verdict,
    classify,
    said_of,
)

log = logging.getLogger(__name__)

PENDING = (0xFF00, 0xFF01)
NO_ANSWER = (
    "lost the connection or did not answer in time. Where its log shows that it was still at work "
    "on it, raise timeout_seconds"
)


def echo(address: PacsAddress) -> None:
    """Send a C-ECHO.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    with associate(address, [(Verification, None)]) as association:
        check_answer(address, association.send_c_echo(), Service.ECHO)


def store(address: PacsAddress, paths: Sequence[Path], *, before: Before, after: After) -> None:
    """Store files by C-STORE in order; an error of one file does not stop the others.

    After a lost connection the next file uses a new association. Objects of Explicit VR Little
    Endian are offered as Implicit VR Little Endian too, and sent so where only that is accepted.

    Raises
    ------
    PacsUnavailableError
        No association, or `MAX_LOST` lost connections in a row. Files without a call of `after`
        were not sent.
    PacsRejectedError
        The association was rejected for good.
    """
    kinds: dict[Path, Kind] = {}
    for path in paths:
        try:
            kinds[path] = _kind(path)
        except InvalidDicomError:
            after(path, Outcome(verdict=Verdict.NEVER, text="is no DICOM file any more"))
        except SourceError as err:
            after(path, Outcome(verdict=Verdict.NEVER, text=f"has not got it: {err}"))
        except OSError:
            after(path, Outcome(verdict=Verdict.LATER, text=FILE_GONE))
    # Send a slide of some GB from disk in pieces instead of reading it into memory first.
    _config.STORE_SEND_CHUNKED_DATASET = True
    left, lost, deadline = list(kinds), 0, Deadline()
    while left:
        batch = _of_one_association(left, kinds)
        offered = sorted({kind for path in batch for kind in _offered(kinds[path])})
        try:
            with associate(address, offered, deadline=deadline) as association:
                for path in batch:
                    deadline.start(address.limit_s(path.stat().st_size))
                    _store_one(address, association, path, kinds[path], before, after)
                    left.remove(path)
                    lost = 0
                deadline.start(address.limit_s())  # of the release
        except ClassesRejectedError as err:
            for path in batch:
                left.remove(path)
                after(path, Outcome(verdict=Verdict.NEVER, text=str(err)))
        except ConnectionLostError as err:
            after(left.pop(0), Outcome(verdict=Verdict.LATER, text=str(err)))
            lost += 1
            if lost == MAX_LOST and left:
                raise PacsUnavailableError(f"{err}, {lost} times in a row") from err


def _store_one(
    address: PacsAddress, association: Any, path: Path, kind: Kind, before: Before, after: After
) -> None:
    accepted = _accepted(association)
    taken = next((each for each in _offered(kind) if each in accepted), None)
    if taken is None:
        text = (
            f"{address.title} takes no {title_of(kind[0])} as {title_of(str(kind[1]))}. "
            "Allow it in the PACS, then: tandem retry."
        )
        after(path, Outcome(verdict=Verdict.NEVER, text=text))
        return
    with ExitStack() as stack:
        sent = path
        if taken != kind:
            try:
                folder = stack.enter_context(TemporaryDirectory(prefix="tandem-"))
                sent = Path(folder) / "object.dcm"
                write_implicit(path, sent)
            except (OSError, SourceError) as err:
                text = f"takes Implicit VR alone, and no such copy can be made: {err}"
                later = isinstance(err, OSError)
                verdict = Verdict.LATER if later else Verdict.NEVER
                after(path, Outcome(verdict=verdict, text=text))
                return
        before(path)
        outcome = _send(address, association, sent)
    after(path, outcome)


def _send(address: PacsAddress, association: Any, path: Path) -> Outcome:
    try:
        status = association.send_c_store(path)
    except RuntimeError as err:  # the association has ended
        raise ConnectionLostError(f"{address.title} closed the connection") from err
    if "Status" not in status:
        raise ConnectionLostError(f"{address.title} {NO_ANSWER}")
    return classify(int(status.Status), str(status.get("ErrorComment", "")))


def _offered(kind: Kind) -> tuple[Kind, ...]:
    """Return the ways to send an object, best first (PS3.5 10.1)."""
    sop_class, syntax = kind
    return (kind, (sop_class, IMPLICIT)) if syntax == EXPLICIT else (kind,)


def _accepted(association: Any) -> set[Kind]:
    return {
        (str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts
    }


def _of_one_association(paths: Sequence[Path], kinds: Mapping[Path, Kind]) -> Sequence[Path]:
    """First files whose kinds fit into one association (`MAX_CONTEXTS`)."""
    seen: set[Kind] = set()
    for count, path in enumerate(paths):
        seen.update(_offered(kinds[path]))
        if len(seen) > MAX_CONTEXTS:
            return paths[: max(count, 1)]
    return list(paths)


def find_instances(address: PacsAddress, wanted: Sequence[InstanceRef]) -> dict[str, Said]:
    """Return, by SOP Instance UID, whether C-FIND at IMAGE level finds an instance.

    An instance whose own query fails, as its record there may be damaged, has the words of that.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
        If the service fails, whatever the instance.
    """
    said: dict[str, Said] = {}
    left, lost = list(wanted), 0
    while left:
        try:
            with _querying(address) as find:
                while left:
                    uid = left[0].sop_instance_uid
                    try:
                        said[uid] = said_of(find(left[0]))
                    except ConnectionLostError:
                        raise
                    except (PacsUnavailableError, PacsRejectedError) as err:
                        said[uid] = Failed(err)
                    left.pop(0)
                    lost = 0
        except ConnectionLostError as err:
            lost += 1
            if lost == MAX_LOST:
                _check_find(address)
                lost = 0
            said[left.pop(0).sop_instance_uid] = Failed(err)
    if said and all(isinstance(each, str) for each in said.values()):
        _check_find(address)
    return said | _elsewhere(address, [r for r in wanted if said[r.sop_instance_uid] is False])


def _check_find(address: PacsAddress) -> None:
    with _querying(address) as find:
        find(NOBODY)


def _elsewhere(address: PacsAddress, refs: Sequence[InstanceRef]) -> dict[str, Said]:
    """Return what a query by SOP Instance UID alone finds, as an archive may move an object.

    It is a relational query (PS3.4 C.4.1.2.2.1), which not every archive takes: the first failure
    ends it, and the others count as not found.
    """
    said: dict[str, Said] = {}
    if not refs:
        return said
    try:
        with _querying(address) as find:
            for ref in refs:
                found = find(replace(ref, study_uid="", series_uid=""))
                said[ref.sop_instance_uid] = said_of(found, ref.study_uid)
    except (PacsUnavailableError, PacsRejectedError) as err:
        log.debug("no query by SOP Instance UID alone", exc_info=err)
    return said


@contextmanager
def _querying(address: PacsAddress) -> Iterator[Callable[[InstanceRef], list[tuple[str, bool]]]]:
    """Open an association; yield a query for an instance.

    It returns the study of each answer on the instance, and whether it is to be had there.
    """
    model = StudyRootQueryRetrieveInformationModelFind
    deadline = Deadline()

    def find(ref: InstanceRef) -> list[tuple[str, bool]]:
        deadline.start(address.limit_s())
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID = ref.study_uid
        query.SeriesInstanceUID = ref.series_uid
        query.SOPInstanceUID = ref.sop_instance_uid
        answers = []
        try:
            for status, item in association.send_c_find(query, model):
                if not status or status.Status not in PENDING:
                    check_answer(address, status, Service.FIND)
                # Read all answers: a release between answers is an abort for the other side.
                elif (named := _answer(item, ref.sop_instance_uid)) is not None:
                    answers.append(named)
                elif not ref.study_uid:  # it passes over the key, and gives all that it has
                    raise ConnectionLostError(f"{address.title} answers with other instances")
        except RuntimeError as err:  # the association has ended
            raise ConnectionLostError(f"{address.title} closed the connection") from err
        return answers

    with associate(address, [(model, None)], deadline=deadline) as association:
        yield find


def _answer(item: Dataset | None, uid: str) -> tuple[str, bool] | None:
    """Return the study of an answer that names an instance, and whether it is to be had there.

    An answer whose SOP Instance UID is damaged names none; one that is damaged beside it counts.
    """
    if item is None or _value(item, "SOPInstanceUID") != uid:
        return None
    is_available = _value(item, "InstanceAvailability") != UNAVAILABLE
    return str(_value(item, "StudyInstanceUID") or ""), is_available


def _value(item: Dataset, name: str) -> Any:
    try:
        return item.get(name)
    except UNREADABLE:  # elements are parsed when they are asked for
        return None


def probe(address: PacsAddress, kinds: Sequence[Kind]) -> dict[Kind, Kind | None]:
    """Return for each kind the way that the PACS takes it, None where it does not; nothing is sent.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    offered = dict.fromkeys(each for kind in kinds for each in _offered(kind))
    try:
        with associate(address, [(Verification, None), *offered]) as association:
            accepted = _accepted(association)
    except ClassesRejectedError:
        accepted = set()
    return {
        kind: next((each for each in _offered(kind) if each in accepted), None) for kind in kinds
    }


def check_answer(address: PacsAddress, status: Dataset, service: Service) -> None:
    """Raise the error of a status that is neither success nor warning.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    if not status or "Status" not in status:
        raise ConnectionLostError(f"{address.title} {NO_ANSWER}")
    outcome = classify(int(status.Status), service=service)
    if outcome.verdict is Verdict.LATER:
        raise PacsUnavailableError(f"{address.title} {outcome.text}")
    if outcome.verdict is Verdict.NEVER:
        raise PacsRejectedError(f"{address.title} {outcome.text}")


def _kind(path: Path) -> Kind:
    meta = read_file_meta_info(path)
    names = ("MediaStorageSOPClassUID", "TransferSyntaxUID", "MediaStorageSOPInstanceUID")
    sop_class, syntax, instance = (str(meta.get(name) or "") for name in names)
    if not (sop_class and syntax and instance):
        raise SourceError("the header of its file lacks class, instance or transfer syntax")
    return sop_class, syntax
