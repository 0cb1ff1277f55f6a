"""`tandem bench` measures the given slide and reports every figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.geometry import TILE_MPP
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from benchmarks.bench import bench
from models.errors import DataSetError
from models.synthesis.pyramid import write_pyramid
from models.synthesis.slides import SyntheticCase

RATES = ("decode", "openslide", "model", "end_to_end")


@pytest.mark.parametrize("reading", ["tumor", "stain"])
def test_rates_and_limits(reading: str, small_case: SyntheticCase) -> None:
    slide = small_case.he_path if reading == "tumor" else small_case.ihc_path
    command = ["bench", "--slide", str(slide), "--read", reading, "--tiles", "8", "--repeats", "1"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["tiles"] == 8
    assert found["levels"][0] == "direct"
    assert all(found[f"{name}_tiles_per_s"] > 0 for name in RATES)
    limit = min(found["decode_tiles_per_s"], found["model_tiles_per_s"])
    assert found["efficiency"] == pytest.approx(found["end_to_end_tiles_per_s"] / limit, rel=0.05)
    assert found["peak_rss_mib"] >= found["rss_before_mib"] > 100


def test_networks_of_another_shape(small_case: SyntheticCase) -> None:
    command = ["bench", "--slide", str(small_case.he_path), "--tiles", "4", "--repeats", "1"]
    done = CliRunner().invoke(app, [*command, "--untrained", "paper", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["networks"] == ["paper-tumor"]
    assert found["model_tiles_per_s"] > 0
    done = CliRunner().invoke(app, [*command, "--untrained", "nothing-such"])
    assert isinstance(done.exception, DataSetError)
    assert "nothing-such" in str(done.exception)


def test_a_slide_without_tissue_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.svs"
    glass = np.full((1024, 1024, 3), 244, dtype=np.uint8)
    write_pyramid(path, [glass], width_px=1024, height_px=1024, mpp=TILE_MPP, file_format="svs")
    with SlideReader.open(path) as slide:
        assert slide.grid.shape == (2, 2)
    with pytest.raises(SlideError) as caught:
        bench(path, "tumor", Settings(), most_tiles=4, repeats=1, progress=lambda *_: None)
    assert caught.value.reason is QuarantineReason.NO_TISSUE
