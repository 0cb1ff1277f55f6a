"""Work items of a PACS: claimed, their slides fetched, their outcome reported (IHE AIW-I).

What a work item needs here is a file beside the slides: when it was claimed, and its series. The
transaction UID under which it is ours follows from its UID and the installation's salt, so that a
crash loses none. All else is in the ledger: the fetched slides are slides as any others.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from appliance.artifacts import sync_tree, write_whole
from appliance.delivery.destinations.network import web_address
from appliance.delivery.index import read_index
from appliance.errors import RecordDamagedError
from appliance.ledger.heartbeat import LaneSign
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import DeliveryState
from appliance.ledger.tables import CaseRow, id_of
from appliance.line.pulse import Turns
from appliance.line.work_standing import Standing, standing_below
from appliance.settings.installation import installation_salt
from appliance.settings.settings import Settings
from appliance.settings.workitems import WorkItems
from dicom import ups
from dicom.errors import (
    ConnectionLostError,
    DicomError,
    PacsRejectedError,
    PacsUnavailableError,
    SpoolError,
)
from dicom.uids import deterministic_uid, uid_as_name
from dicom.ups import Output, WorkItem
from dicom.wado import Series, may_be_slide, retrieve_series

log = logging.getLogger(__name__)

RECORDS = ".items"
"""Folder of the records in the spool; hidden, so that no scan looks into it."""
ENDED = "ended"
"""Folder in it of the records of ended items: such an item is never taken again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Work item that is ours, or is to be.

    `claimed` tells whether the server said so, `ended` is its final state, empty while it is open.
    """

    uid: str
    claimed_at: float
    retrieve_url: str
    series: tuple[Series, ...]
    claimed: bool = False
    ended: str = ""


class WorkList:
    """Loop over the work items of one server, until `stop` is set."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        wanted: WorkItems,
        stop: threading.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.turns = Turns("the work list takes very long")
        self._ledger, self._settings, self._wanted = ledger, settings, wanted
        self._stop, self._clock = stop, clock
        self._address = web_address(wanted, wanted.url)
        self._told: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._lost: list[Record] = []
        self._trouble = ""

    def sign(self) -> LaneSign:
        """Return the lane's sign: held up by a failed turn, a refused item, or one that is long."""
        sign = self.turns.sign()  # no file is looked at: the spool may hang, and the pulse must not
        told = list(self._refused.items())
        refused = [f"the work item {uid} cannot go on: {why}" for uid, why in told]
        return replace(sign, trouble=sign.trouble or self._trouble or "; ".join(refused[:1]))

    def run(self) -> None:
        """Ask the server at each period; trouble of it is said once and ends by itself."""
        while not self._stop.is_set():
            found = ""
            try:
                with self.turns:
                    self.turn()
            except (DicomError, OSError) as err:
                found = _trouble(err)
            except Exception as err:  # boundary of the loop: the work list goes on
                log.debug("details", exc_info=err)
                found = f"the work list failed: {type(err).__name__}"
            if found and found != self._trouble:
                log.warning("%s", found)
            self._trouble = found
            self._stop.wait(self._wanted.poll_seconds)

    def turn(self) -> None:
        """Follow the open work items, and take new ones.

        Raises
        ------
        DicomError
            If the server cannot be asked, or, at the end, if an item could not be gone on with.
        OSError
            If the spool cannot be written.
        """
        records = {record.uid: record for record in self._records()}
        # An item is refused no longer where a person removed its record.
        self._refused = {uid: why for uid, why in self._refused.items() if uid in records}
        self._lost.clear()
        self._drop_parts(records)
        troubles = [self._try(record) for record in records.values()]
        for item in ups.find_work(self._address):
            known = item.uid in records or self._ended_file(item.uid).exists()
            if not known and self._is_ours(item):
                troubles.append(self._try(self._noted(item)))
        for record in self._lost:  # the server is well: it answered the search
            self._let_go(record)
        for trouble in troubles:
            if trouble is not None:
                raise trouble

    def _try(self, record: Record) -> PacsUnavailableError | None:
        """Go on with one work item; one that cannot go on holds up no other.

        What it has to wait for is returned: a server that answers, but not for this item.

        Raises
        ------
        ConnectionLostError
            If the server of the items does not answer: it would not for the others.
        """
        if record.ended or self._stop.is_set():
            return None
        try:
            self._go_on(record)
            self._refused.pop(record.uid, None)
        except ConnectionLostError:
            raise
        except PacsUnavailableError as err:
            return err
        except (PacsRejectedError, RecordDamagedError) as err:
            if self._is_late(record):
                self._lost.append(record)
            if self._refused.get(record.uid) != str(err):
                log.warning("a work item cannot go on: %s", err)
            self._refused[record.uid] = str(err)
        return None

    def _let_go(self, record: Record) -> None:
        """Put away an item that its server has no longer, or that is another station's."""
        gone = ups.is_gone(self._address, record.uid)
        if record.claimed and gone:
            log.warning("a work item is followed no more: its server has it no longer")
            self._keep(replace(record, ended=ups.WorkState.CANCELED))
        elif not record.claimed and (gone or not self._owns(record.uid)):
            self._record_file(record.uid).unlink(missing_ok=True)
        else:
            return
        self._refused.pop(record.uid, None)

    def _is_ours(self, item: WorkItem) -> bool:
        wanted = self._wanted
        for_us = not item.stations or wanted.station in item.stations
        return item.ready and for_us and (not wanted.codes or bool(item.codes & {*wanted.codes}))

    def _noted(self, item: WorkItem) -> Record:
        """Keep a record of a work item before it is claimed: a crash must not lose it."""
        record = Record(
            uid=item.uid,
            claimed_at=self._clock(),
            retrieve_url=self._retrieve_base(item.retrieve_url),
            series=item.series,
        )
        self._keep(record)
        return record

    def _owns(self, uid: str) -> bool:
        """Return whether a work item that cannot be claimed is ours from before a crash."""
        try:
            self._tell(uid, 1, "claimed")
        except PacsRejectedError:
            return False
        return True

    def _go_on(self, record: Record) -> None:
        """Claim a work item, fetch what is missing, and report how far it is.

        A server that is away is asked again; one that refuses has the last word.
        """
        if not record.claimed:
            uid = record.uid
            ours, station = self._transaction(uid), self._wanted.station
            if not ups.claim(self._address, uid, ours, station) and not self._owns(uid):
                self._lost.append(record)  # another station was faster, or it was deleted
                return
            log.info("a work item was taken: %d series", len(record.series))
            record = replace(record, claimed=True)
            self._keep(record)
        late = self._is_late(record)
        try:
            if not late:
                record = self._fetch(record)
            elif not self._is_fetched(record):
                raise PacsRejectedError("its slides did not come in time")
        except PacsRejectedError as err:
            log.warning("a work item is canceled: %s", err)
            reason = codes.DCM.ObjectSetIncomplete
            self._cancel(record, reason, "The slides could not be fetched.")
            return
        except ConnectionLostError as err:  # of this series alone, as far as is known
            raise PacsUnavailableError(str(err)) from err
        if not record.series:
            log.warning("a work item is canceled: none of its series is a slide")
            reason = codes.DCM.DiscontinuedForUnspecifiedReason
            self._cancel(record, reason, "None of its series is a slide.")
            return
        standing = self._standing(record)
        if standing.ended and standing.cases:
            self._complete(record, standing.cases)
        elif standing.ended or late:
            words = standing.words if standing.ended else f"Not finished in time. {standing.words}"
            self._cancel(record, codes.DCM.DiscontinuedForUnspecifiedReason, words)
        else:
            self._report(record, standing)

    def _is_late(self, record: Record) -> bool:
        late = self._clock() - record.claimed_at > 3600 * self._wanted.patience_hours
        return late and not self._ledger.doubts_clock

    def _report(self, record: Record, standing: Standing) -> None:
        said = f"{standing.percent} {standing.words}"
        if self._told.get(record.uid) == said:
            return
        try:
            self._tell(record.uid, standing.percent, standing.words)
        except PacsRejectedError:
            state = ups.read_work(self._address, record.uid).state
            if state in ups.FINAL:
                log.info("a work item was ended by its server")
                self._keep(replace(record, ended=state))
                return
            raise
        self._told[record.uid] = said

    def _fetch(self, record: Record) -> Record:
        """Fetch the series that are missing; return the record without those that are no slides."""
        if not record.series:
            raise PacsRejectedError("it names no series")
        address = web_address(self._wanted, record.retrieve_url)
        for series in record.series:
            final = self._series_folder(record, series)
            if final.is_dir():
                if not may_be_slide(final):  # of an earlier edition, which kept each series
                    record = self._without(record, series)
                continue
            part = self._wanted.folder / RECORDS / f"{record.uid}-{series.series_uid}"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            count = retrieve_series(address, series, part)
            if not may_be_slide(part):
                shutil.rmtree(part)
                record = self._without(record, series)
                continue
            final.parent.mkdir(exist_ok=True)
            sync_tree(part)  # a folder with its final name is never fetched again
            part.rename(final)
            log.info("a series of a work item was fetched: %d instances", count)
        return record

    def _without(self, record: Record, series: Series) -> Record:
        """Return the record without a series that is no slide, and keep it."""
        left = tuple(each for each in record.series if each != series)
        log.info("a series of a work item is no slide, and was left out")
        record = replace(record, series=left)
        self._keep(record)
        return record

    def _drop_parts(self, open_items: Container[str]) -> None:
        """Remove what is left of series that were not fetched in full for items that ended."""
        for path in (self._wanted.folder / RECORDS).glob("*-*"):
            if path.is_dir() and path.name.partition("-")[0] not in open_items:
                shutil.rmtree(path, ignore_errors=True)

    def _is_fetched(self, record: Record) -> bool:
        """Return whether all series are there."""
        return all(self._series_folder(record, each).is_dir() for each in record.series)

    def _standing(self, record: Record) -> Standing:
        series = [str(self._series_folder(record, each)) for each in record.series]
        with self._ledger.transaction() as tx:
            return standing_below(tx, str(self._folder(record.uid)), series)

    def _complete(self, record: Record, cases: Sequence[CaseRow]) -> None:
        ended = ups.complete(
            self._address,
            record.uid,
            self._transaction(record.uid),
            list(self._outputs(cases)),
            station=Code(self._wanted.station, "99TANDEM", self._wanted.station),
            work=codes.DCM.Interpretation,
            began=record.claimed_at,
        )
        self._keep(replace(record, ended=ended))
        log.info("a work item ended: %s", ended)

    def _outputs(self, cases: Sequence[CaseRow]) -> Iterator[Output]:
        """Yield the proven objects of the results in force.

        Objects of replaced results, and images of the scanner, are in no index of today's objects.
        """
        seen = set[str]()
        for case in cases:
            current = self._objects_of(case)
            with self._ledger.transaction() as tx:
                rows = tx.deliveries(id_of(case))
            for row in rows:
                uid = row.sop_instance_uid
                if row.state == DeliveryState.PROVEN and uid in current - seen:
                    seen.add(uid)
                    yield Output(
                        study_uid=row.study_uid,
                        series_uid=row.series_uid,
                        sop_instance_uid=uid,
                        sop_class_uid=row.sop_class_uid,
                    )

    def _objects_of(self, case: CaseRow) -> set[str]:
        """Return the SOP Instance UIDs of a case's objects of today."""
        try:
            return {each.sop_instance_uid for each in read_index(case.objects_key, self._settings)}
        except (OSError, ValueError, LookupError) as err:
            raise RecordDamagedError(
                f"{case.subject}: the list of its objects cannot be read ({type(err).__name__}). "
                "Restore artifacts/ of the state folder."
            ) from err

    def _cancel(self, record: Record, reason: Code, words: str) -> None:
        ours, station = self._transaction(record.uid), self._wanted.station
        ended = ups.cancel(self._address, record.uid, ours, reason, words, requester=station)
        self._keep(replace(record, ended=ended))

    def _tell(self, uid: str, percent: int, words: str) -> None:
        ups.tell(self._address, uid, self._transaction(uid), percent, words)

    def _transaction(self, uid: str) -> str:
        salt = installation_salt(self._settings.state_dir)
        return deterministic_uid(salt, "ups-transaction", uid)

    def _retrieve_base(self, named: str) -> str:
        """Return the base of WADO-RS: what an item names, if it is on a server of the settings.

        The secret would go there.
        """
        known = {_origin(url) for url in self._wanted.urls}
        usual = self._wanted.retrieve_url or self._wanted.url
        return named if named and _origin(named) in known else usual

    def _folder(self, uid: str) -> Path:
        return self._wanted.folder / uid_as_name(uid)

    def _series_folder(self, record: Record, series: Series) -> Path:
        return self._folder(record.uid) / uid_as_name(series.series_uid)

    def _record_file(self, uid: str) -> Path:
        return self._wanted.folder / RECORDS / f"{uid_as_name(uid)}.json"

    def _ended_file(self, uid: str) -> Path:
        return self._wanted.folder / RECORDS / ENDED / f"{uid_as_name(uid)}.json"

    def _keep(self, record: Record) -> None:
        write_whole(self._record_file(record.uid), json.dumps(asdict(record)).encode())

    def _records(self) -> Iterator[Record]:
        """Yield the open records; those of ended items are put away, where no turn reads them."""
        for path in sorted((self._wanted.folder / RECORDS).glob("*.json")):
            try:
                facts = json.loads(path.read_text())
                series = tuple(Series(**each) for each in facts.pop("series"))
                record = Record(series=series, **facts)
            except (ValueError, KeyError, TypeError):
                log.warning("%s: the record of a work item cannot be read; remove it", path)
                continue
            if record.ended:
                away = path.parent / ENDED / path.name
                away.parent.mkdir(exist_ok=True)
                path.replace(away)
            else:
                yield record


def _trouble(err: DicomError | OSError) -> str:
    """Return the trouble of a turn in words, which pages, alerts and the log show: no path."""
    cause = err.__cause__ if isinstance(err, SpoolError) else err
    if not isinstance(cause, OSError):
        return str(err)
    why = cause.strerror or type(cause).__name__
    return f"the folder of the work list cannot be used ({why})"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
