"""Slides unlike the training tiles: sent to a person, with the property that differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.evidence import sure
from fixtures.weights import tiles_of, tiny_weights

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.her2.guideline import load_guideline
from appliance.assays.her2.review import review_reasons
from appliance.domain import HE, HER2
from appliance.line.analyze_slide import inspect_slide, open_facts, read_alone
from appliance.line.outcomes import ReadSlide
from appliance.settings.networks import ModelSettings
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings
from appliance.slides.appearance import Appearance, load_appearance
from models.appearance import with_statistics
from models.datasets.generated_tiles import FIRST_HELD_OUT_SEED
from models.spec import MANIFEST_NAME
from models.synthesis.pyramid import write_pyramid


def reasons(he: Appearance, ihc: Appearance) -> list[tuple[str, str]]:
    """Codes and sentences of the reasons for review."""
    evidence = replace(sure(), appearance={HE: he, HER2: ihc})
    found = review_reasons(Review(), load_guideline("breast-asco-cap-2018"), evidence)
    return [(reason.code, reason.sentence) for reason in found]


def test_many_unusual_tiles_are_a_reason_for_review() -> None:
    usual = Appearance(tiles=100, stain=10, focus=15)
    assert reasons(usual, usual) == []
    assert reasons(Appearance(), Appearance()) == []
    ((code, sentence),) = reasons(usual, replace(usual, focus=50))
    assert code == "out-of-focus"
    assert sentence.startswith("60 % of the tiles of the HER2 slide")
    assert "focus" in sentence
    ((code, sentence),) = reasons(replace(usual, stain=90, focus=1), usual)
    assert code == "out-of-distribution"
    assert sentence.startswith("91 % of the tiles of the H&E slide")
    assert "stain" in sentence


@pytest.mark.parametrize("statistics", [True, False])
def test_a_blurred_slide_is_found_where_the_weights_can_tell(
    statistics: bool, tmp_path: Path, held_out_tiles: Path
) -> None:
    spec = tiny_weights(tmp_path / "own")
    if statistics:
        known = tiles_of(held_out_tiles, FIRST_HELD_OUT_SEED + 5_000_000, 64)
        spec = with_statistics(spec, known.he)
        (tmp_path / "own" / MANIFEST_NAME).write_text(spec.to_json())
    settings = Settings(
        state_dir=tmp_path / "state", models=ModelSettings(tumor=tmp_path / "own", device="cpu")
    )
    sharp = np.full((2048, 2048, 3), 255, dtype=np.uint8)
    tiles = tiles_of(held_out_tiles, FIRST_HELD_OUT_SEED + 6_000_000, 24).he
    for k in range(4):
        y, x = 512 * (1 + k // 2), 512 * (1 + k % 2)
        sharp[y : y + 512, x : x + 512] = tiles[k]
    seen = []
    for name, pixels in (("sharp", sharp), ("blurred", cv2.GaussianBlur(sharp, (0, 0), 8))):
        path = tmp_path / f"{name}.svs"
        write_pyramid(path, [pixels], width_px=2048, height_px=2048, mpp=0.2793, file_format="svs")
        facts = open_facts(path)
        slide = ReadSlide(facts=facts, inspect_key=inspect_slide(facts, settings).key)
        key = ArtifactKey.parse(read_alone(slide, HE, ["her2"], settings).key)
        seen.append(load_appearance(ArtifactStore(settings.artifacts_dir).path(key)))
    if not statistics:
        assert seen == [Appearance(), Appearance()]
        return
    assert seen[0].unusual_percent <= 25
    assert seen[1].unusual_percent > 50
    assert seen[1].differs_in == "focus"
