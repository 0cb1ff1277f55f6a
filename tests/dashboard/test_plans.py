"""Queries of the pages that refresh read indexes, whatever SQLite knows of the rows."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from appliance.ledger.lifecycle import CaseState
from appliance.ledger.reader import LedgerReader
from benchmarks.grown_ledger import fill
from dashboard.flow import read_flow
from dashboard.quality import read_quality
from dashboard.queries import read_case, read_queue
from dashboard.record import read_record
from dashboard.worklist import SpokenCases, read_work_list

if TYPE_CHECKING:
    from conftest import Lab

COUNTED = (
    "SCAN case USING COVERING INDEX",
    "SCAN slide USING COVERING INDEX",
    "SCAN case USING INDEX ix_case_review",
    "SCAN case USING INDEX ix_case_claimed",
    "SCAN slide USING INDEX ix_slide_claimed",
)
"""Reads of a whole index: for the numbers of cases and slides; those that hold only what is asked.
"""
IN_ORDER = ("SCAN event", "SCAN slide", "SCAN case")
"""Reads that a limit ends: the newest rows first, by their ids."""
STEPS_PER_EVENT = 30
"""Most instructions of SQLite's machine for each event where each is read a few times."""


@pytest.mark.parametrize("statistics", [True, False])
def test_pages_read_indexes_however_the_rows_are_spread(lab: Lab, statistics: bool) -> None:
    lab.ledger.close()
    lab.settings.ledger_file.unlink()
    fill(lab.settings, 600)
    with sqlite3.connect(lab.settings.ledger_file) as connection:
        if not statistics:
            connection.execute("DELETE FROM sqlite_stat1")
    connection.close()
    reader, asked = LedgerReader(lab.settings.ledger_url), list[tuple[str, Any]]()
    assert reader.ready

    def keep(_c: object, _k: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(reader._engine, "before_cursor_execute", keep)
    spoken = SpokenCases()
    queue = read_queue(reader, lab.settings)
    assert queue.counts.slides == 1200 and queue.counts.trouble == 50
    read_flow(reader, lab.settings)
    read_case(reader, lab.settings, 7)
    read_record(reader, lab.settings, who="meyer", case="case-7")
    read_work_list(reader, lab.settings, spoken)
    assert read_work_list(reader, lab.settings, spoken).total == 100
    reader.close()
    with sqlite3.connect(lab.settings.ledger_file) as connection:
        connection.create_function("casefold", 1, str, deterministic=True)
        for statement, parameters in asked:
            told = [str(each) if isinstance(each, CaseState) else each for each in parameters]
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", told).fetchall()
            for _, _, _, step in plan:
                scan = step.startswith("SCAN") and not step.startswith(COUNTED)
                limited = step in IN_ORDER and " LIMIT " in statement
                assert not scan or limited, (step, statement)
    connection.close()


def test_the_quality_page_costs_as_much_as_there_are_events(lab: Lab) -> None:
    lab.ledger.close()
    lab.settings.ledger_file.unlink()
    fill(lab.settings, 1200)
    with sqlite3.connect(lab.settings.ledger_file) as connection:
        connection.execute(
            """UPDATE event SET params = '{"reasons": 1}' WHERE to_state = 'scored'"""
        )
        (events,) = connection.execute("SELECT count(*) FROM event").fetchone()
    connection.close()
    reader, thousands = LedgerReader(lab.settings.ledger_url), list[None]()
    assert reader.ready

    def count(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(lambda: thousands.append(None), 1000)

    event.listen(reader._engine, "checkout", count)
    found = read_quality(reader, lab.settings)
    reader.close()
    assert sum(share.part for share in found.review) == 700
    assert 0 < 1000 * len(thousands) < STEPS_PER_EVENT * events
