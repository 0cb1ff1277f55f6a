"""Results as files for other programs: GeoJSON for QuPath, and label maps as OME-TIFF.

No name of a file and nothing in a file names case or patient.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import ArtifactStore, becoming
from appliance.assays.assay import Assay
from appliance.delivery.annotations import slide_annotations
from appliance.delivery.frozen import frozen_offset
from appliance.delivery.scored_labels import scored_labels
from appliance.domain import Stain
from appliance.findings.findings import RESEARCH_USE, Findings
from appliance.findings.label_map import LabelMap
from appliance.findings.outlines import thinned
from dicom.uids import NAMESPACE

ExportKind = Literal["geojson", "label_map"]
SUFFIXES: dict[ExportKind, str] = {"geojson": ".geojson", "label_map": ".ome.tif"}
Offset: TypeAlias = tuple[int, int]
TILE_PX = 512
LEVEL_STEP = 4
"""Reduction from each level of a picture to the next."""
COARSEST_PX = 1024
"""Longest edge of the coarsest level."""


def offsets_of(findings: Findings, assay: Assay, store: ArtifactStore) -> dict[Stain, Offset]:
    """Return the bounds' offset of both slides; raises as `frozen_offset`."""
    slides = {assay.anatomy.code: findings.he, assay.target.code: findings.ihc}
    return {stain: frozen_offset(facts, store) for stain, facts in slides.items()}


def write_export(
    kind: ExportKind,
    findings: Findings,
    assay: Assay,
    stain: Stain,
    path: Path,
    offset_px: Offset = (0, 0),
) -> bool:
    """Write a slide's areas or label map to `path`; return whether there is one.

    Its folder is there. The file gets its name only when all of it is on disk. Equal findings give
    equal bytes. `offset_px` is the first px (x, y) within the bounds of the slide's file, from
    which QuPath counts.
    """
    if kind == "geojson":
        with becoming(path) as temporary:
            temporary.write_bytes(slide_annotations(findings, assay, stain, offset_px))
        return True
    rasters = findings.rasters
    on_anatomy = stain == assay.anatomy.code
    labels = rasters.he_tumor if on_anatomy else rasters.ihc_classes
    if labels is None:
        return False
    if not on_anatomy:
        labels = scored_labels(rasters, labels)
    names = ["Tumor"] if on_anatomy else [f"{assay.title} {c.name}" for c in assay.classes]
    with becoming(path) as temporary:
        _write_picture(temporary, labels, rasters.he_mpp if on_anatomy else rasters.ihc_mpp, names)
    return True


def _write_picture(path: Path, labels: LabelMap, mpp: float, names: list[str]) -> None:
    """Write a label map (uint8, `mpp` µm/px, 0: none) as a pyramidal, tiled OME-TIFF.

    A px of a coarser level is the px in the middle of its block. `names` are those of the values
    from 1.
    """
    import tifffile

    steps, step = [], LEVEL_STEP
    while max(labels.shape) / step * LEVEL_STEP > COARSEST_PX:
        steps.append(step)
        step *= LEVEL_STEP
    levels = [thinned(labels, step) for step in steps]
    digest = hashlib.sha256(thinned(labels, LEVEL_STEP).tobytes()).hexdigest()
    layout: dict[str, Any] = {
        "dtype": np.uint8,
        "tile": (TILE_PX, TILE_PX),
        "photometric": "minisblack",
        "compression": "zlib",
        "software": False,
    }
    metadata = {
        "axes": "YX",
        "Name": f"{names[0].split()[0]} labels",
        "Description": RESEARCH_USE,
        "PhysicalSizeX": mpp,
        "PhysicalSizeY": mpp,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeYUnit": "µm",
        "MapAnnotation": {str(value): name for value, name in enumerate(names, start=1)},
        "UUID": str(uuid.uuid5(NAMESPACE, f"{digest} {mpp!r} {labels.shape}")),
        "Creator": "Tandem",
    }
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tiff:
        tiff.write(
            _tiles(labels), shape=labels.shape, subifds=len(levels), metadata=metadata, **layout
        )
        for step, level in zip(steps, levels, strict=True):
            # tifffile writes the resolution of level 0 into the OME document alone.
            pixels_per_cm = 1e4 / (mpp * step)
            tiff.write(
                _tiles(level),
                shape=level.shape,
                subfiletype=1,
                resolution=(pixels_per_cm, pixels_per_cm),
                resolutionunit="CENTIMETER",
                **layout,
            )


def _tiles(labels: LabelMap) -> Iterator[NDArray[np.uint8]]:
    """Yield the tiles of a map row by row, padded with 0; a row of tiles is in memory."""
    rows, columns = labels.shape
    for top in range(0, rows, TILE_PX):
        band = np.asarray(labels[top : top + TILE_PX, 0:columns], dtype=np.uint8)
        for left in range(0, columns, TILE_PX):
            tile = np.zeros((TILE_PX, TILE_PX), dtype=np.uint8)
            part = band[:, left : left + TILE_PX]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
