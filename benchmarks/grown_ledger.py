"""Time of ``tandem status`` on a grown ledger, and the longest wait of a writer meanwhile.

Fills a ledger of `--cases` cases with two slides each, and prints a JSON object: the seconds of
``tandem status`` and of ``status --json --limit 100`` (median of three) and of a backup, and the
longest time that a writer needed for a transaction of one event while nothing else and while each
of them ran.

Usage: python benchmarks/grown_ledger.py [--cases 50000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlmodel import SQLModel

from appliance.ledger.daily import backup_ledger
from appliance.ledger.events import Event, chained
from appliance.ledger.ledger import Ledger
from appliance.settings.settings import Settings

TANDEM = Path(sys.executable).with_name("tandem")
SLIDE_PATH = ("arriving", "arrived", "identified", "inspected", "read")
CASE_PATH = ("waiting", "ready", "aligned", "scored", "written", "delivered")
DELIVERY_PATH = ("queued", "sent", "proven")
KINDS = ("WSM", "SEG", "SR")
UNDER_WAY = 500
"""Newest cases that are still waiting, with one slide set aside of each ten."""
PERIOD_SECONDS = 0.005


def fill(settings: Settings, cases: int) -> None:
    """Fill the ledger with delivered cases, the newest ones under way."""
    Ledger(settings.ledger_url).close()
    connection = sqlite3.connect(settings.state_dir / "ledger.sqlite")
    first = time.time() - 60.0 * cases
    with connection:
        for table, rows in (
            ("slide", _slides(cases, first)),
            ("case", _cases(cases, first)),
            ("delivery", _deliveries(cases, first)),
            ("case_delivery", _case_deliveries(cases)),
            ("event", chained(_events(cases, first))),
        ):
            _insert(connection, table, rows)
    connection.execute("ANALYZE")
    connection.close()


def _insert(connection: sqlite3.Connection, table: str, rows: Iterator[dict[str, Any]]) -> None:
    columns = SQLModel.metadata.tables[table].columns
    usual = {
        c.name: c.default.arg for c in columns if isinstance(c.default, ScalarElementColumnDefault)
    }
    while chunk := [usual | row for row in islice(rows, 5000)]:
        names = ", ".join(f'"{name}"' for name in chunk[0])
        places = ", ".join(f":{name}" for name in chunk[0])
        connection.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({places})', chunk)  # noqa: S608


def _under_way(number: int, cases: int) -> bool:
    return number >= cases - UNDER_WAY


def _set_aside(number: int, cases: int, stain: str) -> bool:
    return _under_way(number, cases) and stain == "HER2" and number % 10 == 0


def _common(at: float) -> dict[str, Any]:
    return {
        "reason": "",
        "params": "{}",
        "worker_crashes": 0,
        "step_tries": 0,
        "not_before": 0.0,
        "claimed_by": "",
        "claim_token": "",
        "stat": False,
        "created_at": at,
        "changed_at": at + 600,
    }


def _slides(cases: int, first: float) -> Iterator[dict[str, Any]]:
    for number in range(cases):
        for place, stain in enumerate(("HE", "HER2")):
            aside = _set_aside(number, cases, stain)
            accession = f"S26-{number:06d}"
            yield _common(first + 60.0 * number) | {
                "id": 2 * number + place + 1,
                "path": f"/scans/{accession}_A1_{stain}.svs",
                "size_bytes": 10**9,
                "modified_ns": 1,
                "fingerprint": f"{number:032x}",
                "state": "quarantined" if aside else "read",
                "reason": "damaged" if aside else "",
                "accession": accession,
                "block": "A1",
                "stain": stain,
                "organ": "breast",
                "specimen": "resection",
                "format": "aperio",
                "width_px": 100_000,
                "height_px": 80_000,
                "mpp": 0.25,
                "level_count": 4,
                "is_dicom": False,
                "inspect_key": "",
            }


def _cases(cases: int, first: float) -> Iterator[dict[str, Any]]:
    for number in range(cases):
        under_way = _under_way(number, cases)
        yield _common(first + 60.0 * number) | {
            "id": number + 1,
            "accession": f"S26-{number:06d}",
            "block": "A1",
            "assay": "her2",
            "anatomy": "HE",
            "target": "HER2",
            "state": "waiting" if under_way else "delivered",
            "score": "" if under_way else "2+",
            "review": "[]",
            "findings_key": "",
            "objects_key": "",
        }


def _deliveries(cases: int, first: float) -> Iterator[dict[str, Any]]:
    for number in range(cases - UNDER_WAY):
        for place, kind in enumerate(KINDS):
            row_id = len(KINDS) * number + place + 1
            yield {
                "id": row_id,
                "case_id": number + 1,
                "destination": "archive",
                "kind": kind,
                "path": f"objects/{row_id}.dcm",
                "study_uid": f"2.25.{number}",
                "series_uid": f"2.25.{number}.{place}",
                "sop_instance_uid": f"2.25.{number}.{place}.1",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.77.1.6",
                "state": "proven",
                "attempts": 1,
                "not_before": 0.0,
                "reason": "",
                "params": "{}",
                "created_at": first + 60.0 * number,
                "changed_at": first + 60.0 * number + 600,
            }


def _case_deliveries(cases: int) -> Iterator[dict[str, Any]]:
    for number in range(cases - UNDER_WAY):
        for place in range(len(KINDS)):
            yield {"case_id": number + 1, "delivery_id": len(KINDS) * number + place + 1}


def _events(cases: int, first: float) -> Iterator[Event]:
    for number in range(cases):
        at, under_way = first + 60.0 * number, _under_way(number, cases)
        for place, stain in enumerate(("HE", "HER2")):
            subject = f"slide-{2 * number + place + 1}"
            states: tuple[str, ...] = SLIDE_PATH
            if _set_aside(number, cases, stain):
                states = ("arriving", "arrived", "quarantined")
            yield from _states(subject, states, at, "")
        states = CASE_PATH[:1] if under_way else CASE_PATH
        yield from _states(f"case-{number + 1}", states, at, "" if under_way else "2+")
        for place in range(0 if under_way else len(KINDS)):
            row_id = len(KINDS) * number + place + 1
            yield from _states(f"delivery-{row_id}", DELIVERY_PATH, at, "")


def _states(subject: str, states: tuple[str, ...], at: float, score: str) -> Iterator[Event]:
    before = ""
    for state in states:
        scored = state in CASE_PATH[3:]
        yield Event(
            at=at,
            subject=subject,
            kind="state",
            code="advanced" if before else "created",
            from_state=before,
            to_state=state,
            score=score if scored else "",
        )
        before = state


class Writer:
    """Thread that commits one event every few milliseconds and times each transaction."""

    def __init__(self, settings: Settings) -> None:
        self._ledger = Ledger(settings.ledger_url)
        self._end = threading.Event()
        self._seconds: list[float] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()
        self._ledger.close()

    def longest_ms(self) -> float:
        """Return the longest transaction since last asked, in ms."""
        seconds, self._seconds = self._seconds, []
        return round(1000 * max(seconds, default=0.0), 1)

    def _run(self) -> None:
        while not self._end.wait(PERIOD_SECONDS):
            began = time.perf_counter()
            with self._ledger.transaction() as tx:
                tx.note("slide-1", "retry", time.time())
            self._seconds.append(time.perf_counter() - began)


def measure(settings: Settings, config: Path) -> dict[str, Any]:
    """Return the figures."""
    figures: dict[str, Any] = {}
    commands = {
        "status": ["status"],
        "status_json_limit_100": ["status", "--json", "--limit", "100"],
    }
    for name, arguments in commands.items():
        seconds = [_run(arguments, config) for _ in range(3)]
        figures[f"{name}_s"] = round(statistics.median(seconds), 2)
    with Writer(settings) as writer:
        time.sleep(5)
        figures["writer_alone_longest_ms"] = writer.longest_ms()
        for name, arguments in commands.items():
            for _ in range(3):
                _run(arguments, config)
            figures[f"{name}_writer_longest_ms"] = writer.longest_ms()
        began = time.perf_counter()
        backup_ledger(settings)
        figures["backup_s"] = round(time.perf_counter() - began, 2)
        figures["backup_writer_longest_ms"] = writer.longest_ms()
    return figures


def _run(arguments: list[str], config: Path) -> float:
    began = time.perf_counter()
    command = [str(TANDEM), *arguments, "--config", str(config)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--keep", type=Path, help="Folder for the ledger; filled if it is empty.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = options.keep or Path(scratch)
        state, scans = folder / "state", folder / "scans"
        scans.mkdir(parents=True, exist_ok=True)
        config = folder / "tandem.toml"
        config.write_text(f'state_dir = "{state}"\n[watch]\nfolder = "{scans}"\n')
        settings = Settings(state_dir=state)
        if not (state / "ledger.sqlite").exists():
            fill(settings, options.cases)
        size_mb = round((state / "ledger.sqlite").stat().st_size / 1e6)
        print(json.dumps({"ledger_mb": size_mb} | measure(settings, config), indent=1))


if __name__ == "__main__":
    main()
