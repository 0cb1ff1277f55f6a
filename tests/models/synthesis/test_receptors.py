"""Cases of ER and PR: known shares of positive nuclei, on the very block of the HER2 case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import SynthesisError
from models.synthesis.canvas import Canvas
from models.synthesis.cells import Kind
from models.synthesis.cohort import ORGANS
from models.synthesis.plan import MIXES
from models.synthesis.receptors import (
    BENIGN_SHARE,
    count_nuclei,
    synthesize_receptor_case,
    with_receptor,
)
from models.synthesis.render import MARGIN_PX, render_region
from models.synthesis.slides import Scene, set_scene


def _scene(score: str = "0") -> Scene:
    plan = ORGANS["breast"]
    return set_scene(
        5,
        type(plan)(fat=plan.fat, benign=0.12, mix=MIXES[score]),
        size_px=(3072, 2304),
        mpp=0.2793,
        scanner="neutral",
        control="works",
    )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return _scene()


@pytest.mark.parametrize("positive", [0.0, 0.007, 0.1, 1.0])
def test_exactly_the_wished_share_of_tumor_nuclei_is_positive(
    scene: Scene, positive: float
) -> None:
    counted = count_nuclei(with_receptor(scene.ihc.world, "ER", positive, works=True))
    assert sum(counted[1:]) == round(positive * sum(counted))
    assert sum(counted) > 150


def test_benign_and_control_tissue_show_whether_the_run_worked(scene: Scene) -> None:
    works = with_receptor(scene.ihc.world, "ER", 0.2, works=True).cells
    failed = with_receptor(scene.ihc.world, "ER", 0.2, works=False).cells
    benign = works.kind == Kind.BENIGN
    assert (works.marker[benign] > 0).mean() == pytest.approx(BENIGN_SHARE, abs=0.01)
    assert (works.marker[works.control] > 0).any() and (works.marker[works.control] == 0).any()
    beside = (failed.kind != Kind.TUMOR) | failed.control
    assert not failed.marker[beside].any() and failed.marker.any()


def test_one_he_slide_serves_her2_and_both_receptors(scene: Scene) -> None:
    """Jobs determine a slide's bytes: equal jobs make equal slides."""
    her2 = _scene("3+")
    er, pr = (with_receptor(scene.ihc.world, name, 0.5, works=True) for name in ("ER", "PR"))
    where = {"x_px": 1500, "y_px": 1100, "width_px": 128, "height_px": 128}
    he = [render_region(s.he.world, s.he.view, "HE", s.he.style, **where) for s in (scene, her2)]
    assert np.array_equal(he[0].pixels, he[1].pixels)
    assert scene.transform == her2.transform
    for name in ("xy_um", "kind", "radius_um", "chromatin", "membrane", "completeness"):
        assert np.array_equal(getattr(er.cells, name), getattr(scene.ihc.world.cells, name))
    assert not np.array_equal(er.cells.marker, pr.cells.marker)


def test_the_truths_classes_are_those_of_the_drawn_nuclei(scene: Scene) -> None:
    world = with_receptor(scene.ihc.world, "ER", 0.5, works=True)
    where = {"x_px": 1200, "y_px": 900, "width_px": 640, "height_px": 640}
    region = render_region(world, scene.ihc.view, "ER", scene.ihc.style, **where)
    size = (640 + 2 * MARGIN_PX, 640 + 2 * MARGIN_PX)
    canvas = Canvas(world, scene.ihc.view, 1200 - MARGIN_PX, 900 - MARGIN_PX, size, control=True)
    nuclei = canvas.to_px(canvas.cells.xy_um) - MARGIN_PX
    inside = ((nuclei >= 0) & (nuclei < 640)).all(axis=1)
    tumor = inside & (canvas.cells.kind == Kind.TUMOR) & ~canvas.cells.control
    assert tumor.sum() > 20
    columns, rows = np.floor(nuclei[tumor]).astype(int).T
    told = region.classes[rows, columns]
    right = told == canvas.cells.grade[tumor] + 1
    assert right.mean() > 0.9  # a nucleus in a lumen has no territory
    # Strong nuclei are dark, negative ones are not.
    light = region.pixels.mean(axis=2)[rows, columns]
    assert light[told == 4].mean() < light[told == 1].mean() - 40


def test_impossible_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SynthesisError, match="101 % positive nuclei"):
        synthesize_receptor_case(tmp_path, seed=1, receptor="ER", positive_percent=101)
    with pytest.raises(SynthesisError, match="2,048"):
        synthesize_receptor_case(tmp_path, seed=1, receptor="ER", positive_percent=1, width_px=100)
