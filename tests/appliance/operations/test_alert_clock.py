"""Alerts after a clock that was a year ahead is set right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures.alerts import NOW, lanes, stat_case

from appliance.errors import AlertUnsentError
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.tables import set_reason
from appliance.ledger.transaction import NewDelivery
from appliance.operations.alert_channels import Message
from appliance.operations.alerts import AlertWatch
from appliance.settings.alerts import Alerts
from appliance.settings.settings import Settings

AHEAD = NOW + 365 * 86400


@dataclass
class Told:
    """Channel that keeps the keys of its messages, and fails while `down`."""

    keys: list[str] = field(default_factory=list)
    ends: list[tuple[str, float]] = field(default_factory=list)
    down: bool = False

    def __call__(self, message: Message) -> str:
        if self.down:
            raise AlertUnsentError("the mail server is away")
        if message.ended:
            self.ends.append((message.key, message.ended))
        else:
            self.keys.append(message.key)
        return ""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    alerts = Alerts(after_minutes=5, quiet_from=None)
    return Settings(state_dir=tmp_path / "state", low_disk_gib=0, alerts=alerts)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    opened = Ledger(settings.ledger_url)
    yield opened
    opened.close()


def test_a_cause_that_was_gone_then_ends_and_is_told_when_it_comes_back(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()
    watch = AlertWatch(settings, {"mail": told})
    lanes(settings, gpu="held")
    watch.look(AHEAD)
    watch.look(AHEAD + 301)
    lanes(settings)
    watch.look(AHEAD + 320)
    watch.close()
    watch = AlertWatch(settings, {"mail": told})
    for later in (0, 301):
        watch.look(NOW + later)
    assert told.ends == [("lane held", NOW)]
    lanes(settings, gpu="held")
    for later in (400, 701):
        watch.look(NOW + later)
    assert told.keys == ["lane held"] * 2
    watch.close()


def test_a_channel_that_failed_then_is_tried_again(settings: Settings, ledger: Ledger) -> None:
    told = Told(down=True)
    watch = AlertWatch(settings, {"mail": told})
    lanes(settings, gpu="held")
    watch.look(AHEAD)
    watch.look(AHEAD + 301)
    told.down = False
    watch.look(NOW)
    watch.look(NOW + 301)
    assert told.keys == ["lane held"]
    watch.close()


def test_what_was_refused_then_hides_nothing_that_is_refused_later(
    settings: Settings, ledger: Ledger
) -> None:
    of = dict.fromkeys(("path", "study_uid", "series_uid", "sop_class_uid"), "1.2")
    case_id = stat_case(ledger, NOW, stat=False)

    def refuse(uid: str, at: float) -> None:
        with ledger.transaction() as tx:
            new = NewDelivery(destination="pacs", kind="SR", sop_instance_uid=uid, **of)
            tx.enqueue(case_id, new, at)
            row = next(one for one in tx.deliveries(case_id) if one.sop_instance_uid == uid)
            set_reason(row, "refused")
            row.state, row.changed_at = DeliveryState.REFUSED, at
            case = tx.case(case_id)
            assert case is not None
            case.state = CaseState.UNDELIVERED
            tx.session.add_all((row, case))

    told = Told()
    watch = AlertWatch(settings, {"mail": told})
    refuse("1.1", AHEAD)
    for later in (0, 301):
        watch.look(AHEAD + later)
    # The clock is right again; that alone is no news, an hour later or a day.
    for later in range(0, 86400, 900):
        watch.look(NOW + later)
    assert told.keys == ["refused pacs"]
    refuse("1.2", NOW + 86400)
    for later in (86400, 86701):
        watch.look(NOW + later)
    assert told.keys == ["refused pacs"] * 2
    watch.close()
