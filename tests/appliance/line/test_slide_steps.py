"""Ledger side of a slide's steps: what was known at identify stays known; a changed file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.headers import Written, rewritten
from fixtures.pairings import HER2_PAIR
from fixtures.slide_objects import MPP, identity, write_svs

from appliance.artifacts import ArtifactStore
from appliance.delivery.frozen import freeze_source, same_source
from appliance.domain import HE, HER2, QuarantineReason
from appliance.errors import SlideError, SourceChangedError
from appliance.intake.patients import Patient
from appliance.intake.watch import FolderScan
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import SlideRow, facts_of
from appliance.line.analyze_slide import (
    identify_slide,
    inspect_slide,
    open_facts,
    with_overview,
)
from appliance.line.case_steps import prepare_analyze
from appliance.line.context import Done, Job, StepContext
from appliance.line.outcomes import ReadSlide
from appliance.line.slide_steps import finish_identify, prepare_identify, take_slide_back
from appliance.operations.audited import Word
from appliance.operations.retry_word import retry
from appliance.operations.word import SlideWords, exclude_slide, keep, say_slide
from appliance.settings.intake import Watch
from appliance.settings.settings import Settings
from appliance.slides.files import fingerprint
from dicom.header import read_headers
from dicom.source import convert_slide

SIDECAR = 'mpp = 0.3\naccession = "S26-7"\nblock = "B2"\norgan = "gastric"\nspecimen = "biopsy"\n'


@pytest.fixture
def context(tmp_path: Path) -> Iterator[StepContext]:
    (tmp_path / "scans").mkdir()
    settings = Settings(
        state_dir=tmp_path / "state",
        watch=Watch(folder=tmp_path / "scans", stable_seconds=1, patience_seconds=1),
    )
    ledger = Ledger(settings.ledger_url)
    yield StepContext(
        ledger=ledger,
        settings=settings,
        name="test",
        pairings=(HER2_PAIR,),
    )
    ledger.close()


def identified(context: StepContext, path: Path) -> SlideRow:
    """Take a file in and identify it, as the line does."""
    scan = FolderScan(context.ledger, context.settings.watch)
    for second in (0.0, 2.0):
        scan.run(monotonic=second, now=second)
    return identified_again(context, path)


def identified_again(context: StepContext, path: Path) -> SlideRow:
    with context.ledger.transaction() as tx:
        row = tx.slide_of_path(str(path))
        assert row is not None
    found = identify_slide(path, context.settings, json.loads(row.said))
    with context.ledger.transaction() as tx:
        row = tx.slide_of_path(str(path))
        assert row is not None
        finish_identify(tx, context, row, Done(value=found, seconds=1.0), 3.0)
    return row


def test_what_the_sidecar_said_at_identify_is_kept(context: StepContext) -> None:
    slides = {}
    for seed, stain in enumerate((HE, HER2)):
        path = write_svs(context.settings.watch.folder / f"x_{stain}.svs", seed)
        sidecar = path.with_name(f"{path.stem}.tandem.toml")
        sidecar.write_text(SIDECAR)
        slides[stain] = identified(context, path)
        sidecar.unlink()
    slides[HER2].said = '{"picture": "keep"}'
    with context.ledger.transaction() as tx:
        (case,) = tx.cases()
    assert (case.accession, case.block) == ("S26-7", "B2")
    progress = ProgressFile.of(context.settings, case.subject)
    call = prepare_analyze(context, Job(row=case, slides=slides, progress=progress))
    given = [argument for argument in call.arguments if isinstance(argument, ReadSlide)]
    assert [(s.organ, s.specimen, s.facts.mpp) for s in given] == [("gastric", "biopsy", 0.3)] * 2
    assert [slide.is_kept for slide in given] == [False, True]


JAPANESE = Written(
    ("", "ISO 2022 IR 87"),
    {"PatientName": "Yamada^Tarou=山田^春", "PatientBirthDate": "19600230"},
)


def scanned(context: StepContext, written: Written) -> Path:
    """Write a scanner's DICOM into the watched folder."""
    folder = context.settings.state_dir.with_name("made")
    slide = write_svs(folder.with_suffix(".svs"))
    levels = convert_slide(slide, folder, identity("HE"), mpp=MPP).paths
    made = max(levels, key=lambda path: path.stat().st_size)  # a coarse level alone waits
    return rewritten(made, context.settings.watch.folder / "a.dcm", written, px=True)


def test_what_the_header_has_wrong_is_told_at_identify(context: StepContext) -> None:
    row = identified(context, scanned(context, JAPANESE))
    with context.ledger.transaction() as tx:
        told = [event.params for event in tx.events(row.subject) if event.code == "header-note"]
    (note,) = told
    assert "as Patient's Birth Date: results leave it out. Correct it" in note
    assert "19600230" not in note
    # It is compared as it was stated; results carry what DICOM allows.
    patient = Patient.of_json(row.patient)
    assert (patient.name, patient.birth_date) == ("Yamada^Tarou=山田^春", "19600230")
    _, files = freeze_source(facts_of(row), ArtifactStore(context.settings.artifacts_dir))
    header = read_headers(files)[0]
    assert (header.SpecificCharacterSet, header.PatientName) == ("ISO_IR 192", patient.name)
    assert header.PatientBirthDate in (None, "")


def test_an_identifier_that_is_too_long_sets_the_slide_aside(context: StepContext) -> None:
    path = scanned(context, Written(values={"PatientID": "P" * 70}))
    with pytest.raises(SlideError, match=r"\(Patient ID\) Correct it") as told:
        identify_slide(path, context.settings)
    assert told.value.reason is QuarantineReason.INVALID_HEADER


def test_a_file_of_the_same_size_and_time_is_taken_up_anew(context: StepContext) -> None:
    path = write_svs(context.settings.watch.folder / "S26-7_B2_HE.svs")
    row = identified(context, path)
    times = path.stat()
    write_svs(path, seed=9)
    os.truncate(path, times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with context.ledger.transaction() as tx:
        slide = tx.slide_of_path(row.path)
        assert slide is not None
        take_slide_back(tx, slide, 4.0)
    scan = FolderScan(context.ledger, context.settings.watch)
    for second in (5.0, 7.0, 9.0):
        scan.run(monotonic=second, now=second)
    with context.ledger.transaction() as tx:
        slide = tx.slide_of_path(row.path)
        (case,) = tx.cases()
        assert slide is not None
    assert slide.state == SlideState.ARRIVED and slide.fingerprint == ""
    assert case.state == CaseState.WAITING


def test_another_slide_lies_in_its_place_when_it_is_identified(context: StepContext) -> None:
    """The scan saw the right one, and sees it again afterwards, with its size and time."""
    path = write_svs(context.settings.watch.folder / "S26-7_B2_HE.svs")
    os.utime(path, (1e9, 1e9))
    scan = FolderScan(context.ledger, context.settings.watch)
    for second in (0.0, 2.0):
        scan.run(monotonic=second, now=second)
    with context.ledger.transaction() as tx:
        row = tx.slide_of_path(str(path))
    assert row is not None and row.state == SlideState.ARRIVED
    progress = ProgressFile.of(context.settings, row.subject)
    call = prepare_identify(context, Job(row=row, progress=progress))
    kept, times = path.read_bytes(), path.stat()
    write_svs(path, seed=9)
    with pytest.raises(SourceChangedError):
        call.function(*call.arguments)
    path.write_bytes(kept)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert call.function(*call.arguments).verdict.accession == "S26-7"


MEYER = Word(by="Meyer^Anna", why="read the label")
NEW = "S26-99;A1;HER2"


def test_a_word_on_a_name_is_not_taken_for_another_slide_that_has_it_later(
    context: StepContext,
) -> None:
    path = context.settings.watch.folder / "R03-S07.svs"
    assert identified(context, write_svs(path, 1)).state == SlideState.QUARANTINED
    words = SlideWords(accession="S26-31", block="A1", stain="HER2", organ="gastric")
    say_slide(context.settings, "slide-1", words, MEYER)
    row = identified_again(context, path)
    assert (row.state, row.accession, row.organ) == ("identified", "S26-31", "gastric")
    for barcode in (NEW, ""):  # another patient's slide; one that says nothing
        row = identified(context, write_svs(path, 2 + len(barcode), barcode))
        assert (row.state, row.reason) == ("quarantined", "identity-conflict")
        with context.ledger.transaction() as tx:
            assert [case.state for case in tx.cases()] == ["waiting"]
    retry(context.settings, "slide-1", MEYER)  # no word on this file
    assert identified_again(context, path).reason == "identity-conflict"
    say_slide(context.settings, "slide-1", replace(words, accession="S26-99", organ=""), MEYER)
    row = identified_again(context, path)
    assert (row.state, row.accession, row.organ) == ("identified", "S26-99", "")


def test_a_word_holds_for_a_new_scan_of_its_slide(context: StepContext) -> None:
    path = context.settings.watch.folder / "scan.svs"
    identified(context, write_svs(path, 1, "S26-13;A1;HER2"))
    keep(context.settings, "slide-1", MEYER)
    words = SlideWords(accession="S26-31", block="A1")
    say_slide(context.settings, "slide-1", words, MEYER)
    row = identified_again(context, path)
    assert (row.accession, json.loads(row.said)["picture"]) == ("S26-31", "keep")
    row = identified(context, write_svs(path, 2, "S26-13;A1;HER2"))
    assert (row.state, row.accession) == ("identified", "S26-31")
    # The picture of the new scan was not looked at; the word on the name goes on.
    assert not {"picture", "kept_at"} & set(json.loads(row.said))
    say_slide(context.settings, "slide-1", SlideWords(organ="gastric"), MEYER)
    assert identified_again(context, path).accession == "S26-31"


def test_another_slide_under_the_name_of_one_that_is_left_out_is_asked_about(
    context: StepContext,
) -> None:
    path = context.settings.watch.folder / "scan.svs"
    identified(context, write_svs(path, 1, "S26-13;A1;HER2"))
    exclude_slide(context.settings, "slide-1", MEYER)
    row = identified(context, write_svs(path, 2, "S26-13;A1;HER2"))
    assert (row.state, row.reason) == ("other", "excluded")
    row = identified(context, write_svs(path, 3, NEW))
    assert (row.state, row.reason) == ("quarantined", "identity-conflict")
    keep(context.settings, "slide-1", MEYER)
    assert identified_again(context, path).accession == "S26-99"


def test_a_name_in_the_header_that_is_no_text_sets_no_slide_aside(context: StepContext) -> None:
    path = write_svs(context.settings.watch.folder / "scan.svs", 1, "S26-13;A1;HER2")
    path.write_bytes(path.read_bytes().replace(b"|AppMag", b"|\xffppMag"))
    row = identified(context, path)
    assert (row.state, row.accession) == ("identified", "S26-13")


def test_a_slide_whose_overview_of_a_former_edition_is_lost_is_looked_at_again(
    context: StepContext, tmp_path: Path
) -> None:
    """Retention removed it: a case that is run again goes on with an overview of today."""
    facts = open_facts(write_svs(tmp_path / "a.svs"))
    key = inspect_slide(facts, context.settings).key
    before = ReadSlide(facts=facts, inspect_key="inspect/" + "0" * 32)
    slide, _ = with_overview(before, context.settings)
    assert slide.inspect_key == key and slide.facts == facts
    assert with_overview(slide, context.settings) == (slide, ())


@pytest.mark.parametrize("second", ["P2_A1", "p02-A1", "Part2_A1", "Part 2 A1", "PT2_A1"])
def test_blocks_of_two_parts_of_a_specimen_are_not_one(context: StepContext, second: str) -> None:
    """P1 A1 may be the breast and P2 A1 the lymph node."""
    scans = context.settings.watch.folder
    names = [f"S26-31_{name}.svs" for name in ("P1_A1_HE", f"{second}_HER2", "P1_A1_HER2")]
    for number, name in enumerate(names):
        write_svs(scans / name, seed=number)
    breast, node, own = (identified(context, scans / name) for name in names)
    assert [row.state for row in (breast, own)] == [SlideState.IDENTIFIED] * 2
    assert breast.block == own.block == "A1"
    assert node.state == SlideState.QUARANTINED
    assert node.reason == QuarantineReason.IDENTITY_CONFLICT
    assert "part 2" in node.params and breast.subject in node.params
    say_slide(context.settings, node.subject, SlideWords(block="P2A1"), MEYER)
    told = identified_again(context, Path(node.path))
    assert told.state == SlideState.IDENTIFIED and told.block == "P2A1"


@pytest.mark.parametrize(
    ("first", "second", "part"),
    [
        ("S26-31_A1", "S26-31-2_A1", "2"),
        ("S26-31-1-A1", "S26-31.2 A1", "2"),
        ("S26-31#1_A1", "S26-31(2)_A1", "2"),
        ("S26-31 Pot 1 A1", "S26-31 Präparat 2 A1", "2"),
        ("S26-31_Specimen A_A1", "S26-31_Specimen B_A1", "B"),
    ],
)
def test_a_mark_of_a_part_in_front_of_the_block_is_not_dropped(
    context: StepContext, first: str, second: str, part: str
) -> None:
    scans = context.settings.watch.folder
    names = (f"{first}_HE.svs", f"{second}_HER2.svs", f"{first}_HER2.svs", f"{second}_HE.svs")
    rows = [identified(context, write_svs(scans / name, n)) for n, name in enumerate(names)]
    aside, joined = SlideState.QUARANTINED, SlideState.IDENTIFIED
    assert [row.state for row in rows] == [joined, aside, joined, aside]
    assert rows[0].block == rows[2].block == "A1"
    assert f"part {part}" in rows[1].params and f"part {part}" in rows[3].params


@pytest.mark.parametrize("form", ["S26-31-2_A1", "S26-31_Pot B_A1", "S26-31 Level 2 A1"])
def test_slides_of_one_marked_part_are_of_one_block(context: StepContext, form: str) -> None:
    scans = context.settings.watch.folder
    for number, stain in enumerate(("HE", "HER2")):
        row = identified(context, write_svs(scans / f"{form}_{stain}.svs", number))
        assert (row.state, row.block) == (SlideState.IDENTIFIED, "A1")


@pytest.mark.parametrize(
    "form",
    [
        *("S26-31_A1_Glas_{}", "S26-31_A1_Präparat_{}", "S26-31_Glas_{}_A1", "S26-31_Lame_{}_A1"),
        *("S26-31_Rescan_{}_A1", "S26-31_AT2_{}_A1", "S26-31_2026-11-20_{}_A1"),
    ],
)
def test_slides_that_are_counted_are_of_one_part(context: StepContext, form: str) -> None:
    scans = context.settings.watch.folder
    for number, stain in enumerate(("HE", "HER2"), start=1):
        name = f"{form.format(number)}_{stain}.svs"
        row = identified(context, write_svs(scans / name, number))
        assert (row.state, row.block) == (SlideState.IDENTIFIED, "A1")


def test_a_slide_of_an_edition_that_kept_no_mark_is_of_any_part(context: StepContext) -> None:
    scans = context.settings.watch.folder
    former = identified(context, write_svs(scans / "S26-31_P2_A1_HE.svs", 1))
    with context.ledger.transaction() as tx:
        row = tx.slide(former.id or 0)
        assert row is not None
        claims = json.loads(row.evidence)
        row.evidence = json.dumps([{k: v for k, v in c.items() if k != "part"} for c in claims])
        tx.session.add(row)
    row = identified(context, write_svs(scans / "S26-31_P2_A1_HER2.svs", 2))
    assert (row.state, row.block) == (SlideState.IDENTIFIED, "A1")


@pytest.mark.parametrize(
    ("former", "later", "joins"),
    [
        ("S26-31-2_A1_HE", "S26-31-2_A1_HER2", True),
        ("S26-31-2_A1_HE", "S26-31-2_A1_HE_2", True),
        ("S26-31_Jar_2_A1_HE", "S26-31_Jar_2_A1_HER2", True),
        ("S26-31_Jar_2_A1_HE", "S26-31_A1_HER2", False),
        ("S26-31_A1_HE", "S26-31-2_A1_HER2", False),
    ],
)
def test_a_mark_that_a_former_edition_did_not_know_is_read_when_slides_are_compared(
    context: StepContext, former: str, later: str, joins: bool
) -> None:
    """Edition 7879729 kept an empty mark of these."""
    scans = context.settings.watch.folder
    first = identified(context, write_svs(scans / f"{former}.svs", 1))
    with context.ledger.transaction() as tx:
        row = tx.slide(first.id or 0)
        assert row is not None
        row.evidence = json.dumps([claim | {"part": ""} for claim in json.loads(row.evidence)])
        tx.session.add(row)
    row = identified(context, write_svs(scans / f"{later}.svs", 2))
    assert row.state == (SlideState.IDENTIFIED if joins else SlideState.QUARANTINED)
    assert row.block == "A1"


@pytest.mark.parametrize(
    ("name", "state"),
    [("scan", SlideState.IDENTIFIED), ("S26-31_A1", SlideState.QUARANTINED)],
)
def test_a_barcode_alone_does_not_say_that_a_block_is_of_the_first_part(
    name: str, state: SlideState, context: StepContext
) -> None:
    """A name has the mark wherever there is one."""
    scans = context.settings.watch.folder
    identified(context, write_svs(scans / f"{name}.svs", 1, "S26-31;A1;HE"))
    row = identified(context, write_svs(scans / "S26-31_P2_A1_HER2.svs", 2))
    assert row.state == state


def write_series(context: StepContext) -> list[Path]:
    """Write a DICOM series of several files: the order of their names is not that of digests."""
    made = context.settings.state_dir.with_name("made")
    paths = convert_slide(write_svs(made.with_suffix(".svs")), made, identity("HE"), mpp=MPP).paths
    paths = sorted(paths, key=lambda path: digest_of(path), reverse=True)
    folder = context.settings.watch.folder / "first"
    folder.mkdir()
    assert len(paths) > 1
    return [Path(shutil.copy(path, folder / f"{n}.dcm")) for n, path in enumerate(paths)]


def digest_of(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def test_a_dicom_series_under_other_file_names_is_the_same_slide(context: StepContext) -> None:
    files = write_series(context)
    first = identified(context, files[0])
    other = context.settings.watch.folder / "second"
    other.mkdir()
    copies = [shutil.copy(file, other / f"level-{n}.dcm") for n, file in enumerate(files[::-1])]
    copy = identified(context, Path(copies[0]))
    assert (first.state, copy.state, copy.reason) == ("identified", "superseded", "same-content")
    shutil.copy(files[0], files[0].with_name("again.dcm"))  # into the same folder
    assert fingerprint(files[0]) == first.fingerprint


def test_a_dicom_series_that_a_former_edition_identified_keeps_its_fingerprint(
    context: StepContext,
) -> None:
    """The order of names counted then."""
    files = write_series(context)
    store = ArtifactStore(context.settings.artifacts_dir)
    former = hashlib.sha256(b"".join(digest_of(file) for file in files)).hexdigest()
    facts = replace(open_facts(files[0]), fingerprint=former)
    freeze_source(facts, store)
    shutil.rmtree(context.settings.artifacts_dir / "seen")
    with same_source(facts, store):  # its bytes are compared
        pass
    assert identified(context, files[0]).fingerprint == former
    assert open_facts(files[0], store).fingerprint == former
