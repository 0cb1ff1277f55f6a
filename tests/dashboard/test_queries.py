"""Queries of the pages to the ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from appliance.domain import HE, HER2, QuarantineReason
from appliance.findings.findings import Findings
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, SlideRow, set_reason
from appliance.ledger.transaction import NewDelivery, Transaction
from appliance.line.case_steps import AnalyzedCase, finish_analyze
from appliance.line.context import Done
from appliance.operations.status import status_of
from appliance.operations.users import Role
from appliance.settings.settings import Settings
from appliance.words.say import say
from dashboard import actions, queries
from dashboard.actions import Person
from dashboard.quality import read_quality
from dashboard.queries import Queue, read_case, read_queue, read_slide, read_subjects
from dashboard.troubles import GROUP_ROWS, LIMIT, Trouble
from dashboard.views.records import timeline_markup
from dashboard.worklist import PAGE_CASES, SpokenCases, read_work_list

if TYPE_CHECKING:
    from conftest import Lab


CORRECTION = {"was": "2+", "given": "2+", "score": "3+", "why": "seen"}
NOBODY: Any = None
"""Context of a step that `finish_analyze` does not look at."""


@pytest.fixture
def reader(lab: Lab) -> LedgerReader:
    return LedgerReader(lab.settings.ledger_url)


def test_counts_put_every_case_in_one_place(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    lab.slide("S26-0000001", HE)
    lab.slide("S26-0000002", HE)
    scored = lab.slide("S26-0000002", HER2)
    lab.move_case(scored, CaseState.READY)
    lab.score(scored, findings)
    lab.arrive("growing.svs")
    lab.quarantine("odd.svs", "unknown-stain")

    counts = read_queue(reader, lab.settings).counts

    assert (counts.waiting, counts.running_cases, counts.delivered) == (1, 1, 0)
    assert (counts.running_slides, counts.trouble, counts.review) == (1, 1, 1)
    assert (counts.cases, counts.slides) == (2, 5)

    lab.write(scored)
    lab.deliver(scored)
    counts = read_queue(reader, lab.settings).counts
    assert (counts.running_cases, counts.delivered, counts.review) == (0, 1, 1)


def troubles(queue: Queue) -> tuple[Trouble, ...]:
    """Return what waits for a person, of all causes."""
    return tuple(item for group in queue.troubles for item in group.items)


def test_trouble_is_grouped_by_cause_and_tried_again_at_once(
    lab: Lab, reader: LedgerReader
) -> None:
    with lab.ledger.transaction() as tx:
        for number in range(LIMIT + 5):
            state = SlideState.QUARANTINED
            path = f"/scans/{number:03d}.svs"
            tx.session.add(
                SlideRow(path=path, state=state, reason="no-mpp", created_at=0.0, changed_at=number)
            )
    lab.quarantine("odd.svs", "unknown-stain")
    failed = lab.slide("S26-0000002", HE)
    lab.slide("S26-0000002", HER2)
    lab.move_case(failed, CaseState.READY)
    lab.move_case(failed, CaseState.FAILED, reason="step-failed", params='{"error": "E"}')
    settings = lab.settings
    case, odd, scale = read_queue(reader, settings).troubles
    assert [group.number for group in (case, odd, scale)] == [1, 1, LIMIT + 5]
    assert case.can_retry and case.cause == "case:failed:step-failed"
    assert scale.sentence == say("quarantine", "no-mpp")
    assert [item.title for item in scale.items[:2]] == ["104.svs", "103.svs"]
    assert len(scale.items) == GROUP_ROWS
    (all_of_it,) = read_queue(reader, settings, cause=scale.cause).troubles
    (rest,) = read_queue(reader, settings, cause=scale.cause, number=2).troubles
    assert len(all_of_it.items) == LIMIT and len(rest.items) == 5
    assert read_queue(reader, settings, cause="slide:nothing:x").troubles == ()

    subjects = read_subjects(reader, settings, scale.cause, 3)
    assert len(subjects) == 3
    person, why = Person("Meyer^Anna", Role.OPERATOR), "The scanner writes it now."
    given = (*subjects, case.items[0].subject, "case-999")
    answer = actions.retry_all(settings, given, by=person, why=why)
    assert answer.text == "4 of 5 are tried again; 1 cannot be, or are in trouble no more"
    again = actions.retry_all(settings, subjects, by=person, why=why)
    assert again.text.startswith("0 of 3 are tried again")
    odd_again, scale_again = read_queue(reader, settings).troubles
    assert (odd_again.number, scale_again.number) == (1, LIMIT + 2)
    with lab.ledger.transaction() as tx:
        for subject in (*subjects, f"case-{failed}"):
            (event,) = [each for each in tx.events(subject) if each.code == "word-retry"]
            assert event.by == person.name


def test_what_failed_again_keeps_no_other_slide_from_another_attempt(
    lab: Lab, reader: LedgerReader
) -> None:
    ids = [lab.quarantine(f"{number}.svs", "no-mpp") for number in range(5)]
    person, cause = Person("Meyer^Anna", Role.OPERATOR), "slide:quarantined:no-mpp"
    tried = []
    for _ in range(3):
        subjects = read_subjects(reader, lab.settings, cause, 2)
        assert actions.retry_all(lab.settings, subjects, by=person, why="Again.").done
        for slide_id in (int(subject.removeprefix("slide-")) for subject in subjects):
            lab.move_slide(slide_id, SlideState.QUARANTINED, reason="no-mpp")
            tried.append(slide_id)
    assert tried == [*ids, ids[0]]
    (group,) = read_queue(reader, lab.settings).troubles
    assert [item.subject for item in group.items[:2]] == ["slide-1", "slide-5"]  # newest first


def test_trouble_says_why_and_what_to_do(lab: Lab, reader: LedgerReader) -> None:
    lab.quarantine("odd.svs", "unknown-stain", "the header says 'KI67'")
    case_id = lab.slide("S26-0000001", HE)
    lab.move_case(case_id, CaseState.PARTNERLESS)
    failed = lab.slide("S26-0000002", HE)
    lab.slide("S26-0000002", HER2)
    lab.move_case(failed, CaseState.READY)
    lab.move_case(
        failed,
        CaseState.FAILED,
        reason="step-failed",
        params=json.dumps({"error": "RuntimeError", "message": "no. See the log, then go home"}),
    )

    newest, partnerless, slide = troubles(read_queue(reader, lab.settings))

    assert newest.sentence == "RuntimeError: no. See the log, then go home."
    assert newest.remedy == "See the log, then: tandem retry case-2"
    assert "HER2 IHC" in partnerless.sentence and partnerless.case_id == case_id
    assert slide.sentence == say("quarantine", QuarantineReason.UNKNOWN_STAIN)
    assert slide.remedy == say("remedy", QuarantineReason.UNKNOWN_STAIN)
    assert (slide.title, slide.detail) == ("odd.svs", "the header says 'KI67'")


def test_unknown_reason_of_a_newer_daemon_is_still_shown(lab: Lab, reader: LedgerReader) -> None:
    lab.quarantine("odd.svs", "from-the-future")
    (trouble,) = troubles(read_queue(reader, lab.settings))
    assert trouble.sentence == "from-the-future"
    assert trouble.remedy == say("remedy", QuarantineReason.FAILED)


def test_a_case_whose_assay_is_not_installed_is_shown(lab: Lab, reader: LedgerReader) -> None:
    case_id = lab.slide("S26-0000001", HE)
    with lab.ledger.transaction() as tx:
        row = tx.case(case_id)
        assert row is not None
        row.assay = "toy"
        tx.session.add(row)
    queue = read_queue(reader, lab.settings)
    (trouble,) = troubles(queue)
    assert "'toy'" in trouble.sentence and "not installed here" in trouble.sentence
    assert queue.counts.trouble == 1
    detail = read_case(reader, lab.settings, case_id)
    assert detail is not None and detail.trouble == trouble and set(detail.slides) == {HE}
    (case,) = status_of(lab.settings)["cases"]
    assert (case["assay"], case["reason"]) == ("toy", "assay-not-installed")
    assert set(case["slides"]) == {HE}
    assert "not installed here" in case["remedy"]
    (slide,) = status_of(lab.settings)["slides"]
    assert slide["case"] == f"case-{case_id}"


def test_refused_and_held_deliveries_name_the_destination(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id, ("archive", "pacs"))

    def outage(tx: Transaction, now: float) -> None:
        for row in tx.deliveries(case_id):
            row.attempts = 1
            if row.destination == "pacs":
                set_reason(row, "away", {"message": "connection refused"})
                row.not_before = now + 60
            elif row.kind == "SR":
                answer = {"destination": "archive", "answer": "0xA900 data set does not match"}
                set_reason(row, "refused", answer)
                tx.advance(row, DeliveryState.REFUSED, now=now)

    lab.do(outage)
    lab.move_case(case_id, CaseState.UNDELIVERED)
    queue = read_queue(reader, lab.settings)

    (held,) = queue.held
    assert (held.destination, held.objects, held.error) == ("pacs", 3, "connection refused")
    (trouble,) = troubles(queue)
    assert "archive refused 1" in trouble.sentence
    assert trouble.detail == "'archive' 0xA900 data set does not match"


def test_cases_that_wait_for_the_worklist_are_held_and_no_trouble(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    for accession in ("S26-0000001", "S26-0000002"):
        case_id = lab.slide(accession, HE)
        lab.slide(accession, HER2)
        lab.move_case(case_id, CaseState.READY)
        lab.score(case_id, findings)

        def wait(tx: Transaction, now: float, case_id: int = case_id) -> None:
            row = tx.case(case_id)
            assert row is not None
            set_reason(row, "worklist-away", {"message": "worklist: RIS cannot be reached"})
            row.not_before = 7e9 + case_id

        lab.do(wait)
    queue = read_queue(reader, lab.settings)
    (held,) = queue.held_cases
    assert (held.cases, held.error, held.next_try_at) == (
        2,
        "worklist: RIS cannot be reached",
        7e9 + 1,
    )
    assert (queue.troubles, queue.held) == ((), ())


def test_what_cannot_be_proven_is_shown_as_that(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id, ("pacs",))

    def silence(tx: Transaction, now: float) -> None:
        for row in tx.deliveries(case_id):
            set_reason(row, "cannot-say", {"answer": "nobody there can say"})
            tx.advance(row, DeliveryState.SENT, now=now)
            tx.advance(row, DeliveryState.UNPROVEN, now=now)

    lab.do(silence)
    lab.move_case(case_id, CaseState.UNPROVEN)
    queue = read_queue(reader, lab.settings)
    assert [(h.destination, h.unproven, h.objects) for h in queue.held] == [("pacs", True, 3)]
    assert (queue.counts.delivered, queue.counts.running_cases) == (0, 1)
    detail = read_case(reader, lab.settings, case_id)
    assert detail is not None
    assert {line.state for line in detail.deliveries} == {DeliveryState.UNPROVEN}


def test_case_has_slides_deliveries_and_one_timeline(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    old = lab.arrive("rescanned.svs")
    case_id = lab.identify(old, "S26-0000001", "A1", HE)
    lab.move_slide(old, SlideState.SUPERSEDED)
    lab.slide("S26-0000001", HE)
    before = read_case(reader, lab.settings, case_id)
    assert before is not None
    assert before.findings_folder is None and before.slides[HE].thumbnail is not None
    assert [slide.name for slide in before.others] == ["rescanned.svs"]

    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.write(case_id)
    lab.deliver(case_id)
    lab.slide("S26-0000009", HE)
    after = read_case(reader, lab.settings, case_id)

    assert after is not None and after.findings_folder is not None
    assert after.picture_key != before.picture_key
    assert after.case.review == (findings.review[0].sentence,)
    assert [line.kind for line in after.deliveries] == ["WSM", "SEG", "SR"]
    assert {line.state for line in after.deliveries} == {DeliveryState.PROVEN}
    assert {line.who for line in after.events} >= {"Case", "H&E slide", "SR to archive"}
    assert (after.events[-1].who, after.events[-1].text) == ("Case", "delivered")
    assert [line.at for line in after.events] == sorted(line.at for line in after.events)


def test_a_slide_of_many_objects_is_one_line(lab: Lab, reader: LedgerReader) -> None:
    case_id = lab.slide("S26-0000001", HE)
    with lab.ledger.transaction() as tx:
        for number in range(7):
            tx.enqueue(
                case_id,
                NewDelivery(
                    destination="pacs",
                    kind="WSM",
                    path="x.dcm",
                    study_uid="2.25.1",
                    series_uid="2.25.2",
                    sop_instance_uid=f"2.25.3.{number}",
                    sop_class_uid="1.2",
                ),
                lab.tick(),
            )
    detail = read_case(reader, lab.settings, case_id)
    assert detail is not None
    (line,) = detail.deliveries
    assert (line.objects, line.kind) == (7, "WSM")
    assert [event.count for event in detail.events if event.who == "WSM to pacs"] == [7]


def test_events_of_many_objects_hide_no_other_event_of_a_case(
    lab: Lab, reader: LedgerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.slide("S26-0000001", HE)
    case_id = lab.slide("S26-0000001", HER2)
    lab.do(lambda tx, now: tx.note("case-1", "corrected-by", now, params=CORRECTION, by="Ito^Bert"))
    with lab.ledger.transaction() as tx:
        for number in range(150):
            uids = {"study_uid": "2.25.1", "series_uid": "2.25.2", "sop_class_uid": "1.2"}
            uid = f"2.25.3.{number}"
            new = NewDelivery(
                destination="pacs", kind="WSM", path="x.dcm", sop_instance_uid=uid, **uids
            )
            tx.enqueue(case_id, new, lab.tick())
    known = read_case(reader, lab.settings, case_id)
    assert known is not None and known.cut == "" and known.events[0].text == "arriving"
    with lab.ledger.transaction() as tx:
        for row in tx.deliveries(case_id):
            tx.advance(row, DeliveryState.SENT, now=lab.tick())
            tx.advance(row, DeliveryState.PROVEN, now=lab.tick())
    detail = read_case(reader, lab.settings, case_id)
    assert detail is not None
    assert "Older events of objects are not shown." in timeline_markup(detail.events, detail.cut)
    assert detail.events[0] == known.events[0]
    assert "Ito^Bert" in [line.by for line in detail.events]
    assert sum(line.count for line in detail.events if line.who == "WSM to pacs") == 300
    monkeypatch.setattr(queries, "EVENT_LIMIT", 3)
    few, slide = read_case(reader, lab.settings, case_id), read_slide(reader, lab.settings, 1)
    assert few is not None and slide is not None
    assert few.cut == slide.cut == "Older events are not shown."
    assert len(slide.events) == 3


def test_search_and_limit(lab: Lab, reader: LedgerReader) -> None:
    with lab.ledger.transaction() as tx:
        for number in range(LIMIT + 20):
            tx.session.add(
                SlideRow(
                    path=f"/scans/S26-{number:07d}_A1_HE.svs",
                    state=SlideState.ARRIVING,
                    created_at=0.0,
                    changed_at=0.0,
                )
            )
    queue = read_queue(reader, lab.settings)
    assert len(queue.slides) == LIMIT and queue.counts.slides == LIMIT + 20
    found = read_queue(reader, lab.settings, "s26-0000003").slides
    assert [slide.name for slide in found] == ["S26-0000003_A1_HE.svs"]
    # A wildcard of SQL is an ordinary character in a search.
    assert read_queue(reader, lab.settings, "%").slides == ()


def test_an_accession_is_found_as_it_is_typed_or_as_the_site_writes_it(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    rule = {"identify": {"writing": {"separators": "drop", "leading_zeros": "drop"}}}
    settings = Settings.model_validate({"state_dir": lab.settings.state_dir} | rule)
    case_id = lab.slide("S2631", HE)
    lab.slide("S2631", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    lab.move_case(case_id, CaseState.WRITTEN)
    other = lab.slide("S2777", HE)
    for text_, found in (
        ("S26-00031", [case_id]),
        ("s26-31 ", [case_id]),
        ("S2631", [case_id]),
        ("S26-00032", []),
        ("-", []),
    ):
        queue = read_queue(reader, settings, text_)
        assert [case.id for case in queue.cases] == found
        assert text_ == "-" or [slide.case_id for slide in queue.slides] == found * 2
        listed = read_work_list(reader, settings, SpokenCases(), find=text_)
        assert [case.id for case in listed.cases] == found
        assert not found or read_queue(reader, lab.settings, "S26-00031").cases == ()
    assert [case.id for case in read_queue(reader, settings, "27").cases] == [other]


def test_the_work_list_begins_with_what_to_review(lab: Lab, reader: LedgerReader) -> None:
    def row(number: int, **values: object) -> CaseRow:
        facts = {"accession": f"S26-{number:07d}", "block": "A1", "assay": "her2", "anatomy": "HE"}
        facts |= {"target": "HER2", "state": CaseState.DELIVERED, "score": "1+"}
        return CaseRow(**(facts | {"created_at": 0.0, "changed_at": 0.0} | values))

    review = json.dumps([{"code": "near-threshold", "params": {"band": 3.0}}])
    with lab.ledger.transaction() as tx:
        tx.session.add_all(
            [
                row(1),
                row(2, score="2+"),
                row(3, score="3+", review=review),
                row(4, score="2+", review=review),
                row(5, state=CaseState.READY, score=""),
                row(6, score="2+"),
            ]
        )
        tx.session.flush()
        tx.note("case-6", "confirmed-by", 1.0, params={"score": "2+"}, by="Meyer^Anna")

    spoken = SpokenCases()

    def listed(**asked: Any) -> list[int]:
        return [case.id for case in read_work_list(reader, lab.settings, spoken, **asked).cases]

    assert listed() == [4, 3, 2, 1]
    assert listed(find="0000003") == [3] and listed(find="2+") == [4, 2] and listed(find="%") == []
    assert listed(order="oldest") == [1, 2, 3, 4] and listed(order="newest") == [4, 3, 2, 1]
    assert listed(order="score") == [3, 2, 4, 1] and listed(order="nothing") == [4, 3, 2, 1]
    assert listed(reason="near-threshold", order="oldest") == [3, 4]
    assert listed(reason="near") == listed(reason='%"') == []
    # A result that was made anew waits for a person again; that of another case does not.
    with lab.ledger.transaction() as tx:
        other = tx.case(1)
        assert other is not None
        for state in (
            CaseState.READY,
            CaseState.ALIGNED,
            CaseState.SCORED,
            CaseState.WRITTEN,
            CaseState.DELIVERED,
        ):
            tx.advance(other, state, now=2.0)
    assert listed() == [4, 3, 2, 1]
    with lab.ledger.transaction() as tx:
        case = tx.case(6)
        assert case is not None
        for state in (
            CaseState.READY,
            CaseState.ALIGNED,
            CaseState.SCORED,
            CaseState.WRITTEN,
            CaseState.DELIVERED,
        ):
            tx.advance(case, state, now=2.0)
    assert listed() == [4, 3, 2, 6, 1]
    # A word that stands after the case was analyzed again waits for nobody.
    for word, waits in (("confirmed", []), ("corrected", []), ("", [6])):
        found = AnalyzedCase(findings_key="f/1", score="2+", review=[], times=(), word=word)
        with lab.ledger.transaction() as tx:
            case = tx.case(6)
            assert case is not None
            for state in (CaseState.READY, CaseState.ALIGNED):
                tx.advance(case, state, now=3.0)
            finish_analyze(tx, NOBODY, case, Done(value=found, seconds=0.0), 3.0)
            for state in (CaseState.WRITTEN, CaseState.DELIVERED):
                tx.advance(case, state, now=3.0)
        assert listed() == [4, 3, 2, *waits, 1]
    with lab.ledger.transaction() as tx:
        tx.session.add_all([row(10 + number) for number in range(2 * PAGE_CASES)])
    last = read_work_list(reader, lab.settings, spoken, number=99)
    assert (last.number, last.pages, last.total, len(last.cases)) == (3, 3, 2 * PAGE_CASES + 5, 5)
    assert read_work_list(reader, lab.settings, spoken, number=2).cases[0].id == 27


def test_words_are_read_anew_after_a_restored_backup(
    lab: Lab, reader: LedgerReader, findings: Findings
) -> None:
    case_id = lab.slide("S26-0000001", HE)
    lab.slide("S26-0000001", HER2)
    lab.move_case(case_id, CaseState.READY)
    lab.score(case_id, findings)
    spoken = SpokenCases()
    with lab.ledger.transaction() as tx:
        assert spoken.now(tx) == frozenset()
        tx.note("case-1", "corrected-by", 1.0, by="Meyer^Anna")
        assert spoken.now(tx) == {1}
        tx.session.execute(text("DELETE FROM event WHERE code = 'corrected-by'"))
        assert spoken.now(tx) == frozenset()


def test_quality_counts_results_and_words(lab: Lab, reader: LedgerReader) -> None:
    review = json.dumps([{"code": "near-threshold", "params": {"band": 3.0}}])
    with lab.ledger.transaction() as tx:
        for number, (score, reasons, state) in enumerate(
            [
                ("1+", "[]", CaseState.DELIVERED),
                ("1+", review, CaseState.DELIVERED),
                ("3+", "[]", CaseState.DELIVERED),
                ("", "[]", CaseState.READY),
            ]
        ):
            tx.session.add(
                CaseRow(
                    accession=f"S26-{number:07d}",
                    block="A1",
                    assay="her2",
                    anatomy="HE",
                    target="HER2",
                    state=state,
                    score=score,
                    review=reasons,
                    created_at=86400.0 * 40 * (number == 2),
                    changed_at=0.0,
                )
            )
        tx.session.flush()
        tx.note("case-1", "confirmed-by", 1.0, params={"score": "1+", "given": "1+"}, by="A")
    found = read_quality(reader, lab.settings)
    assert [(s.name, s.part, s.n) for s in found.scores["her2"]] == [("1+", 2, 3), ("3+", 1, 3)]
    assert [(s.name, s.part, s.n) for s in found.review] == [("1970-02", 0, 1), ("1970-01", 1, 2)]
    people = found.people["her2"]
    assert (people["n"], people["exact"], people["silent"]) == (1, 1, 2)
    low, high = found.review[1].interval
    assert 0 < low < 0.5 < high < 1
