"""Annotations in QuPath's GeoJSON, read and written: areas with a class, in level-0 px."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataSetError

_TOLERANCE_PX = 1.0
"""Most px by which an outline may leave the slide, for rounding at its edge."""
_NO_AREA = {"Point", "MultiPoint", "LineString", "MultiLineString"}
_PASSED_OVER = {"detection", "cell", "tile", "root"}
"""Types of QuPath objects that are not drawn by a person."""

Ring = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """One polygon. `rings` are float64 (n, 2), (x, y) in level-0 px: the outline, then the holes.

    `name` is the class in QuPath, `number` the feature's position in the file, from 1.
    """

    name: str
    rings: tuple[Ring, ...]
    number: int

    @property
    def box_px(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        (left, top), (right, bottom) = self.rings[0].min(axis=0), self.rings[0].max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    @property
    def size_px2(self) -> float:
        """Area within the outline without the holes."""
        outline, *holes = (_shoelace(ring) for ring in self.rings)
        return outline - sum(holes)


def read_annotations(
    path: Path, width_px: int, height_px: int, offset_px: tuple[int, int] = (0, 0)
) -> list[Area]:
    """Return the annotated areas of a slide of `width_px` x `height_px` (level 0).

    `offset_px` is the px (x, y) of the slide from which the file counts: QuPath shows a slide whose
    file states bounds cropped to them. The file holds a feature collection, a list of features, or
    one feature. A multipolygon becomes several areas.

    Raises
    ------
    DataSetError
        If the file is no GeoJSON or holds no area, or a feature has no class, is no area, is open,
        or lies outside the slide.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as err:
        raise DataSetError(f"{path}: {err.strerror}") from err
    except (ValueError, RecursionError) as err:
        raise DataSetError(f"{path}: not JSON ({err}). Export the annotations again.") from err
    if isinstance(document, dict):
        document = document.get("features", [document])
    areas: list[Area] = []
    for number, feature in enumerate(document if isinstance(document, list) else [None], 1):
        try:
            areas += _areas(feature, number)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as err:
            what = str(err) if isinstance(err, ValueError) else "not a GeoJSON feature with a class"
            raise DataSetError(f"{path}, feature {number}: {what}") from err
    if not areas:
        raise DataSetError(f"{path}: no annotated area. Export annotations, not detections.")
    x, y = offset_px
    for area in areas:
        left, top, right, bottom = area.box_px
        low, high = min(left + x, top + y), max(right + x - width_px, bottom + y - height_px)
        if low < -_TOLERANCE_PX or high > _TOLERANCE_PX:
            raise DataSetError(
                f"{path}, feature {area.number}: reaches from ({left:g}, {top:g}) to ({right:g}, "
                f"{bottom:g}), outside the slide of {width_px} x {height_px} px. Is it another "
                "slide's, or was it exported in µm or at another downsample?"
            )
    return [replace(area, rings=tuple(ring + offset_px for ring in area.rings)) for area in areas]


def write_annotations(
    path: Path,
    areas: Iterable[Area],
    colors: Mapping[str, tuple[int, int, int]],
    offset_px: tuple[int, int] = (0, 0),
) -> None:
    """Write areas as a feature collection of QuPath's annotations; `colors` are RGB by class.

    `offset_px` is the px (x, y) of the slide from which QuPath counts, as when they are read.
    Folders on the way are made.

    Raises
    ------
    DataSetError
        If the file is there already (a person may have worked on it), or cannot be written.
    """
    if path.exists():
        raise DataSetError(f"{path}: is there already. Move it away, or choose another --out.")
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [(ring - offset_px).round(2).tolist() for ring in area.rings],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": area.name, "color": list(colors[area.name])},
            },
        }
        for area in areas
    ]
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        part.rename(path)
    except OSError as err:
        raise DataSetError(f"{path}: {err.strerror}. Choose another --out.") from err


def _areas(feature: Any, number: int) -> list[Area]:
    properties, geometry = feature["properties"] or {}, feature["geometry"]
    if properties.get("objectType") in _PASSED_OVER:
        return []
    if geometry["type"] in _NO_AREA:
        raise ValueError(f"a {geometry['type']} has no area; export areas only")
    if geometry["type"] not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"{geometry['type']} is neither Polygon nor MultiPolygon")
    classification = properties.get("classification") or {}
    # QuPath 0.6 writes derived classes as a list of names.
    name = classification.get("name") or ": ".join(classification.get("names") or [])
    if not name:
        raise ValueError("has no class; set one in QuPath or delete it")
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    if not polygons or not all(polygons):
        raise ValueError("has no outline")
    return [
        Area(name=str(name), rings=tuple(_ring(ring) for ring in polygon), number=number)
        for polygon in polygons
    ]


def _ring(points: Any) -> Ring:
    ring = np.array([[float(point[0]), float(point[1])] for point in points])
    if len(ring) < 4 or not (ring[0] == ring[-1]).all():
        raise ValueError("an outline is not closed")
    if not all(math.isfinite(value) for value in ring.ravel().tolist()):
        raise ValueError("a coordinate is not a number")
    return ring


def _shoelace(ring: Ring) -> float:
    x, y = ring[:, 0] - ring[0, 0], ring[:, 1] - ring[0, 1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
