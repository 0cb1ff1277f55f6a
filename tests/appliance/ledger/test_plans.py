"""What the daemon asks for each step reads an index, however long the ledger is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from appliance.ledger import overview
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction

ASKED: dict[str, Callable[[Transaction], object]] = {
    "claim of a slide": lambda tx: tx.claim_slide([SlideState.ARRIVED], "w", 1.0),
    "claim of a case": lambda tx: tx.claim_case([CaseState.READY], "w", 1.0, ["her2", "toy"]),
    "cases that are aligned ahead": lambda tx: tx.cases_ahead(1.0, ["her2", "toy"], 1),
    "claim of the oldest": lambda tx: tx.claim_slide([SlideState.ARRIVED], "w", 1.0, oldest=True),
    "due deliveries": lambda tx: tx.due_deliveries(1.0),
    "due deliveries of one": lambda tx: tx.due_deliveries(1.0, 2.0, ["a"], None),
    "due deliveries astray": lambda tx: tx.due_deliveries(1.0, 2.0, [], ["a", "b"]),
    "unproven deliveries": lambda tx: tx.due_unproven(1.0, 2.0, ["a"], None, limit=9),
    "unproven to be asked again": lambda tx: tx.ask_again(["a"]),
    "deliveries that ended": lambda tx: tx.cases_whose_deliveries_ended(),
    "overdue partners": lambda tx: tx.waiting_cases(1.0),
    "slide of a path": lambda tx: tx.slide_of_path("a"),
    "slides of a block": lambda tx: tx.slides_of_block("a", "b"),
    "slides of an accession": lambda tx: tx.slides_of_accession("a"),
    "cases of a block": lambda tx: tx.cases_of_block("a", "b"),
    "deliveries of a case": lambda tx: tx.deliveries(1),
    "events of a slide": lambda tx: tx.events("slide-1"),
    "release of claims": lambda tx: tx.release_claims(),
    "newest slides": lambda tx: overview._newest(tx, SlideRow, ["arrived"], 10),
    "slides of cases": lambda tx: overview.slides_by_block(tx, [CaseRow(accession="a")]),
    "cases of slides": lambda tx: overview.cases_by_block(tx, [SlideRow(accession="a")]),
    "deliveries of cases": lambda tx: overview.deliveries_by_case(tx, [CaseRow(id=1)]),
    "events of cases": lambda tx: overview.events_by_subject(tx, [CaseRow(id=1)]),
}
PARTIAL = ("ix_slide_claimed", "ix_case_claimed")
"""Indexes of claimed rows only: all of one is short."""


@pytest.mark.parametrize("asked", ASKED)
def test_no_table_is_read_from_end_to_end(tmp_path: Path, asked: str) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}")
    with ledger.transaction() as tx:
        tx.add_slide("a", 1.0)
    statements = []
    event.listen(
        ledger._engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, _context, _many: statements.append(
            (statement, values)
        ),
    )
    with ledger.transaction() as tx:
        ASKED[asked](tx)
    ledger.close()
    asked_for = [each for each in statements if each[0].startswith(("SELECT", "UPDATE"))]
    assert asked_for
    with sqlite3.connect(path) as connection:
        plans = [
            str(step[3])
            for statement, values in asked_for
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    connection.close()
    scans = [plan for plan in plans if plan.startswith("SCAN") and not plan.endswith(PARTIAL)]
    assert scans == []
