"""Tiles of the overlays of a case, drawn from its findings as transparent PNG.

An overlay has the extent of its slide and px of about the findings' own maps; the browser enlarges
them. The grid of tiles is that of `slide_tiles`. Places are looked up in slide µm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.assays.assay import RGB
from appliance.domain import SlideFacts
from appliance.findings.attention import AttentionMap
from appliance.findings.findings import MARGIN, SCORED, Findings
from appliance.findings.overlay import (
    MARGIN_OPACITY,
    OUTLINE,
    attention_heat,
    attention_title,
    class_shares,
    heat_layer,
)
from appliance.geometry import TILE_UM
from dashboard.assay_facts import class_colors, slide_labels
from dashboard.stored import sound_findings
from dashboard.zoom.slide_tiles import Place, place_of_tile

Value = TypeVar("Value", bound=np.generic)
FINEST_UM = 4.0
"""Width of the finest px of an overlay of a slide that has no map of classes."""
COARSE = 16
"""Px of the label map per px of the shares that the levels of a whole slide are drawn from."""
HATCH_PX, STRIPE_PX = 12, 3
"""Distance and width of the stripes of areas without a score."""
FILL = 70
"""Opacity (0-255) of the tumor area within its rim."""
L_OPACITY = 170
GRAY: RGB = (70, 70, 70)
HALO: RGB = (255, 255, 255)
HEAT_KEY: RGB = (0, 105, 150)
HEAVIEST = 5
"""Tiles of a second reader that the page leads to."""
MOST_SHARES = 16
"""Tiles whose shares of classes are kept: the classes are asked for one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Overlay of one slide; `color` is that of its key, `shown` whether it is on at first.

    `look` is how it is drawn: ``area``, ``outline``, ``heat`` or ``stripes``.
    """

    name: str
    title: str
    what: str
    color: RGB
    look: str
    shown: bool = False


@dataclass(frozen=True, slots=True)
class _Window:
    """Centers of the px of a tile in µm, one px more on each side; `place` is the tile's own."""

    place: Place
    px_um: float

    def centers(self, pad: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return y of the rows and x of the columns, with `pad` px more on each side."""
        place = self.place
        y = np.arange(place.top - pad, place.top + place.rows + pad, dtype=np.float64)
        x = np.arange(place.left - pad, place.left + place.columns + pad, dtype=np.float64)
        return (y + 0.5) * self.px_um, (x + 0.5) * self.px_um


class Overlays:
    """Overlays of the findings in a folder; usable by many threads.

    `interim` is the folder of the hint that was there before them; None for none. Its map is
    drawn where it is of the same file as the findings.
    """

    def __init__(self, folder: Path, interim: Path | None = None) -> None:
        self.findings = sound_findings(folder)
        attention = None if interim is None else AttentionMap.load(interim)
        of_it = attention is not None and self.findings.he.fingerprint.startswith(attention.slide)
        self._attention = attention if of_it else None
        self._colors = list(class_colors(self.findings).values())
        self._shares = lru_cache(maxsize=MOST_SHARES)(self._make_shares)
        self._coarse = lru_cache(maxsize=1)(self._make_coarse)
        findings = self.findings
        shape = findings.rasters.ihc_read.shape
        self._intensity = np.full(shape, -1, dtype=np.int8)
        self._paired = np.zeros(shape, dtype=np.uint8)
        for tile in (*findings.annotated, *findings.tiles):
            if tile.row < shape[0] and tile.column < shape[1]:
                self._intensity[tile.row, tile.column] = tile.intensity
        for paired in findings.tiles:
            if paired.row < shape[0] and paired.column < shape[1]:
                self._paired[paired.row, paired.column] = 1
        self._drawn: dict[str, dict[str, Callable[[_Window], NDArray[np.uint8]]]] = {
            "he": {
                "tumor": self._tumor,
                "probability": self._heat,
                "unread": self._he_unread,
                "interim": self._interim,
            },
            "ihc": {
                "tumor": self._paired_tumor,
                "l": self._intensities,
                "regions": self._regions,
                "unscored": self._unscored,
                "unread": self._ihc_unread,
            }
            | {
                f"attention-{number}": self._attention_drawer(weights)
                for number, weights in enumerate(findings.rasters.attention.values(), start=1)
            },
        }

    def layers(self) -> tuple[Layer, ...]:
        """Return the layers, in the order in which they lie on the slides."""
        findings = self.findings
        anatomy, target = slide_labels(findings.assay)
        ihc = [
            Layer(name=f"m{k}", title=f"M: {name}", what="ihc", color=color, look="area")
            for k, (name, color) in enumerate(class_colors(findings).items())
            if findings.rasters.ihc_classes is not None
        ]
        if (self._intensity >= 0).any() and self._colors:
            ihc.append(
                Layer(name="l", title="L by tile", what="ihc", color=self._colors[-1], look="area")
            )
        return (
            *(_layer("unread", "Not read", what, GRAY, "stripes") for what in ("he", "ihc")),
            _layer("unscored", "Not scored (control, margin)", "ihc", GRAY, "stripes"),
            _layer("probability", "Tumor probability", "he", HEAT_KEY, "heat"),
            *(
                _layer(f"attention-{number}", attention_title(reader), "ihc", HEAT_KEY, "heat")
                for number, reader in enumerate(findings.rasters.attention, start=1)
            ),
            *self._interim_layers(),
            *ihc,
            _layer("tumor", f"Tumor on {anatomy}", "he", OUTLINE, "outline", shown=True),
            _layer("tumor", f"Tumor on {target}", "ihc", OUTLINE, "outline", shown=True),
            _layer("regions", "Regions that decided", "ihc", (0, 0, 0), "outline"),
        )

    def _interim_layers(self) -> list[Layer]:
        if self._attention is None:
            return []
        title = "Interim, superseded: attention of the hint"
        return [_layer("interim", title, "he", HEAT_KEY, "heat")]

    def size_px(self, what: str) -> tuple[int, int]:
        """Return width and height of the overlays of a slide in their finest px."""
        facts, times = self._facts(what), self._times(what)
        return math.ceil(facts.width_px / times), math.ceil(facts.height_px / times)

    def width_share(self, what: str) -> float:
        """Return the width of the overlays by that of the slide: they end at a whole px."""
        return self.size_px(what)[0] * self._times(what) / self._facts(what).width_px

    def tile(self, what: str, name: str, level: int, column: int, row: int) -> bytes | None:
        """Return a tile of a layer as PNG with alpha; None where there is no such layer or tile."""
        draw = self._drawn.get(what, {}).get(name)
        number = name.removeprefix("m")
        if what == "ihc" and name.startswith("m") and number in map(str, range(len(self._colors))):
            draw = self._class_drawer(int(number))
        if draw is None or what not in ("he", "ihc"):
            return None
        place = place_of_tile(self.size_px(what), level, column, row)
        if place is None:
            return None
        px_um = self._facts(what).mpp * self._times(what) * place.downsample
        data = BytesIO()
        Image.fromarray(draw(_Window(place, px_um))).save(data, "PNG", compress_level=1)
        return data.getvalue()

    def _facts(self, what: str) -> SlideFacts:
        return self.findings.he if what == "he" else self.findings.ihc

    def _times(self, what: str) -> int:
        """Return the level-0 px per finest px of an overlay along an edge, a power of two."""
        rasters = self.findings.rasters
        finest = rasters.ihc_mpp if rasters.ihc_classes is not None else FINEST_UM
        wanted = min(rasters.he_mpp, FINEST_UM) if what == "he" else finest
        return 1 << max(0, math.floor(math.log2(wanted / self._facts(what).mpp) + 1e-6))

    # layers of the anatomy slide

    def _tumor(self, window: _Window) -> NDArray[np.uint8]:
        rasters = self.findings.rasters
        return _outlined(_sampled(rasters.he_tumor, rasters.he_mpp, window, pad=2))

    def _heat(self, window: _Window) -> NDArray[np.uint8]:
        return heat_layer(_sampled(self.findings.rasters.he_probability, TILE_UM, window))

    def _interim(self, window: _Window) -> NDArray[np.uint8]:
        if self._attention is None:
            return np.zeros((window.place.rows, window.place.columns, 4), dtype=np.uint8)
        return heat_layer(self._attention.heat_at(*window.centers()))

    def _he_unread(self, window: _Window) -> NDArray[np.uint8]:
        grid = np.isnan(self.findings.rasters.he_probability)
        return _striped(_sampled(grid, TILE_UM, window), window, falling=True)

    # layers of the target slide

    def _paired_tumor(self, window: _Window) -> NDArray[np.uint8]:
        return _outlined(_sampled(self._paired, TILE_UM, window, pad=2))

    def _intensities(self, window: _Window) -> NDArray[np.uint8]:
        grid = _sampled(self._intensity, TILE_UM, window)
        layer = np.zeros((*grid.shape, 4), dtype=np.uint8)
        for number, color in enumerate(self._colors):
            layer[grid == number] = (*color, L_OPACITY)
        return layer

    def _class_drawer(self, number: int) -> Callable[[_Window], NDArray[np.uint8]]:
        def draw(window: _Window) -> NDArray[np.uint8]:
            share = self._shares(window)[..., number]
            read = _sampled(self.findings.rasters.ihc_read, TILE_UM, window)
            layer = np.empty((*share.shape, 4), dtype=np.uint8)
            layer[..., :3] = self._colors[number]
            layer[..., 3] = share * np.where(read == MARGIN, MARGIN_OPACITY, 1.0)
            return layer

        return draw

    def _regions(self, window: _Window) -> NDArray[np.uint8]:
        place = window.place
        layer = np.zeros((place.rows, place.columns, 4), dtype=np.uint8)
        for roi in self.findings.rois:
            outline = np.array(roi.outline_um) / window.px_um - (place.left, place.top)
            points = [outline.round().astype(np.int32)]
            for color, width in ((HALO, 5), ((0, 0, 0), 2)):
                cv2.polylines(layer, points, True, (*color, 255), width)
        return layer

    def _attention_drawer(
        self, weights: NDArray[np.float32]
    ) -> Callable[[_Window], NDArray[np.uint8]]:
        heat = attention_heat(weights)

        def draw(window: _Window) -> NDArray[np.uint8]:
            return heat_layer(_sampled(heat, TILE_UM, window))

        return draw

    def _unscored(self, window: _Window) -> NDArray[np.uint8]:
        grid = self.findings.rasters.ihc_read == MARGIN
        return _striped(_sampled(grid, TILE_UM, window), window, falling=False)

    def _ihc_unread(self, window: _Window) -> NDArray[np.uint8]:
        grid = ~np.isin(self.findings.rasters.ihc_read, (MARGIN, SCORED))
        return _striped(_sampled(grid, TILE_UM, window), window, falling=True)

    def _make_shares(self, window: _Window) -> NDArray[np.uint8]:
        """Share (0-255) of each class in the px of a window: uint8 (rows, columns, classes)."""
        rasters, place = self.findings.rasters, window.place
        shape = (place.rows, place.columns, len(self._colors))
        if rasters.ihc_classes is None:
            return np.zeros(shape, dtype=np.uint8)
        y, x = window.centers()
        if window.px_um < 2 * rasters.ihc_mpp:
            r, c = (
                _index(um, rasters.ihc_mpp, n) for um, n in _axes(y, x, rasters.ihc_classes.shape)
            )
            labels = np.asarray(rasters.ihc_classes[r[0] : r[-1] + 1, c[0] : c[-1] + 1])
            found = labels[np.ix_(r - r[0], c - c[0])]
            return np.stack([255 * (found == k + 1) for k in range(shape[2])], -1).astype(np.uint8)
        # A px of the window is the mean of the px of the map, or of its coarse shares, below it.
        coarse = window.px_um >= COARSE * rasters.ihc_mpp
        source = self._coarse() if coarse else rasters.ihc_classes
        size_um = self.findings.ihc.size_um[::-1]
        mpp = [
            um / n if coarse else rasters.ihc_mpp
            for um, n in zip(size_um, source.shape, strict=False)
        ]
        ends = [(um[0] - window.px_um / 2, um[-1] + window.px_um / 2) for um in (y, x)]
        spans = [slice(*_span(*end, px_um)) for end, px_um in zip(ends, mpp, strict=True)]
        part = np.asarray(source[tuple(spans)])
        planes = [
            part[..., k] if coarse else np.where(part == k + 1, np.uint8(255), np.uint8(0))
            for k in range(shape[2])
        ]
        if not part.size:
            return np.zeros(shape, dtype=np.uint8)
        size = place.columns, place.rows
        small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
        return np.stack([np.asarray(plane, dtype=np.uint8) for plane in small], axis=-1)

    def _make_coarse(self) -> NDArray[np.uint8]:
        """Share (0-255) of each class over the whole slide: uint8 (rows, columns, classes)."""
        rasters, labels = self.findings.rasters, self.findings.rasters.ihc_classes
        if labels is None:
            return np.zeros((0, 0, len(self._colors)), dtype=np.uint8)
        px_um = COARSE * rasters.ihc_mpp
        columns, rows = (max(1, math.ceil(um / px_um)) for um in self.findings.ihc.size_um)
        shares = class_shares(labels, rasters.ihc_mpp, self.findings.ihc, (rows, columns))
        return (255 * shares[..., : len(self._colors)]).round().astype(np.uint8)


def regions(findings: Findings) -> list[dict[str, object]]:
    """Return name, center and width of the regions that decided, in µm of the target slide.

    The tiles that weighed most in second readers' answers follow, heaviest first.
    """
    found = []
    for roi in findings.rois:
        outline = np.array(roi.outline_um)
        low, high = outline.min(axis=0), outline.max(axis=0)
        center = ((low + high) / 2).tolist()
        found.append({"name": roi.name, "center_um": center, "wide_um": float((high - low).max())})
    for reader, weights in findings.rasters.attention.items():
        for place, (row, column) in enumerate(heaviest(weights), start=1):
            share = 100 * float(weights[row, column])
            name = f"{attention_title(reader)}, tile {place} ({share:.1f} %)"
            center = [(column + 0.5) * TILE_UM, (row + 0.5) * TILE_UM]
            found.append({"name": name, "center_um": center, "wide_um": TILE_UM})
    return found


def heaviest(weights: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Return row and column of the `HEAVIEST` tiles of most weight, in the order of it."""
    rows, columns = np.nonzero(np.nan_to_num(weights) > 0)
    order = np.argsort(-weights[rows, columns], kind="stable")[:HEAVIEST]
    return [(int(rows[k]), int(columns[k])) for k in order]


def _layer(
    name: str, title: str, what: str, color: RGB, look: str, *, shown: bool = False
) -> Layer:
    return Layer(name=name, title=title, what=what, color=color, look=look, shown=shown)


def _axes(
    y: NDArray[np.float64], x: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[tuple[NDArray[np.float64], int], tuple[NDArray[np.float64], int]]:
    return (y, shape[0]), (x, shape[1])


def _index(um: NDArray[np.float64], mpp: float, count: int) -> NDArray[np.intp]:
    return np.clip((um / mpp).astype(np.intp), 0, count - 1)


def _span(first_um: float, last_um: float, mpp: float) -> tuple[int, int]:
    return max(0, math.floor(first_um / mpp + 1e-6)), math.ceil(last_um / mpp - 1e-6)


def _sampled(raster: NDArray[Value], mpp: float, window: _Window, pad: int = 0) -> NDArray[Value]:
    """Return the px of a raster that are nearest to the centers of a window's px."""
    (y, rows), (x, columns) = _axes(*window.centers(pad), raster.shape)
    return raster[np.ix_(_index(y, mpp, rows), _index(x, mpp, columns))]


def _outlined(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the area of a mask with its rim; the mask is 2 px wider than the tile on each side."""
    area = (mask != 0).astype(np.uint8)
    inner = np.asarray(cv2.erode(area, np.ones((5, 5), np.uint8)))[2:-2, 2:-2]
    halo = np.asarray(cv2.dilate(area, np.ones((3, 3), np.uint8)))[2:-2, 2:-2]
    area = area[2:-2, 2:-2]
    layer = np.zeros((*area.shape, 4), dtype=np.uint8)
    layer[(halo == 1) & (area == 0)] = (*HALO, 255)
    layer[area == 1] = (*OUTLINE, FILL // 2)
    layer[(area == 1) & (inner == 0)] = (*OUTLINE, 255)
    return layer


def _striped(mask: NDArray[Any], window: _Window, *, falling: bool) -> NDArray[np.uint8]:
    """Return a mask as gray stripes, which go on from tile to tile."""
    place = window.place
    rows = np.arange(place.top, place.top + place.rows)[:, None]
    columns = np.arange(place.left, place.left + place.columns)[None, :]
    on = (rows + (-columns if falling else columns)) % HATCH_PX < STRIPE_PX
    layer = np.zeros((*mask.shape, 4), dtype=np.uint8)
    layer[(mask != 0) & on] = (*GRAY, 200)
    return layer
