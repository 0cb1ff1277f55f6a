"""Pages on states that are easily mistaken: taken out, waiting, away, failed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from fixtures.pairings import HER2_PAIR
from streamlit.testing.v1 import AppTest

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import HE, HER2, Identity, Stain
from appliance.findings.findings import Findings
from appliance.intake.block import reopen, withdraw
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, id_of, set_reason
from appliance.ledger.transaction import NewDelivery, Transaction
from dashboard.masking import event_shown
from dashboard.queries import case_of_pair, read_case, read_queue
from dashboard.record import read_record
from dashboard.system import read_system
from dashboard.views.case import _key_of as key_of
from dashboard.worklist import SpokenCases, read_work_list

if TYPE_CHECKING:
    from conftest import Lab


@pytest.fixture
def reader(lab: Lab) -> LedgerReader:
    return LedgerReader(lab.settings.ledger_url)


def case_page() -> None:
    from dashboard.views import case

    case.render()


def shown(case_id: int) -> str:
    """Return the words of the case page."""
    page = AppTest.from_function(case_page)
    page.query_params["case"] = str(case_id)
    page.run(timeout=180)
    assert not page.exception
    markup = "".join(each.proto.body for each in page.get("html"))
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))


def paired(lab: Lab) -> int:
    case = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case, CaseState.READY)
    return case


def test_what_was_withdrawn_is_no_refusal(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    """Only the object that waits for a person is told, with the answer that it got."""
    case = paired(lab)
    lab.score(case, findings)
    lab.write(case, ("archive", "viewer"))

    def anew(tx: Transaction, now: float) -> None:
        row = tx.case(case)
        assert row is not None
        withdraw(tx, row, now)
        reopen(tx, row, "came-anew", {"slide": "slide-2"}, now)

    lab.do(anew)
    lab.move_case(case, CaseState.READY)
    lab.score(case, findings)

    def refused(tx: Transaction, now: float) -> None:
        new = NewDelivery(
            destination="viewer",
            kind="SR",
            path="SR.dcm",
            study_uid="2.25.1",
            series_uid="2.25.3",
            sop_instance_uid="2.25.77",
            sop_class_uid="1.2.840",
        )
        tx.enqueue(case, new, now)
        (row,) = [each for each in tx.deliveries(case) if each.sop_instance_uid == "2.25.77"]
        set_reason(row, "answer", {"text": "0xA900"})
        tx.advance(row, DeliveryState.REFUSED, now=now, reason=row.reason)

    lab.do(refused)
    lab.move_case(case, CaseState.WRITTEN)
    lab.move_case(case, CaseState.UNDELIVERED, reason="refused", params="{}")
    detail = read_case(reader, lab.settings, case)
    assert detail is not None and detail.trouble is not None
    assert "archive" not in detail.trouble.sentence and "viewer" in detail.trouble.sentence
    assert "0xA900" in detail.trouble.detail
    assert {(each.destination, each.is_taken_out) for each in detail.deliveries} == {
        ("archive", True),
        ("viewer", True),
        ("viewer", False),
    }
    places = {place.name: place.objects for place in read_system(reader, lab.settings).places}
    assert places["archive"][DeliveryState.REFUSED] == 0


def test_a_case_that_lacks_withdrawn_objects_alone_tells_them(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    case = paired(lab)
    lab.score(case, findings)
    lab.write(case)

    def taken_out(tx: Transaction, now: float) -> None:
        row = tx.case(case)
        assert row is not None
        withdraw(tx, row, now)

    lab.do(taken_out)
    lab.move_case(case, CaseState.UNDELIVERED, reason="refused", params="{}")
    detail = read_case(reader, lab.settings, case)
    assert detail is not None and detail.trouble is not None
    assert "archive" in detail.trouble.sentence and detail.trouble.detail


def test_a_refusal_of_a_result_that_came_back_is_told(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    """It has the same UIDs in the folder of another result."""
    case = paired(lab)
    lab.score(case, findings)
    new = NewDelivery(
        destination="archive",
        kind="SR",
        path="objects/former/SR.dcm",
        study_uid="2.25.1",
        series_uid="2.25.3",
        sop_instance_uid="2.25.77",
        sop_class_uid="1.2.840",
    )

    def refused(tx: Transaction, now: float) -> None:
        tx.enqueue(case, new, now)
        (row,) = tx.deliveries(case)
        set_reason(row, "answer", {"text": "0xA900"})
        tx.advance(row, DeliveryState.REFUSED, now=now, reason=row.reason)

    lab.do(refused)
    lab.do(lambda tx, now: tx.enqueue(case, replace(new, path="objects/today/SR.dcm"), now))
    lab.move_case(case, CaseState.WRITTEN, objects_key="objects/today")
    lab.move_case(case, CaseState.UNDELIVERED, reason="refused", params="{}")
    detail = read_case(reader, lab.settings, case)
    assert detail is not None and detail.trouble is not None
    assert "archive" in detail.trouble.sentence and "0xA900" in detail.trouble.detail
    places = {place.name: place.objects for place in read_system(reader, lab.settings).places}
    assert places["archive"][DeliveryState.REFUSED] == 1


def test_a_case_says_what_it_waits_for_and_where_it_failed(lab: Lab, findings: Findings) -> None:
    case = paired(lab)

    def full(tx: Transaction, now: float) -> None:
        row = tx.case(case)
        assert row is not None
        set_reason(row, "disk-full", {"message": "The disk of the state folder is full."})
        tx.session.add(row)

    lab.do(full)
    assert "The disk of the state folder is full." in shown(case)
    lab.score(case, findings)
    failed = json.dumps({"error": "X", "message": "y"})
    lab.move_case(case, CaseState.FAILED, reason="step-failed", params=failed)
    page = AppTest.from_function(case_page)
    page.query_params["case"] = str(case)
    page.run(timeout=180)
    markup = "".join(each.proto.body for each in page.get("html"))
    assert 'here trouble">Scored' in markup


def test_a_result_that_is_away_is_not_unscored(lab: Lab, findings: Findings) -> None:
    """The ledger was restored without the artifacts."""
    case = paired(lab)
    lab.score(case, findings)
    lab.write(case)
    lab.deliver(case)
    (row,) = lab.rows()[1]
    shutil.rmtree(
        ArtifactStore(lab.settings.artifacts_dir).path(ArtifactKey.parse(row.findings_key))
    )
    said = shown(case)
    assert "Not scored yet" not in said
    assert "The stored result of this case is away. Restore artifacts/" in said


def test_a_proof_draws_no_page_anew(lab: Lab, reader: LedgerReader, findings: Findings) -> None:
    """A form that a person fills in would be lost."""
    case = paired(lab)
    keys = []
    for move in (
        lambda: lab.score(case, findings),
        lambda: lab.write(case),
        lambda: lab.deliver(case),
    ):
        move()
        detail = read_case(reader, lab.settings, case)
        assert detail is not None
        keys.append(detail.picture_key)
    assert keys[0] != keys[1] == keys[2]


def test_a_refusal_draws_no_page_anew_but_where_no_result_can_be_shown(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    case = paired(lab)
    lab.score(case, findings)
    lab.write(case)
    written = read_case(reader, lab.settings, case)
    lab.move_case(case, CaseState.UNDELIVERED, reason="refused", params="{}")
    refused = read_case(reader, lab.settings, case)
    assert written is not None and refused is not None and refused.trouble is not None
    assert key_of(written, findings) == key_of(refused, findings)
    # A result that is away or cannot be read: the page shows how far the case is.
    assert key_of(written, None) != key_of(refused, None) != key_of(refused, findings)


def test_a_disk_that_fails_at_a_picture_gives_a_sentence(lab: Lab, findings: Findings) -> None:
    case = paired(lab)
    lab.score(case, findings)
    lab.write(case)
    (row,) = lab.rows()[1]
    folder = ArtifactStore(lab.settings.artifacts_dir).path(ArtifactKey.parse(row.findings_key))
    picture = next(folder.glob("*.png"))
    picture.chmod(0o600)
    folder.chmod(0o700)
    picture.unlink()
    picture.mkdir()
    assert "The stored pictures of this case cannot be read (Is a directory)" in shown(case)


def test_a_search_knows_capitals_of_all_letters(lab: Lab, reader: LedgerReader) -> None:
    lab.arrive("Öst_2026_A1_HE.svs")

    def opened(tx: Transaction, now: float) -> None:
        for name in ("Özdemir^Ayşe", "MÜLLER^Anna"):
            tx.note("dashboard", "case-opened", now, params={"case": "case-1"}, by=name)
        # An earlier build kept the person among the facts.
        facts = {"score": "1+", "was": "2+", "by": "Meyer^Jörg"}
        tx.note("case-1", "corrected-by", now, params=facts)

    lab.do(opened)
    found = (("özdemir", "Özdemir^Ayşe"), ("müller", "MÜLLER^Anna"), ("JÖRG", "Meyer^Jörg"))
    for who, name in found:
        assert [each.by for each in read_record(reader, lab.settings, who=who).lines] == [name]
    assert len(read_queue(reader, lab.settings, "öst").slides) == 1


def test_scores_are_ordered_by_their_assay(
    lab: Lab, reader: LedgerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = (
        SimpleNamespace(scores=("negative", "low positive", "positive")),
        SimpleNamespace(scores=("negative", "positive")),
    )
    monkeypatch.setattr("dashboard.worklist.assays", lambda: known)
    scores = ("low positive", "negative", "positive")
    with lab.ledger.transaction() as tx:
        for number, score in enumerate(scores):
            row = CaseRow(
                accession=f"S{number}", block="A1", assay="er", anatomy=HE, target="ER",
                state=CaseState.DELIVERED, score=score, created_at=0.0, changed_at=0.0,
            )  # fmt: skip
            tx.session.add(row)
    found = read_work_list(reader, lab.settings, SpokenCases(), order="score").cases
    assert [case.score for case in found] == ["positive", "low positive", "negative"]


def test_a_pair_is_found_beside_another_case_of_its_block(lab: Lab, reader: LedgerReader) -> None:
    her2 = paired(lab)
    er = replace(HER2_PAIR, assay="er", target=Stain("ER"))
    slide = lab.arrive("S26-0000001_A1_ER.svs")
    lab.move_slide(slide, SlideState.ARRIVED)
    with lab.ledger.transaction() as tx:
        row = tx.slide(slide)
        assert row is not None
        row.accession, row.block, row.stain = "S26-0000001", "A1", er.target
        identity = Identity(accession="S26-0000001", block="A1", stain=er.target)
        case = id_of(tx.case_for(identity, lab.tick(), er))
    assert case_of_pair(reader, 1, 2) == her2
    assert case_of_pair(reader, 1, slide) == case_of_pair(reader, slide, 1) == case
    assert case_of_pair(reader, 2, slide) is None


def test_why_working_data_was_removed_is_no_name() -> None:
    facts = {"keys": ["inspect/abc"], "bytes": 5e6, "why": "age"}
    event = SimpleNamespace(
        kind="note", code="retired", from_state="", to_state="", step="", seconds=0.0,
        reused=False, reason="", params=json.dumps(facts),
    )  # fmt: skip
    assert event_shown(event, hidden=True) == event_shown(event, hidden=False)
