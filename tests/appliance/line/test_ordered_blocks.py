"""Stains that an order asks for of one block, in the ledger's rows of other blocks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR
from fixtures.slide_objects import write_svs

from appliance.delivery.orders import ask_orders
from appliance.delivery.requests import answered_request
from appliance.domain import Stain
from appliance.intake.pair import expire_waiting
from appliance.intake.watch import FolderScan
from appliance.ledger.ledger import Ledger
from appliance.line.analyze_slide import identify_slide
from appliance.line.context import Done, StepContext
from appliance.line.slide_steps import finish_identify
from appliance.settings.intake import PairSettings, Watch
from appliance.settings.orders import Orders
from appliance.settings.settings import Settings

HEAD = "MSH|^~\\&|LIS|LAB|||20261120||OML^O21|1|P|2.5.1\rPID|1||4711||Meier^Anna\r"


def her2(block: str) -> str:
    """Message of an order for HER2 of a block, or of no block."""
    specimen = f"SPM|1|S26-1;{block}\r" if block else ""
    return f"{HEAD}ORC|NW|P1|S26-1\rOBR|1|P1|S26-1|HER2^HER2 IHC\r{specimen}"


def row(block: str) -> dict[str, str]:
    """Table of an order for HER2 of a block, and for H&E of B1."""
    return {"csv": f'{TABLE}"{block}";HER2\nS26-1;4711;B1;HE\n'}


TABLE = "Accession;Patient ID;Block;Stain\nS26-1;4711;"
MISSED, QUIET = ("partnerless", "stain-missing"), ("waiting", "not-asked")


@pytest.mark.parametrize(
    ("orders", "ends"),
    [
        ({"hl7": her2("A1")}, [MISSED, QUIET]),
        ({"hl7": her2("")}, [MISSED, MISSED]),
        ({"hl7": her2("A1"), "csv": f"{TABLE}B1;HE, HER2\n"}, [MISSED, MISSED]),
        ({"csv": f"{TABLE}A1;HE, HER2\nS26-1;4711;B1;HE\n"}, [MISSED, QUIET]),
        ({"csv": f"{TABLE}A1;HE, HER2\n"}, [MISSED, QUIET]),
        ({"csv": f"{TABLE};HE, HER2\n"}, [MISSED, MISSED]),
        # A block in another writing is that block.
        *((row(cell), [MISSED, QUIET]) for cell in ("A/1", "A.1", "A:1", "Blk A1", "(A1)", "#A1")),
        *((row(cell), [MISSED, QUIET]) for cell in ("Kapsel A1", "A1-1", "A1 Mamma", "A1, A2")),
        *((row(cell), [QUIET, QUIET]) for cell in ("A2", "A2,A3", "A2 Mamma", "1", "A2-3")),
        # A number behind a block may be one of its letter.
        *((row(cell), [QUIET, MISSED]) for cell in ("B2, 1", "B2/1", "B2+1", "B2 und 1", "B2 1")),
        (row("A"), [MISSED, QUIET]),
        # One that cannot be read may be any, as may the mark of a part.
        *((row(cell), [MISSED, MISSED]) for cell in ("Mamma", "A1-B2", "A2 A3", "P1", "T 1", "0")),
        *(({"hl7": her2(mark)}, [MISSED, MISSED]) for mark in ("P1", "T1", "SP1", "PT1")),
    ],
)
@pytest.mark.parametrize("lone_he", ["quiet", "trouble"])
def test_an_order_for_one_block_lets_the_he_slides_of_others_wait(
    orders: dict[str, str], ends: list[tuple[str, str]], lone_he: str, tmp_path: Path
) -> None:
    (tmp_path / "hl7").mkdir()
    files = {"hl7": tmp_path / "hl7" / "one.hl7", "csv": tmp_path / "orders.csv"}
    for source, text in orders.items():
        files[source].write_text(text)
        os.utime(files[source], (time.time() - 600,) * 2)
    (tmp_path / "scans").mkdir()
    paths = {"hl7": tmp_path / "hl7", "csv": files["csv"]}
    settings = Settings(
        state_dir=tmp_path / "state",
        watch=Watch(folder=tmp_path / "scans", stable_seconds=1, patience_seconds=1),
        orders=Orders.model_validate({source: paths[source] for source in orders}),
    )
    ledger = Ledger(settings.ledger_url)
    context = StepContext(ledger=ledger, settings=settings, name="test", pairings=(HER2_PAIR,))
    slides = [
        write_svs(tmp_path / "scans" / f"S26-1_{block}_HE.svs", seed)
        for seed, block in enumerate(("A1", "B1"))
    ]
    scan = FolderScan(ledger, settings.watch)
    for second in (0.0, 2.0):
        scan.run(monotonic=second, now=second)
    for path in slides:
        found = identify_slide(path, settings, {})
        with ledger.transaction() as tx:
            row = tx.slide_of_path(str(path))
            assert row is not None
            finish_identify(tx, context, row, Done(value=found, seconds=1.0), 3.0)
    with ledger.transaction() as tx:
        pair = PairSettings.model_validate({"lone_he": lone_he})
        expire_waiting(tx, (HER2_PAIR,), pair, 1e6)
    with ledger.transaction() as tx:
        cases = sorted(tx.cases(), key=lambda case: case.block)
        assert [(case.state, case.reason) for case in cases] == ends
        assert {json.loads(slide.patient)["patient_id"] for slide in tx.slides()} == {"4711"}
    ledger.close()


@pytest.mark.parametrize("cell", ["A1,A2", "A1 Mamma", "A1-1", "A1-A3", "Mamma", "P1"])
def test_a_result_answers_the_order_of_several_blocks_or_of_one_that_cannot_be_read(
    cell: str, tmp_path: Path
) -> None:
    table = tmp_path / "orders.csv"
    table.write_text(f'Accession;Patient ID;Block;Stain;Placer\nS26-1;4711;"{cell}";HER2;P-7\n')
    os.utime(table, (time.time() - 600,) * 2)
    settings = Settings(state_dir=tmp_path / "state", orders=Orders(csv=table))
    ask_orders("S26-1", settings)
    assert answered_request("S26-1", "A1", Stain("HER2"), settings)[0].placer == "P-7"
    sure = cell in ("A1,A2", "A1 Mamma", "A1-1")
    assert answered_request("S26-1", "B1", Stain("HER2"), settings)[0].placer == (
        "" if sure else "P-7"
    )


@pytest.mark.parametrize(
    ("cell", "other", "block"),
    [
        *(("A1", other, "A1") for other in ("Mamma", "T1", "A3-A5", "A1 Mamma, Mamma")),
        *(("A1 Mamma", other, "A1") for other in ("Mamma", "A3 - A5")),
        *(("II", "III", "II"), ("AA", "AB", "AA"), ("1.2", "1.3", "1.2"), ("T1", "T2", "T1")),
    ],
)
def test_a_result_answers_the_order_that_names_its_block_surely(
    cell: str, other: str, block: str, tmp_path: Path
) -> None:
    table = tmp_path / "orders.csv"
    head = "Accession;Patient ID;Block;Stain;Placer;Filler\n"
    # The order of the block has no number of the filler: it does not get that of the other one.
    placer = "P-1" if other == "A1 Mamma, Mamma" else "P-2"
    rows = f'S26-1;4711;"{cell}";HER2;P-1;\nS26-1;4711;"{other}";HER2;{placer};F-2\n'
    table.write_text(head + rows)
    os.utime(table, (time.time() - 600,) * 2)
    settings = Settings(state_dir=tmp_path / "state", orders=Orders(csv=table))
    ask_orders("S26-1", settings)
    request, note = answered_request("S26-1", block, Stain("HER2"), settings)
    assert (request.placer, note) == ("P-1", "")
    assert request.filler == ("" if placer == "P-2" else "F-2")


@pytest.mark.parametrize(
    ("cell", "block", "is_answered"),
    [
        *(("A3-A5", "A1", False), ("AB", "AA", False), ("III", "II", False), ("1.3", "1.2", False)),
        *(
            (cell, "A2", True)
            for cell in ("A1-3", "A1/2", "A1+2", "A1, 2, 3", "A1 bis 3", "A", "0")
        ),
        *((cell, "A2", True) for cell in ("A 1 - 3", "A1 & 2", "A1 u. 2", "A1, 0")),
        *((cell, "A4", False) for cell in ("A1-3", "A1/2", "A1, 2, 3", "A1 bis 3", "A-1")),
        *((cell, "B2", False) for cell in ("A1-3", "A1/2", "A1, 2, 3", "A")),
        *(("A1, 2-4", "A3", True), ("A1, 2-4", "A5", False), ("1", "1A", True), ("1", "10", False)),
        *(("A1", "A1-1", True), ("A10-2", "A2", False), ("A1 Mamma 2", "A2", False)),
    ],
)
def test_a_result_answers_no_order_of_another_block_alone(
    cell: str, block: str, is_answered: bool, tmp_path: Path
) -> None:
    table = tmp_path / "orders.csv"
    table.write_text(f"Accession;Patient ID;Block;Stain;Placer\nS26-1;4711;{cell};HER2;P-7\n")
    os.utime(table, (time.time() - 600,) * 2)
    settings = Settings(state_dir=tmp_path / "state", orders=Orders(csv=table))
    ask_orders("S26-1", settings)
    placer = answered_request("S26-1", block, Stain("HER2"), settings)[0].placer
    assert placer == ("P-7" if is_answered else "")
