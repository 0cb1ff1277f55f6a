"""Sign-off: ``tandem confirm`` and ``tandem correct`` make results that a person stands for."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from fixtures.clinic import LIS, Clinic, copy_of, open_clinic, ordered, predecessors
from fixtures.damage import flip
from fixtures.findings import some_findings
from fixtures.judges import dicom_errors
from highdicom.sr import srread
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import vocabulary
from appliance.delivery.index import is_signed, object_path, read_index
from appliance.delivery.intact import take_back
from appliance.delivery.orders import ask_orders
from appliance.delivery.requests import answered_request
from appliance.delivery.result_hl7 import message_of, read_template
from appliance.delivery.result_items import Standing, standing_of
from appliance.delivery.standing import confirmed, standing
from appliance.domain import HE, HER2, Stain
from appliance.errors import ArtifactDamagedError, CaseHeldError, SettingsError, SlideError
from appliance.findings.codec import load_findings
from appliance.findings.findings import SignOff
from appliance.intake.block import hold, reopen
from appliance.intake.patients import Patient
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.ledger.transaction import Transaction
from appliance.line import case_steps
from appliance.line.case_steps import write
from appliance.line.context import Done, Job, StepContext
from appliance.line.ordered import ordered_for
from appliance.line.outcomes import Outcome
from appliance.line.study_patient import STUDY_DIFFERS
from appliance.operations.audited import Word
from appliance.operations.corrections import confirm_score, correct_score, rerun_case
from appliance.operations.retention import retain
from appliance.operations.retry import retry_subject
from appliance.operations.retry_word import retry
from appliance.operations.seen import result_name
from appliance.operations.status import status_of
from appliance.operations.word import keep
from appliance.words.say import say
from dicom import codes
from dicom.air import check_report
from dicom.result import read_result

V9 = Path(__file__).parents[2] / "fixtures" / "findings_versions" / "v9"
ANNA, BERT = "Müller^Anna", "Ito^Bert"
SIGNED_AT = 1_772_600_767
"""2026-03-04 05:06:07 UTC."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clinic(tmp_path_factory.mktemp("clinic"))


@pytest.fixture
def clinic(state: Path, tmp_path: Path) -> Clinic:
    return copy_of(state, tmp_path)


@pytest.fixture
def then(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let people speak at `SIGNED_AT`."""
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: SIGNED_AT + 0.5)
        yield


def verifiers(report: Dataset) -> list[str]:
    return [str(each.VerifyingObserverName) for each in report.VerifyingObserverSequence]


def evaluated(report: Dataset) -> set[str]:
    return {str(item.name.value) for item in read_result(Path(report.filename)).items}


@pytest.mark.parametrize("text", ["torn \udcff", "torn\x0bsection", "torn\x00", "torn\nsection"])
def test_a_word_that_no_report_can_carry_is_refused_before_it_is_kept(
    clinic: Clinic, text: str
) -> None:
    before = clinic.case, clinic.do(lambda tx: tx.events("case-1"))
    with pytest.raises(SettingsError, match="--why: say why; the report states it, in readable"):
        correct_score(clinic.settings, "case-1", "1+", by=ANNA, why=text)
    for sign in (
        lambda by: confirm_score(clinic.settings, "case-1", by=by),
        lambda by: correct_score(clinic.settings, "case-1", "1+", by=by, why="pale"),
    ):
        with pytest.raises(SettingsError, match="--by: "):
            sign(f"{text}^Anna")
    assert (clinic.case, clinic.do(lambda tx: tx.events("case-1"))) == before
    correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="blass, 5 µm")
    assert clinic.deliver().case.state == "delivered"
    assert "blass, 5 µm" in clinic.page and dicom_errors(clinic.file("SR")) == []


def test_a_confirmed_result_is_verified_and_goes_to_the_lis(clinic: Clinic, then: None) -> None:
    first = clinic.report
    assert (first.PreliminaryFlag, first.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert not is_signed(clinic.case.objects_key, clinic.settings) and clinic.queued() == []
    assert not {codes.IHC_STATUS.value, codes.LOW_COMMENT.value} & evaluated(first)

    said = confirm_score(clinic.settings, "case-1", by=f"{ANNA}^^ ")
    assert said == f"case-1: score 2+ confirmed by {ANNA}; a new report is written and sent"
    assert (clinic.case.state, clinic.case.score, clinic.case.review) == ("scored", "2+", "[]")
    # A second word before it is written, as by a double click.
    assert "nothing is done" in confirm_score(clinic.settings, "case-1", by=ANNA.lower())
    with pytest.raises(SettingsError, match="case-1 is scored: it has no delivered result yet"):
        confirm_score(clinic.settings, "case-1", by=BERT)
    # A wrong word is told as such at once, whatever the case waits for.
    with pytest.raises(SettingsError, match="'4\\+' is no HER2 score"):
        correct_score(clinic.settings, "case-1", "4+", by=BERT, why="dark")
    with pytest.raises(SettingsError, match="--why: say why"):
        correct_score(clinic.settings, "case-1", "1+", by=BERT, why=" ")

    report = clinic.deliver().report
    assert dicom_errors(clinic.file("SR")) == [] == dicom_errors(clinic.file("PDF"))
    assert not [item.name for item, result in check_report(report) if result.faults]
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag)
    assert flags == ("COMPLETE", "FINAL", "VERIFIED")
    (observer,) = report.VerifyingObserverSequence
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == (ANNA, "Pathology Ω")
    signed = datetime.strptime(str(observer.VerificationDateTime), "%Y%m%d%H%M%S%z")
    assert signed.timestamp() == SIGNED_AT
    assert predecessors(report) == [first.SOPInstanceUID]
    assert dcmread(clinic.file("PDF")).VerificationFlag == "VERIFIED"
    assert f"Confirmed by {ANNA}, on 2026-03-04 05:06 UTC." in clinic.page
    assert "A person has looked." in clinic.page and "HER2 IHC score 2+ equivocal" in clinic.page
    # The person looked: the interpretation is there, and no reason for review.
    assert {codes.IHC_STATUS.value, codes.LOW_COMMENT.value} <= evaluated(report)
    assert codes.REVIEW.value not in evaluated(report)

    assert is_signed(clinic.case.objects_key, clinic.settings)
    assert clinic.queued() == [report.SOPInstanceUID]
    result = read_result(clinic.file("SR"))
    assert standing_of(result) is Standing.FINAL
    assert "||SP|F\r" in message_of(result, LIS, read_template(LIS)).text


def test_who_stands_for_a_result_after_several_words(clinic: Clinic) -> None:
    confirm_score(clinic.settings, "case-1", by=ANNA)
    clinic.deliver()
    confirm_score(clinic.settings, "case-1", by=BERT)
    first = clinic.report
    report = clinic.deliver().report
    # DICOM allows several: the second did not take the first one's word back.
    assert verifiers(report) == [ANNA, BERT]
    # The one before the last is named, too: an archive may have refused the last one.
    assert predecessors(report) == [first.SOPInstanceUID, *predecessors(first)]
    assert len(predecessors(report)) == 2
    people = srread(clinic.file("SR")).content.get_observer_contexts(codes.PERSON)
    seen = [person.observer_identifying_attributes for person in people]
    assert [(str(each.name), each.organization_name) for each in seen] == [
        (ANNA, "Pathology Ω"),
        (BERT, "Pathology Ω"),
    ]
    assert {each.role_in_procedure for each in seen} == {codes.VERIFYING}
    assert len(clinic.queued()) == 2
    assert standing_of(read_result(clinic.file("SR"))) is Standing.FINAL
    before = clinic.case
    for name in (ANNA, BERT, ANNA.replace("^", " ^ "), normalize("NFD", ANNA)):
        assert "nothing is done" in confirm_score(clinic.settings, "case-1", by=name)
    assert clinic.case == before

    # A correction is its person's, and ends the confirmations of the former score.
    correct_score(clinic.settings, "case-1", "1+", by=BERT, why="pale")
    report = clinic.deliver().report
    assert dicom_errors(clinic.file("SR")) == []
    assert verifiers(report) == [BERT]
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("FINAL", "VERIFIED")
    assert standing_of(read_result(clinic.file("SR"))) is Standing.CORRECTED
    assert f"Corrected by {BERT}, on " in clinic.page and ANNA not in clinic.page
    # Who corrected stands for it already; another person may confirm the correction.
    assert "nothing is done" in confirm_score(clinic.settings, "case-1", by=BERT)
    confirm_score(clinic.settings, "case-1", by=ANNA)
    report = clinic.deliver().report
    assert verifiers(report) == [BERT, ANNA]
    assert standing_of(read_result(clinic.file("SR"))) is Standing.CORRECTED
    assert f"Confirmed by {ANNA}" in clinic.page and f"Corrected by {BERT}" in clinic.page
    with pytest.raises(SettingsError, match="To sign it: tandem confirm case-1"):
        correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="pale")


def analyze_again(
    clinic: Clinic, outcome: str, monkeypatch: pytest.MonkeyPatch, patient: str = "{}"
) -> None:
    """Let the case be held by a rival scan, go on, and be analyzed with an outcome."""
    ledger = Ledger(clinic.settings.ledger_url)
    with ledger.transaction() as tx:
        case = case_of(tx)
        hold(tx, case, "two-scans", {"stain": "HER2", "slides": "slide-2, slide-3"}, 2.0)
        reopen(tx, case, "kept", {}, 3.0)
        tx.advance(case, CaseState.READY, now=4.0)
        tx.advance(case, CaseState.ALIGNED, now=4.0)
        known = len(tx.slides())
        slides = {stain: tx.add_slide(f"/scans/{known}_{stain}.svs", 1.0) for stain in (HE, HER2)}
        for slide in slides.values():
            slide.patient = patient
    ledger.close()
    analyze_now(clinic, outcome, monkeypatch, slides)


def analyze_now(
    clinic: Clinic, outcome: str, monkeypatch: pytest.MonkeyPatch, slides: dict[Stain, SlideRow]
) -> None:
    """Analyze the case, which is aligned, with an outcome."""
    ledger, case = Ledger(clinic.settings.ledger_url), clinic.case
    context = StepContext(ledger=ledger, settings=clinic.settings, name="test", pairings=())
    found = Outcome(key=outcome, times=())
    monkeypatch.setattr(case_steps, "analyze_case", lambda *_, **__: found)
    progress = ProgressFile.of(clinic.settings, case.subject)
    call = case_steps.prepare_analyze(context, Job(row=case, slides=slides, progress=progress))
    done = Done(value=call.function(*call.arguments), seconds=0.0)
    with ledger.transaction() as tx:
        case_steps.finish_analyze(tx, context, case_of(tx), done, 5.0)
    ledger.close()


@pytest.mark.parametrize("score", ["3+", "none", "2+"])
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_word_stands_when_the_case_was_held_before_its_objects_were_written(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, score: str, is_lost: bool
) -> None:
    root = clinic.case.findings_key
    if score == "2+":
        confirm_score(clinic.settings, "case-1", by=ANNA)
    else:
        correct_score(clinic.settings, "case-1", score, by=ANNA, why="seen by eye")
    signed, given = clinic.case.findings_key, clinic.case.score
    store = ArtifactStore(clinic.settings.artifacts_dir)
    if is_lost:
        shutil.rmtree(store.path(ArtifactKey.parse(signed)))
    analyze_again(clinic, root, monkeypatch)
    assert (clinic.case.findings_key, clinic.case.score) == (signed, given)
    assert load_findings(store.path(ArtifactKey.parse(signed))).sign_offs[-1].by == ANNA
    assert verifiers(clinic.deliver().report) == [ANNA]


def order_of(clinic: Clinic) -> Patient:
    """Ask the orders, as a slide does that is identified now; return whom they name."""
    accession, settings = some_findings().accession, clinic.settings
    return ordered_for(accession, settings, vocabulary(settings)).patients[0]


@pytest.mark.parametrize("is_delivered", [False, True])
def test_what_was_signed_for_one_patient_is_not_signed_for_another(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, is_delivered: bool
) -> None:
    """The laboratory corrects the order, which a slide of another block makes known."""
    root, again = clinic.case.findings_key, Word(by=BERT, why="the order was corrected")
    first = order_of(clinic)
    subjects = clinic.do(lambda tx: read_slides(tx, first.as_json()))
    if is_delivered:
        confirm_score(clinic.settings, "case-1", by=ANNA)
        signed = clinic.deliver().report
        assert (signed.PatientID, verifiers(signed)) == ("P-1", [ANNA])
    table = clinic.settings.orders.csv
    assert table is not None
    table.write_text(table.read_text().replace("P-1", "P-9"))
    now = order_of(clinic)
    if is_delivered:
        with pytest.raises(SettingsError, match="tandem rerun CASE"):
            retry(clinic.settings, subjects[0], again)
        analyze_again(clinic, root, monkeypatch, first.as_json())  # a rerun
    else:
        confirm_score(clinic.settings, "case-1", by=ANNA)
    assert clinic.case.findings_key != root  # the word stands for this patient

    def write(patient: Patient) -> case_steps.WrittenCase:
        who = dict.fromkeys((HE, HER2), patient)
        return case_steps.write(
            clinic.case.findings_key, clinic.case.objects_key, clinic.settings, who
        )

    with pytest.raises(CaseHeldError) as held:
        write(first)
    params = {"stain": "HE", "what": "patient ID", "against": "order"}
    assert (held.value.reason, held.value.params) == (STUDY_DIFFERS, params)
    told = say("case", STUDY_DIFFERS, params | {"subject": "case-1"})
    assert told.startswith("The order names another patient (by patient ID)")
    clinic.do(lambda tx: hold(tx, case_of(tx), STUDY_DIFFERS, params, 2.0))
    for subject in subjects:
        retry(clinic.settings, subject, again)
    analyze_again(clinic, root, monkeypatch, now.as_json())
    assert clinic.case.findings_key == root
    former = clinic.report
    done = write(now)
    (path,) = [e.path for e in read_index(done.objects_key, clinic.settings) if e.kind == "SR"]
    report = dcmread(object_path(path, clinic.settings))
    assert (report.PatientID, report.VerificationFlag) == ("P-9", "UNVERIFIED")
    times = [each.ContentDate + each.ContentTime for each in (former, report)]
    assert times[0] < times[1]


def test_a_score_that_a_person_gave_goes_to_another_patient_by_a_word_alone(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, subject = clinic.case.findings_key, "case-1"
    correct_score(clinic.settings, subject, "0", by=ANNA, why="artifact")
    assert clinic.deliver().report.PatientID == "P-1"
    table = clinic.settings.orders.csv
    assert table is not None
    table.write_text(table.read_text().replace("P-1", "P-9"))
    now = order_of(clinic)
    clinic.do(lambda tx: read_slides(tx, now.as_json()))
    with pytest.raises(CaseHeldError) as held:
        analyze_again(clinic, root, monkeypatch, now.as_json())
    clinic.do(lambda tx: hold(tx, case_of(tx), held.value.reason, held.value.params, 6.0))
    assert "is analyzed" in keep(clinic.settings, subject, Word(by=BERT, why="one tissue"))
    assert clinic.case.state == CaseState.READY
    clinic.do(lambda tx: tx.advance(case_of(tx), CaseState.ALIGNED, now=7.0))
    analyze_now(clinic, root, monkeypatch, clinic.do(current_slides))
    assert (clinic.case.state, clinic.case.score) == (CaseState.SCORED, "0")
    ledger = Ledger(clinic.settings.ledger_url)
    context = StepContext(ledger=ledger, settings=clinic.settings, name="test", pairings=())
    progress = ProgressFile.of(clinic.settings, subject)
    job = Job(row=clinic.case, slides=clinic.do(current_slides), progress=progress)
    call = case_steps.prepare_write(context, job)
    clinic.do(
        lambda tx: setattr(case_of(tx), "objects_key", call.function(*call.arguments).objects_key)
    )
    ledger.close()
    assert (clinic.report.PatientID, verifiers(clinic.report)) == ("P-9", [ANNA])


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_damaged_file_is_written_again_whomever_the_order_names_now(
    clinic: Clinic, has_failed: bool
) -> None:
    """Also by a person's retry, where the first attempt failed."""
    first, key = order_of(clinic), clinic.case.objects_key
    clinic.do(lambda tx: read_slides(tx, first.as_json()))
    table = clinic.settings.orders.csv
    assert table is not None
    table.write_text(table.read_text().replace("P-1", "P-9"))
    order_of(clinic)
    written = clinic.file("SR").read_bytes()
    flip(clinic.file("SR"))
    clinic.do(lambda tx: take_back(tx, case_of(tx), "SR", 2.0))
    if has_failed:
        clinic.do(lambda tx: tx.advance(case_of(tx), CaseState.FAILED, now=3.0, code="failed"))
        assert "is written again" in retry_subject(clinic.settings, "case-1")
    ledger = Ledger(clinic.settings.ledger_url)
    context = StepContext(ledger=ledger, settings=clinic.settings, name="test", pairings=())
    progress = ProgressFile.of(clinic.settings, "case-1")
    job = Job(row=clinic.case, slides=clinic.do(current_slides), progress=progress)
    call = case_steps.prepare_write(context, job)
    assert call.function(*call.arguments).objects_key == key
    ledger.close()
    assert clinic.file("SR").read_bytes() == written


def test_a_word_ends_with_another_outcome_whether_its_objects_were_written_or_not(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, root = ArtifactStore(clinic.settings.artifacts_dir), clinic.case.findings_key
    other = ArtifactKey.of("findings", case=2)
    shutil.copytree(store.path(ArtifactKey.parse(root)), store.path(other))
    correct_score(clinic.settings, "case-1", "3+", by=ANNA, why="seen by eye")
    analyze_again(clinic, str(other), monkeypatch)
    assert (clinic.case.findings_key, clinic.case.score) == (str(other), "2+")
    clinic.deliver()
    # The report that replaced it is nobody's, and what it is of counts from here on.
    analyze_again(clinic, root, monkeypatch)
    assert (clinic.case.findings_key, clinic.case.score) == (root, "2+")


def test_a_person_says_that_a_case_cannot_be_scored(clinic: Clinic) -> None:
    with pytest.raises(SettingsError, match=r"has the score 2\+ by now: look at it first"):
        confirm_score(clinic.settings, "case-1", by=ANNA, seen="3+")
    said = correct_score(clinic.settings, "case-1", "none", by=ANNA, why="torn")
    assert said.startswith("case-1: corrected from 2+ to no score; a new report")
    assert (clinic.case.score, clinic.case.review) == ("", "[]")
    report = clinic.deliver().report
    assert dicom_errors(clinic.file("SR")) == []
    assert verifiers(report) == [ANNA]
    result = read_result(clinic.file("SR"))
    assert standing_of(result) is Standing.CORRECTED
    (score,) = (item.value for item in result.items if item.name == result.score_name)
    assert score == codes.INDETERMINATE
    assert not {codes.IHC_STATUS.value, codes.LOW_COMMENT.value} & evaluated(report)
    coded = [item.value for item in result.items if item.name != result.score_name]
    assert not {*codes.SCORES.values()} & {each for each in coded if isinstance(each, Code)}
    shares = {code.value for code in codes.TUMOR_SHARE.values()}
    assert not {codes.H_SCORE.value, codes.WSI_PERCENT.value, *shares} & evaluated(report)
    assert f"Corrected by {ANNA}, on " in clinic.page and "had said 2+" in clinic.page
    assert "not scored" in clinic.page
    with pytest.raises(SettingsError, match="said already that it cannot be scored"):
        correct_score(clinic.settings, "case-1", "none", by=BERT, why="torn")
    # The word stands where the stored findings were lost, and a score may follow.
    key, own = clinic.case.findings_key, str(ArtifactKey.of("findings", case=1))
    shutil.rmtree(ArtifactStore(clinic.settings.artifacts_dir).path(ArtifactKey.parse(key)))
    assert standing(own, clinic.case.objects_key, clinic.settings) == key
    correct_score(clinic.settings, "case-1", "1+", by=BERT, why="another cut")
    assert clinic.case.score == "1+"


@pytest.mark.parametrize("corrects", [False, True])
def test_damage_changes_no_byte_of_a_signed_result(
    clinic: Clinic, corrects: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = clinic.case.findings_key
    # The order changes: results of the case go on to answer it as its first result did.
    ordered(tmp_path, "F-2")
    accession = some_findings().accession
    ask_orders(accession, clinic.settings)
    now, _ = answered_request(accession, "A1", HER2, clinic.settings)
    assert (now.placer, now.filler) == ("A-71", "F-2")
    if corrects:
        correct_score(clinic.settings, "case-1", "1+", by=BERT, why="pale")
        clinic.deliver()
    confirm_score(clinic.settings, "case-1", by=ANNA)
    clinic.deliver()
    case = clinic.case
    report, page = clinic.file("SR"), clinic.file("PDF")
    result = read_result(report)
    assert (result.placer, result.filler) == ("A-71", "F-1")
    before = {path: path.read_bytes() for path in (report, page)}
    later = time.time() + 100_000
    monkeypatch.setattr(time, "time", lambda: later)
    flip(report, at=2000)
    flip(report.with_name("objects.json"))
    assert write(case.findings_key, case.objects_key, clinic.settings, {}).objects_key == (
        case.objects_key
    )
    assert {path: path.read_bytes() for path in before} == before

    # Analyzed again with the same outcome: the sign-off stands, its findings are made again.
    assert standing(root, case.objects_key, clinic.settings) == case.findings_key
    folder = clinic.settings.artifacts_dir / case.findings_key
    text = (folder / "findings.json").read_text()
    flip(folder / "findings.json")
    with pytest.raises(ArtifactDamagedError):
        standing(root, case.objects_key, clinic.settings)
    assert standing(root, case.objects_key, clinic.settings) == case.findings_key
    assert (folder / "findings.json").read_text() == text
    # Another outcome is nobody's.
    other = str(ArtifactKey.of("findings", case=2))
    assert standing(other, case.objects_key, clinic.settings) == other


def test_a_case_is_corrected_when_its_converted_slides_and_the_scanners_files_are_gone(
    clinic: Clinic,
) -> None:
    first, entries = clinic.report, read_index(clinic.case.objects_key, clinic.settings)
    slides = [entry for entry in entries if entry.kind == "WSM"]

    def prove(tx: Transaction) -> None:
        for row in tx.deliveries(1):
            for to in (DeliveryState.SENT, DeliveryState.PROVEN):
                tx.advance(row, to, now=2.0)

    clinic.do(prove)
    ledger = Ledger(clinic.settings.ledger_url)
    done = retain(clinic.settings, ledger, time.time() + 40 * 86400)
    ledger.close()
    gone = {str(each.key) for each in done.gone if each.key.step == "wsm"}
    assert gone == {entry.path.rpartition("/")[0] for entry in slides}
    assert slides and not any(object_path(e.path, clinic.settings).exists() for e in slides)
    findings = load_findings(
        ArtifactStore(clinic.settings.artifacts_dir).path(
            ArtifactKey.parse(clinic.case.findings_key)
        )
    )
    moved = [Path(facts.path) for facts in (findings.he, findings.ihc)]
    for path in moved:
        path.rename(path.with_suffix(".away"))
    try:
        correct_score(clinic.settings, "case-1", "3+", by=ANNA, why="seen")
        report = clinic.deliver().report
        # A destination that wants the pixels, now: they cannot be had, and this is told.
        case = clinic.case
        with pytest.raises(SlideError):
            write(case.findings_key, case.objects_key, clinic.settings, {}, convert=True)
    finally:
        for path in moved:
            path.with_suffix(".away").rename(path)
    assert predecessors(report) == [first.SOPInstanceUID]
    now = [e for e in read_index(clinic.case.objects_key, clinic.settings) if e.kind == "WSM"]
    assert now == slides
    sent = {(row.destination, row.state) for row in clinic.deliveries() if row.kind == "WSM"}
    assert sent == {("archive", "proven"), ("told", "queued")}  # one is new since
    assert dicom_errors(clinic.file("SR")) == []
    # With the files they are converted again, under the names that the index has.
    case = clinic.case
    write(case.findings_key, case.objects_key, clinic.settings, {}, convert=True)
    assert all(object_path(entry.path, clinic.settings).is_file() for entry in slides)


def test_a_confirmation_of_hardly_any_tumor_gives_no_interpretation() -> None:
    """It was withheld for want of tumor, not for want of a person."""
    person = SignOff(by=ANNA, organization="Lab", at=SIGNED_AT, signs="findings/0")
    made = confirmed(replace(load_findings(V9), read_outs=None, comment=""), [person])
    assert (made.score, made.read_outs, made.comment, made.review) == ("2+", None, "", ())


@pytest.mark.parametrize(
    "by", ["", " ^", "a\\b^c", 65 * "x", "a^b^c^d^e^f", "a=b=c=d", "a\nb", "\udcff^x"]
)
def test_what_is_no_name_signs_nothing(clinic: Clinic, by: str) -> None:
    before = clinic.case
    for speak in (
        lambda: confirm_score(clinic.settings, "case-1", by=by),
        lambda: correct_score(clinic.settings, "case-1", "1+", by=by, why="pale"),
    ):
        with pytest.raises(SettingsError, match="--by: say who says so"):
            speak()
    assert clinic.case == before


def test_a_result_that_changed_meanwhile_is_not_signed(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.operations import corrections

    store = corrections.save_signed

    def rerun_first(*arguments: Any) -> None:
        def change(tx: Transaction) -> None:
            case = tx.case(1)
            assert case is not None
            case.findings_key = "findings/another"
            tx.session.add(case)

        clinic.do(change)
        store(*arguments)

    monkeypatch.setattr(corrections, "save_signed", rerun_first)
    with pytest.raises(SettingsError, match="has a new result since"):
        confirm_score(clinic.settings, "case-1", by=ANNA)
    assert clinic.case.state == "delivered"
    notes = clinic.do(lambda tx: tx.notes("confirmed-by"))
    assert notes == []


def test_a_word_on_a_result_that_another_one_of_its_score_replaced_is_refused(
    clinic: Clinic,
) -> None:
    store = ArtifactStore(clinic.settings.artifacts_dir)
    seen, key = clinic.case.findings_key, ArtifactKey.of("findings", case=2)
    shutil.copytree(store.path(ArtifactKey.parse(seen)), store.path(key))
    review = json.dumps([{"code": "control-failed", "params": {}}])

    def replaced(tx: Transaction) -> None:
        case = tx.case(1)
        assert case is not None
        case.findings_key, case.review = str(key), review
        tx.session.add(case)

    clinic.do(replaced)
    before, words = clinic.case, {"by": ANNA, "why": "pale"}
    for speak in (
        lambda: confirm_score(clinic.settings, "case-1", by=ANNA, seen="2+", result=seen),
        lambda: correct_score(clinic.settings, "case-1", "1+", **words, result=result_name(seen)),
        lambda: correct_score(clinic.settings, "case-1", "none", **words, result=seen),
    ):
        with pytest.raises(SettingsError, match="case-1: its result changed since you opened it"):
            speak()
    assert clinic.case == before
    # The result that stands is signed under its name, a second time in vain.
    (case,) = status_of(clinic.settings)["cases"]
    assert case["result"] == key.digest[:12]
    confirm_score(clinic.settings, "case-1", by=ANNA, seen="2+", result=case["result"])
    assert (clinic.case.state, clinic.case.review) == ("scored", "[]")
    again = confirm_score(clinic.settings, "case-1", by=ANNA, seen="2+", result=case["result"])
    assert "nothing is done" in again


@pytest.mark.parametrize("left", [CaseState.DELIVERED, CaseState.WRITTEN])
def test_a_second_press_on_try_again_takes_no_signature_away(
    clinic: Clinic, left: CaseState
) -> None:
    """The page still shows the case undelivered; the first press has sent its result."""
    correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="torn")
    clinic.deliver()

    def leave(tx: Transaction) -> None:
        case = tx.case(1)
        assert case is not None
        case.state = left

    clinic.do(leave)
    key = clinic.case.findings_key
    if left is CaseState.DELIVERED:
        with pytest.raises(SettingsError, match=r"a person signed its result.*tandem rerun case-1"):
            retry(clinic.settings, "case-1", Word(by=BERT, why="again"))
    else:  # what waits is sent at once
        assert "are tried again now" in retry(clinic.settings, "case-1", Word(by=BERT, why="again"))
    assert (clinic.case.findings_key, clinic.case.score, clinic.case.state) == (key, "1+", left)


def test_who_signed_a_damaged_result_is_known_after_a_retry_of_its_writing(
    clinic: Clinic, tmp_path: Path
) -> None:
    confirm_score(clinic.settings, "case-1", by=ANNA)
    clinic.deliver()

    def retry_writing(tx: Transaction) -> None:
        case = tx.case(1)
        assert case is not None
        tx.advance(case, CaseState.SCORED, now=2.0, code="retry")
        tx.advance(case, CaseState.FAILED, now=2.0)
        for stain in (HE, HER2):
            slide = tx.add_slide(str(tmp_path / f"{stain}.svs"), 1.0)
            slide.accession, slide.block, slide.stain = case.accession, case.block, stain
            for state in list(SlideState)[1:5]:
                tx.advance(slide, state, now=1.0)

    clinic.do(retry_writing)
    key = ArtifactKey.parse(clinic.case.findings_key)
    flip(ArtifactStore(clinic.settings.artifacts_dir).path(key) / "rasters.npz")
    with pytest.raises(SettingsError, match=r"is signed by .*: it takes a pathologist"):
        rerun_case(clinic.settings, "case-1", also_signed=False)
    assert f"signed by {ANNA}: this is undone" in rerun_case(clinic.settings, "case-1")


def read_slides(tx: Transaction, patient: str = "{}") -> list[str]:
    rows = [tx.add_slide(f"/scans/{stain}.svs", 1.0) for stain in ("HE", "HER2")]
    for row, stain in zip(rows, ("HE", "HER2"), strict=True):
        row.accession, row.block, row.stain, row.patient = "S26-1", "A1", stain, patient
        row.state = SlideState.READ
    return [row.subject for row in rows]


def current_slides(tx: Transaction) -> dict[Stain, SlideRow]:
    return tx.current_slides("S26-1", "A1", (HE, HER2))


def case_of(tx: Transaction) -> CaseRow:
    (case,) = tx.cases()
    return case


@pytest.mark.parametrize("left", [CaseState.DELIVERED, CaseState.SCORED, CaseState.FAILED])
def test_a_slide_is_not_tried_again_under_a_signed_result(clinic: Clinic, left: CaseState) -> None:
    clinic.do(read_slides)
    again = Word(by=BERT, why="again")
    confirm_score(clinic.settings, "case-1", by=ANNA)
    told = r"slide-2: Müller\^Anna signed the result of case-1\. .* tandem rerun CASE"
    if left != CaseState.SCORED:  # else its objects are not written yet
        clinic.deliver()
    if left == CaseState.FAILED:  # they could not be
        clinic.do(lambda tx: tx.advance(case_of(tx), CaseState.SCORED, now=2.0, code="retry"))
        clinic.do(lambda tx: tx.advance(case_of(tx), CaseState.FAILED, now=2.0))
    before, slide = clinic.case, clinic.do(lambda tx: tx.slide(2))
    with pytest.raises(SettingsError, match=told):
        retry(clinic.settings, "slide-2", again)
    assert (clinic.case, clinic.do(lambda tx: tx.slide(2))) == (before, slide)
    # One that is set aside is in use by no case.
    clinic.do(lambda tx: tx.advance(tx.slide(2), SlideState.QUARANTINED, now=2.0))
    retry(clinic.settings, "slide-2", again)
    assert clinic.do(lambda tx: tx.slide(2)).state == SlideState.ARRIVED
