"""Tissue of the generator: parameters take effect, pixels and truth agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SynthesisError
from models.synthesis.artefacts import CHANCES, bubble, defocus, dust, fold, pen
from models.synthesis.canvas import STRAIGHT, Canvas
from models.synthesis.cells import Kind
from models.synthesis.cohort import ORGANS, SCANNERS, CaseMix, draw_cohort
from models.synthesis.layers import he_layers, her2_layers, nuclear_layers, tumor_labels
from models.synthesis.plan import PATTERNS, TissuePlan
from models.synthesis.sheet import contact_sheet
from models.synthesis.slides import synthesize_case
from models.synthesis.world import World, build_world

SOLID = TissuePlan(
    tumor=1.0, outline=False, lumen=0, benign=0, lymph=0, fat=0, necrosis=0, vessels_per_mm2=0
)


def canvas_of(world: World, *, control: bool = True) -> Canvas:
    return Canvas(world, STRAIGHT, 200, 200, (512, 512), control=control)


def solid(grade: int, seed: int = 1) -> World:
    mix = tuple(float(k == grade) for k in range(4))
    return build_world(seed, 260, 260, replace(SOLID, mix=mix))


def test_membranes_get_stronger_and_more_complete_with_the_grade() -> None:
    dab, complete = [], []
    for grade in range(4):
        canvas = canvas_of(solid(grade))
        layers = her2_layers(canvas)
        border = canvas.territory.edge > 0.5
        dab.append(float(layers[..., 2][border].mean()))
        complete.append(float((canvas.stained_outline()[border] > 0.5).mean()))
    assert dab == sorted(dab)
    assert dab[1] > dab[0] + 0.05
    assert dab[3] > 2 * dab[2] > 4 * dab[1]
    assert complete == sorted(complete)
    assert complete[1] < 0.7 < complete[2]


def test_completeness_is_a_knob_of_its_own() -> None:
    world = solid(2)
    for wanted in (0.2, 0.5, 0.9):
        cells = replace(
            world.cells, completeness=np.full(len(world.cells), wanted, dtype=np.float32)
        )
        canvas = canvas_of(replace(world, cells=cells))
        border = canvas.territory.edge > 0.5
        found = float((canvas.stained_outline()[border] > 0.5).mean())
        assert found == pytest.approx(wanted, abs=0.12)


def test_both_stains_tell_the_same_truth() -> None:
    world = build_world(5, 260, 260, replace(SOLID, tumor=0.5, mix=(0.3, 0.3, 0.2, 0.2)))
    he, _ = tumor_labels(canvas_of(world, control=False))
    ihc, _ = tumor_labels(canvas_of(world))
    np.testing.assert_array_equal(he, ihc)
    assert {0, 1, 2} <= set(np.unique(he).tolist())


def test_brown_is_where_the_stained_tumor_is() -> None:
    world = build_world(6, 260, 260, replace(SOLID, tumor=0.5, mix=(0.0, 0.0, 0.0, 1.0)))
    clean = replace(world.look, stroma_dab=0.0, haze=0.0, edge_dab=0.0)
    canvas = canvas_of(replace(world, look=clean))
    dab = her2_layers(canvas)[..., 2]
    classes, _ = tumor_labels(canvas)
    assert dab[classes == 4].mean() > 10 * dab[classes == 0].mean()
    # H&E has no brown at all.
    assert he_layers(canvas_of(world, control=False))[..., 2].max() == 0


def test_receptors_stain_nuclei_of_the_planned_share() -> None:
    world = build_world(7, 260, 260, replace(SOLID, nuclear_positive=0.4))
    tumor = world.cells.kind == Kind.TUMOR
    assert float((world.cells.marker[tumor] > 0).mean()) == pytest.approx(0.4, abs=0.06)
    canvas = canvas_of(world)
    dab = nuclear_layers(canvas)[..., 2]
    marked = canvas.marked_nuclei() > 0.2
    assert dab[marked].mean() > 5 * dab[~marked].mean()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_pattern_grows_tumor(pattern: str) -> None:
    plan = replace(SOLID, tumor=0.5, pattern=pattern, zone_um=80)  # type: ignore[arg-type]
    classes, _ = tumor_labels(canvas_of(build_world(8, 260, 260, plan)))
    assert 0.03 < (classes > 0).mean() < 0.95


@pytest.mark.parametrize("tissue", ["fat", "mucin", "necrosis", "lymph", "benign", "skin"])
def test_other_tissue_is_no_tumor_and_looks_like_itself(tissue: str) -> None:
    plain = replace(SOLID, tumor=0.0)
    world = build_world(9, 260, 260, replace(plain, **{tissue: 0.9}))
    classes, _ = tumor_labels(canvas_of(world))
    assert not classes.any()
    stroma = he_layers(canvas_of(build_world(9, 260, 260, plain), control=False))
    other = he_layers(canvas_of(world, control=False))
    assert np.abs(stroma - other).mean() > 0.03


@pytest.mark.parametrize("artefact", [fold, bubble, pen, dust, defocus])
def test_artefacts_change_pixels_and_nothing_else(artefact: object) -> None:
    assert callable(artefact)
    image = np.zeros((512, 512, 3), dtype=np.uint8) + np.uint8(180)
    cv2.circle(image, (200, 200), 90, (120, 60, 140), -1)
    found: NDArray[np.uint8] = artefact(image.copy(), (240, 240, 240), np.random.default_rng(3))
    assert found.dtype == np.uint8
    assert found.shape == image.shape
    assert (found != image).any()
    assert set(CHANCES) == {"fold", "bubble", "pen", "dust", "defocus"}


def test_cohort_is_balanced_and_repeatable() -> None:
    mix = CaseMix(organs={"breast": 3, "gastric": 1})
    cohort = draw_cohort(4, 40, mix)
    assert cohort == draw_cohort(4, 40, mix)
    assert cohort != draw_cohort(5, 40, mix)
    assert Counter(c.score for c in cohort) == {"0": 10, "1+": 10, "2+": 10, "3+": 10}
    assert Counter(c.organ for c in cohort) == {"breast": 30, "gastric": 10}
    assert set(Counter(c.scanner for c in cohort)) == set(SCANNERS)
    assert len({c.seed for c in cohort}) == 40
    with pytest.raises(SynthesisError, match="liver"):
        draw_cohort(1, 4, CaseMix(organs={"liver": 1}))


def test_unknown_organ_and_scanner_are_refused(tmp_path: Path) -> None:
    for wish in ({"organ": "liver"}, {"scanner": "fax"}):
        with pytest.raises(SynthesisError, match="use one of"):
            synthesize_case(tmp_path, seed=1, score="0", **wish)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    assert set(ORGANS) == {"breast", "gastric", "colorectal", "endometrial"}


def test_contact_sheet_has_both_stains() -> None:
    sheet = contact_sheet(1, 2, 1)
    assert sheet.shape == (512, 512, 3)
    assert np.abs(sheet[:256].astype(int) - sheet[256:]).mean() > 2
