"""C, L and M on tiles drawn by other code: ``python benchmarks/second_renderer.py [--tiles 100]``.

`tests/fixtures/second_renderer.py` draws them, under other assumptions than the generator that
trained the networks (synthetic). Nothing trains or is tuned on them. The color-deconvolution
baseline is judged beside the networks. ``--calibrate N`` does first what a site can do: it
calibrates each network on N labeled tiles of other seeds. ``--sheet FILE`` draws a contact sheet
instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
# `tests/appliance` would hide the package of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fixtures.second_renderer import SecondTile, draw_second_tile

from appliance.evaluation.site_labels import SiteLabels, labeled_logits
from appliance.evaluation.tile_judge import TileJudge, judge_tiles
from appliance.readers.inference import Network
from appliance.slides.glass import calibrate, white_gain
from models.errors import CalibrationError
from models.evaluation.sides import side_names
from models.site_calibration import SiteCalibration
from models.spec import TILE_MPP, Task, reference_folder
from models.training.site_fit import fit_site, site_calibration

FIRST_LABELED = 100_000
"""Seed of the first labeled tile, beyond that of the first judged one."""
SHEET_TILES, SHEET_COLUMNS, SHEET_PX = 20, 4, 256
COLORS = ((255, 255, 255), (200, 220, 255), (250, 230, 140), (240, 160, 60), (150, 60, 20))
"""Colors of background, 0, 1+, 2+, 3+ on the contact sheet."""
Pixels = NDArray[np.uint8]


def main(arguments: Sequence[str]) -> None:
    """Print the figures of both sides, or draw a contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="Seed of the first tile.")
    parser.add_argument("--weights-root", type=Path, help="Folder with tumor, intensity and "
                        "segmentation in it; default: the weights that ship.")  # fmt: skip
    parser.add_argument("--calibrate", type=int, default=0, metavar="N", help="Calibrate first, "
                        "each network on N labeled tiles of other seeds.")  # fmt: skip
    parser.add_argument("--draw", type=int, default=0, help="Number of the draw of labeled tiles.")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="Draw H&E, HER2 and class map "
                        f"of {SHEET_TILES} tiles instead.")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="Print all figures.")
    given = parser.parse_args(arguments)
    if given.sheet:
        tiles = [draw_second_tile(given.seed + k) for k in range(SHEET_TILES)]
        cv2.imwrite(str(given.sheet), contact_sheet(tiles)[..., ::-1])
        return
    tiles = []
    for k in range(given.tiles):
        tiles.append(draw_second_tile(given.seed + k))
        _tell("drawing", k + 1, given.tiles)
    sites = {}
    if given.calibrate:
        first = given.seed + FIRST_LABELED * (1 + given.draw)
        sites = {
            task: site for task in Task
            if (site := calibration(task, given.calibrate, first, given.weights_root))
        }  # fmt: skip
    found = judged(tiles, given.weights_root, sites)
    print(json.dumps(found, indent=2) if given.json else "\n".join(_lines(found)))


def calibration(
    task: Task, count: int, first_seed: int, weights_root: Path | None
) -> SiteCalibration | None:
    """Return what ``tandem calibrate`` fits on `count` labeled tiles; None where it refuses.

    Each tile is a patient of its own. L and M get tiles of tumor alone.
    """
    network = Network(weights_root / task if weights_root else reference_folder(task))
    with TemporaryDirectory() as folder:
        write_labeled(Path(folder), task, count, first_seed)
        labels = SiteLabels(path=Path(folder), mpp=TILE_MPP, patient_of=_each_its_own)
        labeled = labeled_logits(labels, network, _tell)
    fitted = fit_site(labeled, task)
    try:
        return site_calibration(fitted, task, network.spec.weights_fingerprint, labeled, "")
    except CalibrationError as err:
        print(f"{task}: {err}", file=sys.stderr)
        return None


def write_labeled(folder: Path, task: Task, count: int, first_seed: int) -> None:
    """Write `count` tiles as ``tandem calibrate`` reads them: class folders; M with masks."""
    written, seed = 0, first_seed
    while written < count:
        tile, seed = draw_second_tile(seed), seed + 1
        if task is not Task.TUMOR and tile.grade is None:
            continue
        pixels = tile.he if task is Task.TUMOR else tile.ihc
        label = "tumor" if tile.grade is not None else "other"
        place = {Task.INTENSITY: f"{tile.grade}", Task.SEGMENTATION: "images"}.get(task, label)
        (folder / place).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / place / f"{seed}.png"), pixels[..., ::-1])
        if task is Task.SEGMENTATION:
            (folder / "masks").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / "masks" / f"{seed}.png"), tile.classes)
        written += 1
        _tell("labeling", written, count)


def _each_its_own(name: PurePosixPath) -> tuple[str, None]:
    return name.stem, None


def judged(
    tiles: Sequence[SecondTile],
    weights_root: Path | None = None,
    sites: Mapping[Task, SiteCalibration] | None = None,
) -> dict[str, Any]:
    """Return the figures of C on all tiles, and of L and M on those of tumor, ready for JSON.

    `sites` calibrate networks; one that is not in it is judged as it is.

    ``found`` is the share (0-1) of the tumor px that a side calls tumor of any class; ``false``
    that of the other px of the same tiles.
    """
    he = np.stack([calibrate(tile.he, white_gain(tile.he_white)) for tile in tiles])
    ihc = np.stack([calibrate(tile.ihc, white_gain(tile.white)) for tile in tiles])
    tumor = np.array([tile.grade is not None for tile in tiles])
    grades = np.array([tile.grade or 0 for tile in tiles], dtype=np.uint8)
    maps = np.stack([tile.classes for tile in tiles])
    figures: dict[str, Any] = {"data": "drawn by other code (synthetic)", "tiles": len(tiles)}
    for task, pixels, truth, chosen in (
        (Task.TUMOR, he, tumor.astype(np.uint8), np.arange(len(tiles))),
        (Task.INTENSITY, ihc, grades, np.flatnonzero(tumor)),
        (Task.SEGMENTATION, ihc, maps, np.flatnonzero(tumor)),
    ):
        weights = (weights_root / task,) if weights_root else ()
        judge = TileJudge(task, weights, site=(sites or {}).get(task))
        judge_tiles(judge, pixels, truth, chosen, progress=_tell)
        figures[task] = judge.result({"judged": len(chosen)})
        if task is Task.SEGMENTATION:
            for side in judge.sides:
                figures[f"{task}.{side}"] = tumor_found(np.sum(judge.answers.matrices[side], 0))
    return figures


def tumor_found(matrix: NDArray[np.int64]) -> dict[str, float]:
    """Return ``found`` and ``false`` of a confusion matrix (5, 5), rows truth."""
    tumor, other = matrix[1:], matrix[0]
    return {
        "found": round(float(tumor[:, 1:].sum() / max(1, tumor.sum())), 3),
        "false": round(float(other[1:].sum() / max(1, other.sum())), 3),
    }


def contact_sheet(tiles: Sequence[SecondTile]) -> Pixels:
    """Return the H&E, HER2 and class map of each tile side by side, uint8 RGB."""
    size = (SHEET_PX, SHEET_PX)
    trios = []
    for tile in tiles:
        classes = cv2.resize(tile.classes, size, interpolation=cv2.INTER_NEAREST)
        pictures = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (tile.he, tile.ihc)]
        trios.append(np.concatenate([*pictures, np.array(COLORS, dtype=np.uint8)[classes]], axis=1))
    trios += [np.full_like(trios[0], 255)] * (-len(trios) % SHEET_COLUMNS)
    rows = [trios[k : k + SHEET_COLUMNS] for k in range(0, len(trios), SHEET_COLUMNS)]
    sheet: Pixels = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return sheet


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['tiles']} tiles, {found['data']}"]
    for task in Task:
        result = found[task]
        for name in (n for n in result if n.startswith(f"{task}.")):
            beside = result[f"baseline.{name}"]
            lines.append(f"{name} ({result['judged']} tiles): {result[name]}, baseline {beside}")
    for side, name in zip(side_names(1), ("M", "baseline"), strict=True):
        shares = found[f"{Task.SEGMENTATION}.{side}"]
        lines.append(
            f"{name}: {shares['found']} of the tumor found, {shares['false']} of the rest called so"
        )
    matrix = found[Task.INTENSITY]["details"]["model"]["confusion"]
    lines.append(f"L, rows truth none to strong: {matrix}")
    return lines


def _tell(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {done} of {total}   ", end="", file=sys.stderr, flush=True)
    elif done == total:
        print(f"{what}: {total}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
