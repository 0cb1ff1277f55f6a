"""A month of a laboratory by a fake clock: backups and retention each night, and the disk they use.

Slides are rows, events and folders of made bytes: nothing is analyzed. Each case has the artifacts
that the line makes, with sizes as given; converted slides are DICOM files with a small header. The
destination is away for three days, one case is refused for good on the second day, and one waits
for a person from the second day on. Files are not synced (those of SQLite are). Prints a JSON
object: bytes on disk at the end of days, the number of events of removals, the longest night, and
how many working data of cases that are not delivered were removed (0 is right). Synthetic.

Usage: python benchmarks/month.py [--slides 300] [--days 30] [--keep-days 7] [--kilobytes 100]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from appliance.artifacts import SUMS_NAME, ArtifactKey, file_sha256
from appliance.domain import Identity, Pairing, Stain
from appliance.ledger.backups import backups_of
from appliance.ledger.daily import backup_if_due
from appliance.ledger.events import Event
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow, id_of, set_reason
from appliance.ledger.transaction import NewDelivery, Transaction
from appliance.operations.disk import take_sample
from appliance.operations.retention import retain_if_due
from appliance.operations.retention_plan import CACHES, OWNED
from appliance.settings.ledger import LedgerSettings
from appliance.settings.retention import Retention
from appliance.settings.settings import Settings

PAIR = Pairing(assay="her2", anatomy=Stain("HE"), target=Stain("HER2"), expected=True)
DAY = 86400.0
FIRST = 1_780_000_000.0
"""Fake time of the first day; the nights are in the past of the real files' times."""
AWAY = range(10, 13)
"""Days on which the destination is away."""
WSM_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """State after a night: bytes of working data, of results that stay and of the ledger."""

    day: int
    working: int
    results: int
    ledger: int
    backups: int
    seconds: float
    lost: int
    """Working data of cases that are not delivered, which are not there any more."""


class Month:
    """Laboratory whose days are simulated one after the other."""

    def __init__(self, settings: Settings, *, slides: int, kilobytes: int) -> None:
        self.settings, self._pairs, self._size = settings, slides // 2, 1000 * kilobytes
        self._ledger = Ledger(settings.ledger_url)
        self._owed: dict[str, list[ArtifactKey]] = {}
        """Working data of cases that are not delivered, by case."""
        self._slide = self._converted(settings.state_dir)

    def nights(self, days: int) -> Iterator[Night]:
        """Simulate days and yield the state after each night."""
        for day in range(days):
            noon = FIRST + day * DAY
            with self._ledger.transaction() as tx:
                for number in range(self._pairs):
                    self._case(tx, day, number, noon)
            yield self._night(day, noon + DAY / 2)
        self._ledger.close()

    def _night(self, day: int, now: float) -> Night:
        if day not in AWAY:
            self._deliver(now)
        began = time.perf_counter()
        with mock.patch.object(time, "time", lambda: now), mock.patch.object(os, "fsync"):
            take_sample(self.settings, now)
            backup_if_due(self.settings)
            retain_if_due(self.settings, self._ledger, now)
        seconds = time.perf_counter() - began
        root, working = self.settings.artifacts_dir, (*OWNED, *CACHES)
        sizes = {folder.name: _size(folder) for folder in root.iterdir()}
        lost = [
            key
            for keys in self._owed.values()
            for key in keys
            if not (root / key.step / key.digest).is_dir()
        ]
        return Night(
            day=day,
            working=sum(sizes.get(step, 0) for step in working),
            results=sum(size for step, size in sizes.items() if step not in working),
            ledger=self.settings.ledger_file.stat().st_size,
            backups=len(backups_of(self.settings.ledger_file)),
            seconds=round(seconds, 2),
            lost=len(lost),
        )

    def _case(self, tx: Transaction, day: int, number: int, now: float) -> None:
        identity = Identity(accession=f"S{day}-{number}", block="A1", stain=PAIR.target)
        slides = [self._read(tx, identity, stain, now) for stain in (PAIR.anatomy, PAIR.target)]
        case = tx.case_for(identity, now, PAIR)
        tx.advance(case, CaseState.READY, now=now)
        case.findings_key = str(self._write("findings", case.subject, now))
        keys = [self._step(tx, case, "align", now)]
        tx.advance(case, CaseState.ALIGNED, now=now)
        keys.append(self._step(tx, case, "stain", now))
        case.score = "1+"
        tx.advance(case, CaseState.SCORED, now=now)
        converted = [self._write("wsm", slide.subject, now) for slide in slides]
        case.objects_key = str(self._write("objects", case.subject, now))
        for key in converted:
            tx.enqueue(id_of(case), _delivery(key), now)
        tx.advance(case, CaseState.WRITTEN, now=now)
        inspected = [ArtifactKey.parse(slide.inspect_key) for slide in slides]
        self._owed[case.subject] = [*keys, *converted, *inspected]
        if day == 1 and number == 1:
            tx.advance(case, CaseState.HELD, now=now)

    def _read(self, tx: Transaction, identity: Identity, stain: Stain, now: float) -> SlideRow:
        slide = tx.add_slide(f"/scans/{identity.accession}-{stain}.svs", now)
        slide.accession, slide.block, slide.stain = identity.accession, identity.block, stain
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED):
            tx.advance(slide, state, now=now)
        self._write("seen", slide.subject, now)
        slide.inspect_key = str(self._step(tx, slide, "inspect", now))
        tx.advance(slide, SlideState.INSPECTED, now=now)
        self._step(tx, slide, "tumor", now)
        tx.advance(slide, SlideState.READ, now=now)
        return slide

    def _step(self, tx: Transaction, row: SlideRow | CaseRow, step: str, now: float) -> ArtifactKey:
        key = self._write(step, row.subject, now)
        tx.append_event(
            Event(
                at=now,
                subject=row.subject,
                kind="step",
                code="step-done",
                step=step,
                seconds=1.0,
                params={"key": str(key)},
            )
        )
        return key

    def _deliver(self, now: float) -> None:
        """Prove what is queued; the first case of the second day is refused."""
        with self._ledger.transaction() as tx:
            for row in tx.due_deliveries(now):
                case = tx.case(row.case_id)
                if case is None or case.state != CaseState.WRITTEN:
                    continue
                if case.accession == "S1-0":
                    set_reason(row, "refused")
                    tx.advance(row, DeliveryState.REFUSED, now=now)
                    continue
                for state in (DeliveryState.SENT, DeliveryState.PROVEN):
                    tx.advance(row, state, now=now)
            for case_id in tx.cases_whose_deliveries_ended():
                case = tx.case(case_id)
                if case is None:
                    continue
                refused = case.accession == "S1-0"
                to = CaseState.UNDELIVERED if refused else CaseState.DELIVERED
                tx.advance(case, to, now=now)
                if not refused:
                    self._owed.pop(case.subject)

    def _write(self, step: str, subject: str, now: float) -> ArtifactKey:
        """Write an artifact without syncing it."""
        key = ArtifactKey.of(step, subject=subject)
        folder = self.settings.artifacts_dir / key.step / key.digest
        folder.mkdir(parents=True)
        file = folder / ("1.dcm" if step == "wsm" else "data.bin")
        share = {"wsm": 1.0, "objects": 0.02, "findings": 0.01, "seen": 0.0}.get(step, 0.05)
        data = self._slide if step == "wsm" else bytes(int(self._size * share))
        file.write_bytes(data)
        (folder / SUMS_NAME).write_text(f"{file_sha256(file)}  {file.name}\n")
        os.utime(folder, (now, now))
        return key

    def _converted(self, folder: Path) -> bytes:
        """Return a DICOM file with pixels of the given size."""
        dataset = Dataset()
        facts = {
            "SOPClassUID": WSM_CLASS,
            "SOPInstanceUID": "2.25.1",
            "StudyInstanceUID": "2.25.2",
            "SeriesInstanceUID": "2.25.3",
            "BitsAllocated": 8,
            "Rows": self._size // 1000,
            "Columns": 1000,
            "PixelData": bytes(self._size),
        }
        for keyword, value in facts.items():
            setattr(dataset, keyword, value)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = folder / "slide.dcm"
        dataset.save_as(file, enforce_file_format=True)
        data = file.read_bytes()
        file.unlink()
        return data


def _delivery(key: ArtifactKey) -> NewDelivery:
    return NewDelivery(
        destination="archive",
        kind="WSM",
        path=f"{key}/1.dcm",
        study_uid="2.25.2",
        series_uid="2.25.3",
        sop_instance_uid=f"2.25.{int(key.digest, 16)}",
        sop_class_uid=WSM_CLASS,
    )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def month_settings(state: Path, *, keep_days: float) -> Settings:
    """Return settings of the simulated laboratory."""
    return Settings(
        state_dir=state,
        ledger=LedgerSettings(keep_backups=3),
        retention=Retention(keep_days=keep_days, free_gib=0),
    )


def main() -> None:
    """Simulate and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=300)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--keep-days", type=float, default=7)
    parser.add_argument("--kilobytes", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = month_settings(Path(folder) / "state", keep_days=given.keep_days)
        month = Month(settings, slides=given.slides, kilobytes=given.kilobytes)
        nights = list(month.nights(given.days))
        with closing(Ledger(settings.ledger_url)) as ledger, ledger.transaction() as tx:
            removals = len(tx.notes("retired"))
    print(
        json.dumps(
            {
                "nights": [asdict(n) for n in nights if n.day % 5 == 4],
                "removals": removals,
                "most_backups": max(night.backups for night in nights),
                "longest_night_seconds": max(night.seconds for night in nights),
                "undelivered_removed": sum(night.lost for night in nights),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
