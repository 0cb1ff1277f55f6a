"""Findings on disk: one folder per case, written and read by version.

Files of a folder: ``findings.json`` (all but what follows), ``tiles.parquet`` (one row per tile of
the target slide with a tumor partner), ``annotated.parquet`` (one row per other tile that was
read), ``rasters.npz``, ``ihc_classes.zarr.zip`` (where the assay has a label map), ``mapping.npz``,
an overview picture of each slide, and ``attention.npz`` where a second reader weighed tiles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.domain import SlideFacts
from appliance.findings.earlier import LATER
from appliance.findings.findings import (
    FINDINGS_VERSION,
    Correction,
    Findings,
    Rasters,
    ReadOuts,
    SignOff,
)
from appliance.findings.label_map import StoredLabels, save_labels
from appliance.findings.measured import (
    AlignmentFacts,
    AnnotatedTile,
    CellFacts,
    ControlFacts,
    Roi,
    StainFocus,
    TileFinding,
)
from appliance.findings.opinion import Opinion
from appliance.findings.reasons import ReviewReason
from appliance.registration.mapping import SlideMapping
from appliance.slides.overview import load_overview
from appliance.text import is_text

MAX_EDGE_PX = 1600
"""Longest edge of a picture on the page."""
IHC_CLASSES = "ihc_classes.zarr.zip"
"""File of the label map, in the artifact of M and in that of the findings."""
ATTENTION_NAME = "attention.npz"
"""File of the weights of tiles in second readers' answers, by reader; absent where there are none,
and in findings of earlier editions."""
Tile = TypeVar("Tile", bound=AnnotatedTile)
_TILES: dict[str, type[AnnotatedTile]] = {"tiles": TileFinding, "annotated": AnnotatedTile}
"""Fields of `Findings` that have a file of their own, one row per tile."""
_APART = ("rasters", "mapping", "as_before", "unscored_as_before")
"""Fields of `Findings` that are not in JSON."""
FIRST_ANNOTATED = 9
"""First version of findings with ``annotated.parquet``."""
_OPTIONAL: dict[str, Callable[..., Any]] = {
    "cells": CellFacts,
    "control": ControlFacts,
    "correction": Correction,
    "outside_tumor": StainFocus,
    "read_outs": ReadOuts,
}
"""Fields of `Findings` that are an object in JSON, or null."""


def summary(findings: Findings) -> dict[str, Any]:
    """All but tiles and rasters, ready for JSON; its keys are a contract."""
    plain = {
        name: getattr(findings, name)
        for name in findings.__slots__
        if name not in (*_TILES, *_APART, "review", "opinions", "interim", "rois")
    }
    plain |= {
        name: None if (part := plain[name]) is None else asdict(part)
        for name in ("he", "ihc", "alignment", *_OPTIONAL)
    }
    return plain | {
        "review": [reason.as_json() for reason in findings.review],
        "opinions": [opinion.as_json() for opinion in findings.opinions],
        "interim": None if findings.interim is None else findings.interim.as_json(),
        "models": [asdict(model) for model in findings.models],
        "rois": [asdict(roi) for roi in findings.rois],
        "sign_offs": [asdict(sign_off) for sign_off in findings.sign_offs],
        "tiles_scored": len(findings.tiles),
        "tiles_annotated": len(findings.annotated),
        "he_mpp": findings.rasters.he_mpp,
        "ihc_mpp": findings.rasters.ihc_mpp,
    }


def save_findings(
    findings: Findings,
    folder: Path,
    *,
    he_thumbnail: NDArray[np.uint8],
    ihc_thumbnail: NDArray[np.uint8],
) -> None:
    """Write the folder's files; thumbnails are uint8 RGB (rows, cols, 3) of the whole slides."""
    facts = summary(findings)
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False)
    if not is_text(text):  # the path of a slide: later steps open it
        text = json.dumps(facts, indent=2, sort_keys=True)
    (folder / "findings.json").write_text(text + "\n")
    for name, kind in _TILES.items():
        _save_tiles(getattr(findings, name), kind, folder / f"{name}.parquet")
    rasters = findings.rasters
    np.savez_compressed(
        folder / "rasters.npz",
        he_tumor=rasters.he_tumor,
        ihc_read=rasters.ihc_read,
        he_probability=rasters.he_probability,
    )
    if rasters.ihc_classes is not None:
        save_labels(rasters.ihc_classes, folder / IHC_CLASSES)
    if rasters.attention:
        by_reader: dict[str, Any] = dict(rasters.attention)
        np.savez_compressed(folder / ATTENTION_NAME, **by_reader)
    findings.mapping.save(folder / "mapping.npz")
    Image.fromarray(he_thumbnail).save(folder / "he_thumbnail.png")
    Image.fromarray(ihc_thumbnail).save(folder / "ihc_thumbnail.png")


def load_pictures(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Overview pictures of both slides, anatomy first: uint8 RGB, at most `MAX_EDGE_PX` long."""
    he, ihc = (
        load_overview(folder / name, longest_px=MAX_EDGE_PX)
        for name in ("he_thumbnail.png", "ihc_thumbnail.png")
    )
    return he, ihc


def load_findings(folder: Path) -> Findings:
    """Read a folder that `save_findings` of this or an earlier version wrote.

    Raises
    ------
    ValueError
        If the folder holds findings of a version that has no codec.
    """
    raw = json.loads((folder / "findings.json").read_text())
    written = version = raw["version"]
    while version != FINDINGS_VERSION:
        if version not in LATER:
            known = ", ".join(str(number) for number in (*sorted(LATER), FINDINGS_VERSION))
            raise ValueError(
                f"{folder}: findings of version {version}; this build reads {known}. "
                "Run the case again."
            )
        raw = LATER[version](raw)
        version = raw["version"]
    with np.load(folder / "rasters.npz", allow_pickle=False) as arrays:
        labels = folder / IHC_CLASSES
        rasters = Rasters(
            he_tumor=arrays["he_tumor"],
            he_mpp=raw.pop("he_mpp"),
            ihc_classes=StoredLabels.open(labels) if labels.exists() else None,
            ihc_mpp=raw.pop("ihc_mpp"),
            ihc_read=arrays["ihc_read"],
            he_probability=arrays["he_probability"],
            attention=_load_attention(folder / ATTENTION_NAME),
        )
    return Findings(
        **_parts(raw),
        mapping=SlideMapping.load(folder / "mapping.npz"),
        tiles=_load_tiles(TileFinding, folder / "tiles.parquet"),
        annotated=()
        if written < FIRST_ANNOTATED
        else _load_tiles(AnnotatedTile, folder / "annotated.parquet"),
        rasters=rasters,
    )


def _load_attention(path: Path) -> dict[str, NDArray[np.float32]]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _save_tiles(tiles: Sequence[AnnotatedTile], kind: type[AnnotatedTile], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f.name: [getattr(tile, f.name) for tile in tiles] for f in fields(kind)}
    pq.write_table(pa.table(columns), path)


def _load_tiles(kind: type[Tile], path: Path) -> tuple[Tile, ...]:
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    return tuple(kind(**row | {"percent": tuple(row["percent"])}) for row in rows)


def _parts(raw: dict[str, Any]) -> dict[str, Any]:
    """Fields of `Findings` that ``findings.json`` holds, by name."""
    counted = ("tiles_scored", "tiles_annotated", "models")
    plain = {k: v for k, v in raw.items() if k not in counted}
    alignment = plain["alignment"]
    slides = {name: SlideFacts(**plain[name]) for name in ("he", "ihc")}
    parts = {
        name: None if plain[name] is None else made(**plain[name])
        for name, made in _OPTIONAL.items()
    }
    alignment |= {"matrix": tuple(alignment["matrix"]), "shift_um": tuple(alignment["shift_um"])}
    rois = [
        roi | {"outline_um": tuple((x, y) for x, y in roi["outline_um"])} for roi in plain["rois"]
    ]
    interim = plain.get("interim")  # findings that were written before this field have none
    reasons = [ReviewReason(code=r["code"], params=r["params"]) for r in plain["review"]]
    return (
        plain
        | slides
        | parts
        | {
            "alignment": AlignmentFacts(**alignment),
            "review": tuple(reasons),
            "opinions": tuple(Opinion.of_json(opinion) for opinion in plain["opinions"]),
            "interim": None if interim is None else Opinion.of_json(interim),
            "rois": tuple(Roi(**roi) for roi in rois),
            "sign_offs": tuple(SignOff(**sign_off) for sign_off in plain["sign_offs"]),
        }
    )
