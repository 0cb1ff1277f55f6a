"""The interim reader in the line: its hint, when there is none, and what a score knows of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.damage import lose_tiles, overflow
from fixtures.interim_pairs import untrained_weights
from fixtures.pairings import HER2_PAIR

from appliance.domain import HE, HER2, Identity, Stain
from appliance.errors import WeightsUnusableError
from appliance.findings.attention import ATTENTION_NAME, AttentionMap
from appliance.findings.codec import load_findings
from appliance.findings.opinion import Opinion
from appliance.intake.patients import Patient
from appliance.ledger.events import Event
from appliance.ledger.hints import TROUBLE, Hint, hint_of
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.tables import SlideRow
from appliance.line.analyze_case import align_case, analyze_case, kept_mapping
from appliance.line.analyze_slide import inspect_slide, open_facts
from appliance.line.case_steps import prepare_analyze
from appliance.line.context import Done, Job, StepContext
from appliance.line.interim import read_interim, read_slide
from appliance.line.interim_pairs import write_signed_pairs
from appliance.line.outcomes import ReadSlide, SlideRead, artifact_folder
from appliance.line.readings import reader_facts
from appliance.line.slide_bags import kept_bag
from appliance.line.slide_steps import finish_read, prepare_read
from appliance.operations.corrections import CONFIRMED
from appliance.readers.bags import centers_um
from appliance.readers.interim import InterimReader
from appliance.readers.tile_pass import silent
from appliance.settings.intake import Patients
from appliance.settings.networks import ModelSettings
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from appliance.words.say import say
from models.encoders.spec import reference_encoder, verify_encoder
from models.errors import DataSetError
from models.interim.pairs import load_partners, read_pairs, tiles_of
from models.mil.bag import load_bag
from models.spec import MANIFEST_NAME
from models.synthesis.pyramid import write_pyramid
from models.synthesis.slides import synthesize_case

IDENTITY = Identity(accession="S26-1", block="A1", stain=HER2)


@dataclass(frozen=True)
class Bench:
    """Both slides of a case, inspected, and settings whose interim reader is on."""

    settings: Settings
    he: ReadSlide
    ihc: ReadSlide

    def inspected(self, path: Path) -> ReadSlide:
        return inspected(path, self.settings)

    def read(self, slide: ReadSlide, settings: Settings | None = None) -> SlideRead:
        return read_slide(slide, HE, ["her2"], ["her2"], settings or self.settings, silent)


def inspected(path: Path, settings: Settings) -> ReadSlide:
    facts = open_facts(path)
    return ReadSlide(facts=facts, inspect_key=inspect_slide(facts, settings).key)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A drawn case of 2,048 px (synthetic), and weights by chance."""
    folder = tmp_path_factory.mktemp("interim")
    case = synthesize_case(folder, seed=5, score="2+", width_px=2048, height_px=2048, workers=1)
    settings = Settings(
        state_dir=folder / "state",
        models=ModelSettings(interim=untrained_weights(folder / "weights"), device="cpu"),
    )
    slides = [inspected(path, settings) for path in (case.he_path, case.ihc_path)]
    return Bench(settings, *slides)


def test_the_hint_is_an_artifact_of_the_slide_and_the_same_at_each_run(
    bench: Bench, tmp_path: Path
) -> None:
    first = bench.read(bench.he)
    (hint,) = first.hints
    opinion = Opinion.of_json(hint.opinion or {})
    assert opinion.about == "interim" and sum(opinion.probabilities) == pytest.approx(1)
    assert (hint.said, hint.percent) == (opinion.said, round(100 * max(opinion.probabilities), 1))
    assert [time.step for time in first.times] == ["tumor", "bag", "interim"]
    again = bench.read(bench.he)
    assert again.hints == first.hints and all(time.reused for time in again.times)
    # Bit for bit in another state folder, which never saw an IHC slide.
    alone = bench.settings.model_copy(update={"state_dir": tmp_path / "state"})
    other = bench.read(inspected(Path(bench.he.facts.path), alone), alone)
    assert other.hints == first.hints and not any(time.reused for time in other.times)
    folders = [artifact_folder(hint.key, each) / "interim" for each in (bench.settings, alone)]
    assert json.loads((folders[0] / "opinion.json").read_text()) == hint.opinion
    maps = [(folder / ATTENTION_NAME).read_bytes() for folder in folders]
    assert maps[0] == maps[1]


def test_the_attention_lies_on_the_tiles_that_were_read(bench: Bench) -> None:
    read = bench.read(bench.he)
    (hint,) = read.hints
    kept = AttentionMap.load(artifact_folder(hint.key, bench.settings) / "interim")
    assert kept is not None and bench.he.facts.fingerprint.startswith(kept.slide)
    assert np.nansum(kept.share) == pytest.approx(1, abs=1e-5) and np.nanstd(kept.share) > 0
    key = next(time.key for time in read.times if time.step == "bag")
    bag = kept_bag(key, bench.settings)
    rows, columns = np.nonzero(~np.isnan(kept.share))
    assert set(zip(columns, rows, strict=True)) == set(map(tuple, bag.places.tolist()))
    across = np.array(kept.share.shape[::-1]) * kept.cell_um
    assert (across - kept.cell_um < bench.he.facts.size_um).all()


def test_an_unusual_slide_gets_no_opinion(bench: Bench, tmp_path: Path) -> None:
    with SlideReader.of(bench.he.facts) as slide:
        pixels = slide.thumbnail(slide.facts.mpp)
    blurred = cv2.GaussianBlur(pixels, (0, 0), 6)
    rows, columns = blurred.shape[:2]
    path = tmp_path / "S26-1_A1_HE.svs"
    write_pyramid(
        path, [blurred], width_px=columns, height_px=rows, mpp=bench.he.facts.mpp, file_format="svs"
    )
    for slide, unusual in ((bench.inspected(path), "focus"), (bench.ihc, "picture")):
        read = bench.read(slide)
        (hint,) = read.hints
        assert (hint.unusual, hint.said, hint.opinion) == (unusual, "", None)
        assert [time.step for time in read.times] == ["tumor"]


def test_weights_that_cannot_be_used_hold_up_no_slide(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = untrained_weights(tmp_path / "weights")
    raw = json.loads((folder / MANIFEST_NAME).read_text())
    raw["input"]["encoder"] = "f" * 64
    (folder / MANIFEST_NAME).write_text(json.dumps(raw))
    other = bench.settings.model_copy(update={"models": ModelSettings(interim=folder)})
    read = bench.read(bench.he, other)
    assert read.hints == (Hint(assay="her2", unusual=TROUBLE),)
    assert "tumor" in [time.step for time in read.times]
    assert caplog.messages == ["no hint of her2: WeightsUnusableError"]
    assert "could not read" in say("interim", "no-opinion", read.hints[0].params)
    with pytest.raises(WeightsUnusableError, match=r"models\.interim_encoder.* tried again"):
        read_interim(bench.he, HE, "her2", other, silent)
    named = other.models.model_copy(update={"interim_encoder": reference_encoder()})
    with pytest.raises(WeightsUnusableError, match="is another one"):
        read_interim(bench.he, HE, "her2", other.model_copy(update={"models": named}), silent)
    assert reader_facts(InterimReader(), Settings(), {})["weights"] == ""


def test_a_score_states_that_a_hint_was_there_and_rests_on_nothing_of_it(bench: Bench) -> None:
    (hint,) = bench.read(bench.he).hints
    hinted = replace(bench.he, interim=hint.opinion_text)
    keys = [
        analyze_case("her2", IDENTITY, he, bench.ihc, bench.settings).key
        for he in (bench.he, hinted)
    ]
    without, given = (load_findings(artifact_folder(key, bench.settings)) for key in keys)
    assert without.interim is None and given.interim == Opinion.of_json(hint.opinion or {})
    assert (given.score, given.review, given.opinions) == (
        without.score, without.review, without.opinions,
    )  # fmt: skip
    assert given.models == without.models and given.percent == without.percent


# the ledger's side


@pytest.fixture
def context(bench: Bench, tmp_path: Path) -> Iterator[StepContext]:
    settings = bench.settings.model_copy(update={"state_dir": tmp_path / "state"})
    ledger = Ledger(settings.ledger_url)
    yield StepContext(ledger=ledger, settings=settings, name="test", pairings=(HER2_PAIR,))
    ledger.close()


def inspected_row(
    context: StepContext,
    bench: Bench,
    stain: Stain,
    identity: Identity = IDENTITY,
    path: Path | None = None,
) -> SlideRow:
    """Add an inspected slide of the block to the ledger; `path` is another name of its file."""
    slide = bench.he if stain is HE else bench.ihc
    with context.ledger.transaction() as tx:
        row = tx.add_slide(str(path or slide.facts.path), 1.0)
        row.accession, row.block, row.stain = identity.accession, identity.block, stain
        row.inspect_key = slide.inspect_key
        for name in ("fingerprint", "format", "width_px", "height_px", "mpp", "level_count"):
            setattr(row, name, getattr(slide.facts, name))
        tx.case_for(replace(identity, stain=stain), 1.0, HER2_PAIR)
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED, SlideState.INSPECTED):
            tx.advance(row, state, now=1.0)
    return row


def hinted_assays(context: StepContext, row: SlideRow) -> list[str]:
    progress = ProgressFile.of(context.settings, row.subject)
    call = prepare_read(context, Job(row=row, progress=progress))
    assert call is not None and call.function is read_slide
    names: list[str] = call.arguments[3]
    return names


def test_it_is_asked_of_the_he_slide_of_a_block_without_a_score(
    context: StepContext, bench: Bench
) -> None:
    he, ihc = (inspected_row(context, bench, stain) for stain in (HE, HER2))
    assert (hinted_assays(context, he), hinted_assays(context, ihc)) == (["her2"], [])
    off = context.settings.model_copy(update={"models": ModelSettings()})
    assert hinted_assays(replace(context, settings=off), he) == []
    with context.ledger.transaction() as tx:
        (case,) = tx.cases()
        case.findings_key = "findings/" + "0" * 32
    assert hinted_assays(context, he) == []
    # Nor of a case that had a result, which a person may have signed, and is analyzed again.
    with context.ledger.transaction() as tx:
        (case,) = tx.cases()
        case.findings_key, case.objects_key = "", "objects/" + "0" * 32
    assert hinted_assays(context, he) == []


def test_the_hint_goes_to_the_case_of_the_same_file_alone(
    context: StepContext, bench: Bench
) -> None:
    he, ihc = (inspected_row(context, bench, stain) for stain in (HE, HER2))
    outcome = bench.read(bench.he)
    with context.ledger.transaction() as tx:
        row = tx.slide(he.id or 0)
        assert row is not None
        finish_read(tx, context, row, Done(value=outcome, seconds=1.0), 2.0)
    with context.ledger.transaction() as tx:
        slides = {HE: tx.slide(he.id or 0), HER2: tx.slide(ihc.id or 0)}
        (case,) = tx.cases()
        assert case.state == CaseState.WAITING and case.score == ""
        assert slides[HE] is not None and hint_of(tx, slides[HE], "her2") == outcome.hints[0]
        assert hint_of(tx, slides[HE], "er") is None

    def given() -> str:
        progress = ProgressFile.of(context.settings, case.subject)
        call = prepare_analyze(context, Job(row=case, slides=slides, progress=progress))
        return next(a for a in call.arguments if isinstance(a, ReadSlide)).interim

    assert given() == outcome.hints[0].opinion_text
    slides[HE].fingerprint = "another file"
    assert given() == ""


def test_signed_cases_become_pairs_without_names(
    context: StepContext, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [inspected_row(context, bench, stain) for stain in (HE, HER2)]
    tries = (tmp_path / f"pairs-{n}" for n in count())
    out = tmp_path

    def write() -> tuple[int, int]:
        nonlocal out
        out = next(tries)
        return write_signed_pairs(context.settings, "her2", out, silent, encoder=None)

    with context.ledger.transaction() as tx:
        (case,) = tx.cases()
        case.score, case.state = "2+", CaseState.DELIVERED
    assert write() == (0, 0)  # nobody signed it
    with context.ledger.transaction() as tx:
        tx.note(case.subject, CONFIRMED, 3.0, by="Meyer^Anna")
    assert write() == (0, 0)  # it was scored anew since
    with context.ledger.transaction() as tx:
        scored = Event(at=4.0, subject=case.subject, kind="state", code="confirmed",
                       to_state=CaseState.SCORED)  # fmt: skip
        tx.append_event(scored)
    assert write() == (1, 0)
    (pair,) = read_pairs(out)
    assert (pair.case, pair.patient, pair.label) == ("C1", "P1", 2) and pair.ihc is not None
    assert load_bag(pair.he).slide == "1-he.safetensors"
    assert pair.partners is None  # no alignment is kept
    align_case(bench.he, bench.ihc, context.settings)
    assert write() == (1, 0)
    (pair,) = read_pairs(out)
    assert pair.partners is not None and pair.ihc is not None
    he, ihc = (load_bag(each) for each in (pair.he, pair.ihc))
    partners = load_partners(pair.partners, tiles_of(he, he.encoder), tiles_of(ihc, ihc.encoder))
    assert (partners >= 0).mean() > 0.5
    mapping = kept_mapping(bench.he, bench.ihc, context.settings)
    assert mapping is not None
    spec = verify_encoder(reference_encoder())
    known = np.flatnonzero(partners >= 0)
    away = mapping.forward(centers_um(he.places[known], spec))
    away -= centers_um(ihc.places[partners[known]], spec)
    assert np.abs(away).max() <= spec.tile_px * spec.mpp / 2
    for file in out.iterdir():
        assert b"S26-1" not in file.read_bytes() and b"Meyer" not in file.read_bytes()
    for spoiled in (overflow, lose_tiles):  # of no bag; one on which the line keeps silent
        for one in context.settings.artifacts_dir.glob("bag/*"):
            shutil.rmtree(one)
        with monkeypatch.context() as patched:
            spoiled(patched)
            assert write() == (0, 1)
    with context.ledger.transaction() as tx:
        gone = tx.slide(rows[1].id or 0)
        assert gone is not None
        gone.path = str(tmp_path / "gone.svs")
        gone.fingerprint = "another"
    assert write() == (0, 1)


def sign(context: StepContext) -> None:
    """Score all cases 2+, deliver them, and have a person confirm the score."""
    with context.ledger.transaction() as tx:
        for case in tx.cases():
            case.score, case.state = "2+", CaseState.DELIVERED
            tx.note(case.subject, CONFIRMED, 3.0, by="Meyer^Anna")
            scored = Event(at=4.0, subject=case.subject, kind="state", code="confirmed",
                           to_state=CaseState.SCORED)  # fmt: skip
            tx.append_event(scored)


def test_pairs_are_written_whole_or_not_at_all_and_never_over_others(
    context: StepContext, bench: Bench, tmp_path: Path
) -> None:
    for stain in (HE, HER2):
        inspected_row(context, bench, stain)
    sign(context)

    def stop(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_signed_pairs(context.settings, "her2", tmp_path / "new" / "a", stop, encoder=None)
    assert list((tmp_path / "new").iterdir()) == []
    out = tmp_path / "new" / "a"
    assert write_signed_pairs(context.settings, "her2", out, silent, encoder=None) == (1, 0)
    kept = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(DataSetError, match=r"a exists\..* choose a new folder"):
        write_signed_pairs(context.settings, "her2", out, silent, encoder=None)
    assert {path: path.read_bytes() for path in out.iterdir()} == kept and len(kept) == 3


def test_cases_of_one_person_are_one_patients_however_the_id_is_written(
    context: StepContext, bench: Bench, tmp_path: Path
) -> None:
    persons = {
        "S26-1": Patient(patient_id="ab12", issuer="HOSPITAL"),
        "S26-2": Patient(patient_id=" AB12 "),  # no issuer, another way to write it
        "S26-3": Patient(patient_id="77", other_ids=("ab12^^^OTHER",)),
        "S26-4": Patient(patient_id="0815"),
        "S26-5": Patient(patient_id="4711^^^HOSPITAL"),  # declared to be 0815
        "S26-6": Patient(patient_id="unknown"),
        "S26-7": Patient(patient_id="unknown"),
    }
    for accession, person in persons.items():
        for stain, slide in ((HE, bench.he), (HER2, bench.ihc)):
            path = tmp_path / f"{accession}-{stain}.svs"
            shutil.copy(slide.facts.path, path)
            row = inspected_row(context, bench, stain, replace(IDENTITY, accession=accession), path)
            with context.ledger.transaction() as tx:
                kept = tx.slide(row.id or 0)
                assert kept is not None
                kept.patient = person.as_json()
    sign(context)
    merged = Patients(merged=(("0815", "4711"),))
    settings = context.settings.model_copy(update={"patients": merged})
    out = tmp_path / "pairs"
    assert write_signed_pairs(settings, "her2", out, silent, encoder=None) == (7, 0)
    found = [pair.patient for pair in read_pairs(out)]
    assert found == ["P1", "P1", "P1", "P2", "P2", "P3", "P4"]
