"""UPS-RS client: work items of a PACS that asks for cases (PS3.18 section 11, PS3.4 annex CC).

A work item is found, claimed under a transaction UID, told how far it is, and completed with the
objects that came of it, or canceled with a reason. Who knows the transaction UID owns the item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from pydicom.sr.coding import Code

from dicom.dicom_json import attribute, items_of, sequence, value_of
from dicom.dicomweb import HttpAnswer, WebAddress, explain
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.http_status import find_http_status
from dicom.status import Verdict
from dicom.uids import is_uid
from dicom.wado import Series

WORKITEMS = "workitems"
JSON = {"Content-Type": "application/dicom+json"}
PAGE_ITEMS = 100
"""Items that one request of a search asks for."""
LEAST_PAGE = 20
"""Items below which an answer is the last one: no server gives so few at a time."""
MOST_PAGES = 50
"""Requests of one search; what lies behind them comes when others have ended."""
LONGEST_TEXT = 1024
"""Characters of a text (ST, PS3.5 6.2)."""


class WorkState(StrEnum):
    """State of a work item (PS3.4 CC.1.1)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


FINAL = (WorkState.COMPLETED, WorkState.CANCELED)
"""States that a work item has no state after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """Work item: its UID, its state, and the series that it is about.

    `retrieve_url` is the base of WADO-RS that it names, empty where it names none. `codes` are the
    values of its workitem codes, and of the stations that it is scheduled for.
    """

    uid: str
    state: str
    ready: bool
    series: tuple[Series, ...]
    retrieve_url: str
    codes: frozenset[str]
    stations: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Object that came of a work item."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


def find_work(address: WebAddress) -> list[WorkItem]:
    """Return scheduled work items, as they come; at most `MOST_PAGES` pages of them.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    found: dict[str, WorkItem] = {}
    offset = 0
    for _ in range(MOST_PAGES):
        listed = _page(address, offset)
        new = {each.uid: each for each in listed if each.uid not in found}
        found |= new
        offset += len(listed)
        # A server may give fewer than it was asked for. It may ignore the offset, and answer all
        # the same again.
        if len(listed) < LEAST_PAGE or not new:
            break
    # A server may ignore what it was asked for.
    scheduled = WorkState.SCHEDULED
    return [each for each in found.values() if is_uid(each.uid) and each.state == scheduled]


def _page(address: WebAddress, offset: int) -> list[WorkItem]:
    wanted = {
        "ProcedureStepState": WorkState.SCHEDULED.value,
        "includefield": "all",
        "limit": str(PAGE_ITEMS),
        "offset": str(offset),
    }
    answer = address.call("GET", WORKITEMS, params=wanted)
    if answer.status == 204:
        return []
    listed = _checked(address, answer).json()
    if not isinstance(listed, list):
        raise PacsRejectedError(f"{address.url}: UPS-RS answered no JSON. Is the url right?")
    return [_item(each) for each in listed if isinstance(each, dict)]


def read_work(address: WebAddress, uid: str) -> WorkItem:
    """Return a work item as it stands now.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    answer = _checked(address, address.call("GET", f"{WORKITEMS}/{uid}")).json()
    item = answer[0] if isinstance(answer, list) and answer else answer
    if not isinstance(item, dict):
        raise PacsRejectedError(f"{address.url}: UPS-RS answered no JSON. Is the url right?")
    found = _item(item)
    return found if found.uid else _item({**item, "00080018": {"Value": [uid]}})


def is_gone(address: WebAddress, uid: str) -> bool:
    """Return whether a server says that it does not have a work item any more.

    Raises
    ------
    PacsUnavailableError
    """
    return address.call("GET", f"{WORKITEMS}/{uid}").status in (404, 410)


def claim(address: WebAddress, uid: str, transaction_uid: str, requester: str) -> bool:
    """Claim a work item; False where another one has it, or it is scheduled or there no longer.

    Claimed once more under the same transaction UID, it stays ours. `requester` is the AE title of
    the own station.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    answer = _change(address, uid, transaction_uid, WorkState.IN_PROGRESS, requester)
    if answer.status in (400, 409, 410) or (answer.status == 404 and is_gone(address, uid)):
        return False
    _checked(address, answer)
    return True


def tell(address: WebAddress, uid: str, transaction_uid: str, percent: int, words: str) -> None:
    """Say how far a claimed work item is: `percent` (0-100), and words without patient data.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    progress = {"00741004": attribute("DS", str(percent)), "00741006": _text(words)}
    _update(address, uid, transaction_uid, {"00741002": sequence(progress)})


def complete(
    address: WebAddress,
    uid: str,
    transaction_uid: str,
    outputs: Sequence[Output],
    *,
    station: Code,
    work: Code,
    began: float,
) -> str:
    """Name the objects that came of a claimed work item, and end it as completed.

    `began` is the time of the claim, seconds since the epoch. The state is returned in which it
    ended: its server may have ended it otherwise before.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    performed = {
        "00404028": sequence(_code(station)),  # PerformedStationNameCodeSequence
        "00404019": sequence(_code(work)),  # PerformedWorkitemCodeSequence
        "00404050": attribute("DT", _moment(began)),
        "00404051": attribute("DT", _moment(datetime.now(UTC).timestamp())),
        "00404033": sequence(*_outputs(outputs)),  # OutputInformationSequence
    }
    done = {"00741004": attribute("DS", "100")}
    changes = {"00741216": sequence(performed), "00741002": sequence(done)}
    return _end(address, uid, transaction_uid, changes, WorkState.COMPLETED, station.value)


def cancel(
    address: WebAddress, uid: str, transaction_uid: str, reason: Code, words: str, *, requester: str
) -> str:
    """End a claimed work item as canceled, with a coded reason and words without patient data.

    The state is returned in which it ended: its server may have ended it otherwise before.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    progress = {
        "00404052": attribute("DT", _moment(datetime.now(UTC).timestamp())),
        "00741238": attribute("LT", words[:LONGEST_TEXT]),
        "0074100E": sequence(_code(reason)),
    }
    changes = {"00741002": sequence(progress)}
    return _end(address, uid, transaction_uid, changes, WorkState.CANCELED, requester)


def _end(
    address: WebAddress,
    uid: str,
    transaction_uid: str,
    changes: dict[str, Any],
    state: WorkState,
    requester: str,
) -> str:
    try:
        _update(address, uid, transaction_uid, changes)
        _checked(address, _change(address, uid, transaction_uid, state, requester))
    except PacsRejectedError:
        # The answer to an earlier try was lost, or the server ended the item by itself.
        now = read_work(address, uid).state
        if now not in FINAL:
            raise
        return now
    return state


def _change(
    address: WebAddress, uid: str, transaction_uid: str, state: WorkState, requester: str
) -> HttpAnswer:
    wanted = {
        "00081195": attribute("UI", transaction_uid),
        "00741000": attribute("CS", state.value),
    }
    path = f"{WORKITEMS}/{uid}/state"
    answer = address.call("PUT", path, json=[wanted], headers=JSON)
    if answer.status in (404, 405):
        # Some servers, as dcm4chee-arc, know this resource only with the requester behind it.
        path = f"{path}/{quote(requester, safe='')}"
        again = address.call("PUT", path, json=[wanted], headers=JSON)
        # Others know no such resource: what they said first is what they say of the item.
        return answer if again.status in (400, 404, 405) else again
    return answer


def _update(address: WebAddress, uid: str, transaction_uid: str, changes: dict[str, Any]) -> None:
    # In the address as PS3.18 has it, and in the data set as PS3.4 Table CC.2.5-3 has it.
    query = {"transaction": transaction_uid}
    changes = changes | {"00081195": attribute("UI", transaction_uid)}
    answer = address.call("POST", f"{WORKITEMS}/{uid}", params=query, json=[changes], headers=JSON)
    _checked(address, answer)


def _checked(address: WebAddress, answer: HttpAnswer) -> HttpAnswer:
    if answer.status in range(200, 300):
        return answer
    told = explain(address, "UPS-RS", answer.status)
    # 404 and 410 are said of a work item: the server does not know it, or it has ended.
    row = find_http_status(answer.status)
    if row.verdict is Verdict.LATER or (row.of_server and answer.status not in (404, 410)):
        raise PacsUnavailableError(told)
    raise PacsRejectedError(told)


def _item(dataset: dict[str, Any]) -> WorkItem:
    inputs = items_of(dataset, "00404021")  # InputInformationSequence
    retrieves = [url for each in inputs for url in _retrieve_urls(each)]
    named = ((value_of(each, "0020000D"), value_of(each, "0020000E")) for each in inputs)
    series = dict.fromkeys(pair for pair in named if is_uid(pair[0]) and is_uid(pair[1]))
    return WorkItem(
        uid=value_of(dataset, "00080018"),
        state=value_of(dataset, "00741000"),
        ready=value_of(dataset, "00404041") in ("", "READY"),
        series=tuple(Series(study_uid=study, series_uid=uid) for study, uid in series),
        retrieve_url=retrieves[0] if retrieves else "",
        codes=_codeattribute(dataset, "00404018"),
        stations=_codeattribute(dataset, "00404025"),
    )


def _retrieve_urls(item: dict[str, Any]) -> list[str]:
    """Return the bases of WADO-RS of an input: what stands before ``/studies``."""
    urls = [value_of(each, "00081190") for each in items_of(item, "0040E025")]
    return [url.partition("/studies")[0] for url in urls if url.startswith(("http:", "https:"))]


def _codeattribute(dataset: dict[str, Any], tag: str) -> frozenset[str]:
    return frozenset(value_of(each, "00080100") for each in items_of(dataset, tag)) - {""}


def _outputs(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    by_series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in outputs:
        reference = {
            "00081150": attribute("UI", each.sop_class_uid),
            "00081155": attribute("UI", each.sop_instance_uid),
        }
        by_series.setdefault((each.study_uid, each.series_uid), []).append(reference)
    return [
        {
            "0040E020": attribute("CS", "DICOM"),
            "0020000D": attribute("UI", study),
            "0020000E": attribute("UI", series),
            "00081199": sequence(*references),
        }
        for (study, series), references in by_series.items()
    ]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y%m%d%H%M%S+0000")


def _code(code: Code) -> dict[str, Any]:
    return {
        "00080100": attribute("SH", code.value),
        "00080102": attribute("SH", code.scheme_designator),
        "00080104": attribute("LO", code.meaning),
    }


def _text(words: str) -> dict[str, Any]:
    return attribute("ST", words[:LONGEST_TEXT])
