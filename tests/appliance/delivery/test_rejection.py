"""Results that a newer one replaces: what its report names, and notes that reject them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures.clinic import OBJECTS, Clinic, copy_of, open_clinic, predecessors
from fixtures.damage import flip
from fixtures.judges import dicom_errors
from fixtures.orthanc import Orthanc
from fixtures.told import Told
from highdicom.ko import KeyObjectSelectionDocument
from pydicom import Dataset, dcmread

from appliance.artifacts import SUMS_NAME, ArtifactKey, ArtifactStore, adopt
from appliance.delivery import objects
from appliance.delivery.destinations.contract import Destination, Proof
from appliance.delivery.destinations.dimse import Pacs
from appliance.delivery.index import object_path, read_index, read_retired
from appliance.delivery.outbox import Outbox
from appliance.delivery.queueing import enqueue_case
from appliance.delivery.result_hl7 import message_of, read_template
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.transaction import Transaction
from appliance.line.case_steps import write
from appliance.operations.corrections import correct_score
from appliance.operations.retry import retry_case
from appliance.settings.destinations import FolderDestination, Hl7Destination, PacsDestination
from appliance.settings.installation import SALT_NAME
from dicom.result import read_result
from dicom.status import classify

KINDS = ("SEG", "PM")
ANNA = "Müller^Anna"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clinic(tmp_path_factory.mktemp("clinic"))


@pytest.fixture
def clinic(state: Path, tmp_path: Path) -> Clinic:
    return copy_of(state, tmp_path)


def rejecting(clinic: Clinic) -> Clinic:
    """Return the clinic with the setting under which a note rejects a replaced result."""
    objects = OBJECTS.model_copy(update={"rejection_note": "quality"})
    told = (FolderDestination(name="told"),)
    return Clinic(clinic.settings.model_copy(update={"objects": objects, "destinations": told}))


def test_no_note_rejects_a_result_where_the_one_in_its_place_was_refused(clinic: Clinic) -> None:
    clinic, told = rejecting(clinic), Told()
    clinic.do(lambda tx: enqueue_case(tx, tx.case(1), clinic.settings, 0.0))
    ledger = Ledger(clinic.settings.ledger_url)
    outbox = Outbox(ledger, clinic.settings, {"told": told})
    outbox.run()
    correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="torn")
    clinic.deliver()
    report, note = (dcmread(clinic.file(kind)).SOPInstanceUID for kind in ("SR", "KO"))
    told.outcomes[report] = classify(0xC000, "not this one")
    for _ in range(3):
        outbox.run()
    assert report in told.sent and note not in told.sent
    ways = {row.sop_instance_uid: (row.state, row.reason) for row in clinic.deliveries()}
    assert ways[report] == ("refused", "refused") and ways[note] == ("refused", "result-refused")

    def retry(tx: Transaction) -> None:
        case = tx.case(1)
        assert case is not None
        case.state = CaseState.UNDELIVERED  # as the outbox leaves a case that is written by now
        retry_case(tx, case, clinic.settings, 0.0)

    told.outcomes.clear()  # the archive takes it now: both go, the note last
    clinic.do(retry)
    for _ in range(3):
        outbox.run()
    ledger.close()
    states = {row.state for row in clinic.deliveries() if row.destination == "told"}
    assert told.sent[-1] == note and states == {"proven"}


@pytest.mark.parametrize(
    ("answers", "sent", "end"),
    [
        ((0x0000, 0xA770), 2, "proven"),
        ((0x0000, 0x0000), 2, "unproven"),
        ((0x0110, 0x0000, 0xA770), 3, "proven"),  # what failed was not taken
        ((0xA770,), 1, "unproven"),  # nobody knows that it was this note
    ],
)
def test_a_note_that_its_archive_hides_is_taken_twice_at_most(
    clinic: Clinic, answers: tuple[int, ...], sent: int, end: str
) -> None:
    clinic, told, now = rejecting(clinic), Told(), [0.0]
    clinic.do(lambda tx: enqueue_case(tx, tx.case(1), clinic.settings, 0.0))
    ledger = Ledger(clinic.settings.ledger_url)
    outbox = Outbox(ledger, clinic.settings, {"told": told}, lambda: now[0])
    outbox.run()
    correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="torn")
    clinic.deliver()
    note = dcmread(clinic.file("KO")).SOPInstanceUID
    told.proofs[note] = Proof.ABSENT
    for _ in range(15):
        told.outcomes[note] = classify(answers[min(told.sent.count(note), len(answers) - 1)])
        outbox.run()
        now[0] += 2000
    ledger.close()
    (row,) = (row for row in clinic.deliveries() if row.sop_instance_uid == note)
    assert (told.sent.count(note), row.state) == (sent, end)


def test_a_result_that_comes_back_after_a_note_has_names_of_its_own(clinic: Clinic) -> None:
    """An archive hides for ever what a note rejected: it is not sent under the same UIDs."""
    first = clinic.case
    correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="torn")
    second = clinic.case.findings_key

    def back(site: Clinic) -> tuple[set[str], set[str], list[str]]:
        """UIDs of the results of the case at first and at last, and what the last one replaces."""
        key = first.objects_key
        for findings in (second, first.findings_key):
            key = write(findings, key, site.settings, {}).objects_key
        # What is written again, whatever the settings are by now, keeps its names.
        shutil.rmtree(ArtifactStore(site.settings.artifacts_dir).path(ArtifactKey.parse(key)))
        assert write(first.findings_key, key, clinic.settings, {}).objects_key == key
        before, after = (
            {e.sop_instance_uid for e in read_index(each, site.settings) if e.kind in KINDS}
            for each in (first.objects_key, key)
        )
        (report,) = (e for e in read_index(key, site.settings) if e.kind == "SR")
        return before, after, predecessors(dcmread(object_path(report.path, site.settings)))

    before, after, _ = back(rejecting(clinic))
    assert not before & after
    before, after, replaced = back(clinic)
    assert before & after and len(replaced) == 2


@pytest.mark.parametrize("note", ["none", "quality"])
def test_a_result_that_comes_back_is_dated_after_the_one_it_replaces(
    clinic: Clinic, note: str
) -> None:
    """Findings are older than those that they replace after a rollback of weights."""
    site = (rejecting(clinic) if note != "none" else clinic).settings
    first, store = clinic.case, ArtifactStore(site.artifacts_dir)
    correct_score(site, "case-1", "1+", by=ANNA, why="torn")
    second = store.path(ArtifactKey.parse(clinic.case.findings_key)) / "findings.json"
    later = second.stat().st_mtime + 100
    os.utime(second, (later, later))
    keys, lis = [first.objects_key], Hl7Destination(kind="hl7", host="lis", port=1)
    for findings in (clinic.case.findings_key, first.findings_key):
        keys.append(write(findings, keys[-1], site, {}).objects_key)

    def stated(key: str, kind: str) -> tuple[str, str]:
        (entry,) = (e for e in read_index(key, site) if e.kind == kind)
        file = object_path(entry.path, site)
        header, sent = dcmread(file), ""
        if kind == "SR":
            text = message_of(read_result(file), lis, read_template(lis)).text
            sent = text.split("|")[6]
        return f"{header.ContentDate}{header.ContentTime}", sent

    reports = [stated(key, "SR") for key in keys]
    for times in zip(*reports, strict=True):
        assert len(set(times)) == len(keys) and list(times) == sorted(times)
    if note != "none":
        assert stated(keys[2], "KO")[0] == reports[2][0]
    series = [{e.series_uid for e in read_index(k, site) if e.kind == "SR"} for k in keys]
    assert not series[0] & series[2]
    before = read_index(keys[2], site)
    shutil.rmtree(store.path(ArtifactKey.parse(keys[2])))
    assert write(first.findings_key, keys[2], site, {}).objects_key == keys[2]
    assert read_index(keys[2], site) == before


def test_the_next_note_names_what_a_note_that_was_not_sent_named(clinic: Clinic) -> None:
    """The first result would stay in force beside the third, as nothing named it any more."""
    clinic = rejecting(clinic)
    first = {e.sop_instance_uid for e in read_index(clinic.case.objects_key, clinic.settings)}
    for score in ("1+", "3+"):
        correct_score(clinic.settings, "case-1", score, by=ANNA, why="torn")
        clinic.deliver()
    note = KeyObjectSelectionDocument.from_dataset(dcmread(clinic.file("KO")))
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in note.content.get_references()
    }
    slides = {e.sop_instance_uid for e in read_index(clinic.case.objects_key, clinic.settings)}
    assert first - slides <= named
    retired = read_retired(clinic.case.objects_key, clinic.settings)
    assert first - slides <= set(retired)


def test_objects_of_a_former_edition_are_written_again_as_they_were(clinic: Clinic) -> None:
    """Their UIDs are in an archive: under others two results would be in force."""
    clinic = rejecting(clinic)
    correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="torn")
    clinic.deliver()
    key = clinic.case.objects_key
    folder = ArtifactStore(clinic.settings.artifacts_dir).path(ArtifactKey.parse(key))
    index = json.loads((folder / "objects.json").read_text())
    for name in ("rejects", "rejected"):  # as the edition before wrote it
        del index[name]
    seeds = []

    def seen(*arguments: Any, **named: Any) -> Any:
        context = arguments[2]
        seeds.append(context.seed)
        return write_all(*arguments, **named)

    write_all = objects._write_all
    (folder / SUMS_NAME).unlink()
    (folder / "objects.json").write_text(json.dumps(index))
    adopt(folder)
    (folder / "sr.dcm").unlink()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(objects, "_write_all", seen)
        assert write(clinic.case.findings_key, key, clinic.settings, {}).objects_key == key
    (seed,) = seeds
    assert "objects/" not in seed
    assert "rejects" not in json.loads((folder / "objects.json").read_text())


def observer(dataset: Dataset) -> str:
    """Return the Device Observer UID."""
    (uid,) = (
        str(item.UID)
        for item in dataset.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121012"
    )
    return uid


def test_each_installation_is_a_device_of_its_own(
    clinic: Clinic, state: Path, tmp_path: Path
) -> None:
    clinic = rejecting(clinic)
    correct_score(clinic.settings, "case-1", "1+", by=ANNA, why="torn")
    clinic.deliver()
    report, note = (dcmread(clinic.file(kind)) for kind in ("SR", "KO"))
    assert observer(report) == observer(note)
    (tmp_path / "other").mkdir()
    other = copy_of(state, tmp_path / "other")
    assert observer(other.report) == observer(report)
    (other.settings.state_dir / SALT_NAME).unlink()
    correct_score(other.settings, "case-1", "1+", by=ANNA, why="torn")
    other.deliver()
    assert observer(other.report) != observer(report)


def test_a_report_of_a_former_edition_is_written_again_with_its_uid(clinic: Clinic) -> None:
    """Today's report states the block, too, which changes its bytes and so its UID."""
    key = clinic.case.objects_key
    folder = ArtifactStore(clinic.settings.artifacts_dir).path(ArtifactKey.parse(key))
    stated = json.loads((folder / "objects.json").read_text())
    assert stated["edition"] == objects.EDITION

    def again() -> tuple[Dataset, str]:
        (folder / SUMS_NAME).unlink()
        (folder / "objects.json").write_text(json.dumps(stated))
        adopt(folder)
        (folder / "sr.dcm").unlink()
        assert write(clinic.case.findings_key, key, clinic.settings, {}).objects_key == key
        return clinic.report, str(read_result(clinic.file("SR")).specimen)

    accession = clinic.report.AccessionNumber
    today, block = again()
    assert block == f"{accession}-A1"
    stated["edition"] = 2  # it told the numbers of cases without a score: this one has a score
    assert again()[0].SOPInstanceUID == today.SOPInstanceUID
    assert json.loads((folder / "objects.json").read_text())["edition"] == 2
    del stated["edition"]
    former, glass = again()
    assert glass == f"{accession}-A1-HER2"
    assert former.SOPInstanceUID != today.SOPInstanceUID
    assert "edition" not in json.loads((folder / "objects.json").read_text())
    assert again()[0].SOPInstanceUID == former.SOPInstanceUID


def test_numbers_beside_no_score_are_written_again_as_the_edition_before_told_them(
    clinic: Clinic,
) -> None:
    """An archive has that report under its UID, which hangs on what it tells."""
    correct_score(clinic.settings, "case-1", "none", by=ANNA, why="torn")
    clinic.deliver()
    key = clinic.case.objects_key
    folder = ArtifactStore(clinic.settings.artifacts_dir).path(ArtifactKey.parse(key))
    stated = json.loads((folder / "objects.json").read_text())

    def again(edition: int) -> tuple[str, set[str]]:
        """Write the report again; return its UID and what it tells of the scored tumor."""
        (folder / SUMS_NAME).unlink()
        (folder / "objects.json").write_text(json.dumps(stated | {"edition": edition}))
        adopt(folder)
        (folder / "sr.dcm").unlink()
        assert write(clinic.case.findings_key, key, clinic.settings, {}).objects_key == key
        result = read_result(clinic.file("SR"))
        told = {item.name.value for item in result.items}
        return result.sop_instance_uid, told & {"h-score", "share-3", "paper-score", "tumor-area"}

    first = str(clinic.report.SOPInstanceUID)
    assert again(objects.EDITION) == (first, {"tumor-area"})
    former, told = again(3)
    assert former != first
    assert told == {"h-score", "share-3", "paper-score", "tumor-area"}
    assert again(3) == (former, told)
    assert json.loads((folder / "objects.json").read_text())["edition"] == 3


@pytest.mark.judge
def test_a_note_rejects_the_replaced_result_where_it_was_sent(
    clinic: Clinic, orthanc: Orthanc
) -> None:
    """A result is withdrawn: Orthanc lists both, and the note names every object of the first."""
    pacs = PacsDestination(
        kind="dicom", host="127.0.0.1", port=orthanc.dicom_port, called_aet="ORTHANC"
    )
    clinic, told = rejecting(clinic), Told()
    places = {"destinations": (pacs, *clinic.settings.destinations)}
    site = clinic.settings.model_copy(update=places)
    clinic = Clinic(site)
    first, first_key = clinic.report, clinic.case.objects_key
    assert write(clinic.case.findings_key, first_key, site, {}).objects_key == first_key
    clinic.do(lambda tx: enqueue_case(tx, tx.case(1), site, 0.0))
    ledger = Ledger(site.ledger_url)
    reached: dict[str, Destination] = {"pacs": Pacs(pacs), "told": told}
    Outbox(ledger, site, reached).run()
    assert {row.state for row in clinic.deliveries() if row.destination == "pacs"} == {"proven"}

    correct_score(site, "case-1", "none", by=ANNA, why="torn")
    late = FolderDestination(name="late", folder=site.state_dir / "late")
    clinic = Clinic(site.model_copy(update={"destinations": (*site.destinations, late)})).deliver()
    for _ in range(2):  # the note comes after what is in force
        Outbox(ledger, clinic.settings, reached).run()
    ledger.close()
    note = dcmread(clinic.file("KO"))
    assert dicom_errors(clinic.file("KO")) == []
    assert told.sent[-1] == note.SOPInstanceUID
    ways = {row.destination: row.state for row in clinic.deliveries() if row.kind == "KO"}
    assert ways == {"pacs": "proven", "told": "proven"}  # the late one never had the first result

    title = note.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    modifier = note.ContentSequence[0]  # which TID 2010 asks of this title
    assert modifier.RelationshipType == "HAS CONCEPT MOD"
    assert modifier.ConceptNameCodeSequence[0].CodeValue == "113011"
    assert modifier.ConceptCodeSequence[0].CodeValue == "111220"
    entries = read_index(first_key, site)
    retired = {e.sop_instance_uid: (e.study_uid, e.series_uid) for e in entries if e.kind != "WSM"}
    read = KeyObjectSelectionDocument.from_dataset(note)
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in read.content.get_references()
    }
    assert named == set(retired) and first.SOPInstanceUID in named
    assert all(read.resolve_reference(uid)[:2] == place for uid, place in retired.items())
    assert predecessors(clinic.report) == [first.SOPInstanceUID]
    assert clinic.report.SOPInstanceUID in str(note.ContentSequence[-len(named) - 1].TextValue)
    listed = orthanc.qido(f"studies/{note.StudyInstanceUID}/series")
    found = [series["00080060"]["Value"][0] for series in listed]
    assert {kind: found.count(kind) for kind in found if kind != "SM"} == {
        "SEG": 4,
        "SR": 2,
        "DOC": 2,
        "KO": 1,
    }

    # A damaged note is written again as it was, whatever the settings say by now.
    key, data = clinic.case.objects_key, clinic.file("KO").read_bytes()
    flip(clinic.file("KO"))
    silent = clinic.settings.model_copy(update={"objects": OBJECTS})
    assert write(clinic.case.findings_key, key, silent, {}).objects_key == key
    assert clinic.file("KO").read_bytes() == data
