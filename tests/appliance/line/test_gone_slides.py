"""Converted slides that retention removed, and that a destination of today wants."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixtures.clinic import OBJECTS, Clinic, open_clinic, ordered

from appliance.assays.registry import pairings
from appliance.delivery.destinations.contract import open_destination
from appliance.delivery.outbox import Outbox
from appliance.domain import HE, HER2
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import CaseRow, params_of
from appliance.ledger.transaction import Transaction
from appliance.line.child import Limits
from appliance.line.claiming import claim_work
from appliance.line.context import StepContext
from appliance.line.dispatcher import do_work
from appliance.operations.corrections import correct_score
from appliance.operations.retention import retain
from appliance.operations.retry import retry_subject
from appliance.settings.destinations import FolderDestination
from appliance.settings.intake import Watch
from appliance.settings.settings import Settings
from appliance.words.say import say


class Here:
    """A slot that runs a step in this process."""

    def run(self, _limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def delivered(scans: Path) -> Callable[[Transaction], None]:
    """Return what notes slides that were read, and objects that are proven."""

    def keep(tx: Transaction) -> None:
        for number, stain in ((1, HE), (2, HER2)):
            row = tx.add_slide(str(scans / f"{number}.svs"), 0.0)
            row.accession, row.block, row.stain = "S26-1", "A1", str(stain)
            row.width_px, row.height_px, row.mpp = 100, 100, 0.25
            for state in list(SlideState)[1:5]:
                tx.advance(row, state, now=0.0)
        for delivery in tx.deliveries(1):
            for to in (DeliveryState.SENT, DeliveryState.PROVEN):
                tx.advance(delivery, to, now=2.0)

    return keep


def test_slides_that_cannot_be_converted_again_end_refused_and_the_result_goes_out(
    tmp_path: Path,
) -> None:
    scans, archive = tmp_path / "scans", tmp_path / "archive"
    scans.mkdir()
    archive.mkdir()
    open_clinic(scans).rename(tmp_path / "state")
    (scans / "another.svs").touch()  # an empty folder is a share that is away
    settings = Settings(
        state_dir=tmp_path / "state",
        objects=OBJECTS,
        watch=Watch(folder=scans),
        destinations=(FolderDestination(name="new", folder=archive),),
        orders=ordered(tmp_path, "F-1"),
    )
    clinic = Clinic(settings)
    clinic.do(delivered(scans))
    ledger = Ledger(settings.ledger_url)
    now = time.time()
    assert retain(settings, ledger, now + 40 * 86400).gone
    kept = [path.rename(tmp_path / path.name) for path in sorted(scans.glob("[12].svs"))]
    correct_score(settings, "case-1", "3+", by="Meyer^Anna", why="seen")
    context = StepContext(
        ledger=ledger,
        settings=settings,
        name="test",
        pairings=pairings(settings),
        clock=lambda: now,
    )
    there = open_destination(settings, settings.destinations[0])
    outbox = Outbox(ledger, settings, {"new": there}, clock=lambda: now)

    def go_on(turns: int) -> CaseRow:
        nonlocal now
        for _ in range(turns):
            now += 200.0
            if (work := claim_work(context)) is not None:
                do_work(context, Here(), work)
            outbox.run()
        return clinic.case

    case = go_on(8)
    assert (case.state, case.reason, case.score) == (CaseState.UNDELIVERED, "refused", "3+")
    rows = [row for row in clinic.deliveries() if row.destination == "new"]
    assert {(row.kind == "WSM", row.state) for row in rows} == {
        (True, "refused"),
        (False, "proven"),
    }
    (told,) = {say("delivery", row.reason, params_of(row)) for row in rows if row.kind == "WSM"}
    assert "scanner's file is gone" in told
    events = len(clinic.do(lambda tx: tx.events("case-1")))
    go_on(3)
    assert len(clinic.do(lambda tx: tx.events("case-1"))) == events
    # A person can say another word, and with the files the slides are converted again.
    correct_score(settings, "case-1", "2+", by="Meyer^Anna", why="seen twice")
    assert go_on(8).state == CaseState.UNDELIVERED
    for path in kept:
        path.rename(scans / path.name)
    retry_subject(settings, "case-1")
    assert go_on(8).state == CaseState.DELIVERED
    assert {row.state for row in clinic.deliveries()} == {"proven"}
    ledger.close()
