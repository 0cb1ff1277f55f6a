"""One image with truth, cut into tiles and judged against its mask or its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.evaluation.tile_judge import Floats, TileJudge
from appliance.slides.glass import calibrate, white_gain
from appliance.slides.tissue import MAX_THRESHOLD, MIN_TISSUE_SHARE
from models.datasets.images import read_rgb, require_same_turn
from models.evaluation.figures import mean_class
from models.evaluation.folders import LabeledImage
from models.evaluation.sides import BASELINE, MODEL
from models.evaluation.truth_tiles import (
    IGNORED,
    OTHER_UP_TO,
    TUMOR_FROM,
    MaskValues,
    at_tile_mpp,
    cut,
    fitting_mask,
    glass_of_field,
    read_mask,
    tumor_share,
)
from models.spec import CLASSES, TILE_MPP, TUMOR_SHARE, Task


def judge_image(image: LabeledImage, values: MaskValues | None, judge: TileJudge) -> dict[str, Any]:
    """Judge the tiles of an image against its mask, or the image against its label.

    Returns the record of the image for ``predictions``.
    """
    pixels = read_rgb(image.path)
    mpp = image.mpp or TILE_MPP
    glass = glass_of_field(pixels)
    mask = None
    if image.mask is not None:
        require_same_turn(image.path, image.mask)
        mask = fitting_mask(read_mask(image.mask, judge.task, values), pixels, image.mask)
        mask = cut(at_tile_mpp(mask, mpp, labels=True), labels=True)
    tiles = calibrate(cut(at_tile_mpp(pixels, mpp, labels=False)), white_gain(glass))
    record: dict[str, Any] = {
        "image": image.name,
        "patient": image.patient,
        "mpp": mpp,
        "glass": list(glass),
    }
    read = tiles_with_tissue(tiles)
    if judge.task is Task.SEGMENTATION and mask is not None:
        return record | _segmented(tiles[read], mask[read], image.patient, judge)
    tiles, mask = tiles[read], None if mask is None else mask[read]
    said = judge.classify(tiles)
    mean = {side: answers.mean(axis=0) for side, answers in said.items()}
    words = {side: _word(judge.task, answer) for side, answer in mean.items()}
    record |= {"tiles": len(tiles), **words.pop(MODEL)}
    if mask is not None:
        record["tiles_judged"] = 0
        for number, truth in enumerate(tile_truth(mask, judge.task)):
            if truth is not None:
                one = {side: answers[number] for side, answers in said.items()}
                judge.answers.add(truth, image.patient, one)
                record["tiles_judged"] += 1
        if judge.task is Task.TUMOR:
            shares = tumor_share(mask)
            known = shares[~np.isnan(shares)]
            record["tumor_share"] = round(float(known.mean()), 4) if len(known) else None
    elif image.label is not None:
        judge.answers.add(image.label, image.patient, mean)
        record["truth"] = CLASSES[judge.task][image.label]
    return record | words


def tile_truth(masks: NDArray[np.uint8], task: Task) -> list[int | None]:
    """Class of each tile by its mask (n, 512, 512); None where it has no single right answer."""
    share = tumor_share(masks)
    if task is Task.TUMOR:
        return [1 if s >= TUMOR_FROM else 0 if s <= OTHER_UP_TO else None for s in share]
    truth: list[int | None] = []
    for mask, tumor in zip(masks, share, strict=True):
        counts = np.bincount(mask[mask != IGNORED], minlength=5)[1:5]
        # The share is NaN where nothing is labeled: not enough either.
        enough = bool(tumor >= TUMOR_SHARE) and counts.max() > counts.sum() / 2
        truth.append(int(counts.argmax()) if enough else None)
    return truth


def tiles_with_tissue(tiles: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers of the calibrated tiles that the appliance would read; all, where none has tissue."""
    small = [cv2.resize(tile, (64, 64), interpolation=cv2.INTER_AREA) for tile in tiles]
    light = np.maximum(np.stack(small), 1).astype(np.float32) / 255
    density = -np.log10(light).mean(axis=-1)
    enough = (density > MAX_THRESHOLD).mean(axis=(1, 2)) >= MIN_TISSUE_SHARE
    return np.flatnonzero(enough) if enough.any() else np.arange(len(tiles))


def describe(records: Sequence[dict[str, Any]], titles: Mapping[str, str]) -> list[str]:
    """One line per image, for people; `titles` are the words of each side."""
    networks = [side for side in titles if side != BASELINE]
    lines = []
    for record in records:
        said = []
        for side in networks:
            word = record if side == MODEL else record[side]
            mean = f" (mean class {word['mean_class']:.2f})" if "mean_class" in word else ""
            before = f"{titles[side]}: " if len(networks) > 1 else ""
            said.append(f"{before}{_shares(word['predicted'])}{mean}")
        truth = record.get("truth", record.get("tumor_share"))
        known = "" if truth is None else f"; truth: {_shares(truth)}"
        lines.append(f"{record['image']}: {', '.join(said)}, {record['tiles']} tiles{known}")
    return lines


def _shares(said: Any) -> str:
    """A class, or the shares of classes."""
    if not isinstance(said, dict):
        return str(said)
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in said.items())


def _segmented(
    tiles: NDArray[np.uint8], mask: NDArray[np.uint8], patient: str, judge: TileJudge
) -> dict[str, Any]:
    """Record of an image with a label map: shares of the classes, true and found by each side."""
    said = judge.segment(tiles, mask)
    judge.answers.add_pixels(said, patient)
    names = CLASSES[Task.SEGMENTATION]

    def shares(counts: NDArray[np.int64]) -> dict[str, float]:
        return dict(zip(names, np.round(counts / max(1, counts.sum()), 4).tolist(), strict=True))

    found = {side: {"predicted": shares(matrix.sum(axis=0))} for side, matrix in said.items()}
    truth = shares(said[MODEL].sum(axis=1))
    judged = int((mask != IGNORED).any(axis=(1, 2)).sum())
    return {
        "tiles": len(tiles),
        "tiles_judged": judged,
        "truth": truth,
        **found.pop(MODEL),
        **found,
    }


def _word(task: Task, probability: Floats) -> dict[str, Any]:
    """Answer of one side in words: predicted class, probabilities, mean class."""
    word: dict[str, Any] = {
        "predicted": CLASSES[task][int(probability.argmax())],
        "probability": dict(zip(CLASSES[task], np.round(probability, 4).tolist(), strict=True)),
    }
    if task is Task.INTENSITY:
        word["mean_class"] = _rounded(float(mean_class(probability[None])[0]))
    return word


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
