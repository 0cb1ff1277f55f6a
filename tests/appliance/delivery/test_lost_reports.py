"""Reports whose acknowledgments are lost: the outbox beside a system over MLLP."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fixtures.lis import MllpServer
from fixtures.pairings import HER2_PAIR
from fixtures.reports import written_report

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.destinations.contract import open_destination
from appliance.delivery.outbox import Outbox
from appliance.delivery.queueing import enqueue_case
from appliance.domain import HE, Identity
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.tables import params_of
from appliance.ledger.transaction import Transaction
from appliance.settings.destinations import Hl7Destination
from appliance.settings.settings import Delivery, Settings
from appliance.words.say import say


def add_case(tx: Transaction, number: int, settings: Settings) -> None:
    key = f"objects/{number}"
    with ArtifactStore(settings.artifacts_dir).writing(ArtifactKey.parse(key)) as folder:
        ref = written_report(folder / "SR.dcm").ref
        entry = {
            "kind": "SR",
            "path": f"{key}/SR.dcm",
            "study_uid": ref.study_uid,
            "series_uid": ref.series_uid,
            "sop_instance_uid": ref.sop_instance_uid,
            "sop_class_uid": ref.sop_class_uid,
        }
        (folder / "objects.json").write_text(json.dumps({"objects": [entry]}))
    case = tx.case_for(Identity(accession=f"S26-{number}", block="A1", stain=HE), 0.0, HER2_PAIR)
    case.objects_key = key
    for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN):
        tx.advance(case, state, now=0.0)
    enqueue_case(tx, case, settings, 0.0)


def test_a_report_at_which_the_system_ends_each_connection_is_given_up(tmp_path: Path) -> None:
    server = MllpServer().start()
    server.faults = ["mute"] * 50
    section = Hl7Destination(
        kind="hl7", name="lis", host="127.0.0.1", port=server.port, before_sign_off=True
    )
    settings = Settings(
        state_dir=tmp_path,
        destinations=(section,),
        delivery=Delivery(first_retry_seconds=10, last_retry_seconds=1000, most_attempts=3),
    )
    ledger, now = Ledger(settings.ledger_url), 0.0
    with ledger.transaction() as tx:
        add_case(tx, 1, settings)
    outbox = Outbox(ledger, settings, {"lis": open_destination(settings, section)}, lambda: now)
    try:
        for _ in range(8):
            outbox.run()
            now += 1500
    finally:
        server.stop()
    with ledger.transaction() as tx:
        (row,) = tx.deliveries()
        case = tx.case(1)
        assert case is not None
    assert (row.state, row.attempts, len(server.messages)) == (DeliveryState.REFUSED, 3, 3)
    told = say("delivery", row.reason, params_of(row))
    assert re.search("3 .*gave no acknowledgment: it ended the connection", told)
    assert case.state == CaseState.UNDELIVERED
    ledger.close()
