"""Overlays lie where the findings state, in the classes' colors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.findings import some_findings
from PIL import Image

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.domain import SlideFacts
from appliance.findings.codec import MAX_EDGE_PX
from appliance.findings.findings import MARGIN, SCORED, Rasters
from appliance.findings.overlay import (
    OUTLINE,
    Picture,
    blend,
    class_shares,
    stain_layer,
    tumor_layer,
)
from appliance.geometry import TILE_UM
from appliance.slides.overview import load_overview

CLASS_COLORS = [named.color for named in HER2_ASSAY.classes]
SLIDE = SlideFacts(
    path="s",
    fingerprint="s",
    format="aperio",
    width_px=4000,
    height_px=2000,
    mpp=0.25,
    level_count=1,
    is_dicom=False,
)  # 1000 x 500 µm


def rasters(classes: np.ndarray, mpp: float) -> Rasters:
    probability = np.full((4, 7), np.nan, np.float32)
    probability[1, 2:5] = (0.1, 0.9, 1.0)
    tumor = np.zeros((250, 500), np.uint8)  # 2 µm
    tumor[round(TILE_UM / 2) : round(TILE_UM), round(1.5 * TILE_UM) : round(2.5 * TILE_UM)] = 1
    return Rasters(
        he_tumor=tumor,
        he_mpp=2.0,
        ihc_classes=classes,
        ihc_mpp=mpp,
        ihc_read=np.full((4, 7), SCORED, np.uint8),
        he_probability=probability,
    )


def test_tumor_layer_covers_the_tile_that_was_read() -> None:
    layer = tumor_layer(rasters(np.zeros((5, 10), np.uint8), 100.0), SLIDE, (100, 200))  # 5 µm

    def at(x_um: float, y_um: float) -> list[int]:
        return [int(value) for value in layer[int(y_um / 5), int(x_um / 5)]]

    middle = 1.5 * TILE_UM
    assert at(0.5 * TILE_UM, middle)[3] == 0  # not read
    assert 0 < at(2.5 * TILE_UM, middle)[3] < 60  # read, with hardly any tumor
    assert at(4.5 * TILE_UM, middle)[3] == 255
    assert at(5.5 * TILE_UM, middle)[3] == 0
    rim = (layer == (*OUTLINE, 255)).all(axis=-1)
    columns = np.nonzero(rim.any(axis=0))[0] * 5
    assert columns.min() == pytest.approx(3 * TILE_UM, abs=8)
    assert columns.max() == pytest.approx(5 * TILE_UM, abs=8)


@pytest.mark.parametrize("mpp", [1.0, 0.7, 3.3, 5.0, 20.0])
def test_stain_classes_lie_where_they_are_at_any_resolution(mpp: float) -> None:
    shape = (int(np.ceil(500 / mpp)), int(np.ceil(1000 / mpp)))
    x = (np.arange(shape[1]) + 0.5) * mpp
    classes = np.broadcast_to((x // 250 + 1).clip(1, 4).astype(np.uint8), shape).copy()
    classes[(np.arange(shape[0]) + 0.5) * mpp > 250] = 0
    layer = stain_layer(rasters(classes, mpp), SLIDE, (100, 200), CLASS_COLORS)
    assert layer is not None

    for number, color in enumerate(CLASS_COLORS):
        inside = layer[5:40, number * 50 + 6 : number * 50 + 44]
        assert (inside == (*color, 255)).all()
    assert (layer[60:, :, 3] == 0).all()


def test_a_mixed_px_shows_every_class_by_its_area() -> None:
    classes = np.zeros((500, 1000), np.uint8)  # 1 µm
    classes[::2, :] = 1
    classes[1::4, :] = 4
    shares = class_shares(classes, 1.0, SLIDE, (50, 100))  # 10 µm
    assert shares[..., 0] == pytest.approx(0.5)
    assert shares[..., 3].mean() == pytest.approx(0.25)
    assert shares.sum(axis=-1).max() <= 1
    layer = stain_layer(rasters(classes, 1.0), SLIDE, (50, 100), CLASS_COLORS)
    assert layer is not None
    assert layer[..., 3].mean() == pytest.approx(255 * 0.75, abs=1)


def test_shares_are_the_label_map_s_own() -> None:
    # Reduction to the thumbnail neither loses nor enlarges anything.
    findings = some_findings()
    classes = findings.rasters.ihc_classes
    shares = class_shares(classes, findings.rasters.ihc_mpp, findings.ihc, (331, 457))
    wanted = [(classes == k).mean() for k in range(1, 5)]
    assert shares.mean(axis=(0, 1)) == pytest.approx(wanted, rel=0.01)


def test_opacity_blends_and_leaves_the_thumbnail_alone() -> None:
    thumbnail = np.full((2, 2, 3), 200, np.uint8)
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0, 0] = (100, 0, 0, 255)
    picture = Picture(thumbnail, layer)
    assert blend(picture, 0.0) is thumbnail
    assert blend(picture, 1.0)[0, 0].tolist() == [100, 0, 0]
    assert blend(picture, 0.5)[0, 0].tolist() == [150, 100, 100]
    assert (blend(picture, 1.0)[1, 1] == 200).all()


def test_without_a_label_map_there_is_no_layer() -> None:
    bare = replace(rasters(np.zeros((5, 10), np.uint8), 100.0), ihc_classes=None)
    assert stain_layer(bare, SLIDE, (100, 200), CLASS_COLORS) is None


def test_large_thumbnails_are_shown_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (MAX_EDGE_PX * 2, 900)).save(tmp_path / "thumbnail.png")
    assert load_overview(tmp_path / "thumbnail.png").shape == (900, 2 * MAX_EDGE_PX, 3)
    shown = load_overview(tmp_path / "thumbnail.png", longest_px=MAX_EDGE_PX)
    assert shown.shape == (450, MAX_EDGE_PX, 3)


def test_what_is_not_scored_is_faint() -> None:
    some = rasters(np.full((250, 500), 4, np.uint8), 2.0)
    some.ihc_read[1, 2] = MARGIN
    layer = stain_layer(some, SLIDE, (100, 200), CLASS_COLORS)  # 5 µm
    assert layer is not None
    row = int(1.5 * TILE_UM / 5)
    inside, beside = (int(layer[row, int(column * TILE_UM / 5), 3]) for column in (2.5, 3.5))
    assert beside == 255 and 0 < inside < 128
