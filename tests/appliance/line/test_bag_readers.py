"""The reader of multiple instances in the line: its opinion and attention, and its silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
from fixtures.damage import overflow
from fixtures.judges import dicom_errors
from fixtures.mil_weights import bagged_slides, trained_weights
from fixtures.painted_slides import paint_slides
from fixtures.pairings import HER2_PAIR
from pydicom import dcmread

from appliance.artifacts import ArtifactKey
from appliance.delivery.index import read_index
from appliance.delivery.objects import PAGE_NAME, write_objects
from appliance.domain import HE, HER2, Identity, QuarantineReason
from appliance.errors import SlideError, WeightsUnusableError
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings
from appliance.geometry import TileGrid, TileIndex
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.progress import ProgressFile
from appliance.ledger.second_opinions import second_opinions_of
from appliance.ledger.tables import SlideRow, params_of
from appliance.line.analyze_case import analyze_case
from appliance.line.analyze_slide import inspect_slide, open_facts
from appliance.line.bag_readers import BAG_SECONDS_PER_TILE, bags_seconds, read_bags
from appliance.line.context import Done, Job, StepContext
from appliance.line.interim import read_slide
from appliance.line.outcomes import Outcome, ReadSlide, SlideRead, artifact_folder
from appliance.line.slide_bags import bag_of_slide
from appliance.line.slide_opinions import opinions_on
from appliance.line.slide_steps import finish_read, prepare_read
from appliance.operations.start_checks import _weights_problems
from appliance.readers.multiple_instance import (
    LEAST_TILES,
    MultipleInstanceReader,
    MultipleInstanceReading,
)
from appliance.readers.tile_pass import silent
from appliance.settings.networks import ModelSettings
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from appliance.words.say import say
from dicom import codes
from models.encoders.spec import reference_encoder
from models.slide_level.cohort import CohortSlide
from models.slide_level.system import system
from models.slide_level.tasks import SlideTask
from models.spec import MANIFEST_NAME, WEIGHTS_NAME
from models.synthesis.slides import synthesize_case

READER = MultipleInstanceReader.name
IDENTITY = Identity(accession="S26-1", block="A1", stain=HER2)


@dataclass(frozen=True)
class Bench:
    """Both slides of a 3+ case, inspected, and settings whose reader of tiles is on."""

    settings: Settings
    he: ReadSlide
    ihc: ReadSlide
    cohort: list[CohortSlide]

    def with_models(self, **models: object) -> Settings:
        """Return the settings with other ones of networks."""
        return self.settings.model_copy(
            update={"models": self.settings.models.model_copy(update=models)}
        )

    def read(self, settings: Settings | None = None) -> SlideRead:
        return read_slide(self.ihc, HER2, ["her2"], [], settings or self.settings, silent)

    def bag(self, settings: Settings | None = None) -> Outcome:
        (outcome,) = read_bags(self.ihc, HER2, ["her2"], settings or self.settings)
        return outcome

    def reading(self, outcome: Outcome) -> MultipleInstanceReading:
        folder = artifact_folder(outcome.key, self.settings) / READER
        return MultipleInstanceReader().load(folder)

    def analyzed(self, settings: Settings) -> tuple[str, Findings]:
        key = analyze_case("her2", IDENTITY, self.he, self.ihc, settings).key
        return key, load_findings(artifact_folder(key, settings))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A drawn case of 2,048 px (synthetic), and an aggregator trained on drawn bags."""
    folder = tmp_path_factory.mktemp("mil")
    case = synthesize_case(folder, seed=5, score="3+", width_px=2048, height_px=2048, workers=1)
    cohort = bagged_slides(folder)
    weights = trained_weights(folder / "weights", cohort)
    settings = Settings(state_dir=folder / "state", models=ModelSettings(mil=weights, device="cpu"))
    facts = [open_facts(path) for path in (case.he_path, case.ihc_path)]
    slides = [ReadSlide(facts=f, inspect_key=inspect_slide(f, settings).key) for f in facts]
    return Bench(settings, *slides, cohort)


def cooler(bench: Bench, folder: Path) -> Path:
    """Return a copy of the weights with another temperature."""
    known = bench.settings.models.mil
    assert known is not None
    raw = json.loads((known / MANIFEST_NAME).read_text())
    raw["temperature"] *= 2
    (folder / MANIFEST_NAME).write_text(json.dumps(raw))
    (folder / WEIGHTS_NAME).write_bytes((known / WEIGHTS_NAME).read_bytes())
    return folder


def test_an_ihc_slide_alone_gets_an_opinion_and_is_encoded_once(
    bench: Bench, tmp_path: Path
) -> None:
    first = bench.read()
    (opinion,) = first.opinions
    assert (opinion.reader, opinion.said, opinion.about) == (READER, "3+", "score")
    assert sum(opinion.probabilities) == pytest.approx(1)
    assert [time.step for time in first.times] == ["tumor", "bag", "opinion"]
    again = bench.read()
    assert again.opinions == first.opinions and all(time.reused for time in again.times)
    # Other weights on the same encoder: the bag is that of before.
    other = bench.read(bench.with_models(mil=cooler(bench, tmp_path)))
    assert [time.reused for time in other.times] == [True, True, False]
    assert other.opinions[0].said == "3+" and other.opinions != first.opinions
    assert bench.read(bench.with_models(mil=None)).opinions == ()
    # The anatomy slide has no such reader.
    assert read_bags(bench.he, HE, ["her2"], bench.settings) == ()


def test_its_attention_is_a_weight_of_each_tile_of_the_bag(bench: Bench) -> None:
    reading = bench.reading(bench.bag())
    bag = bag_of_slide(Path(bench.ihc.facts.path), bench.settings, silent)
    assert reading.attention is not None
    assert sorted(map(tuple, reading.attention.tiles.tolist())) == sorted(
        map(tuple, bag.places.tolist())
    )
    assert reading.attention.weights.sum() == pytest.approx(1, abs=1e-3)
    few = bag.only(np.arange(LEAST_TILES - 1))
    unsaid = MultipleInstanceReader().read(few, bench.settings)
    assert set(unsaid.opinion.probabilities) == {0.0} and unsaid.attention is None


def test_opinion_and_attention_reach_findings_report_page_and_map(bench: Bench) -> None:
    key, findings = bench.analyzed(bench.settings)
    reading = bench.reading(bench.bag())
    opinion = findings.opinions[-1]
    assert opinion == reading.opinion and findings.models[-1].task == READER
    assert "second-reader-disagrees" not in [reason.code for reason in findings.review]
    assert findings.score == "3+"
    weights = findings.rasters.attention[READER]
    assert weights.shape == TileGrid.of(*findings.ihc.size_um).shape
    assert reading.attention is not None
    columns, rows = reading.attention.tiles.T
    np.testing.assert_array_equal(weights[rows, columns], reading.attention.weights)
    assert np.isfinite(weights).sum() == len(rows)

    objects = write_objects(key, bench.settings)
    files = {
        entry.path: dcmread(bench.settings.artifacts_dir / entry.path)
        for entry in read_index(objects, bench.settings)
        if entry.kind in ("SR", "PM")
    }
    for path in files:
        assert dicom_errors(bench.settings.artifacts_dir / path) == []
    (report,) = (each for each in files.values() if each.Modality == "SR")
    words = f"multiple instance: {opinion.words}"
    said = [str(each.value) for each in report.iterall() if each.keyword == "TextValue"]
    assert words in said and f"Tandem {READER}: abmil-4way" in said
    assert opinion.weights is not None and opinion.weights.sha256 in " ".join(said)
    (shown,) = (
        each for each in files.values() if str(each.SeriesDescription).startswith("Attention")
    )
    mapping = shown.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert quantity.CodeValue == codes.ATTENTION.value
    stored = np.frombuffer(shown.PixelData, "<u2")
    highest = stored.max() * mapping.RealWorldValueSlope
    assert highest == pytest.approx(len(rows) * np.nanmax(weights), rel=1e-3)
    assert shown.SOPInstanceUID in [
        each.value for each in report.iterall() if each.keyword == "ReferencedSOPInstanceUID"
    ]
    numbers = [(each.SeriesInstanceUID, each.SeriesNumber) for each in files.values()]
    assert len({number for _, number in set(numbers)}) == len({uid for uid, _ in numbers})
    with pypdfium2.PdfDocument(artifact_folder(objects, bench.settings) / PAGE_NAME) as document:
        text = " ".join(page.get_textpage().get_text_range() for page in document)
    assert opinion.words in text and "Second reader, tiles of the whole slide" in text


def test_weights_of_another_site_send_the_case_to_review(bench: Bench) -> None:
    """The labels of the other site are turned round: its reader calls a 3+ slide 0."""
    folder = bench.settings.state_dir / "turned"
    turned = bench.with_models(mil=trained_weights(folder, bench.cohort, turned=True))
    findings = bench.analyzed(turned)[1]
    assert (findings.score, findings.opinions[-1].said) == ("3+", "0")
    (reason,) = (r for r in findings.review if r.code == "second-reader-disagrees")
    assert "the reader that weighs the tiles of the whole slide says 0 (" in reason.sentence
    review = turned.review.model_copy(update={"second_reader_distance": 4})
    never = bench.analyzed(turned.model_copy(update={"review": review}))[1]
    assert "second-reader-disagrees" not in [each.code for each in never.review]


def test_without_weights_a_case_has_no_opinion_and_no_map_of_it(bench: Bench) -> None:
    findings = bench.analyzed(bench.with_models(mil=None))[1]
    assert READER not in [opinion.reader for opinion in findings.opinions]
    assert findings.rasters.attention == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("damaged", "checksum"),
        ("system", "is of mean-dab, which is no system of multiple instances"),
        ("task", "answers er; a HER2 slide needs one of binary, 3way, 4way"),
        ("encoder", r"trained on bags of the encoder ffffffffffff…; .* models\.mil_encoder"),
        ("dimension", "bags of 7 numbers per tile; the encoder .* gives"),
        ("config", "do not fit the manifest"),
    ],
)
def test_weights_that_cannot_be_used_are_one_line_and_no_slides_fault(
    change: str, said: str, bench: Bench, tmp_path: Path
) -> None:
    known = bench.settings.models.mil
    assert known is not None
    raw = json.loads((known / MANIFEST_NAME).read_text())
    data = (known / WEIGHTS_NAME).read_bytes()
    if change == "system":
        slides = paint_slides(tmp_path / "painted", 40)
        plain = system("mean-dab").fit(
            slides[:30], slides[30:], SlideTask.FOUR_WAY, seed=0, say=lambda _: None
        )
        plain.save(tmp_path)
    else:
        match change:
            case "damaged":
                data = data[:-1]
            case "task":
                raw |= {"task": "er", "classes": ["negative", "positive"]}
            case "encoder":
                raw["input"]["encoder"] = "f" * 64
            case "dimension":
                raw["input"]["dimension"] = 7
            case "config":
                raw["config"]["width"] = 24
        (tmp_path / MANIFEST_NAME).write_text(json.dumps(raw))
        (tmp_path / WEIGHTS_NAME).write_bytes(data)
    settings = bench.with_models(mil=tmp_path)
    # A transient error of the site: the step waits, and the slide is not set aside.
    with pytest.raises(WeightsUnusableError, match=rf"{said}.*tried again by itself") as raised:
        bench.read(settings)
    assert "\n" not in str(raised.value)
    told = list(_weights_problems(settings))
    # What the manifest itself cannot tell is found when the network is loaded.
    expected = [] if change == "config" else [str(raised.value).split(" The step is")[0]]
    assert [line.removeprefix(f"weights for {READER}: ") for line in told] == expected


def test_an_encoder_that_cannot_be_read_is_no_slides_fault(bench: Bench, tmp_path: Path) -> None:
    encoder = Path(shutil.copytree(reference_encoder(), tmp_path / "encoder"))
    settings = bench.with_models(mil_encoder=encoder)
    assert list(_weights_problems(settings)) == []
    (encoder / WEIGHTS_NAME).unlink()
    (encoder / WEIGHTS_NAME).symlink_to("/proc/self/mem")  # EIO at its first byte
    with pytest.raises(WeightsUnusableError, match="cannot be read: Input/output error"):
        bench.read(settings)
    (told,) = _weights_problems(settings)
    assert told.startswith(f"weights for {READER}: ") and "Input/output error" in told
    (encoder / WEIGHTS_NAME).unlink()
    (encoder / WEIGHTS_NAME).write_bytes(b"changed")
    (told,) = _weights_problems(settings)
    assert "checksum" in told


def test_a_bag_that_takes_too_long_leaves_the_reader_silent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    alone = bench.settings.model_copy(update={"state_dir": tmp_path / "state"})
    slide = replace(bench.ihc, inspect_key=inspect_slide(bench.ihc.facts, alone).key)

    def asked() -> tuple[Outcome, MultipleInstanceReading]:
        (outcome,) = read_bags(slide, HER2, ["her2"], alone)
        folder = artifact_folder(outcome.key, alone) / READER
        return outcome, MultipleInstanceReader().load(folder)

    with monkeypatch.context() as patched:
        for name in ("BAG_SECONDS", "BAG_SECONDS_PER_TILE"):
            patched.setattr(f"appliance.line.bag_readers.{name}", 0.0)
        first, reading = asked()
        assert set(reading.opinion.probabilities) == {0.0} and reading.attention is None
        assert reading.opinion.weights is not None
        assert not list(alone.artifacts_dir.glob("bag/*"))
        assert "says nothing" in caplog.text and "S26" not in caplog.text
        # Nor is it tried again for the case.
        again, _ = asked()
        assert again.key == first.key and [time.reused for time in again.times] == [True]
        assert read_slide(slide, HER2, ["her2"], [], alone, silent).opinions == ()
    after, reading = asked()
    assert after.key != first.key and reading.opinion.said == "3+"


def test_a_slide_whose_bag_has_no_tile_leaves_the_reader_silent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its kept inspection is of before and found tissue."""
    alone = bench.settings.model_copy(update={"state_dir": tmp_path / "state"})
    slide = replace(bench.ihc, inspect_key=inspect_slide(bench.ihc.facts, alone).key)
    monkeypatch.setattr("appliance.readers.bags.tissue_tiles", lambda _: [])
    (outcome,) = read_bags(slide, HER2, ["her2"], alone)
    reading = MultipleInstanceReader().load(artifact_folder(outcome.key, alone) / READER)
    assert set(reading.opinion.probabilities) == {0.0} and reading.attention is None


def test_numbers_that_no_bag_holds_leave_the_reader_silent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The slide is not held, and another device is asked again."""
    alone = bench.settings.model_copy(update={"state_dir": tmp_path / "state"})
    slide = replace(bench.ihc, inspect_key=inspect_slide(bench.ihc.facts, alone).key)
    with monkeypatch.context() as patched:
        overflow(patched)
        (first,) = read_bags(slide, HER2, ["her2"], alone)
        reading = MultipleInstanceReader().load(artifact_folder(first.key, alone) / READER)
        assert set(reading.opinion.probabilities) == {0.0} and reading.attention is None
        assert "says nothing" in caplog.text and "S26" not in caplog.text
        assert read_slide(slide, HER2, ["her2"], [], alone, silent).opinions == ()
    auto = alone.model_copy(update={"models": alone.models.model_copy(update={"device": "auto"})})
    (after,) = read_bags(slide, HER2, ["her2"], auto)
    reading = MultipleInstanceReader().load(artifact_folder(after.key, auto) / READER)
    assert after.key != first.key and reading.opinion.said == "3+"


def test_a_bag_without_tiles_that_the_file_does_not_give_leaves_the_reader_silent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = bench.settings.model_copy(update={"state_dir": tmp_path / "state"})
    slide = replace(bench.ihc, inspect_key=inspect_slide(bench.ihc.facts, alone).key)
    read = SlideReader.read_tile

    def damaged(self: SlideReader, index: TileIndex, px: int) -> Any:
        if index == TileIndex(2, 2):
            raise SlideError(QuarantineReason.DAMAGED, "a tile")
        return read(self, index, px)

    monkeypatch.setattr(SlideReader, "read_tile", damaged)
    (outcome,) = read_bags(slide, HER2, ["her2"], alone)
    reading = MultipleInstanceReader().load(artifact_folder(outcome.key, alone) / READER)
    assert set(reading.opinion.probabilities) == {0.0}
    # A site that allows so many has the opinion.
    review = alone.review.model_copy(update={"max_unreadable_percent": 50.0})
    allowed = alone.model_copy(update={"review": review})
    (outcome,) = read_bags(slide, HER2, ["her2"], allowed)
    reading = MultipleInstanceReader().load(artifact_folder(outcome.key, allowed) / READER)
    assert reading.opinion.said == "3+"


def test_a_slide_whose_inspection_of_a_former_edition_is_lost_is_read(bench: Bench) -> None:
    former = str(ArtifactKey.of("inspect", slide=bench.ihc.facts.fingerprint, version=1))
    lost = replace(bench.ihc, inspect_key=former)
    found = read_slide(lost, HER2, ["her2"], [], bench.settings, silent)
    assert [opinion.said for opinion in found.opinions] == ["3+"]


def test_a_program_that_asks_gets_its_opinion_too(bench: Bench, tmp_path: Path) -> None:
    path = Path(bench.ihc.facts.path)
    answer = opinions_on(path, HER2, bench.settings, tmp_path)
    said = {opinion["reader"]: opinion for opinion in answer["opinions"]}[READER]
    known = bench.reading(bench.bag()).opinion
    # Vectors of another run differ by rounding, with the number of torch's threads.
    assert said["probabilities"] == pytest.approx(known.probabilities, abs=1e-3)
    assert said["weights"]["sha256"] == known.weights.sha256
    (tmp_path / "late").mkdir()
    late = opinions_on(path, HER2, bench.settings, tmp_path / "late", most_s=0.0)
    assert set(late["opinions"][-1]["probabilities"]) == {0.0}


# the ledger's side


@pytest.fixture
def context(bench: Bench, tmp_path: Path) -> Iterator[StepContext]:
    settings = bench.settings.model_copy(update={"state_dir": tmp_path / "state"})
    ledger = Ledger(settings.ledger_url)
    yield StepContext(ledger=ledger, settings=settings, name="test", pairings=(HER2_PAIR,))
    ledger.close()


@pytest.fixture
def row(context: StepContext, bench: Bench) -> SlideRow:
    """An inspected IHC slide of a block without an H&E slide."""
    facts = bench.ihc.facts
    with context.ledger.transaction() as tx:
        made = tx.add_slide(facts.path, 1.0)
        made.accession, made.block, made.stain = "S26-1", "A1", HER2
        made.inspect_key = bench.ihc.inspect_key
        for name in ("fingerprint", "format", "width_px", "height_px", "mpp", "level_count"):
            setattr(made, name, getattr(facts, name))
        tx.case_for(IDENTITY, 1.0, HER2_PAIR)
        for state in (SlideState.ARRIVED, SlideState.IDENTIFIED, SlideState.INSPECTED):
            tx.advance(made, state, now=1.0)
    return made


def test_without_its_partner_a_slide_shows_the_opinion_and_nothing_is_sent(
    context: StepContext, row: SlideRow, bench: Bench
) -> None:
    call = prepare_read(
        context, Job(row=row, progress=ProgressFile.of(context.settings, row.subject))
    )
    assert call is not None and call.function is read_slide
    outcome = bench.read()
    with context.ledger.transaction() as tx:
        slide = tx.slide(row.id or 0)
        assert slide is not None
        finish_read(tx, context, slide, Done(value=outcome, seconds=1.0), 2.0)
    with context.ledger.transaction() as tx:
        slide = tx.slide(row.id or 0)
        assert slide is not None and slide.state == SlideState.READ
        (said,) = second_opinions_of(tx, slide)
        assert (said.reader, said.said) == (READER, "3+")
        (case,) = tx.cases()
        assert (case.state, case.score, case.objects_key) == (CaseState.WAITING, "", "")
        # Of another file under this name nothing was said.
        slide.fingerprint = "another file"
        assert second_opinions_of(tx, slide) == ()


def test_an_opinion_ends_with_the_stain_and_with_the_reader_that_had_it(
    context: StepContext, row: SlideRow, bench: Bench
) -> None:
    first = bench.read()

    def read(outcome: SlideRead | None) -> None:
        with context.ledger.transaction() as tx:
            slide = tx.slides()[0]
            if slide.state == SlideState.READ:
                tx.advance(slide, SlideState.ARRIVED, now=2.0)
                tx.advance(slide, SlideState.IDENTIFIED, now=2.0)
                tx.advance(slide, SlideState.INSPECTED, now=2.0)
            finish_read(tx, context, slide, Done(value=outcome, seconds=1.0), 2.0)

    def shown(**identified: str) -> list[tuple[str, str]]:
        with context.ledger.transaction() as tx:
            slide = tx.slides()[0]
            for name, value in identified.items():
                setattr(slide, name, value)
            return [(each.said, each.weights) for each in second_opinions_of(tx, slide)]

    read(first)
    assert first.opinions[0].weights is not None
    given = [("3+", first.opinions[0].weights.fingerprint)]
    assert shown() == given
    # A person corrects the stain: of an ER slide nothing was said.
    assert shown(stain="ER") == []
    assert shown(stain=HER2) == given
    # The site turned the reader off, and a step read the slide anew.
    read(replace(first, opinions=()))
    assert shown() == []
    with context.ledger.transaction() as tx:
        (last,) = [e for e in tx.events(row.subject) if e.code == "second-read"][1:]
        assert "no opinion any more" in say("event", last.code, params_of(last))
    read(first)
    assert shown() == given
    read(None)
    assert shown() == []


def test_an_opinion_noted_without_a_stain_ends_where_the_slide_is_identified_anew(
    context: StepContext, row: SlideRow
) -> None:
    """Notes of earlier editions name no stain."""
    facts = {"slide": row.fingerprint, "reader": READER, "said": "3+", "percent": 97.0}
    with context.ledger.transaction() as tx:
        slide = tx.slides()[0]
        tx.note(slide.subject, "second-read", 2.0, params=facts)
        assert [each.said for each in second_opinions_of(tx, slide)] == ["3+"]
        tx.advance(slide, SlideState.ARRIVED, now=3.0)
        slide.stain = "ER"
        tx.advance(slide, SlideState.IDENTIFIED, now=3.0)
        assert second_opinions_of(tx, slide) == ()


def test_the_deadline_grows_with_the_slide_and_only_where_a_bag_is_made(
    context: StepContext, row: SlideRow, bench: Bench
) -> None:
    small = bags_seconds([row], context.settings)
    row.width_px *= 40
    assert bags_seconds([row], context.settings) > small + 39 * BAG_SECONDS_PER_TILE
    assert bags_seconds([row], bench.with_models(mil=None)) == 0
    row.stain = HE
    assert bags_seconds([row], context.settings) == 0
