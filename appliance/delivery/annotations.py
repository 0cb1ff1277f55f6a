"""Areas of a result as GeoJSON, as QuPath imports it: one file per slide, level-0 px."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.assays.assay import Assay
from appliance.delivery.scored_labels import scored_labels
from appliance.domain import SlideFacts, Stain
from appliance.findings.findings import RESEARCH_USE, SCORED, Findings
from appliance.findings.outlines import polygons_of, thinned
from appliance.geometry import TILE_UM
from dicom.uids import NAMESPACE

OUTLINE_UM = 9.0
"""Px in µm of the rasters that classes and tumor are outlined on. Outlines of the label map itself
(1.1 µm) would be some million points on a large slide; the label map as a picture has them all."""
TUMOR, SCORED_TUMOR, REGION = "Tumor", "Scored tumor*", "Region*"
"""Classes beside those of the assay. QuPath passes over classes whose name ends with an asterisk
when it measures; they lie over the others."""
TUMOR_COLOR, SCORED_COLOR, REGION_COLOR = (200, 0, 0), (120, 120, 120), (0, 90, 200)
RGB = tuple[int, int, int]
Points = NDArray[np.float64]


def slide_annotations(
    findings: Findings, assay: Assay, stain: Stain, offset_px: tuple[int, int] = (0, 0)
) -> bytes:
    """Return the areas on a slide of a case as a GeoJSON feature collection (RFC 7946).

    On the anatomy slide: tumor. On the target slide: each class on the scored tiles, the tumor that
    was scored, and the regions that decided the score. Coordinates are (x, y) in level-0 px of the
    slide, from `offset_px`: its top left corner, or that of the bounds that its file states, from
    which QuPath counts. Classes are outlined on px of about `OUTLINE_UM`. Nothing names
    case or patient. Equal findings give equal bytes.
    """
    on_anatomy = stain == assay.anatomy.code
    start = np.array(offset_px)
    features = _on_anatomy(findings, start) if on_anatomy else _on_target(findings, assay, start)
    document = {
        "type": "FeatureCollection",
        "notice": RESEARCH_USE,
        "features": [feature for feature in features if feature is not None],
    }
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _on_anatomy(findings: Findings, start: Points) -> Iterator[dict[str, Any] | None]:
    rasters = findings.rasters
    tumor = _areas(rasters.he_tumor, rasters.he_mpp, findings.he, value=1)
    yield _feature("Tumor", TUMOR, TUMOR_COLOR, tumor, start)


def _on_target(findings: Findings, assay: Assay, start: Points) -> Iterator[dict[str, Any] | None]:
    rasters, slide = findings.rasters, findings.ihc
    if rasters.ihc_classes is not None:
        step = max(1, round(OUTLINE_UM / rasters.ihc_mpp))
        coarse = thinned(scored_labels(rasters, rasters.ihc_classes), step)
        for value, named in enumerate(assay.classes, start=1):
            areas = _areas(coarse, rasters.ihc_mpp * step, slide, value=value)
            yield _feature(f"{assay.title} {named.name}", named.name, named.color, areas, start)
    scored = _areas((rasters.ihc_read == SCORED).astype(np.uint8), TILE_UM, slide, value=1)
    yield _feature("Scored tumor", SCORED_TUMOR, SCORED_COLOR, scored, start)
    for roi in findings.rois:
        outline = np.array([*roi.outline_um, roi.outline_um[0]]) / slide.mpp
        measured = {f"{assay.title} {name}, %": share for name, share in roi.percent.items()}
        measured["Tumor area, mm^2"] = roi.tumor_area_mm2
        yield _feature(roi.name, REGION, REGION_COLOR, [[outline]], start, measured)


def _areas(
    raster: NDArray[np.uint8], mpp: float, slide: SlideFacts, *, value: int
) -> list[list[Points]]:
    """Polygons of a value of a raster, in level-0 px of its slide and within it."""
    scale = mpp / slide.mpp
    size = np.array([slide.width_px, slide.height_px])
    return [
        [np.minimum(ring * scale, size) for ring in polygon]
        for polygon in polygons_of(raster == value)
    ]


def _feature(
    name: str,
    class_name: str,
    color: RGB,
    polygons: Sequence[Sequence[Points]],
    start: Points,
    measurements: dict[str, float] | None = None,
) -> dict[str, Any] | None:
    """Annotation object of QuPath, from the px `start`; None without an area, which is no
    feature."""
    if not polygons:
        return None
    rings = [[_written(ring - start) for ring in polygon] for polygon in polygons]
    geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": rings}
    if len(rings) == 1:
        geometry = {"type": "Polygon", "coordinates": rings[0]}
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "name": name,
        "classification": {"name": class_name, "color": list(color)},
        "isLocked": True,
    }
    if measurements:
        properties["measurements"] = {key: round(v, 4) for key, v in measurements.items()}
    unique = uuid.uuid5(NAMESPACE, json.dumps([name, geometry]))
    return {"type": "Feature", "id": str(unique), "geometry": geometry, "properties": properties}


def _written(ring: Points) -> list[list[float]]:
    """Points of a ring to a hundredth of a px, whole numbers as such."""
    return [[_short(x), _short(y)] for x, y in ring.tolist()]


def _short(value: float) -> float:
    rounded = round(value, 2)
    return int(rounded) if rounded == int(rounded) else rounded
