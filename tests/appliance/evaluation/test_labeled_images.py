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


def test_tiles_that_are_not_judged_are_counted_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    pair = a_tumor()
    tumor = np.full((512, 512), 255, np.uint8)
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png", pair.he[:256, :256])
        save(tmp_path / f"{name}_mask.png", tumor[:256, :256])
    done = evaluated(tmp_path, "tumor", "--json")
    assert done.exit_code == 1
    assert "no tile is judged, of 2. By its mask each is less than half" in str(done.exception)
    save(tmp_path / "c.png", pair.he), save(tmp_path / "c_mask.png", tumor)
    result = found(tmp_path, "tumor")
    assert (result["tiles_not_judged"], result["details"]["model"]["n"]) == (2, 1)
    assert "tiles that are not judged, by their masks: 2" in evaluated(tmp_path, "tumor").stderr


def test_an_image_without_a_label_is_not_judged_for_segmentation(tmp_path: Path) -> None:
    pair = a_tumor()
    (
        save(tmp_path / "a.png", pair.ihc),
        save(tmp_path / "a_mask.png", np.full((512, 512), 9, np.uint8)),
    )
    (tmp_path / "mask.json").write_text('{"ignore": [9]}')
    done = evaluated(tmp_path, "segmentation", "--json")
    assert (done.exit_code, "no tile is judged, of 1" in str(done.exception)) == (1, True)
