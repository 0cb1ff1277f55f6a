"""Images with masks as ``tandem evaluate tiles`` judges them: which of their tiles count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from fixtures.tiles import save
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from appliance.cli.main import app
from models.synthesis.tile_pairs import TilePair, synthesize_tile_pair

MPP = "0.2793"


def evaluated(folder: Path, task: str, *more: str) -> Result:
    command = ["evaluate", "tiles", "--task", task, str(folder), "--mpp", MPP, *more]
    return CliRunner().invoke(app, command)


def found(folder: Path, task: str) -> dict[str, Any]:
    done = evaluated(folder, task, "--json")
    assert done.exit_code == 0, done.output + str(done.exception)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def a_tumor() -> TilePair:
    """First generated tile of tumor."""
    pairs = (synthesize_tile_pair(seed) for seed in range(907_000_000, 907_000_100))
    return next(pair for pair in pairs if pair.tumor)


def with_glass(tile: NDArray[np.uint8], glass: Any) -> NDArray[np.uint8]:
    """The tile in the upper left corner of a field of four."""
    empty = np.full_like(tile, glass)
    rows = [np.concatenate(row, axis=1) for row in ((tile, empty), (empty, empty))]
    return np.concatenate(rows, axis=0)


def test_glass_is_not_judged_for_segmentation(tmp_path: Path) -> None:
    pair = a_tumor()
    truth = pair.class_map.astype(np.uint8)
    save(tmp_path / "tile" / "a.png", pair.ihc), save(tmp_path / "tile" / "a_mask.png", truth)
    save(tmp_path / "field" / "a.png", with_glass(pair.ihc, pair.white))
    save(tmp_path / "field" / "a_mask.png", with_glass(truth, 0))
    tile, field = (found(tmp_path / name, "segmentation") for name in ("tile", "field"))
    assert (tile["predictions"][0]["tiles"], field["predictions"][0]["tiles"]) == (1, 1)
    # Three tiles of glass, which no reader sees, would be background that anybody finds.
    for side in ("model", "baseline"):
        assert tile["details"][side]["pixels"] == field["details"][side]["pixels"] == 128 * 128
    assert tile["predictions"][0]["truth"] == field["predictions"][0]["truth"]
