"""Delivery under faults of the PACS and of power: nothing is lost, duplicated or hidden."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.instances import made_object
from fixtures.orthanc import free_port
from fixtures.pairings import HER2_PAIR
from fixtures.peer import Peer
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.destinations.contract import After, Before, Instance
from appliance.delivery.destinations.dimse import Pacs
from appliance.delivery.outbox import Outbox
from appliance.delivery.queueing import enqueue_case
from appliance.domain import HE, Identity
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.tables import DeliveryRow
from appliance.settings.delivery import Delivery
from appliance.settings.destinations import PacsDestination
from appliance.settings.settings import Settings
from dicom.kinds import SENT_KINDS
from dicom.status import Outcome

SEQUENCES = 70
OBJECTS = (
    ("SR", Comprehensive3DSRStorage),
    ("WSM", VLWholeSlideMicroscopyImageStorage),
    ("SEG", SegmentationStorage),
)
FAULTS = (0xA700, 0x0110, 0xB000, 0xA900, 0xC000, "drop", "mute", "lose", None)
MOODS = ("open", "open", "open", "busy", "closed")
KILLED = ("before", "after", "between")


class KilledError(BaseException):
    """Simulated death of our process; no error boundary catches it."""


class Mortal(Pacs):
    """PACS destination during whose work our process dies at chosen moments."""

    deaths: list[str]

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        def dying_before(instance: Instance) -> None:
            self._die("before")
            before(instance)

        def dying_after(instance: Instance, outcome: Outcome) -> None:
            self._die("between")  # the PACS has answered, the ledger does not know yet
            after(instance, outcome)
            self._die("after")

        super().send(instances, dying_before, dying_after)

    def _die(self, moment: str) -> None:
        if self.deaths and self.deaths[0] == moment:
            self.deaths.pop(0)
            raise KilledError(moment)


@dataclass
class Lab:
    """Two written cases, a ledger in memory, and a clock that tests set."""

    settings: Settings
    section: PacsDestination
    ledger: Ledger
    destination: Mortal
    now: float = 1000.0
    peer: Peer | None = None
    moods: Sequence[str] = ()

    def outbox(self) -> Outbox:
        """Return an outbox as after a start of the process."""
        return Outbox(self.ledger, self.settings, {"pacs": self.destination}, lambda: self.now)

    def work(self, rounds: int, *also: DeliveryState) -> None:
        """Work until no delivery is queued, sent or in `also`, at most `rounds` times."""
        waiting_for = (DeliveryState.QUEUED, DeliveryState.SENT, *also)
        outbox = self.outbox()
        for number in range(rounds):
            if self.peer is not None:
                self.peer.turn(self.moods[number] if number < len(self.moods) else "open")
            try:
                outbox.run()
            except KilledError:
                outbox = self.outbox()
                continue
            if not self.rows(*waiting_for):
                return
            self.now += 2000

    def rows(self, *states: DeliveryState) -> list[DeliveryRow]:
        with self.ledger.transaction() as tx:
            return [row for row in tx.deliveries() if not states or row.state in states]

    def cases(self) -> list[str]:
        with self.ledger.transaction() as tx:
            return [case.state for case in tx.cases()]


def lab_of(
    folder: Path, peer: Peer, cases: int = 2, destination: Mortal | None = None, **to: Any
) -> Lab:
    """Make cases of a slide, a segmentation and a report each, ready to be sent to the peer."""
    section = PacsDestination(
        kind="dicom",
        host="127.0.0.1",
        port=peer.port,
        called_aet="PEER",
        timeout_seconds=peer.address.timeout_s,
        commitment_port=peer.report_to,
        commitment_host="127.0.0.1",
        **to,
    )
    settings = Settings(
        state_dir=folder, destinations=(section,), delivery=Delivery(most_attempts=3)
    )
    ledger = Ledger("sqlite://")
    for number in range(cases):
        key = ArtifactKey("objects", str(number))
        with ArtifactStore(settings.artifacts_dir).writing(key) as objects:
            index = []
            for kind, sop_class in OBJECTS:
                name = f"{kind}.dcm"
                syntax = next(syntax for known, syntax in SENT_KINDS if known == sop_class)
                study = f"{folder.name}-{number}"
                ref = made_object(objects / name, sop_class=sop_class, study=study, syntax=syntax)
                names = {slot: getattr(ref, slot) for slot in ref.__slots__}
                index.append({"kind": kind, "path": f"{key}/{name}"} | names)
            (objects / "objects.json").write_text(json.dumps({"objects": index}))
        with ledger.transaction() as tx:
            identity = Identity(accession=f"S26-{number}", block="A1", stain=HE)
            case = tx.case_for(identity, 1000.0, HER2_PAIR)
            case.objects_key = str(key)
            for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN):
                tx.advance(case, state, now=1000.0)
            enqueue_case(tx, case, settings, 1000.0)
    destination = destination or Mortal(section)
    destination.deaths = []
    return Lab(settings, section, ledger, destination)


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[dict[str, Peer]]:
    """Start three peers: one with every way of proof, one with query only, one with none."""
    made = {
        "commitment": Peer(tmp_path / "a", query=False, report_to=free_port()),
        "query": Peer(tmp_path / "b"),
        "nothing": Peer(tmp_path / "c", query=False),
    }
    for peer in made.values():
        peer.start()
    yield made
    for peer in made.values():
        peer.stop()


def test_random_faults_lose_nothing_and_double_nothing(
    peers: dict[str, Peer], tmp_path: Path
) -> None:
    seen: set[tuple[str, str]] = set()
    # Closing its commitment port takes half a second, so all sequences share one destination.
    committed = lab_of(tmp_path / "first", peers["commitment"]).destination
    for seed in range(SEQUENCES):
        dice = random.Random(seed)  # noqa: S311  a test's dice
        way = dice.choice(list(peers))
        peer = peers[way]
        faults = FAULTS if way == "commitment" else (*FAULTS, "hang")
        peer.faults = [dice.choice(faults) for _ in range(dice.randrange(5))]
        # Short only if a fault makes the sender wait for it.
        timeout_s = 0.5 if "hang" in peer.faults else 120.0
        peer.address = replace(peer.address, timeout_s=timeout_s)
        peer.contents.clear(), peer.arrivals.clear()
        destination = committed if way == "commitment" else None
        lab = lab_of(tmp_path / f"s{seed}", peer, dice.choice((1, 1, 2)), destination)
        lab.destination.deaths = [dice.choice(KILLED) for _ in range(dice.randrange(3))]
        lab.peer, lab.moods = peer, dice.choices(MOODS, k=3)
        unknown = SegmentationStorage if dice.random() < 0.15 else ""
        peer.take(tuple(kind for kind in SENT_KINDS if kind[0] != unknown))
        poison = dice.choice(lab.rows()).sop_instance_uid if dice.random() < 0.2 else ""
        peer.cursed = {poison}
        lost = peer.faults.count("lose")
        refusals = sum(fault in (0xA900, 0xC000) for fault in peer.faults)
        # It ends as soon as all has ended.
        lab.work(200, *(() if way == "nothing" else (DeliveryState.UNPROVEN,)))
        rows = lab.rows()
        where = f"seed {seed}, {way}: {[(row.state, row.reason) for row in rows]}"
        seen |= {(way, row.state) for row in rows}
        states = {row.sop_instance_uid: row.state for row in rows}
        ends = {DeliveryState.PROVEN, DeliveryState.REFUSED, DeliveryState.UNPROVEN}
        assert set(states.values()) <= ends, where
        # Proven objects are there; an object that cannot be proven is never reported as proven.
        for uid, state in states.items():
            assert state != DeliveryState.PROVEN or (way != "nothing" and peer.has(uid)), where
        if way != "nothing":
            assert DeliveryState.UNPROVEN not in states.values(), where
        missing = [uid for uid, s in states.items() if s == "unproven" and not peer.has(uid)]
        assert len(missing) <= lost, where
        # Objects are refused only for a reason, and the reason is recorded.
        refused = [row for row in rows if row.state == DeliveryState.REFUSED]
        missing_class = sum(row.sop_class_uid == unknown for row in rows)
        assert missing_class <= len(refused) <= refusals + missing_class + 1, where
        assert all(row.reason for row in refused), where
        assert poison == "" or states[poison] == DeliveryState.REFUSED, where
        # Each object is sent once: no other UID or bytes, never again once the peer can prove it.
        assert set(peer.contents) <= set(states), where
        assert all(len(digests) == 1 for digests in peer.contents.values()), where
        if way != "nothing":
            assert not any(kept for _, kept in peer.arrivals), where
        expected = {"refused": "undelivered", "unproven": "unproven", "proven": "delivered"}
        for number, state in enumerate(lab.cases()):
            of_case = {row.state for row in rows if row.case_id == number + 1}
            worst = next(name for name in expected if name in of_case)
            assert state == expected[worst], where
        lab.ledger.close()
    committed.close()
    assert {state for _, state in seen} == {"proven", "refused", "unproven"}
