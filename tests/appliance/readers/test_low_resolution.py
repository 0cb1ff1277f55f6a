"""The second reader of the whole HER2 slide: what it says, where it is silent, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.evidence import sure
from fixtures.findings import some_findings
from fixtures.painted_slides import paint_slides

from appliance.assays.her2.coding import report
from appliance.assays.her2.guideline import load_guideline
from appliance.assays.her2.page import measure_rows
from appliance.assays.her2.review import _votes, review_reasons
from appliance.assays.her2.second_reader import distance, second_opinions
from appliance.assays.registry import find_assay
from appliance.delivery.pictures.case import PicturedCase
from appliance.delivery.pictures.second_reader import second_view
from appliance.delivery.pictures.whole import slide_picture
from appliance.domain import SlideFacts
from appliance.errors import SettingsError, WeightsError, WeightsUnusableError
from appliance.findings.opinion import Opinion
from appliance.line.readings import load_reading, read_overviews, reader_facts
from appliance.operations.start_checks import _weights_problems
from appliance.readers.low_resolution import (
    LowResolutionReader,
    heat_on,
    low_resolution_weights,
    reference_to_slide,
)
from appliance.readers.reader import find_reader
from appliance.settings.networks import ModelSettings
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings
from appliance.slides.tissue import Tissue
from dicom import codes
from models.slide_level.foreground import foreground
from models.slide_level.low_resolution import LowResolution, Recipe
from models.slide_level.manifest import SlideSpec
from models.slide_level.system import system
from models.slide_level.tasks import SlideTask

GUIDELINE = load_guideline("breast-asco-cap-2018")
FACTS = SlideFacts(
    path="/s.svs",
    fingerprint="f" * 64,
    format="aperio",
    width_px=40_000,
    height_px=32_000,
    mpp=0.25,
    level_count=4,
    is_dicom=False,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that know painted slides."""
    folder = tmp_path_factory.mktemp("second")
    slides = paint_slides(folder / "cohort", 40)
    config = {"kind": "convnext", "depths": (1, 1), "widths": (8, 16), "layer_scale": 0.1}
    small = LowResolution(
        "reference-224", Recipe(network="reference", px=32, epochs=25, rate=1e-2), config
    )
    fitted = small.fit(slides[:32], slides[32:], SlideTask.FOUR_WAY, seed=1, say=lambda _: None)
    fitted.save(folder / "weights")
    return folder / "weights"


def settings(folder: Path) -> Settings:
    return Settings(models=ModelSettings(low_resolution=folder))


def spec_of(folder: Path) -> SlideSpec:
    known = low_resolution_weights(settings(folder))
    assert known is not None
    return known[1]


def opinion_on(overview: Path, folder: Path, out: Path, area_mm2: float = 60.0) -> Any:
    """Opinion of the reader on a slide, as the line asks, stores and loads it."""
    picture = cv2.cvtColor(cv2.imread(str(overview)), cv2.COLOR_BGR2RGB)
    tissue = Tissue(
        mask=np.ones(picture.shape[:2], bool),
        mpp=100.0,
        white_rgb=(240, 240, 240),
        area_mm2=area_mm2,
    )
    reader = find_reader(LowResolutionReader.name)
    out.mkdir(parents=True, exist_ok=True)
    read_overviews([reader], FACTS, picture, tissue, settings(folder), out)
    return load_reading(reader, [out]).opinion


def test_it_says_the_class_of_the_whole_slide(weights: Path, tmp_path: Path) -> None:
    slides = sorted((weights.parent / "cohort").glob("*.png"))
    found = [opinion_on(slides[k], weights, tmp_path / str(k)) for k in (0, 3)]
    best = [o.classes[int(np.argmax(o.probabilities))] for o in found]
    assert best == ["0", "3+"]
    for opinion in found:
        assert opinion.about == "score" and sum(opinion.probabilities) == pytest.approx(1)
        assert opinion.certainty == max(opinion.probabilities)
        assert opinion.weights.task == "low_resolution" and len(opinion.weights.sha256) == 64


@pytest.mark.parametrize("border", [255, 0])
def test_unscanned_areas_change_no_answer(weights: Path, tmp_path: Path, border: int) -> None:
    """White fill and black borders of files without transparency became the section."""
    for number in (0, 3):
        slide = weights.parent / "cohort" / f"S{number:03d}.png"
        painted = cv2.imread(str(slide))
        scanned = cv2.GaussianBlur(cv2.resize(painted, (960, 768)), (0, 0), 3)
        whole = cv2.copyMakeBorder(
            scanned, 90, 200, 150, 110, cv2.BORDER_CONSTANT, value=(border,) * 3
        )
        said = []
        for name, picture in (("scanned", scanned), ("whole", whole)):
            cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
            out = tmp_path / f"{number}{name}"
            said.append(opinion_on(tmp_path / f"{name}.png", weights, out).probabilities)
        assert said[1] == pytest.approx(said[0], abs=0.05)
        mask = foreground(cv2.cvtColor(whole, cv2.COLOR_BGR2RGB))
        expected = foreground(cv2.cvtColor(scanned, cv2.COLOR_BGR2RGB))
        assert mask.sum() == pytest.approx(expected.sum(), rel=0.03)


def test_it_says_nothing_of_a_small_piece(weights: Path, tmp_path: Path) -> None:
    slide = weights.parent / "cohort" / "S003.png"
    opinion = opinion_on(slide, weights, tmp_path / "out", area_mm2=1.9)
    assert set(opinion.probabilities) == {0.0} and opinion.certainty is None
    findings = some_findings()
    findings = replace(findings, opinions=(*findings.opinions, opinion))
    assert second_opinions(findings) == ()


def test_without_weights_it_says_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "appliance.readers.low_resolution.reference_slide_folder",
        lambda name: tmp_path / "none" / name,
    )
    reader = find_reader(LowResolutionReader.name)
    picture = np.full((40, 50, 3), 200, dtype=np.uint8)
    tissue = Tissue(
        mask=np.ones((40, 50), bool), mpp=200.0, white_rgb=(240, 240, 240), area_mm2=60.0
    )
    read_overviews([reader], FACTS, picture, tissue, Settings(), tmp_path)
    opinion = load_reading(reader, [tmp_path]).opinion
    assert set(opinion.probabilities) == {0.0} and opinion.weights is None
    assert reader_facts(reader, Settings(), {})["weights"] == ""
    assert heat_on(picture, 0, Settings()) is None


def test_readings_depend_on_its_weights(weights: Path, tmp_path: Path) -> None:
    reader = find_reader(LowResolutionReader.name)
    facts = reader_facts(reader, settings(weights), {})
    assert facts["weights"] == spec_of(weights).fingerprint
    (tmp_path / "model.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    manifest = json.loads((weights / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"temperature": 3.0}))
    assert reader_facts(reader, settings(tmp_path), {})["weights"] != facts["weights"]
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsUnusableError, match=r"checksum .* tried again by itself"):
        reader_facts(reader, settings(tmp_path), {})
    problems = list(_weights_problems(settings(tmp_path)))
    assert len(problems) == 1 and problems[0].startswith("weights for low_resolution: ")


def test_weights_of_other_systems_and_tasks_are_refused(weights: Path, tmp_path: Path) -> None:
    slides = paint_slides(tmp_path / "cohort", 40)
    plain = system("mean-dab").fit(
        slides[:30], slides[30:], SlideTask.FOUR_WAY, seed=0, say=lambda _: None
    )
    plain.save(tmp_path / "plain")
    with pytest.raises(WeightsError, match="of mean-dab, which is no low-resolution system"):
        low_resolution_weights(settings(tmp_path / "plain"))
    manifest = json.loads((weights / "manifest.json").read_text())
    other = manifest | {"task": "er", "classes": ["negative", "positive"]}
    (tmp_path / "manifest.json").write_text(json.dumps(other))
    (tmp_path / "model.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="answers er; a HER2 slide needs one of binary, 3way"):
        low_resolution_weights(settings(tmp_path))


@pytest.mark.parametrize(
    ("score", "word", "far"),
    [
        ("0", "0", 0), ("0", "1+", 1), ("0", "2+", 2), ("3+", "0", 3),
        ("0", "low", 1), ("1+", "low", 0), ("2+", "low", 0), ("3+", "low", 2),
        ("0", "high", 2), ("1+", "high", 2), ("2+", "high", 0), ("3+", "high", 0),
        ("2+", "0", 2), ("3+", "negative", 2), ("0", "positive", 2), ("2+", "positive", 0),
        ("1+", "unknown", 0),
    ],
)  # fmt: skip
def test_distance_between_a_score_and_a_class(score: str, word: str, far: int) -> None:
    assert distance(score, word) == far


def test_a_planted_disagreement_sends_a_case_to_review(weights: Path, tmp_path: Path) -> None:
    """The case is 3+ by its own readers; the second reader sees a slide of 0."""
    slides = sorted((weights.parent / "cohort").glob("*.png"))
    zero, strong = (opinion_on(slides[k], weights, tmp_path / str(k)) for k in (0, 3))
    said = review_reasons(Review(), GUIDELINE, replace(sure(), second=(zero,)))
    assert [reason.code for reason in said] == ["second-reader-disagrees"]
    assert "score 3+" in said[0].sentence and "low resolution says 0 (" in said[0].sentence
    assert review_reasons(Review(), GUIDELINE, replace(sure(), second=(strong,))) == ()
    never = Review(second_reader_distance=4)
    assert review_reasons(never, GUIDELINE, replace(sure(), second=(zero,))) == ()


def test_its_heat_lies_on_the_tissue_and_in_the_picture_of_the_slide(weights: Path) -> None:
    known = some_findings()
    overview = cv2.cvtColor(
        cv2.imread(str(weights.parent / "cohort" / "S003.png")), cv2.COLOR_BGR2RGB
    )
    heat = heat_on(overview, 3, settings(weights))
    assert heat is not None and heat.shape == overview.shape[:2]
    assert heat.max() > 0 and not heat[~foreground(overview)].any()
    spec = spec_of(weights)
    opinion = Opinion(
        reader="low_resolution",
        version=1,
        about="score",
        weights=reference_to_slide(spec, "low_resolution"),
        classes=spec.classes,
        probabilities=(0.0, 0.1, 0.1, 0.8),
    )
    case = PicturedCase(
        name="case-1",
        findings=replace(known, opinions=(*known.opinions, opinion)),
        assay=find_assay("her2"),
    )
    view = second_view(case, overview, settings(weights))
    assert view is not None and view.word == "3+" and view.heat.max() == 1
    without = slide_picture(case, "ihc", overview)
    assert slide_picture(case, "ihc", overview, view).size > without.size
    other = replace(opinion, weights=replace(opinion.weights, fingerprint="0" * 64))
    case = replace(case, findings=replace(known, opinions=(other,)))
    with pytest.raises(SettingsError, match="read by other weights of the second reader"):
        second_view(case, overview, settings(weights))
    case = replace(case, findings=known)
    assert second_view(case, overview, settings(weights)) is None


def test_it_stands_in_page_and_report_and_has_no_vote(weights: Path, tmp_path: Path) -> None:
    opinion = opinion_on(weights.parent / "cohort" / "S000.png", weights, tmp_path / "out")
    findings = some_findings()
    before = _votes(findings, GUIDELINE)
    findings = replace(findings, opinions=(*findings.opinions, opinion))
    assert _votes(findings, GUIDELINE) == before
    words = f"0 ({100 * opinion.probabilities[0]:.0f} %)"
    assert ("Second reader, whole slide (no part of the score)", words) in measure_rows(findings)
    texts = [text for code, text in report(findings).texts if code == codes.SECOND_READER]
    assert texts == [f"low resolution: {words}"]
    assert [model.task for model in findings.models][-1] == "low_resolution"
