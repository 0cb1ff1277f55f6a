"""Alerts: one message for each cause, and one for its end."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures.alerts import NOW, changed, lanes, stat_case

from appliance.errors import AlertUnsentError
from appliance.ledger.heartbeat import Sign, write_sign
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import set_reason
from appliance.ledger.transaction import NewDelivery
from appliance.operations.alert_channels import Message
from appliance.operations.alerts import AlertWatch, is_quiet, read_memory
from appliance.settings.alerts import Alerts
from appliance.settings.installation import installation_salt
from appliance.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state",
        low_disk_gib=0,
        alerts=Alerts(after_minutes=5, quiet_from=None),
    )


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    opened = Ledger(settings.ledger_url)
    yield opened
    opened.close()


@dataclass
class Told:
    """Channel that keeps its messages, and fails while `down`."""

    messages: list[Message] = field(default_factory=list)
    down: bool = False

    def __call__(self, message: Message) -> str:
        if self.down:
            raise AlertUnsentError("the mail server is away")
        self.messages.append(message)
        return ""

    @property
    def keys(self) -> list[str]:
        return [message.key for message in self.messages if not message.ended]

    @property
    def ends(self) -> list[str]:
        return [message.key for message in self.messages if message.ended]


def test_one_message_for_a_cause_until_it_ended_and_came_back(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()
    watch = AlertWatch(settings, {"mail": told})
    lanes(settings, gpu="no process starts: 3 tries", cpu="no process starts: 3 tries")
    watch.look(NOW)
    watch.look(NOW + 299)
    assert told.keys == []  # what ends by itself is told nobody
    lanes(settings, gpu="no process starts: 7 tries", cpu="no process starts: 7 tries")
    for later in (301, 400, 4000):
        watch.look(NOW + later)
    assert len(told.keys) == 1 and "gpu, cpu" in told.messages[0].sentence
    # A restart repeats nothing.
    watch.close()
    watch = AlertWatch(settings, {"mail": told})
    watch.look(NOW + 5000)
    # Away for a moment is not ended.
    lanes(settings)
    watch.look(NOW + 6000)
    lanes(settings, gpu="no process starts: 8 tries")
    watch.look(NOW + 6100)
    watch.look(NOW + 6500)
    assert len(told.keys) == 1
    # Ended, and come back.
    lanes(settings)
    watch.look(NOW + 7000)
    watch.look(NOW + 7400)
    lanes(settings, gpu="no process starts: 9 tries")
    watch.look(NOW + 8000)
    watch.look(NOW + 8400)
    assert len(told.keys) == 2
    watch.close()


def test_the_end_is_told_to_those_who_had_the_message(settings: Settings, ledger: Ledger) -> None:
    mail, hook = Told(), Told()
    watch = AlertWatch(settings, {"mail": mail, "webhook": hook})
    lanes(settings, gpu="held")
    watch.look(NOW)
    hook.down = True
    watch.look(NOW + 300)
    lanes(settings)
    watch.look(NOW + 400)
    watch.look(NOW + 699)
    assert mail.ends == []  # away for a moment is not ended
    hook.down = False
    mail.down = True
    watch.look(NOW + 700)
    watch.close()
    mail.down = False
    watch = AlertWatch(settings, {"mail": mail, "webhook": hook})
    for later in (800, 900, 2000):
        watch.look(NOW + later)
    assert mail.keys == mail.ends == ["lane held"] and hook.messages == []
    assert mail.messages[-1].ended == NOW + 400 and mail.messages[-1].since == NOW
    assert read_memory(settings).causes == {}
    # It comes back before its end was taken: that is told, the end is not.
    lanes(settings, gpu="held")
    watch.look(NOW + 3000)
    watch.look(NOW + 3300)
    lanes(settings)
    watch.look(NOW + 4000)
    mail.down = True
    watch.look(NOW + 4400)
    mail.down = False
    lanes(settings, gpu="held")
    watch.look(NOW + 9000)
    watch.look(NOW + 9300)
    assert len(mail.keys) == 3 and len(mail.ends) == 1
    watch.close()


def test_no_end_is_told_where_nobody_wants_it_or_the_disk_got_worse(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()
    watch = AlertWatch(changed(settings, after_minutes=0, tell_end=False), {"mail": told})
    lanes(settings, gpu="held")
    watch.look(NOW)
    lanes(settings)
    watch.look(NOW + 100)
    assert told.ends == [] and read_memory(settings).causes == {}
    watch.close()
    full = changed(settings, after_minutes=0)
    path = settings.state_dir / "alerts.json"
    fills = {"kind": "disk", "sentence": "it fills up", "since": NOW, "told": ["mail"]}
    for low_disk_gib, ends in ((1e9, []), (0, ["disk-fills"])):
        # As an older version wrote it: without channels of the end.
        memory = {"causes": {"disk-fills": fills}, "event": 0, "stat": [], "sent": {}, "failed": {}}
        path.write_text(json.dumps(memory))
        watch = AlertWatch(full.model_copy(update={"low_disk_gib": low_disk_gib}), {"mail": told})
        watch.look(NOW + 200)
        watch.look(NOW + 300)
        watch.close()
        assert told.ends == ends


def test_a_channel_that_is_away_is_tried_again_and_holds_no_other(
    settings: Settings, ledger: Ledger
) -> None:
    mail, hook = Told(down=True), Told()
    watch = AlertWatch(changed(settings, after_minutes=0), {"mail": mail, "webhook": hook})
    lanes(settings, gpu="held")
    for later in (0, 10, 59):
        watch.look(NOW + later)
    assert len(hook.keys) == 1 and "away" in read_memory(settings).failed["mail"].why
    mail.down = False
    watch.look(NOW + 61)
    assert len(mail.keys) == len(hook.keys) == 1
    assert read_memory(settings).failed == {}
    watch.close()


def test_quiet_time_holds_all_but_stat_results(settings: Settings, ledger: Ledger) -> None:
    night = time.mktime((2026, 11, 27, 23, 0, 0, 0, 0, -1))
    alerts = Alerts(quiet_from=20, quiet_until=7, after_minutes=0)
    assert [is_quiet(alerts, night + 3600 * h) for h in (-4, 0, 7, 8)] == [False, True, True, False]
    assert not is_quiet(Alerts(quiet_from=9, quiet_until=17), night)
    told = Told()
    watch = AlertWatch(settings.model_copy(update={"alerts": alerts}), {"mail": told})
    watch.look(night)
    lanes(settings, gpu="held")
    case_id = stat_case(ledger, night)
    watch.look(night + 60)
    assert told.keys == [f"stat case-{case_id}"]
    watch.look(night + 9 * 3600)
    assert len(told.keys) == 2
    watch.close()


def test_a_stat_result_is_told_once_and_again_after_a_rerun(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()
    old = stat_case(ledger, NOW - 60)  # before the first look: no news
    watch = AlertWatch(settings, {"mail": told})
    watch.look(NOW)
    assert told.keys == []

    def move(*states: CaseState) -> None:
        with ledger.transaction() as tx:
            row = tx.case(old)
            assert row is not None
            for state in states:
                tx.advance(row, state, now=NOW)

    move(
        CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN, CaseState.UNPROVEN
    )
    watch.look(NOW + 1)
    watch.close()
    watch = AlertWatch(settings, {"mail": told})
    move(CaseState.DELIVERED)  # proven later: the same result
    move(CaseState.SCORED, CaseState.WRITTEN, CaseState.DELIVERED)  # a person signed it
    watch.look(NOW + 2)
    assert told.keys == [f"stat case-{old}"]
    assert "sent and not proven" in told.messages[0].sentence
    assert "S26" not in told.messages[0].sentence
    move(
        CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN, CaseState.DELIVERED
    )
    watch.look(NOW + 3)
    assert len(told.keys) == 2
    watch.close()


def test_slides_that_wait_for_the_worklist_are_a_cause_until_they_go_on(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()

    def arrived(reason: str) -> None:
        with ledger.transaction() as tx:
            for row in tx.slides():
                set_reason(row, reason, {"message": "worklist: S26-0000001"})

    with ledger.transaction() as tx:
        row = tx.add_slide("/scans/S26-0000001_A1_HE.svs", NOW)
        tx.advance(row, SlideState.ARRIVED, now=NOW)
    watch = AlertWatch(changed(settings, after_minutes=0), {"mail": told})
    arrived("look-again")
    watch.look(NOW)
    assert told.keys == []  # not the site's
    arrived("worklist-away")
    watch.look(NOW + 1)
    assert told.keys == ["worklist-away"] and "S26" not in told.messages[0].sentence
    arrived("")
    for later in (2, 400, 800):
        watch.look(NOW + later)
    assert told.ends == ["worklist-away"]
    watch.close()


def test_objects_that_are_given_up_do_not_end_well_and_are_told_until_a_person_acts(
    settings: Settings, ledger: Ledger
) -> None:
    case_id = stat_case(ledger, NOW, stat=False)
    new = NewDelivery(
        destination="pacs", kind="SR", path="x.dcm", study_uid="2.25.1", series_uid="2.25.2",
        sop_instance_uid="2.25.3", sop_class_uid="1.2.840",
    )  # fmt: skip

    def change(delivery: DeliveryState, reason: str, case: CaseState) -> None:
        with ledger.transaction() as tx:
            (row,), of_row = tx.deliveries(case_id), tx.case(case_id)
            assert of_row is not None
            set_reason(row, reason, {"answer": "S26-0000001"})
            row.state, of_row.state = delivery, case
            tx.session.add(row)
            tx.session.add(of_row)

    with ledger.transaction() as tx:
        tx.enqueue(case_id, new, NOW)
    told = Told()
    watch = AlertWatch(changed(settings, after_minutes=5), {"mail": told})
    change(DeliveryState.QUEUED, "not-now", CaseState.WRITTEN)
    for later in (0, 301):
        watch.look(NOW + later)
    change(DeliveryState.REFUSED, "given-up", CaseState.UNDELIVERED)
    for later in (400, 701, 1200, 5000):
        watch.look(NOW + later)
    assert told.keys == ["destination pacs", "refused pacs"] and told.ends == []
    assert "the destination pacs refused for good: 1." in told.messages[-1].sentence
    assert "S26" not in told.messages[-1].sentence
    change(DeliveryState.PROVEN, "", CaseState.DELIVERED)
    for later in (5100, 5500, 6000):
        watch.look(NOW + later)
    assert "refused pacs" in told.ends
    change(DeliveryState.QUEUED, "slide-absent", CaseState.WRITTEN)
    for later in (7000, 7400):
        watch.look(NOW + later)
    assert told.keys[-1] == "slide-absent pacs"
    assert "takes objects" in told.messages[-1].sentence
    watch.close()


def test_what_was_refused_long_ago_hides_neither_the_end_of_an_outage_nor_what_is_refused_later(
    settings: Settings, ledger: Ledger
) -> None:
    of = dict.fromkeys(("path", "study_uid", "series_uid", "sop_class_uid"), "1.2")
    case_id = stat_case(ledger, NOW, stat=False)

    def change(uid: str, state: DeliveryState, at: float) -> None:
        with ledger.transaction() as tx:
            new = NewDelivery(destination="pacs", kind="SR", sop_instance_uid=uid, **of)
            tx.enqueue(case_id, new, at)
            row = next(one for one in tx.deliveries(case_id) if one.sop_instance_uid == uid)
            set_reason(row, "away" if state == DeliveryState.QUEUED else "refused")
            row.state, row.changed_at = state, at
            tx.session.add(row)
            case = tx.case(case_id)
            assert case is not None
            case.state = CaseState.WRITTEN
            tx.session.add(case)

    told = Told()
    watch = AlertWatch(changed(settings, after_minutes=5), {"mail": told})

    def look(*times: float) -> None:
        for later in times:
            watch.look(NOW + later)

    change("1.1", DeliveryState.REFUSED, NOW)
    look(0, 301)
    change("1.2", DeliveryState.QUEUED, NOW + 500)
    look(500, 801)
    assert told.keys == ["refused pacs", "destination pacs"]
    change("1.2", DeliveryState.PROVEN, NOW + 1000)
    look(1000, 1301)
    assert told.ends == ["destination pacs"]
    change("1.3", DeliveryState.REFUSED, NOW + 1400)
    look(1400, 1800, 3500)
    assert told.keys.count("refused pacs") == 1  # once an hour
    look(3700, 4001, 9000)
    assert told.keys.count("refused pacs") == 2 and "good: 2." in told.messages[-1].sentence
    for uid in ("1.1", "1.3"):
        change(uid, DeliveryState.PROVEN, NOW + 9100)
    look(9100, 9500, 9600)
    assert told.ends == ["destination pacs", "refused pacs"]
    watch.close()


def test_silence_disk_backup_and_a_destination_are_causes(
    settings: Settings, ledger: Ledger
) -> None:
    case_id = stat_case(ledger, NOW - 1, stat=False)
    with ledger.transaction() as tx:
        tx.add_slide("/scans/S26-0000001_A1_HE.svs", NOW - 3601)
        tx.enqueue(case_id, NewDelivery(
            destination="pacs", kind="SR", path="x.dcm", study_uid="2.25.1", series_uid="2.25.2",
            sop_instance_uid="2.25.3", sop_class_uid="1.2.840",
        ), NOW)  # fmt: skip
        (row,) = tx.deliveries(case_id)
        row.reason, row.params = "failed", json.dumps({"message": "S26-0000001 was not taken"})
        case = tx.case(case_id)
        assert case is not None
        tx.advance(case, CaseState.READY, now=NOW)
        set_reason(case, "weights-unusable", {"message": "/x/S26-0000001"})
    told = Told()
    full = changed(settings, after_minutes=0, nothing_arrived_hours=1.0)
    watch = AlertWatch(full.model_copy(update={"low_disk_gib": 1e9}), {"mail": told})
    failed = settings.ledger_file.parent / "backups" / "failed.json"
    failed.parent.mkdir()
    failed.write_text(json.dumps({"at": NOW, "why": "no room"}))
    watch.look(NOW)
    assert sorted(told.keys) == [
        "backup", "destination pacs", "disk-low", "silence", "weights-unusable",
    ]  # fmt: skip
    assert all("S26" not in message.sentence for message in told.messages)
    watch.close()
    with closing(sqlite3.connect(settings.ledger_file)) as other:
        other.execute("PRAGMA user_version = 1")  # of another build
    watch = AlertWatch(changed(settings, after_minutes=0), {"mail": told})
    watch.look(NOW + 1)
    # What the ledger told is not over because it cannot be read.
    assert told.keys[-1] == "ledger" and "silence" in read_memory(settings).causes
    watch.close()


def test_a_site_to_which_no_slide_ever_came_is_told(settings: Settings, ledger: Ledger) -> None:
    told = Told()
    watch = AlertWatch(
        changed(settings, after_minutes=0, nothing_arrived_hours=1.0), {"mail": told}
    )
    watch.look(NOW)
    assert not told.keys  # the daemon has not begun
    installation_salt(settings.state_dir)
    os.utime(settings.state_dir / "installation.txt", (NOW - 3500, NOW - 3500))
    watch.look(NOW)
    assert "silence" not in told.keys
    watch.look(NOW + 101)
    assert told.keys == ["silence"]
    # Another start ends no silence.
    again = Sign(at=NOW + 200, monotonic=0.0, boot="", pid=1, born=1, started=NOW + 200)
    write_sign(settings, again)
    watch.look(NOW + 201)
    watch.look(NOW + 4000)
    assert told.keys == ["silence"] and not told.ends
    watch.close()
