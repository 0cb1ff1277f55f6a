"""Decisions of the outbox, with a scripted destination and a ledger in memory."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from fixtures.damage import flip
from fixtures.pairings import HER2_PAIR, TOY, TOY_PAIR
from fixtures.told import Told
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from appliance.artifacts import SUMS_NAME, ArtifactKey, ArtifactStore, adopt
from appliance.delivery import intact, outbox
from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    Proof,
)
from appliance.delivery.ends import CaseEnds
from appliance.delivery.outbox import Outbox
from appliance.delivery.queueing import enqueue_case
from appliance.domain import HE, Identity
from appliance.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    SettingsError,
    StoppedError,
    TandemError,
)
from appliance.intake.arrange import DAY_S
from appliance.intake.block import hold, reopen, withdraw
from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState
from appliance.ledger.queries import BEGUN_ANEW
from appliance.ledger.start import open_at_start
from appliance.ledger.tables import DeliveryRow, params_of
from appliance.ledger.transaction import NewDelivery, Transaction
from appliance.ledger.verify import verify
from appliance.line import deliveries, pulse
from appliance.operations.backup import restore_ledger
from appliance.operations.retry import retry_subject
from appliance.settings.destinations import DestinationSection, FhirDestination, Hl7Destination
from appliance.settings.settings import Delivery, FolderDestination, Settings
from appliance.settings.settings_file import load_settings
from appliance.words.events import event_text
from appliance.words.say import say
from dicom.status import classify

KINDS = ("SR", "SEG", "WSM")
ANALYZED_AGAIN = (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED)


def error_of(row: DeliveryRow) -> str:
    """The trouble of a delivery as people read it."""
    return say("delivery", row.reason, params_of(row))


def write_object(path: Path, uid: str) -> None:
    """Write a file that is DICOM enough to tell its UID, which is no valid one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2"
    even = len(uid) + len(uid) % 2  # a value of DICOM is padded to an even length
    valid = "1.".ljust(even, "9")
    dataset.SOPInstanceUID = valid
    dataset.save_as(path, enforce_file_format=True)
    padded = uid.ljust(even, "\0")
    path.write_bytes(path.read_bytes().replace(valid.encode(), padded.encode()))


class Desk:
    """Cases of three objects each, named ``<case>.<kind>``, for the destination `told`."""

    def __init__(self, folder: Path, *sections: DestinationSection, cases: int = 1) -> None:
        self.now = 0.0
        self.settings = Settings(
            state_dir=folder,
            destinations=sections or (FolderDestination(name="told"),),
            delivery=Delivery(first_retry_seconds=10, last_retry_seconds=1000, most_attempts=3),
        )
        self.ledger = Ledger(self.settings.ledger_url)
        self.told = Told()
        self.restart()
        for number in range(1, cases + 1):
            self.add(number)

    def restart(self) -> None:
        """Open the outbox as a daemon does that starts."""
        self.outbox = Outbox(self.ledger, self.settings, {"told": self.told}, lambda: self.now)

    def add(self, number: int) -> None:
        key = self.write(number)
        with self.ledger.transaction() as tx:
            identity = Identity(accession=f"S26-{number}", block="A1", stain=HE)
            case = tx.case_for(identity, 0.0, HER2_PAIR)
            case.objects_key = key
            for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN):
                tx.advance(case, state, now=0.0)
            enqueue_case(tx, case, self.settings, 0.0)

    def write(self, number: int, **others: str) -> str:
        """Write three objects; `others` names the UIDs of kinds that are not ``<number>.<kind>``.

        An object of another folder is listed, and is not written again.
        """
        key = f"objects/{number}"
        uids = {kind: others.get(kind, f"{number}.{kind}") for kind in KINDS}
        index = []
        with ArtifactStore(self.settings.artifacts_dir).writing(ArtifactKey.parse(key)) as folder:
            for kind, uid in uids.items():
                path = f"objects/{uid.partition('.')[0]}/{kind}.dcm"
                names = dict.fromkeys(("study_uid", "series_uid", "sop_class_uid"), "1")
                index.append({"kind": kind, "path": path, "sop_instance_uid": uid} | names)
                if path.startswith(key):
                    write_object(folder / f"{kind}.dcm", uid)
            (folder / "objects.json").write_text(json.dumps({"objects": index}))
        return key

    def correct(self) -> None:
        """Enqueue another report in the place of the first case's."""
        key = self.write(9, **{kind: f"1.{kind}" for kind in KINDS if kind != "SR"})
        with self.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            case.objects_key = key
            tx.session.add(case)
            enqueue_case(tx, case, self.settings, self.now)

    def rename(self) -> None:
        """Queue the report of the first case anew, of another file and study."""
        with self.ledger.transaction() as tx:
            (row,) = (each for each in tx.deliveries(1) if each.kind == "SR")
            new = NewDelivery(
                destination=row.destination,
                kind="SR",
                path="objects/7/SR.dcm",
                study_uid="2",
                series_uid="2",
                sop_instance_uid=row.sop_instance_uid,
                sop_class_uid=row.sop_class_uid,
            )
            tx.enqueue(1, new, self.now)

    def all_rows(self) -> list[DeliveryRow]:
        with self.ledger.transaction() as tx:
            return tx.deliveries()

    def rows(self) -> dict[str, DeliveryRow]:
        return {row.sop_instance_uid: row for row in self.all_rows()}

    def case(self, number: int = 1) -> str:
        with self.ledger.transaction() as tx:
            case = tx.case(number)
            assert case is not None
            return case.state

    def run_until(self, done: Callable[[], bool]) -> None:
        for _ in range(100):
            if done():
                return
            self.outbox.run()
            self.now += 5
        raise AssertionError(self.rows())


def test_slides_go_first_and_all_is_proven(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.outbox.run()
    assert desk.told.sent == ["1.WSM", "1.SR", "1.SEG"]
    assert desk.case() == CaseState.DELIVERED


def test_a_poisoned_object_blocks_nobody_and_ends_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, cases=2)
    desk.told.outcomes["1.WSM"] = classify(0x0110, "no room for Miller")
    desk.outbox.run()
    assert desk.case(2) == CaseState.DELIVERED
    assert [uid for uid, row in desk.rows().items() if row.state == "queued"] == ["1.WSM"]
    desk.run_until(lambda: desk.case() == CaseState.UNDELIVERED)
    row = desk.rows()["1.WSM"]
    assert (row.state, row.attempts) == (DeliveryState.REFUSED, 3)
    assert "given up after 3 attempts" in error_of(row) and "0x0110" in error_of(row)
    assert desk.told.sent.count("1.WSM") == 3

    # A person retries. An object that was on the wire is searched for before it is sent again.
    desk.told.outcomes.clear()
    retry_subject(desk.settings, "case-1")
    desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
    assert desk.told.sent.count("1.WSM") == 4


def test_what_a_destination_kept_before_it_went_silent_is_looked_for_and_not_sent_again(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)

    def silent() -> None:
        desk.told.kept.add("1.WSM")
        raise DestinationUnavailableError("no answer")

    desk.told.meanwhile["1.WSM"] = silent
    for _ in range(desk.settings.delivery.most_attempts + 2):  # none of these counts
        desk.outbox.run()
        desk.told.kept.clear()  # it loses it again, so that it is sent again
        desk.now += 2000
    assert desk.case() == CaseState.WRITTEN and desk.rows()["1.WSM"].attempts == 1
    desk.outbox.run()
    sent = desk.told.sent.count("1.WSM")
    for _ in range(3):  # this time it has it
        desk.now += 2000
        desk.outbox.run()
    assert desk.case() == CaseState.DELIVERED
    assert desk.told.sent.count("1.WSM") == sent


def test_after_a_restore_each_object_is_looked_for_before_it_is_sent(tmp_path: Path) -> None:
    desk = Desk(tmp_path, cases=0)
    backup_ledger(desk.settings)
    desk.ledger.close()
    restore_ledger(desk.settings)
    desk.told.kept |= {"1.WSM", "1.SR"}  # sent by the ledger that was replaced
    desk.add(1)
    desk.outbox.run()
    assert desk.case() == CaseState.DELIVERED
    assert desk.told.sent == ["1.SEG"]


def test_after_a_restore_no_result_goes_out_that_a_later_one_replaced(tmp_path: Path) -> None:
    told = Hl7Destination(kind="hl7", name="told", host="lis", port=2575, before_sign_off=True)
    desk = Desk(tmp_path, told, cases=0)
    backup_ledger(desk.settings)
    desk.add(1)
    key = ArtifactKey.of("objects", of="the later result")
    with ArtifactStore(desk.settings.artifacts_dir).writing(key) as folder:
        (folder / "objects.json").write_text(json.dumps({"objects": [], "retired": ["1.SR"]}))
    desk.outbox.run()
    assert desk.told.sent == ["1.SR"]  # this ledger knows what it sent
    desk.ledger.close()
    restore_ledger(desk.settings)
    desk.told.kept.clear()
    desk.add(1)
    Outbox(desk.ledger, desk.settings, {"told": desk.told}, lambda: desk.now).run()
    assert desk.told.sent == ["1.SR"]
    assert desk.rows()["1.SR"].reason == "replaced-since"


def test_a_ledger_that_began_beside_the_results_of_a_trial_sends_as_any_other(
    tmp_path: Path,
) -> None:
    """Also where one attempt is all that a site allows."""
    once = Delivery(first_retry_seconds=10, last_retry_seconds=1000, most_attempts=1)
    desk = Desk(tmp_path)
    desk.settings = desk.settings.model_copy(update={"delivery": once})
    desk.ledger.close()
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    desk.ledger = open_at_start(desk.settings.ledger_url, threading.Event())
    with desk.ledger.transaction() as tx:
        assert len(tx.notes(BEGUN_ANEW)) == 1
    desk.restart()
    desk.add(1)
    desk.outbox.run()
    assert sorted(desk.told.sent) == ["1.SEG", "1.SR", "1.WSM"]


def test_waits_double_with_each_attempt_and_are_spread(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes = {f"1.{kind}": classify(0xA700) for kind in KINDS}
    waits = []
    for _ in range(3):
        desk.outbox.run()
        rows = desk.rows().values()
        waits.append([row.not_before - desk.now for row in rows])
        desk.now = max(row.not_before for row in rows)
    for number, spread in enumerate(waits):
        assert len(set(spread)) == 3
        assert all(0.75 <= wait / (10 * 2**number) <= 1.25 for wait in spread)


def test_a_destination_that_is_away_costs_no_attempt(tmp_path: Path) -> None:
    desk = Desk(tmp_path, cases=2)
    desk.told.away = True
    for _ in range(20):
        desk.outbox.run()
        desk.now += 500
    rows = desk.rows().values()
    assert {(row.state, row.attempts) for row in rows} == {("queued", 0)}
    assert all("nobody there" in error_of(row) for row in rows)
    desk.told.away = False
    desk.run_until(lambda: desk.case(1) == desk.case(2) == CaseState.DELIVERED)


def test_what_nobody_can_prove_is_asked_again_and_never_delivered(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.proofs = {f"1.{kind}": Proof.UNKNOWN for kind in KINDS}
    for _ in range(30):
        desk.outbox.run()
        desk.now += 100
    assert desk.case() == CaseState.UNPROVEN
    assert len(desk.told.sent) == 3
    # The destination can answer now: one object is missing and is sent again.
    desk.told.proofs = {"1.SR": Proof.ABSENT}
    desk.now += 2000
    desk.outbox.run()
    assert desk.case() == CaseState.WRITTEN
    desk.now += 2000
    desk.outbox.run()
    assert desk.told.sent.count("1.SR") == 2
    desk.told.proofs.clear()
    desk.run_until(lambda: desk.case() == CaseState.DELIVERED)


@pytest.mark.parametrize("status", [0x0111, 0xA770])
def test_what_a_destination_says_that_it_has_already_is_not_sent_again(
    tmp_path: Path, status: int
) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes["1.SR"] = classify(status)
    desk.told.proofs["1.SR"] = Proof.ABSENT
    for _ in range(10):
        desk.outbox.run()
        desk.now += 2000
        desk.restart()
    row = desk.rows()["1.SR"]
    assert (desk.told.sent.count("1.SR"), row.state) == (1, "unproven")
    assert "has it already, and does not find it (by word)" in error_of(row)
    assert desk.case() == CaseState.UNPROVEN
    # A person looks there, and has it sent again: once.
    retry_subject(desk.settings, "case-1")
    for _ in range(5):
        desk.outbox.run()
        desk.now += 2000
    assert (desk.told.sent.count("1.SR"), desk.rows()["1.SR"].state) == (2, "unproven")
    desk.told.proofs.clear()
    desk.told.outcomes.clear()  # what was hidden is deleted there
    if status == 0x0111:
        retry_subject(desk.settings, "case-1")
    else:
        desk.told.kept.add("1.SR")  # it shows it now
        desk.restart()
    desk.outbox.run()
    assert desk.case() == CaseState.DELIVERED


def test_an_object_in_another_study_is_no_proof_and_is_not_sent_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.proofs["1.SR"] = Proof.ELSEWHERE
    for _ in range(5):
        desk.outbox.run()
        desk.now += 2000
    assert (desk.told.sent.count("1.SR"), desk.case()) == (1, CaseState.UNPROVEN)
    assert error_of(desk.rows()["1.SR"]) == "by word"


def test_an_object_whose_study_was_corrected_while_it_waited_is_sent_into_the_new_one(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes["1.SR"] = classify(0x0110)  # it has it all the same
    desk.outbox.run()
    desk.told.proofs["1.SR"] = Proof.ELSEWHERE
    desk.told.outcomes.clear()
    desk.now += 2000
    desk.outbox.run()
    assert desk.told.sent.count("1.SR") == 2


def test_an_object_whose_query_fails_is_not_sent_without_a_look(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes["1.SR"] = classify(0x0110)
    desk.outbox.run()
    desk.told.proofs["1.SR"] = Proof.FAILED
    desk.now += 2000
    desk.outbox.run()
    assert desk.told.sent.count("1.SR") == 1 and error_of(desk.rows()["1.SR"]) == "by word"
    desk.run_until(lambda: desk.case() == CaseState.UNDELIVERED)
    assert desk.told.sent.count("1.SR") == 1
    assert "given up after 3 attempts: by word" in error_of(desk.rows()["1.SR"])


def test_a_warning_is_logged_by_its_code_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes["1.SR"] = classify(0xB000, "Miller")
    with caplog.at_level(logging.WARNING):
        desk.outbox.run()
    assert f"{desk.rows()['1.SR'].subject}: sent, with a warning (0xB000)" in caplog.text
    assert "Miller" not in caplog.text


def test_what_is_given_up_or_not_there_says_what_to_do(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.proofs["1.SR"] = Proof.ABSENT
    desk.outbox.run()
    assert "Look at the destination" in error_of(desk.rows()["1.SR"])
    desk.run_until(lambda: desk.case() == CaseState.UNDELIVERED)
    assert "sent again" not in error_of(desk.rows()["1.SR"])
    assert error_of(desk.rows()["1.SR"]).endswith("Once the cause is mended: tandem retry.")


def test_what_nobody_can_prove_is_asked_for_ever_more_rarely(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.proofs = {f"1.{kind}": Proof.UNKNOWN for kind in KINDS}
    asked: list[float] = []
    prove = desk.told.prove

    def noted(instances: Sequence[Instance]) -> dict[str, Answer]:
        if desk.told.away:
            raise DestinationUnavailableError("nobody there")
        asked.extend(desk.now for each in instances if each.ref.sop_instance_uid == "1.SR")
        return prove(instances)

    desk.told.prove = noted  # type: ignore[method-assign]
    for _ in range(8 * 56):
        desk.outbox.run()
        desk.now += 3 * 3600
    waits = [later - before for before, later in pairwise(asked)]
    assert len(asked) < 35  # at most one each 17 minutes before: each of these 448 turns
    assert 4 * DAY_S < max(waits) <= 1.25 * 7 * DAY_S + 3 * 3600
    desk.now = max(row.not_before for row in desk.rows().values())
    desk.told.away = True  # it cannot be asked for once
    desk.outbox.run()
    assert all(0 < row.not_before - desk.now <= 1.25 * 1000 for row in desk.rows().values())
    desk.told.away = False
    desk.told.proofs.clear()
    desk.restart()  # another way of proof may be set since
    desk.outbox.run()
    assert desk.case() == CaseState.DELIVERED


def test_new_objects_wait_for_no_crowd_of_unproven_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_ASKED", 4)
    desk = Desk(tmp_path, cases=4)
    desk.told.proofs = {f"{n}.{kind}": Proof.UNKNOWN for n in range(1, 5) for kind in KINDS}
    desk.outbox.run()
    desk.told.proofs.clear()
    desk.now += 1e6
    desk.add(5)
    desk.outbox.run()
    assert desk.case(5) == CaseState.DELIVERED
    states = [row.state for row in desk.all_rows()]
    assert (states.count("unproven"), states.count("proven")) == (8, 7)
    desk.run_until(lambda: all(desk.case(n) == CaseState.DELIVERED for n in range(1, 6)))


@pytest.mark.parametrize("outcome", [0xA700, 0x0000])
def test_what_is_queued_anew_while_others_are_sent_is_sent_as_it_is_then(
    tmp_path: Path, outcome: int
) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes["1.WSM"] = classify(outcome)
    desk.told.meanwhile["1.WSM"] = desk.rename  # the object after it in the same turn
    desk.outbox.run()
    assert "1.SR" not in desk.told.sent
    row = desk.rows()["1.SR"]
    assert (row.state, row.attempts) == ("queued", 0)
    assert (row.path, row.study_uid) == ("objects/7/SR.dcm", "2")


def test_each_destination_gets_the_objects_it_wants(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FolderDestination(name="told", objects=("SR", "SEG")))
    desk.outbox.run()
    assert sorted(desk.told.sent) == ["1.SEG", "1.SR"]
    assert desk.case() == CaseState.DELIVERED


def test_a_case_with_nothing_to_send_is_through(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FolderDestination(name="told", objects=("ANN",)))
    desk.outbox.run()
    assert desk.case() == CaseState.DELIVERED


def test_killed_between_the_last_proof_and_the_cases_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(CaseEnds, "close", lambda _self, _case: None)
        desk.outbox.run()
    assert desk.case() == CaseState.WRITTEN
    desk.outbox.run()
    assert desk.case() == CaseState.DELIVERED


def test_no_word_of_a_pacs_about_a_patient_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes = {"1.SR": classify(0xC000, "Miller"), "1.SEG": classify(0x0110, "Miller")}
    desk.outbox.run()
    assert "Miller" in error_of(desk.rows()["1.SR"])
    assert "0xC000" in caplog.text and "Miller" not in caplog.text


@pytest.mark.parametrize("kind", [DestinationUnavailableError, DestinationRejectedError])
def test_no_word_of_a_pacs_that_takes_nothing_is_logged(
    kind: type[TandemError], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)

    def fail() -> None:
        raise kind("no study of Miller")

    desk.told.meanwhile["1.WSM"] = fail
    caplog.set_level(logging.INFO)
    desk.outbox.run()
    assert "Miller" in error_of(desk.rows()["1.SR"])
    assert f"'told' postponed: {kind.__name__}" in caplog.text and "Miller" not in caplog.text


def test_what_nobody_foresaw_starves_no_other_case(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, cases=3)
    desk.told.stale = {"1.WSM"}
    index = desk.settings.artifacts_dir / "objects" / "2" / "objects.json"
    text = index.read_text()
    index.unlink()
    index.mkdir()  # what cannot be read is not known to be damaged
    for _ in range(3):
        desk.outbox.run()
    assert [desk.case(number) for number in (1, 2, 3)] == ["written", "written", "delivered"]
    held = desk.rows()["1.WSM"]
    assert held.not_before > desk.now and "Stale file handle" in error_of(held)
    assert "case-1 to 'told' failed: OSError" in caplog.text and "Miller" not in caplog.text
    assert caplog.text.count("case-2 cannot be ended: IsADirectoryError") == 1
    with desk.ledger.transaction() as tx:
        case = tx.case(2)
        assert case is not None
        assert "Restore artifacts/" in say("case", case.reason, params_of(case))
    desk.told.stale.clear()
    index.rmdir()
    index.write_text(text)
    desk.run_until(lambda: desk.case(1) == desk.case(2) == CaseState.DELIVERED)
    with desk.ledger.transaction() as tx:
        case = tx.case(2)
        assert case is not None
        assert case.reason == ""


def test_a_corrected_report_is_never_overtaken(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes["1.SR"] = classify(0x0110)
    desk.outbox.run()
    # The case is corrected while the first report waits for its second attempt.
    desk.correct()
    desk.outbox.run()
    assert desk.told.sent == ["1.WSM", "1.SR", "1.SEG"]
    desk.told.outcomes.clear()
    desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
    assert desk.told.sent[3:] == ["1.SR", "9.SR"]
    # A permanently refused report delays nothing.
    desk = Desk(tmp_path / "refused")
    desk.told.outcomes["1.SR"] = classify(0xC000)
    desk.correct()
    desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
    assert desk.told.sent[-1] == "9.SR"


class TestSharedSlide:
    """Two cases of one block share the object of their H&E slide, ``1.WSM``."""

    @pytest.fixture
    def shared(self, tmp_path: Path) -> Iterator[Desk]:
        desk = Desk(tmp_path)
        desk.write(2, WSM="1.WSM")
        with desk.ledger.transaction() as tx:
            identity = Identity(accession="S26-1", block="A1", stain=TOY)
            case = tx.case_for(identity, 0.0, TOY_PAIR)
            case.objects_key = "objects/2"
            for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN):
                tx.advance(case, state, now=0.0)
            enqueue_case(tx, case, desk.settings, 0.0)
        yield desk
        desk.ledger.close()

    def test_it_is_sent_once_and_belongs_to_both(self, shared: Desk) -> None:
        with shared.ledger.transaction() as tx:
            of = {n: {row.sop_instance_uid for row in tx.deliveries(n)} for n in (1, 2)}
        assert of == {1: {"1.WSM", "1.SEG", "1.SR"}, 2: {"1.WSM", "2.SEG", "2.SR"}}
        shared.outbox.run()
        assert sorted(shared.told.sent) == ["1.SEG", "1.SR", "1.WSM", "2.SEG", "2.SR"]
        assert [shared.case(n) for n in (1, 2)] == [CaseState.DELIVERED] * 2

    def test_refused_it_keeps_both_from_being_delivered_until_either_is_retried(
        self, shared: Desk
    ) -> None:
        shared.told.outcomes["1.WSM"] = classify(0xC000)
        shared.outbox.run()
        assert [shared.case(n) for n in (1, 2)] == [CaseState.UNDELIVERED] * 2
        shared.told.outcomes.clear()
        retry_subject(shared.settings, "case-2")
        assert [shared.case(n) for n in (1, 2)] == [CaseState.WRITTEN] * 2
        shared.outbox.run()
        assert [shared.case(n) for n in (1, 2)] == [CaseState.DELIVERED] * 2

    def test_it_stays_until_both_cases_are_held(self, shared: Desk) -> None:
        for number, state in ((1, "queued"), (2, "refused")):
            with shared.ledger.transaction() as tx:
                case = tx.case(number)
                assert case is not None
                hold(tx, case, "two-scans", {"stain": "HE", "slides": "slide-1, slide-2"}, 0.0)
            assert shared.rows()["1.WSM"].state == state
        shared.outbox.run()
        assert shared.told.sent == []

    @pytest.mark.parametrize("restarts", [True, False])
    def test_a_kill_after_the_last_proof_leaves_no_case_unproven(
        self, shared: Desk, monkeypatch: pytest.MonkeyPatch, restarts: bool
    ) -> None:
        shared.told.proofs = {"1.WSM": Proof.UNKNOWN}
        shared.outbox.run()
        assert [shared.case(n) for n in (1, 2)] == [CaseState.UNPROVEN] * 2
        shared.told.proofs.clear()
        shared.now += 5000
        with monkeypatch.context() as killed:
            killed.setattr(CaseEnds, "close", lambda *_: None)
            shared.outbox.run()
        if restarts:
            shared.restart()
        else:  # the ledger was locked just then
            shared.now += 601
        shared.outbox.run()
        assert [shared.case(n) for n in (1, 2)] == [CaseState.DELIVERED] * 2

    def test_absent_it_is_sent_again_for_the_case_that_still_has_it(self, shared: Desk) -> None:
        shared.told.proofs = {"1.WSM": Proof.UNKNOWN, "1.SR": Proof.UNKNOWN}
        shared.outbox.run()
        with shared.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.READY, now=shared.now)
        shared.told.proofs.clear()
        shared.told.kept -= {"1.WSM", "1.SR"}
        shared.restart()
        shared.run_until(lambda: shared.case(2) == CaseState.DELIVERED)
        assert [shared.told.sent.count(uid) for uid in ("1.WSM", "1.SR")] == [2, 1]

    def test_one_case_is_withdrawn_and_the_other_is_delivered_with_it(self, shared: Desk) -> None:
        with shared.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            withdraw(tx, case, shared.now)
            tx.advance(case, CaseState.WAITING, now=shared.now)
        assert shared.rows()["1.WSM"].state == DeliveryState.QUEUED
        shared.outbox.run()
        assert sorted(shared.told.sent) == ["1.WSM", "2.SEG", "2.SR"]
        assert shared.case(2) == CaseState.DELIVERED
        assert {shared.rows()[f"1.{kind}"].reason for kind in ("SR", "SEG")} == {"withdrawn"}


def test_a_destination_that_hangs_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = (FolderDestination(name="hangs"), FolderDestination(name="told"))
    desk, stop, met = Desk(tmp_path, *sections, cases=2), threading.Event(), threading.Event()

    class Hanging(Told):
        name = "hangs"

        def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
            met.set()
            stop.wait()

    opened = iter([Hanging(), desk.told])
    monkeypatch.setattr(deliveries, "open_destination", lambda *_: next(opened))
    running = deliveries.Deliveries(desk.ledger, desk.settings, stop)
    for thread in running.threads:
        thread.start()
    assert met.wait(120)
    end = time.monotonic() + 120
    while {row.state for row in desk.all_rows() if row.destination == "told"} != {"proven"}:
        assert time.monotonic() < end, desk.rows()
        time.sleep(0.02)
    signs = running.signs()
    stop.set()
    for thread in running.threads:
        thread.join()
    assert set(signs) == {"delivery", "delivery to hangs", "delivery to told"}
    waiting = [row for row in desk.all_rows() if row.destination == "hangs"]
    assert {(row.state, row.attempts) for row in waiting} == {("queued", 0)}
    assert desk.case(1) == desk.case(2) == CaseState.WRITTEN


@pytest.mark.parametrize(("gib", "held_up"), [(4, False), (0, True)])
def test_a_large_object_that_is_being_sent_is_not_held_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib: int, held_up: bool
) -> None:
    desk, stop, met, late = Desk(tmp_path), threading.Event(), threading.Event(), [0.0]

    class Slow(Told):
        name = "told"

        def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
            size = instances[0].path.stat().st_size
            os.truncate(instances[0].path, gib * 2**30 or size)
            before(instances[0])
            late[0] = 205.0  # at 20 MiB/s
            met.set()
            stop.wait()

    monkeypatch.setattr(deliveries, "open_destination", lambda *_: Slow())
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late[0], time=time.time)
    monkeypatch.setattr(pulse, "time", clock)
    running = deliveries.Deliveries(desk.ledger, desk.settings, stop)
    thread = running.threads[1]
    thread.start()
    assert met.wait(120)
    sign = running.signs()["delivery to told"]
    stop.set()
    thread.join()
    assert bool(sign.trouble) == held_up


@pytest.mark.parametrize(
    ("section", "read_mib"),
    [
        (FolderDestination(name="told"), 3),
        (Hl7Destination(kind="hl7", name="told", host="x", port=1), 0),
    ],
)
def test_a_proof_has_the_time_of_what_it_reads(
    tmp_path: Path, section: DestinationSection, read_mib: int
) -> None:
    """A query of a network reads no object: one that hangs is told at once."""
    desk, steps, at_proof = Desk(tmp_path), list[int](), list[int]()

    class Asked(Told):
        def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
            at_proof.append(steps[-1])
            return super().prove(instances)

        def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
            super().send(instances, before, after)
            for number, instance in enumerate(instances, 1):
                os.truncate(instance.path, number * 2**20)

    settings = desk.settings.model_copy(update={"destinations": (section,)})
    Outbox(desk.ledger, settings, {"told": Asked()}, lambda: 0.0, step=steps.append).run()
    assert at_proof == [read_mib * 2**20]


class TestWithdrawn:
    """A person says meanwhile that a slide is of another case, so that a result is nobody's."""

    @pytest.fixture
    def desk(self, tmp_path: Path) -> Iterator[Desk]:
        desk = Desk(tmp_path, cases=2)
        yield desk
        problems = verify(desk.ledger.file).problems
        desk.ledger.close()
        assert problems == ()

    def take_back(self, desk: Desk, number: int) -> None:
        with desk.ledger.transaction() as tx:
            case = tx.case(number)
            assert case is not None
            withdraw(tx, case, desk.now)
            tx.advance(case, CaseState.WAITING, now=desk.now)

    def test_what_waits_behind_another_case_is_not_sent(self, desk: Desk) -> None:
        desk.told.meanwhile["1.WSM"] = lambda: self.take_back(desk, 2)
        desk.outbox.run()
        assert desk.told.sent == ["1.WSM", "1.SR", "1.SEG"]
        assert {desk.rows()[f"2.{kind}"].reason for kind in KINDS} == {"withdrawn"}

    def test_what_is_next_is_not_sent(self, desk: Desk) -> None:
        desk.told.meanwhile["1.WSM"] = lambda: self.take_back(desk, 1)
        desk.outbox.run()
        assert desk.told.sent == ["1.WSM", "2.WSM", "2.SR", "2.SEG"]
        states = {kind: desk.rows()[f"1.{kind}"].state for kind in KINDS}
        assert states == {"WSM": "sent", "SR": "refused", "SEG": "refused"}
        desk.told.meanwhile.clear()
        desk.run_until(lambda: desk.rows()["1.WSM"].state == "proven")
        assert "1.SR" not in desk.told.sent

    def test_what_fails_meanwhile_stays_withdrawn(self, desk: Desk) -> None:
        def fail() -> None:
            self.take_back(desk, 1)
            raise OSError(errno.EIO, "Input/output error")

        desk.told.meanwhile["1.WSM"] = fail
        desk.outbox.run()
        assert {desk.rows()[f"1.{kind}"].state for kind in KINDS} == {"refused"}

    def test_what_was_sent_and_is_not_there_is_not_sent_again(self, desk: Desk) -> None:
        desk.told.proofs["1.SR"] = Proof.UNKNOWN
        desk.outbox.run()
        self.take_back(desk, 1)
        desk.told.proofs["1.SR"] = Proof.ABSENT
        desk.run_until(lambda: desk.rows()["1.SR"].state == "refused")
        assert desk.rows()["1.SR"].reason == "withdrawn"
        assert "after 1 attempts, so 'told' may have it" in error_of(desk.rows()["1.SR"])
        assert desk.told.sent.count("1.SR") == 1

    @pytest.mark.parametrize("found", [*ANALYZED_AGAIN, None])
    @pytest.mark.parametrize("leaves", [True, False])
    def test_what_was_sent_of_a_former_result_is_not_sent_once_there_is_a_new_one(
        self, desk: Desk, leaves: bool, found: CaseState | None
    ) -> None:
        """The archive's people removed it, as they were asked to; a restart asks for it anew."""
        desk.told.proofs = {f"1.{kind}": Proof.UNKNOWN for kind in KINDS}
        desk.outbox.run()
        key = desk.write(9)
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            withdraw(tx, case, desk.now, leaves=leaves)
            reopen(tx, case, "slide-left", {"slide": "slide-1"}, desk.now)

        def removed() -> None:
            desk.told.proofs.clear()
            desk.told.kept.clear()
            desk.restart()
            desk.outbox.run()

        for state in ANALYZED_AGAIN:
            with desk.ledger.transaction() as tx:
                case = tx.case(1)
                assert case is not None
                tx.advance(case, state, now=desk.now)
            if state == found:
                removed()
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            case.objects_key = key
            enqueue_case(tx, case, desk.settings, desk.now)
            tx.advance(case, CaseState.WRITTEN, now=desk.now)
        if found is None:
            removed()
        desk.now += 100
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        desk.now += 5000
        desk.outbox.run()
        former = [desk.rows()[f"1.{kind}"] for kind in KINDS]
        assert {(row.state, row.reason) for row in former} == {("refused", "withdrawn")}
        sent = [uid for uid in desk.told.sent if uid[0] in "19"]
        assert sent == ["1.WSM", "1.SR", "1.SEG", "9.WSM", "9.SR", "9.SEG"]

    def test_a_replaced_report_that_was_rejected_there_is_not_sent_again(self, desk: Desk) -> None:
        desk.told.proofs = {"1.SR": Proof.UNKNOWN, "1.SEG": Proof.UNKNOWN}
        desk.outbox.run()
        desk.now += 100
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.SCORED, now=desk.now)
        desk.correct()
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.WRITTEN, now=desk.now)
        desk.outbox.run()
        assert desk.told.sent[-1] == "9.SR"
        desk.told.proofs.clear()
        desk.told.kept -= {"1.SR", "1.SEG"}
        desk.restart()
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        row = desk.rows()["1.SR"]
        assert (row.state, row.reason) == ("refused", "withdrawn")
        assert error_of(row).endswith("or another result took its place")
        assert [desk.told.sent.count(uid) for uid in ("1.SR", "1.SEG")] == [1, 2]  # one is of both

    def test_what_is_found_absent_during_a_rerun_comes_back_with_the_same_result(
        self, desk: Desk
    ) -> None:
        desk.told.proofs = {"1.SR": Proof.UNKNOWN}
        desk.outbox.run()
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.READY, now=desk.now)
        desk.told.proofs.clear()
        desk.told.kept.discard("1.SR")
        desk.restart()
        desk.outbox.run()
        assert desk.rows()["1.SR"].reason == "withdrawn"
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            for state in (CaseState.ALIGNED, CaseState.SCORED):
                tx.advance(case, state, now=desk.now)
            enqueue_case(tx, case, desk.settings, desk.now)
            tx.advance(case, CaseState.WRITTEN, now=desk.now)
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert desk.told.sent.count("1.SR") == 2

    def test_what_is_absent_and_replaced_while_it_waits_is_not_sent_again(self, desk: Desk) -> None:
        desk.told.proofs = {"1.SR": Proof.UNKNOWN}
        desk.outbox.run()
        desk.told.proofs.clear()
        desk.told.kept.discard("1.SR")
        desk.restart()
        desk.outbox.run()
        assert desk.rows()["1.SR"].reason == "not-there"  # it is the result of today
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.SCORED, now=desk.now)
        desk.correct()
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.WRITTEN, now=desk.now)
        desk.now += 2000
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert desk.rows()["1.SR"].reason == "withdrawn"
        assert [desk.told.sent.count(uid) for uid in ("1.SR", "9.SR")] == [1, 1]

    def test_what_is_found_absent_while_its_case_is_written_is_sent_again(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its case has it again from the moment after it was asked whether any case has."""
        desk.told.proofs = {"1.SR": Proof.UNKNOWN}
        desk.outbox.run()
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.SCORED, now=desk.now)
        desk.told.proofs.clear()
        desk.told.kept.discard("1.SR")
        desk.restart()
        transaction, asked = desk.ledger.transaction, list[bool]()

        def is_void(tx: Transaction, row: DeliveryRow, settings: Settings) -> bool:
            asked.append(intact.is_void(tx, row, settings))
            return asked[-1]

        @contextmanager
        def then_written() -> Iterator[Transaction]:
            with transaction() as tx:
                yield tx
            with transaction() as tx:
                case = tx.case(1)
                if asked and case is not None and case.state == CaseState.SCORED:
                    enqueue_case(tx, case, desk.settings, desk.now)
                    tx.advance(case, CaseState.WRITTEN, now=desk.now)

        monkeypatch.setattr(outbox, "is_void", is_void)
        monkeypatch.setattr(desk.ledger, "transaction", then_written)
        desk.outbox.run()
        assert asked == [True]
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert desk.rows()["1.SR"].state == DeliveryState.PROVEN
        assert desk.told.sent.count("1.SR") == 2

    def test_what_may_be_there_is_told_and_rejected_there(self, desk: Desk) -> None:
        """The archive keeps the report, and its answer is lost."""
        desk.told.outcomes["1.SR"] = classify(0x0110)
        desk.told.meanwhile["1.SR"] = lambda: self.take_back(desk, 1)
        desk.outbox.run()
        assert "1 attempts, so 'told' may have it: look" in error_of(desk.rows()["1.SR"])
        assert "before it was sent" in error_of(desk.rows()["1.SEG"])
        index = desk.settings.artifacts_dir / desk.write(9) / "objects.json"
        for retired, notes in ((["1.SEG"], 0), (["1.SR"], 1)):
            made = json.loads(index.read_text())
            note = made["objects"][0] | {"kind": "KO", "sop_instance_uid": f"9.{retired[0]}"}
            made["objects"].append(note)
            index.write_text(json.dumps(made | {"retired": retired}))
            with desk.ledger.transaction() as tx:
                case = tx.case(1)
                assert case is not None
                case.objects_key = "objects/9"
                enqueue_case(tx, case, desk.settings, desk.now)
            assert [row.kind for row in desk.all_rows()].count("KO") == notes * 2


def test_a_daemon_that_stops_sends_no_further_object(tmp_path: Path) -> None:
    desk, stop = Desk(tmp_path, cases=2), threading.Event()
    outbox = Outbox(desk.ledger, desk.settings, {"told": desk.told}, stop=stop)
    desk.told.meanwhile["1.WSM"] = stop.set
    with pytest.raises(StoppedError):
        outbox.run()
    rows = desk.rows()
    assert desk.told.sent == ["1.WSM"] and rows["1.WSM"].state == "sent"
    assert (rows["1.SR"].state, rows["1.SR"].attempts) == ("queued", 0)
    desk.ledger.close()


@pytest.mark.parametrize(
    "signed", [{"correction": {"by": "Meyer^Anna"}}, {"sign_offs": [{"by": "Meyer^Anna"}]}]
)
def test_a_laboratorys_system_gets_what_a_person_signed(
    signed: dict[str, object], tmp_path: Path
) -> None:
    signed_only = Hl7Destination(kind="hl7", host="lis", port=2575)
    early = FhirDestination(kind="fhir", url="https://lis", before_sign_off=True)
    desk = Desk(tmp_path, FolderDestination(name="told"), signed_only, early)

    def queued() -> set[tuple[str, str]]:
        rows = [row for row in desk.all_rows() if row.destination != "told"]
        return {(row.destination, row.sop_instance_uid) for row in rows}

    assert queued() == {("fhir", "1.SR")}
    index = desk.settings.artifacts_dir / "objects" / "1" / "objects.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | signed))
    with desk.ledger.transaction() as tx:
        case = tx.case(1)
        assert case is not None
        enqueue_case(tx, case, desk.settings, 0.0)
    assert queued() == {("fhir", "1.SR"), ("lis", "1.SR")}


def write_anew(desk: Desk, number: int, **facts: object) -> None:
    """Write the case's objects anew, with other facts in their index, and queue them."""
    key = desk.write(number)
    index = desk.settings.artifacts_dir / key / "objects.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | facts))
    (index.parent / SUMS_NAME).unlink()
    adopt(index.parent)
    with desk.ledger.transaction() as tx:
        case = tx.case(1)
        assert case is not None
        case.objects_key = key
        enqueue_case(tx, case, desk.settings, desk.now)


@pytest.mark.parametrize("first", ["taken", "not proven", "refused", "its list is damaged"])
def test_a_rerun_that_nobody_signed_does_not_go_over_a_signed_result(
    first: str, tmp_path: Path
) -> None:
    """A system that keeps one result would lose the signed one, or refuse all that follows."""
    told = Hl7Destination(kind="hl7", name="told", host="lis", port=2575, before_sign_off=True)
    desk = Desk(tmp_path, told, FolderDestination(name="archive"))

    signed = {"sign_offs": [{"by": "Meyer^Anna"}]}
    desk.outbox.run()
    if first == "refused":
        desk.told.outcomes = {"2.SR": classify(0xC000)}
    if first == "not proven":
        desk.told.proofs = {"2.SR": Proof.UNKNOWN}
    write_anew(desk, 2, **signed)
    desk.outbox.run()
    assert desk.told.sent == ["1.SR", "2.SR"]
    if first == "its list is damaged":
        (desk.settings.artifacts_dir / "objects" / "2" / "objects.json").write_text("{")
    write_anew(desk, 3)
    desk.outbox.run()
    kept = first in ("taken", "not proven")
    there = ["1.SR", "2.SR"] if kept else ["1.SR", "2.SR", "3.SR"]
    assert desk.told.sent == there
    assert "3.SR" in {row.sop_instance_uid for row in desk.all_rows()}  # the archive has both
    write_anew(desk, 4, **signed)
    desk.outbox.run()
    assert desk.told.sent == [*there, "4.SR"]


@pytest.mark.parametrize("third", ["left out", "refused"])
def test_a_retry_does_not_go_over_a_signed_result_that_was_taken_meanwhile(
    third: str, tmp_path: Path
) -> None:
    lis = Hl7Destination(kind="hl7", name="told", host="lis", port=2575, before_sign_off=True)
    desk, archive = Desk(tmp_path, lis, FolderDestination(name="archive")), Told()
    both = {"told": desk.told, "archive": archive}
    desk.outbox = Outbox(desk.ledger, desk.settings, {**both}, lambda: desk.now)

    def deliver(times: int) -> None:
        for _ in range(times):
            desk.now += 3000
            desk.outbox.run()

    deliver(1)
    desk.told.away = True
    write_anew(desk, 2, sign_offs=[{"by": "Meyer^Anna"}])
    deliver(1)
    archive.outcomes["3.SEG"] = classify(0xC000)
    write_anew(desk, 3)
    desk.told.away = False
    desk.told.outcomes["3.SR"] = classify(0xC000)
    deliver(1)
    assert desk.told.sent == ["1.SR", "2.SR"]
    with desk.ledger.transaction() as tx:
        (case,) = tx.cases()
        if third == "left out":
            hold(tx, case, "patients-differ", {}, desk.now)
            reopen(tx, case, "kept", {}, desk.now)
        for state in ANALYZED_AGAIN:
            tx.advance(case, state, now=desk.now)
        if third == "left out":
            enqueue_case(tx, case, desk.settings, desk.now)
        tx.advance(case, CaseState.WRITTEN, now=desk.now)
    deliver(4)
    assert desk.case() == CaseState.UNDELIVERED
    before = list(desk.told.sent)
    archive.outcomes.clear()
    desk.told.outcomes.clear()
    told = retry_subject(desk.settings, "case-1")
    assert ("1 are left out, as 'told' took a signed" in told) is (third == "refused")
    deliver(4)
    assert desk.told.sent == before and desk.case() == CaseState.DELIVERED


@pytest.mark.parametrize("former", ["a signed one that waits", "one whose folder is gone"])
def test_no_result_is_lost_for_a_signed_one_that_a_system_never_took(
    former: str, tmp_path: Path
) -> None:
    told = Hl7Destination(kind="hl7", name="told", host="lis", port=2575, before_sign_off=True)
    desk = Desk(tmp_path, told, FolderDestination(name="archive"))

    desk.outbox.run()
    if former == "a signed one that waits":
        desk.told.away = True
        write_anew(desk, 2, sign_offs=[{"by": "Meyer^Anna"}])
        desk.outbox.run()
        desk.told.outcomes = {"2.SR": classify(0xC000)}
    else:
        shutil.rmtree(desk.settings.artifacts_dir / "objects" / "1")
    write_anew(desk, 3)
    desk.told.away = False
    for _ in range(2):  # the later one waits until the earlier one is settled
        desk.now += 3000
        desk.outbox.run()
    assert desk.told.sent[-1] == "3.SR"
    rows = {row.sop_instance_uid: row.state for row in desk.all_rows() if row.destination == "told"}
    assert rows["3.SR"] == DeliveryState.PROVEN


@pytest.mark.parametrize("kind", ["dicom", "dicomweb", "folder"])
def test_an_archive_may_wait_for_the_signature_too(kind: str, tmp_path: Path) -> None:
    place = {
        "dicom": 'host = "pacs.lab"\nport = 104\ncalled_aet = "PACS"\n',
        "dicomweb": 'url = "https://pacs.lab/dicom-web"\n',
        "folder": "",
    }[kind]
    config = tmp_path / "tandem.toml"
    section = f'[[destinations]]\nkind = "{kind}"\nname = "told"\nonly_signed = true\n{place}'
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n{section}')
    (read,) = load_settings(config).destinations
    desk = Desk(tmp_path, read)
    desk.outbox.run()
    assert desk.all_rows() == [] and desk.case() == CaseState.DELIVERED
    index = desk.settings.artifacts_dir / "objects" / "1" / "objects.json"
    signed = {"sign_offs": [{"by": "Meyer^Anna"}]}
    index.write_text(json.dumps(json.loads(index.read_text()) | signed))
    with desk.ledger.transaction() as tx:
        (case,) = tx.cases()
        enqueue_case(tx, case, desk.settings, 0.0)
    assert {row.kind for row in desk.all_rows()} == set(KINDS)


def test_a_retry_does_not_send_a_report_that_was_replaced(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.told.outcomes = {uid: classify(0xC000) for uid in ("1.SR", "1.WSM")}
    desk.outbox.run()
    desk.correct()
    with desk.ledger.transaction() as tx:
        case = tx.case(1)
        assert case is not None
        for state in (CaseState.SCORED, CaseState.WRITTEN):
            tx.advance(case, state, now=0.0)
    desk.outbox.run()
    assert desk.case() == CaseState.UNDELIVERED  # its slide is refused still
    desk.told.outcomes.clear()
    desk.told.sent.clear()
    retry_subject(desk.settings, "case-1")
    desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
    assert desk.told.sent == ["1.WSM"]
    desk.ledger.close()


class TestDamage:
    """Files that are not what was written."""

    def test_a_flipped_byte_is_not_sent_and_the_object_is_written_again(
        self, tmp_path: Path
    ) -> None:
        desk = Desk(tmp_path)
        file = desk.settings.artifacts_dir / "objects" / "1" / "SR.dcm"
        flip(file)
        desk.outbox.run()
        assert desk.told.sent == ["1.WSM", "1.SEG"]
        assert desk.case() == CaseState.SCORED
        row = desk.rows()["1.SR"]
        assert (row.state, row.attempts, row.reason) == ("queued", 0, "object-damaged")
        with desk.ledger.transaction() as tx:
            event = tx.events("case-1")[-1]
        assert "stored object SR is damaged" in event_text(event)
        flip(file)  # written again
        with desk.ledger.transaction() as tx:
            case = tx.case(1)
            assert case is not None
            tx.advance(case, CaseState.WRITTEN, now=desk.now)
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert desk.told.sent == ["1.WSM", "1.SEG", "1.SR"]

    def test_a_lost_file_is_written_again(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path)
        (desk.settings.artifacts_dir / "objects" / "1" / "SEG.dcm").unlink()
        desk.outbox.run()
        assert desk.case() == CaseState.SCORED
        assert "1.SEG" not in desk.told.sent

    def test_a_damaged_object_of_two_cases_is_written_again_for_both(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path)
        desk.write(2, WSM="1.WSM")
        with desk.ledger.transaction() as tx:
            identity = Identity(accession="S26-1", block="A1", stain=TOY)
            case = tx.case_for(identity, 0.0, TOY_PAIR)
            case.objects_key = "objects/2"
            for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN):
                tx.advance(case, state, now=0.0)
            enqueue_case(tx, case, desk.settings, 0.0)
        flip(desk.settings.artifacts_dir / "objects" / "1" / "WSM.dcm")
        desk.outbox.run()
        assert [desk.case(n) for n in (1, 2)] == [CaseState.SCORED] * 2

    def test_a_damaged_report_that_was_replaced_is_refused(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path)
        desk.correct()
        flip(desk.settings.artifacts_dir / "objects" / "1" / "SR.dcm")
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert desk.rows()["1.SR"].reason == "object-replaced"
        assert "1.SR" not in desk.told.sent and "9.SR" in desk.told.sent

    @pytest.mark.parametrize("noticed", [True, False])
    def test_a_damaged_overlay_is_sent_once_its_result_comes_back(
        self, tmp_path: Path, noticed: bool
    ) -> None:
        desk = Desk(tmp_path)
        desk.told.away = True
        desk.outbox.run()
        flip(desk.settings.artifacts_dir / "objects" / "1" / "SEG.dcm")

        def become(number: int, overlay: str) -> None:
            folder = desk.settings.artifacts_dir / desk.write(number, WSM="1.WSM")
            write_object(folder / "SEG.dcm", overlay)
            index = (folder / "objects.json").read_text().replace(f"{number}.SEG", overlay)
            (folder / "objects.json").write_text(index)
            (folder / SUMS_NAME).unlink()
            adopt(folder)
            with desk.ledger.transaction() as tx:
                case = tx.case(1)
                assert case is not None
                tx.advance(case, CaseState.SCORED, now=desk.now)
                case.objects_key = f"objects/{number}"
                enqueue_case(tx, case, desk.settings, desk.now)
                tx.advance(case, CaseState.WRITTEN, now=desk.now)

        become(7, "7.SEG")
        desk.told.away, desk.now = not noticed, 2000.0
        if noticed:
            desk.run_until(lambda: desk.rows()["1.SEG"].reason == "object-replaced")
        become(8, "1.SEG")  # an overlay that comes back has its former UID
        desk.told.away = False
        desk.run_until(lambda: desk.rows()["1.SEG"].state == "proven")
        assert "1.SEG" in desk.told.sent

    def test_another_object_in_the_place_of_one_is_not_sent_for_it(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path)
        folder = desk.settings.artifacts_dir / "objects" / "1"
        write_object(folder / "SR.dcm", "1.OTHER")
        (folder / SUMS_NAME).unlink()
        adopt(folder)
        desk.outbox.run()
        assert "1.SR" not in desk.told.sent
        assert desk.case() == CaseState.SCORED

    def test_a_damaged_index_is_written_again(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path)
        flip(desk.settings.artifacts_dir / "objects" / "1" / "objects.json")
        desk.outbox.run()
        assert desk.case() == CaseState.SCORED


def refuse(desk: Desk, uid: str, status: int) -> None:
    desk.told.outcomes[uid] = classify(status)
    desk.outbox.run()
    assert desk.case() == CaseState.UNDELIVERED


def set_destinations(desk: Desk, *sections: DestinationSection) -> None:
    desk.settings = desk.settings.model_copy(update={"destinations": sections})
    there = {"told": desk.told} if any(each.name == "told" for each in sections) else {}
    desk.outbox = Outbox(desk.ledger, desk.settings, there, lambda: desk.now)


class TestLeftOut:
    """Objects that the settings do not send any more."""

    no_overlays = FolderDestination(name="told", objects=("SR", "WSM"))

    def test_a_refused_kind_that_objects_leaves_out_holds_up_no_case_after_a_retry(
        self, tmp_path: Path
    ) -> None:
        desk = Desk(tmp_path)
        refuse(desk, "1.SEG", 0x0122)
        set_destinations(desk, self.no_overlays)
        retry_subject(desk.settings, "case-1")
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        row = desk.rows()["1.SEG"]
        assert (row.state, row.reason) == (DeliveryState.REFUSED, "left-out")
        assert error_of(row) == "by now the settings do not send it to 'told'"
        assert desk.told.sent.count("1.SEG") == 1

    def test_so_does_a_rerun_with_the_same_objects_and_the_kind_comes_back_with_the_setting(
        self, tmp_path: Path
    ) -> None:
        desk = Desk(tmp_path)
        refuse(desk, "1.SEG", 0x0122)
        for sections in ((self.no_overlays,), (FolderDestination(name="told"),)):
            set_destinations(desk, *sections)
            with desk.ledger.transaction() as tx:
                (case,) = tx.cases()
                for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED):
                    tx.advance(case, state, now=desk.now)
                enqueue_case(tx, case, desk.settings, desk.now)
                tx.advance(case, CaseState.WRITTEN, now=desk.now)
            desk.told.outcomes.clear()
            desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert desk.rows()["1.SEG"].state == DeliveryState.PROVEN
        assert desk.told.sent.count("1.SEG") == 2

    def test_a_destination_that_is_gone_is_left_out_by_a_persons_retry_alone(
        self, tmp_path: Path
    ) -> None:
        desk = Desk(tmp_path)
        set_destinations(desk, FolderDestination(name="other"))
        desk.outbox.run()
        assert desk.case() == CaseState.UNDELIVERED
        assert "tandem retry leaves the object out" in error_of(desk.rows()["1.SEG"])
        told = retry_subject(desk.settings, "case-1")
        assert told.endswith("3 are left out, as the settings have no 'told'")
        assert desk.case() == CaseState.WRITTEN
        desk.outbox = Outbox(desk.ledger, desk.settings, {"other": desk.told}, lambda: desk.now)
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        rows = {(row.destination, row.state, row.reason) for row in desk.all_rows()}
        assert rows == {("told", "refused", "left-out"), ("other", "proven", "")}
        assert sorted(desk.told.sent) == ["1.SEG", "1.SR", "1.WSM"]
        with desk.ledger.transaction() as tx:
            assert "do not send it to 'told'" in event_text(tx.events("delivery-1")[-1])

    @pytest.mark.parametrize("signed", [True, False])
    def test_a_retry_sends_no_unsigned_result_where_signed_ones_go_alone_by_now(
        self, signed: bool, tmp_path: Path
    ) -> None:
        desk = Desk(tmp_path, FolderDestination(name="told"), FolderDestination(name="other"))
        other = Told()
        other.outcomes = {"1.SR": classify(0xC000)}
        Outbox(desk.ledger, desk.settings, {"other": other}, lambda: desk.now).run()
        refuse(desk, "1.SEG", 0x0122)
        sections = (
            FolderDestination(name="told", only_signed=True),
            FolderDestination(name="other"),
        )
        set_destinations(desk, *sections)
        index = desk.settings.artifacts_dir / "objects" / "1" / "objects.json"
        said = {"sign_offs": [{"by": "Meyer^Anna"}]} if signed else {}
        index.write_text(json.dumps(json.loads(index.read_text()) | said))
        (index.parent / SUMS_NAME).unlink()
        adopt(index.parent)
        desk.told.outcomes.clear()
        other.outcomes.clear()
        told = retry_subject(desk.settings, "case-1")
        assert ("1 are left out, as 'told' only gets signed results" in told) is not signed
        Outbox(desk.ledger, desk.settings, {"other": other}, lambda: desk.now).run()
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert desk.told.sent.count("1.SEG") == (2 if signed else 1)
        assert other.sent.count("1.SR") == 2

    def test_a_retry_leaves_alone_what_was_left_out(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path)
        desk.told.outcomes["1.SR"] = classify(0xC000)
        refuse(desk, "1.SEG", 0x0122)
        set_destinations(desk, self.no_overlays)
        retry_subject(desk.settings, "case-1")
        desk.run_until(lambda: desk.case() == CaseState.UNDELIVERED)
        assert desk.rows()["1.SEG"].reason == "left-out"
        assert retry_subject(desk.settings, "case-1") == "case-1: 1 deliveries are tried again now"
        assert desk.rows()["1.SEG"].state == DeliveryState.REFUSED

    @pytest.mark.parametrize(
        "wrong",
        [
            (no_overlays, FolderDestination(name="other")),
            (FolderDestination(name="told", only_signed=True), FolderDestination(name="other")),
            (FolderDestination(name="other"),),
        ],
        ids=["objects", "only_signed", "gone"],
    )
    def test_what_was_left_out_comes_back_by_a_retry_once_the_settings_are_right(
        self, wrong: tuple[FolderDestination, ...], tmp_path: Path
    ) -> None:
        right = FolderDestination(name="told"), FolderDestination(name="other")
        desk, other = Desk(tmp_path, *right), Told()
        other.outcomes = {"1.SR": classify(0xC000)}
        desk.told.outcomes = {"1.SEG": classify(0xC000)}

        def deliver() -> None:
            there: dict[str, Told] = {"told": desk.told, "other": other}
            there = {each.name: there[each.name] for each in desk.settings.destinations}
            for _ in range(3):
                Outbox(desk.ledger, desk.settings, {**there}, lambda: desk.now).run()
                desk.now += 2000

        if len(wrong) > 1:
            deliver()
        set_destinations(desk, *wrong)
        for _ in range(2):  # a destination that is gone is left out by the second
            deliver()
            retry_subject(desk.settings, "case-1")
        deliver()
        row = next(each for each in desk.all_rows() if each.kind == "SEG")
        assert (row.destination, row.reason) == ("told", "left-out")
        set_destinations(desk, *right)
        desk.told.outcomes.clear()
        other.outcomes.clear()
        retry_subject(desk.settings, "case-1")
        deliver()
        assert desk.case() == CaseState.DELIVERED
        assert {row.state for row in desk.all_rows()} == {"proven"}

    @pytest.mark.parametrize("section", [no_overlays, FolderDestination(name="other")])
    def test_what_was_withdrawn_and_is_wanted_no_more_holds_up_no_case(
        self, section: FolderDestination, tmp_path: Path
    ) -> None:
        desk = Desk(tmp_path)
        desk.told.away = True
        desk.outbox.run()
        with desk.ledger.transaction() as tx:
            (case,) = tx.cases()
            hold(tx, case, "unpaired", {}, desk.now)
            settings = desk.settings.model_copy(update={"destinations": (section,)})
            reopen(tx, case, "kept", {}, desk.now)
            for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED):
                tx.advance(case, state, now=desk.now)
            enqueue_case(tx, case, settings, desk.now)
            tx.advance(case, CaseState.WRITTEN, now=desk.now)
        desk.told.away = False
        desk.outbox = Outbox(desk.ledger, settings, {section.name: desk.told}, lambda: desk.now)
        desk.run_until(lambda: desk.case() == CaseState.DELIVERED)
        assert {row.reason for row in desk.all_rows() if row.state == "refused"} == {"left-out"}

    @pytest.mark.parametrize("sections", [(), (FolderDestination(name="other", only_signed=True),)])
    def test_no_retry_makes_a_case_delivered_whose_objects_no_destination_gets(
        self, sections: Sequence[DestinationSection], tmp_path: Path
    ) -> None:
        desk = Desk(tmp_path)
        set_destinations(desk, *sections)
        desk.outbox.run()
        with pytest.raises(SettingsError, match="no 'told', and no destination has its objects"):
            retry_subject(desk.settings, "case-1")
        desk.outbox.run()
        assert desk.case() == CaseState.UNDELIVERED
        assert {row.reason for row in desk.all_rows()} == {"no-destination"}
