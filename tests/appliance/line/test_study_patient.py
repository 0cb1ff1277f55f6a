"""The patient of a case's objects is that of its slides, also where the order changed meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.case_objects import BLANK, true_findings
from fixtures.damage import flip
from fixtures.pairings import HER2_PAIR, TOY_PAIR
from pydicom import Dataset, dcmread

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import vocabulary
from appliance.delivery.index import read_index, sound_contents
from appliance.delivery.left_out import lacks_signature
from appliance.delivery.queueing import enqueue_case
from appliance.delivery.requests import request_of
from appliance.delivery.standing import confirmed, corrected, save_signed
from appliance.domain import HE, HER2, Identity, Stain
from appliance.errors import CaseHeldError
from appliance.findings.codec import load_findings, save_findings
from appliance.findings.findings import Correction, SignOff
from appliance.intake.block import hold, make_ready, reopen
from appliance.intake.patients import Patient
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.line import case_steps
from appliance.line.case_steps import AnalyzedCase, WrittenCase, analyze, finish_write, write
from appliance.line.context import Done, StepContext
from appliance.line.ordered import ordered_for
from appliance.line.outcomes import Outcome
from appliance.line.study_patient import (
    IN_ANOTHER_STUDY,
    NAMED_OTHERWISE,
    NOT_SIGNED,
    STUDY_DIFFERS,
    goes_to_own_study,
)
from appliance.line.whose import let_merged_go
from appliance.settings.destinations import FolderDestination, Hl7Destination
from appliance.settings.intake import Patients
from appliance.settings.orders import Orders
from appliance.settings.settings import Settings
from appliance.words.say import say
from models.synthesis.slides import SyntheticCase


class Bench:
    """One case, and the table that orders it."""

    def __init__(self, folder: Path, made: SyntheticCase) -> None:
        self.accession = made.accession
        self.table = folder / "orders.csv"
        self.settings = Settings(state_dir=folder / "state", orders=Orders(csv=self.table))
        self.key = key = ArtifactKey.of("findings", of="bench")
        with ArtifactStore(self.settings.artifacts_dir).writing(key) as place:
            findings = true_findings(made)
            save_findings(findings, place, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
        self.findings = str(key)

    def order(self, patient: str, name: str = "", more: str = ";") -> dict[Stain, Patient]:
        """Order the case for a patient; return what slides that are identified now say of it.

        `more` is the birth date and the sex.
        """
        number = f"ORDER-OF-{patient}"
        self.table.write_text(
            "Accession;Patient ID;Name;Birth date;Sex;Placer;Stain;Study UID\n"
            f"{self.accession};{patient};{name or patient};{more};{number};HER2;1.2.276.0.99.1\n"
        )
        ordered = ordered_for(self.accession, self.settings, vocabulary(self.settings))
        return dict.fromkeys((HE, HER2), ordered.patients[0])

    def write(
        self,
        patients: dict[Stain, Patient],
        objects: str = "",
        accepted: tuple[str, ...] = (),
        findings: str = "",
    ) -> WrittenCase:
        return write(findings or self.findings, objects, self.settings, patients, accepted)

    def sign(self, score: str = "") -> str:
        """Return the key of the findings that a person signed, with a score of their own."""
        base = ArtifactStore(self.settings.artifacts_dir).path(self.key)
        found = load_findings(base)
        word = SignOff(by="Meyer^Anna", organization="", at=1_772_600_767, signs=self.findings)
        if score:
            said = Correction(by=word.by, why="pale", was=found.score, corrects=self.findings)
            signed = corrected(found, None if score == "none" else score, said, [word])
        else:
            signed = confirmed(found, [word])
        key = ArtifactKey.of("findings", of="bench", signed=score)
        save_signed(base, key, signed, self.settings)
        return str(key)

    def analyze(
        self, patients: dict[Stain, Patient], objects: str, accepted: tuple[str, ...] = ()
    ) -> AnalyzedCase:
        """Analyze the case again, with the same outcome."""
        nothing: Any = None
        found = Outcome(key=self.findings, times=())
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(case_steps, "analyze_case", lambda *_, **__: found)
            return analyze(
                *("her2", nothing, nothing, nothing, objects, self.settings, nothing),
                accepted=accepted,
                patients=patients,
            )

    def folders(self) -> list[Path]:
        return list((self.settings.artifacts_dir / "objects").iterdir())

    def headers(self, objects: str) -> list[Dataset]:
        files = [self.settings.artifacts_dir / o.path for o in read_index(objects, self.settings)]
        return [dcmread(file, stop_before_pixels=True) for file in files]

    def patients_of(self, objects: str) -> set[str]:
        return {str(header.PatientID) for header in self.headers(objects)}


@pytest.fixture
def bench(small_case: SyntheticCase, tmp_path: Path) -> Bench:
    return Bench(tmp_path, small_case)


def test_an_order_that_changed_since_its_slides_were_identified_holds_the_case(
    bench: Bench,
) -> None:
    then = bench.order("P-1")
    bench.order("P-2")  # another slide of the accession is identified
    with pytest.raises(CaseHeldError) as held:
        bench.write(then)
    assert held.value.reason == STUDY_DIFFERS
    params = {"stain": "HE", "what": "patient ID, name", "against": "order"}
    assert held.value.params == params
    told = say("case", STUDY_DIFFERS, params | {"subject": "case-1"})
    assert "If the order is right, have both slides identified again" in told
    assert "P-1" not in str(held.value) and "P-2" not in str(held.value)
    accepted = bench.write(then, accepted=(STUDY_DIFFERS,))
    assert bench.patients_of(accepted.objects_key) == {"P-2"}
    assert NAMED_OTHERWISE not in accepted.notes  # it is another patient ID


@pytest.mark.parametrize(
    ("merged", "code", "damaged", "state"),
    [
        ((("P-1", "P-9"),), "advanced", False, CaseState.HELD),
        ((("P-1", "P-2"),), "advanced", False, CaseState.READY),
        ((("P-1", "P-2"),), "corrected", False, CaseState.HELD),
        ((("P-1", "P-2"),), "advanced", True, CaseState.HELD),
    ],
)
def test_a_merge_in_the_settings_lets_a_case_that_is_held_for_its_study_go(
    bench: Bench, merged: tuple[tuple[str, ...], ...], code: str, damaged: bool, state: CaseState
) -> None:
    """A person's score would be lost: the case waits for a person.

    A kept order that is damaged stops neither the others of the transaction nor the start.
    """
    then = bench.order("P-1")
    objects = bench.write(then).objects_key if ("P-1", "P-9") in merged else ""
    bench.order("P-2")
    ledger = Ledger(bench.settings.ledger_url)
    with ledger.transaction() as tx:
        for stain, patient in then.items():
            slide = tx.add_slide(f"{stain}.svs", 0.0)
            slide.accession, slide.block, slide.stain = bench.accession, "A1", stain
            slide.patient = patient.as_json()
            for step in ("arrived", "identified", "inspected", "read"):
                tx.advance(slide, SlideState(step), now=0.0)
        case = tx.case_for(
            Identity(accession=bench.accession, block="A1", stain=HER2), 0.0, HER2_PAIR
        )
        case.objects_key = objects
        make_ready(tx, case, 0.0)
        tx.advance(case, CaseState.ALIGNED, now=0.0)
        tx.advance(case, CaseState.SCORED, now=0.0, code=code)
        hold(tx, case, STUDY_DIFFERS, {"stain": "HE", "what": "patient ID"}, 0.0)
    settings = bench.settings.model_copy(update={"patients": Patients(merged=merged)})
    for order in settings.artifacts_dir.rglob("order.json") if damaged else ():
        order.write_text("")
    with ledger.transaction() as tx:
        let_merged_go(tx, settings, 1.0)
        (case,) = tx.cases()
        assert (case.state, case.overruled) == (state, "[]")
    ledger.close()


def test_a_corrected_patient_gets_objects_of_its_own(bench: Bench) -> None:
    first = bench.write(bench.order("P-1"))
    again = bench.order("P-2")  # both slides are identified again
    second = bench.write(again, first.objects_key)
    assert second.objects_key != first.objects_key
    assert IN_ANOTHER_STUDY in second.notes and NOT_SIGNED not in second.notes  # nobody signed
    assert bench.patients_of(second.objects_key) == {"P-2"}
    assert bench.patients_of(first.objects_key) == {"P-1"}
    uids = [
        {each.sop_instance_uid for each in read_index(key, bench.settings)}
        for key in (first.objects_key, second.objects_key)
    ]
    assert uids[0].isdisjoint(uids[1])
    third = bench.write(again, second.objects_key)
    assert third.objects_key == second.objects_key and IN_ANOTHER_STUDY not in third.notes


@pytest.mark.parametrize("named", [True, False])
def test_an_order_that_changed_since_a_result_was_written_holds_the_case(
    bench: Bench, named: bool
) -> None:
    """Also where the slides name nobody, and go where the former objects lie."""
    then = bench.order("P-1")
    slides = then if named else dict.fromkeys(then, Patient())
    first = bench.write(slides)
    bench.order("P-2")  # another slide of the accession is identified
    with pytest.raises(CaseHeldError) as held:
        bench.write(slides, first.objects_key, findings=bench.sign())
    params = {"stain": "HE", "what": "patient ID, name", "against": "order"}
    assert (held.value.reason, held.value.params) == (STUDY_DIFFERS, params)
    assert len(bench.folders()) == 1  # it is compared before anything is written
    kept = bench.write(slides, first.objects_key, accepted=(STUDY_DIFFERS,))
    assert kept.objects_key == first.objects_key


def test_a_repair_under_another_version_makes_no_result_for_the_former_patient(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    then, signed = bench.order("P-1"), bench.sign()
    first = bench.write(then, findings=signed)
    bench.order("P-2")
    (report,) = (e.path for e in read_index(first.objects_key, bench.settings) if e.kind == "SR")
    file = bench.settings.artifacts_dir / report
    arguments = (signed, first.objects_key, bench.settings, then)
    flip(file)
    assert write(*arguments, repairs=True).objects_key == first.objects_key
    monkeypatch.setattr("appliance.delivery.objects.version", lambda _: "99.0")
    with pytest.raises(CaseHeldError) as held:
        write(*arguments, repairs=True)
    assert (held.value.reason, held.value.params["against"]) == (STUDY_DIFFERS, "order")
    assert len(bench.folders()) == 1  # it is compared before anything is written
    made = write(*arguments, accepted=(STUDY_DIFFERS,), repairs=True)
    assert made.objects_key != first.objects_key


@pytest.mark.parametrize("name", ["Muster^Anna Maria", "Schmidt^Anna", "Musster^Anna"])
def test_a_name_that_was_corrected_holds_no_case_and_takes_no_word_away(
    bench: Bench, name: str
) -> None:
    day = "19610203;F"
    then = bench.order("P-1", "Muster^Anna", day)
    first = bench.write(then)
    again = bench.order("P-1", name, day)
    signed = bench.sign("0")
    second = bench.write(then, first.objects_key, findings=signed)
    assert NAMED_OTHERWISE in second.notes and NAMED_OTHERWISE not in first.notes
    found = bench.analyze(again, second.objects_key)  # both slides are identified again
    assert (found.findings_key, found.score, found.word) == (signed, "0", "corrected")
    assert NOT_SIGNED not in bench.write(again, second.objects_key, findings=signed).notes


def test_a_signature_goes_to_nobody_else_who_has_the_same_number(bench: Bench) -> None:
    """Two hospitals gave one number, and the table of orders states no issuers."""
    then, signed = bench.order("P-1", "Muster^Anna", "19610203;F"), bench.sign()
    first = bench.write(then, findings=signed)
    again = bench.order("P-1", "Huber^Otto", "19330101;M")
    with pytest.raises(CaseHeldError) as held:
        bench.write(then, first.objects_key, findings=signed)
    params = {"stain": "HE", "what": "name, birth date, sex", "against": "order"}
    assert (held.value.reason, held.value.params) == (STUDY_DIFFERS, params)
    assert not goes_to_own_study(bench.accession, first.objects_key, then, bench.settings)
    found = bench.analyze(again, first.objects_key)  # both slides are identified again
    assert (found.findings_key, found.word) == (bench.findings, "")
    second = bench.write(again, first.objects_key)
    assert {IN_ANOTHER_STUDY, NOT_SIGNED} <= {*second.notes} and second.leaves_former


@pytest.mark.parametrize(("score", "told"), [("0", "0"), ("none", "none"), ("", "")])
def test_a_score_that_a_person_gave_for_another_patient_is_not_replaced_unasked(
    bench: Bench, score: str, told: str
) -> None:
    signed = bench.sign(score)
    first = bench.write(bench.order("P-1"), findings=signed)
    again = bench.order("P-2")
    if not score:  # who found the appliance's score right has not signed it for this patient
        found = bench.analyze(again, first.objects_key)
        assert (found.findings_key, found.word) == (bench.findings, "")
        assert NOT_SIGNED in bench.write(again, first.objects_key).notes
    else:
        with pytest.raises(CaseHeldError) as held:
            bench.analyze(again, first.objects_key)
        named = {"stain": "HE", "what": "patient ID, name", "against": "score", "score": told}
        assert (held.value.reason, held.value.params) == (STUDY_DIFFERS, named)
        sentence = say("case", STUDY_DIFFERS, named | {"subject": "case-1"})
        assert f"(score: {told}) was given when its results named another" in sentence
    # A person says that it is one patient.
    kept = bench.analyze(again, first.objects_key, accepted=(STUDY_DIFFERS,))
    assert kept.findings_key == signed
    second = bench.write(again, first.objects_key, (STUDY_DIFFERS,), signed)
    assert bench.patients_of(second.objects_key) == {"P-2"} and NOT_SIGNED not in second.notes
    assert bench.analyze(again, second.objects_key).findings_key == signed


def test_objects_state_later_times_each_time_that_the_patient_changes(bench: Bench) -> None:
    objects, stated = "", []
    for patient in ("P-1", "P-2", "P-1", "P-2"):
        slides = bench.order(patient)
        objects = bench.write(slides, objects).objects_key
        stated.append((sound_contents(objects, bench.settings) or {})["stated"])
    assert stated == sorted(set(stated)) and len(bench.folders()) == 4
    (report,) = (e.path for e in read_index(objects, bench.settings) if e.kind == "SR")
    file = bench.settings.artifacts_dir / report
    written = file.read_bytes()
    flip(file)
    assert bench.write(slides, objects).objects_key == objects
    assert file.read_bytes() == written


@pytest.mark.parametrize(
    ("patients", "queued"),
    [(["P-1"], [0]), (["P-2"], [1]), (["P-2", "P-1"], [1, 1])],
)
def test_what_a_laboratory_took_of_another_patient_keeps_no_result_from_it(
    bench: Bench, patients: list[str], queued: list[int]
) -> None:
    lis = Hl7Destination(kind="hl7", name="lis", host="lis", port=2575, before_sign_off=True)
    settings = bench.settings.model_copy(update={"destinations": (lis,)})
    first = bench.write(bench.order("P-1"), findings=bench.sign())
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        block = Identity(accession=bench.accession, block="A1", stain=HER2)
        case = tx.case_for(block, 0.0, HER2_PAIR)
        case.objects_key = first.objects_key
        assert enqueue_case(tx, case, settings, 0.0) == 1
        told = []
        for patient in patients:
            for row in [each for each in tx.deliveries() if each.state == DeliveryState.QUEUED]:
                for state in (DeliveryState.SENT, DeliveryState.PROVEN):
                    tx.advance(row, state, now=0.0)
            case.objects_key = bench.write(bench.order(patient), case.objects_key).objects_key
            told.append(enqueue_case(tx, case, settings, 1.0))
        assert told == queued
        for new in [each for each in tx.deliveries() if each.state == DeliveryState.QUEUED]:
            tx.advance(new, DeliveryState.REFUSED, now=1.0)
            assert not lacks_signature(tx, new, settings)  # a retry sends it
    ledger.close()


def test_what_waits_for_the_former_patient_is_not_sent(bench: Bench) -> None:
    """The archive is away meanwhile; two cases of the block share the H&E slide."""
    told = (FolderDestination(name="told"),)
    settings = bench.settings.model_copy(update={"destinations": told})
    ledger = Ledger(settings.ledger_url)
    context = StepContext(ledger=ledger, settings=settings, name="test", pairings=(HER2_PAIR,))
    with ledger.transaction() as tx:
        for pairing in (HER2_PAIR, TOY_PAIR):
            block = Identity(accession=bench.accession, block="A1", stain=pairing.target)
            tx.case_for(block, 0.0, pairing)

    def finish(written: WrittenCase, case_id: int) -> None:
        with ledger.transaction() as tx:
            case = tx.case(case_id)
            assert case is not None
            if case.state != CaseState.WAITING:
                reopen(tx, case, "came-anew", {}, 0.0)
            for state in (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED):
                tx.advance(case, state, now=0.0)
            finish_write(tx, context, case, Done(value=written, seconds=1.0), 0.0)

    objects = ""
    for patient in ("P-1", "P-2"):
        written = bench.write(bench.order(patient), objects)
        objects = written.objects_key
        for case_id in (1, 2):
            finish(written, case_id)
    with ledger.transaction() as tx:
        rows = tx.deliveries()
        queued = [settings.artifacts_dir / row.path for row in rows if row.state == "queued"]
    assert {row.reason for row in rows if row.state == "refused"} == {"withdrawn"}
    assert {str(dcmread(file).PatientID) for file in queued} == {"P-2"}
    ledger.close()


def test_a_corrected_order_is_answered_by_series_of_its_own(bench: Bench) -> None:
    """The laboratory gives the corrected order the study of the first one."""
    first = bench.write(bench.order("P-1"))
    again = bench.order("P-2")
    second = bench.write(again, first.objects_key)
    numbers, series = [], []
    for key in (first.objects_key, second.objects_key):
        headers = bench.headers(key)
        assert {str(header.StudyInstanceUID) for header in headers} == {"1.2.276.0.99.1"}
        (report,) = [header for header in headers if header.Modality == "SR"]
        (request,) = report.ReferencedRequestSequence
        numbers.append(request.PlacerOrderNumberImagingServiceRequest)
        series.append({str(header.SeriesInstanceUID) for header in headers})
    assert numbers == ["ORDER-OF-P-1", "ORDER-OF-P-2"]
    assert series[0].isdisjoint(series[1])


def test_one_slide_that_was_identified_again_is_not_enough(bench: Bench) -> None:
    then = bench.order("P-1")
    first = bench.write(then)
    mixed = then | {HER2: bench.order("P-2")[HER2]}
    with pytest.raises(CaseHeldError):
        bench.write(mixed, first.objects_key)


def test_a_correction_for_a_corrected_patient_answers_the_corrected_order(bench: Bench) -> None:
    """Also where an earlier edition wrote the objects that it corrects, without a request."""
    bench.order("P-2")
    made = load_findings(ArtifactStore(bench.settings.artifacts_dir).path(bench.key))
    request, _ = request_of(made, HER2, "of-P-2", bench.settings, first=False)
    assert request.placer == "ORDER-OF-P-2"
