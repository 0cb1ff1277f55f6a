"""Stains that an order asks for of one block, in the ledger's rows of other blocks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from fixtures.pairings import HER2_PAIR
from fixtures.slide_objects import write_svs

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
