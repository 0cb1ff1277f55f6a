"""Control tissue of ER and PR: it is judged by its nuclei, which fill a part of each tile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.receptors import nuclear_outputs, register_receptors

from appliance.assays.assay import Assay
from appliance.findings.classes import count_classes
from appliance.findings.findings import Findings
from appliance.geometry import TILE_PX
from appliance.readers.nuclei import count_nuclei, grades
from appliance.readers.stained_nuclei import measure_nuclei, paint_classes
from appliance.settings.settings import Settings
from models.synthesis.canvas import STRAIGHT
from models.synthesis.plan import TissuePlan
from models.synthesis.receptors import with_receptor
from models.synthesis.render import StainName, render_region
from models.synthesis.stain import random_ihc_style
from models.synthesis.world import World, build_world

CPU = Settings()
LIMITS = (CPU.nuclear.weak_od, CPU.nuclear.moderate_od, CPU.nuclear.strong_od)
UNSTAINED: dict[str, Any] = {"outside": (300, 0, 0, 0), "brown": (0, 0)}
"""No nucleus outside the tumor, and no brown beside one, shows that the run worked."""


@pytest.fixture
def er(monkeypatch: pytest.MonkeyPatch) -> Assay:
    return register_receptors(monkeypatch)[0]


def solid(seed: int, mix: tuple[float, float, float, float]) -> World:
    plan = TissuePlan(
        tumor=1.0, benign=0.0, lymph=0.05, fat=0.0, necrosis=0.0, outline=False, mix=mix
    )
    return build_world(seed, 600.0, 600.0, plan)


def control_of(world: World, stain: StainName) -> dict[str, Any]:
    """Draw four tiles of control tissue and measure them as the reader does."""
    style = replace(random_ihc_style(np.random.default_rng(3), spread=0.0), white=(255, 255, 255))
    px, nuclei, brown = [], [], np.zeros(2, dtype=int)
    for x, y in ((100, 100), (612, 100), (100, 900), (612, 900)):
        box = {"x_px": x, "y_px": y, "width_px": TILE_PX, "height_px": TILE_PX}
        found = measure_nuclei(render_region(world, STRAIGHT, stain, style, **box).pixels)
        labels = paint_classes(found, grades(found.stain_od, LIMITS))
        px.append(count_classes(labels).tolist())
        nuclei.append(count_nuclei(found, LIMITS).tolist())
        brown += (found.brown_px, found.wide_px)
    return {"control": px, "control_nuclei": nuclei, "control_brown": tuple(brown.tolist())}


def negative_beside(er: Assay, folder: Path, **control: Any) -> tuple[Findings, list[str]]:
    """Findings and reasons of a tumor without a stained nucleus."""
    outputs = nuclear_outputs(folder, (990, 0, 0, 0), **UNSTAINED | control)
    found = er.decide(outputs, CPU)
    return found, [reason.code for reason in er.review(outputs, found, CPU)]


def test_control_tissue_with_some_stained_nuclei_worked(er: Assay, tmp_path: Path) -> None:
    """A sixth of the nuclei is stained, which is less than a tenth of the tiles' px."""
    control = control_of(with_receptor(solid(2, (1, 0, 0, 0)), "ER", 0.15, works=True), "ER")
    px, nuclei = (np.sum(control[key], axis=0) for key in ("control", "control_nuclei"))
    assert px[2:].sum() < 0.1 * px.sum() and 0.1 < nuclei[1:].sum() / nuclei.sum() < 0.2
    found, reasons = negative_beside(er, tmp_path, **control)
    assert (found.score, reasons) == ("negative", ["internal-control-missing"])
    assert found.control is not None and found.control.works
    assert found.control.strongest == "moderate"
    assert found.control.percent["negative"] == pytest.approx(100 * nuclei[0] / nuclei.sum())
    assert "control tissue: stained moderate at most" in found.comment


def test_strong_membranes_on_control_tissue_prove_no_stain_of_nuclei(
    er: Assay, tmp_path: Path
) -> None:
    """A HER2 slide of 0 with its control of 3+ in the ER slot."""
    control = control_of(solid(7, (0, 0, 0, 1)), "HER2")
    nuclei = np.sum(control["control_nuclei"], axis=0)
    assert nuclei[1:].sum() > 0.1 * nuclei.sum()  # membranes on top of each other
    found, reasons = negative_beside(er, tmp_path, **control)
    assert (found.score, reasons) == (None, ["control-failed", "stain-not-proven"])
    assert found.control is not None and found.control.strongest == "negative"


@pytest.mark.parametrize(
    ("nuclei", "score", "reasons"),
    [
        # Pigment: a tenth of a tile's few nuclei.
        ([[9, 0, 0, 1], [9, 0, 0, 0]], None, ["control-failed", "stain-not-proven"]),
        # Five of 2,000: the run reached nuclei, and less of them than it should.
        ([[1000, 0, 0, 5], [995, 0, 0, 0]], "negative", ["control-failed"]),
        # No nucleus at all: stroma, dirt, or a run that failed.
        ([[0, 0, 0, 0], [0, 0, 0, 0]], None, ["control-failed", "stain-not-proven"]),
    ],
)
def test_few_stained_nuclei_on_control_tissue(
    er: Assay, tmp_path: Path, nuclei: list[list[int]], score: str | None, reasons: list[str]
) -> None:
    px = [[65_536 - 100 * sum(tile), *(100 * n for n in tile)] for tile in nuclei]
    found, told = negative_beside(er, tmp_path, control=px, control_nuclei=nuclei)
    assert found.control is not None and found.control.tiles == 2
    assert (found.score, [code for code in told if code != "internal-control-missing"]) == (
        score,
        reasons,
    )
