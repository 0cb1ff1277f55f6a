"""Damaged files of a trial may end in any way but one that says nothing about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.ledger.tables import CaseRow, SlideRow
from benchmarks.trial.ledger import Snapshot
from benchmarks.trial.odd import judge_odd

PATH = "/scans/odd-1.dcm"


def row(state: str, reason: str, *, accession: str = "", path: str = PATH) -> SlideRow:
    return SlideRow(
        id=1,
        path=path,
        state=state,
        reason=reason,
        accession=accession,
        block="A1" if accession else "",
        created_at=0.0,
        changed_at=0.0,
    )


@pytest.mark.parametrize(
    ("found", "is_wrong"),
    [
        (row("quarantined", "unreadable"), False),
        (row("quarantined", "no-accession"), False),
        (row("other", "label"), False),
        (row("superseded", ""), False),  # a level of the series of another odd file
        (row("superseded", "same-content"), False),
        (row("quarantined", ""), True),
        (row("quarantined", "worker-killed"), True),
        (row("arriving", ""), True),
        (row("inspected", ""), True),
        (row("read", ""), True),
        (row("read", "", path="/scans/S26-1.svs"), False),  # not an odd one
    ],
)
def test_an_odd_file_ends_for_a_reason_of_its_own(found: SlideRow, is_wrong: bool) -> None:
    assert bool(judge_odd(Snapshot(slides=[found]), [Path(PATH)])) == is_wrong


def test_an_odd_file_is_of_no_case() -> None:
    case = CaseRow(
        id=3,
        accession="S26-1",
        block="A1",
        assay="her2",
        anatomy="HE",
        target="HER2",
        state="waiting",
        created_at=0.0,
        changed_at=0.0,
    )
    odd = row("quarantined", "unreadable", accession="S26-1")
    found = Snapshot(slides=[odd], cases=[case])
    assert judge_odd(found, [Path(PATH)]) == ["an odd file is of a case: case-3"]
