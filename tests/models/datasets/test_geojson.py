"""QuPath's GeoJSON: accepted forms, and refusals that name file and feature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.datasets.geojson import read_annotations
from models.errors import DataSetError

SQUARE = [[10, 10], [110, 10], [110, 110], [10, 110], [10, 10]]
HOLE = [[30, 30], [50, 30], [50, 50], [30, 50], [30, 30]]


def feature(
    coordinates: Any = (SQUARE,),
    kind: str = "Polygon",
    name: str | None = "Tumor",
    **properties: Any,
) -> dict[str, Any]:
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "annotation", **properties},
    }


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_collection_list_and_single_feature_are_the_same(tmp_path: Path) -> None:
    one = feature([SQUARE, HOLE])
    for document in ({"type": "FeatureCollection", "features": [one]}, [one], one):
        (area,) = read_annotations(write(tmp_path / "a.geojson", document), 200, 200)
        assert (area.name, area.number, len(area.rings)) == ("Tumor", 1, 2)
        assert area.box_px == (10, 10, 110, 110)
        assert area.size_px2 == 100 * 100 - 20 * 20


def test_multipolygon_is_several_areas(tmp_path: Path) -> None:
    other = [[[150, 150], [160, 150], [160, 160], [150, 150]]]
    path = write(tmp_path / "a.geojson", [feature([[SQUARE, HOLE], other], "MultiPolygon")])
    assert [area.size_px2 for area in read_annotations(path, 200, 200)] == [9600, 50]


def test_detections_are_passed_over_and_derived_names_joined(tmp_path: Path) -> None:
    derived = feature(name=None, classification={"names": ["Tumor", "3+"]})
    cell = feature(name=None, objectType="cell")
    path = write(tmp_path / "a.geojson", [cell, derived])
    assert [(a.name, a.number) for a in read_annotations(path, 200, 200)] == [("Tumor: 3+", 2)]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (feature(name=None), r"feature 2: has no class"),
        (feature([10, 10], "Point"), r"feature 2: a Point has no area"),
        (feature([SQUARE[:-1]]), r"feature 2: an outline is not closed"),
        (feature([[[], [1]]]), r"feature 2: "),
        (feature([[[10**400, 0], *SQUARE[1:]]]), r"feature 2: "),
        (feature([]), r"feature 2: has no outline"),
        (feature([["a", "b"]]), r"feature 2: "),
        (feature([[[1, 1], [float("nan"), 2], [3, 3], [1, 1]]]), r"feature 2: .* not a number"),
        ({"type": "Feature"}, r"feature 2: not a GeoJSON feature"),
        (None, r"feature 2: not a GeoJSON feature"),
        (feature([[[x + 100, y] for x, y in SQUARE]]), r"feature 2: .*outside the slide of 200 x"),
        (feature([[[x, y - 20] for x, y in SQUARE]]), r"feature 2: .*outside the slide of 200 x"),
    ],
)
def test_bad_features_are_named(bad: Any, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.geojson", [feature(), bad])
    with pytest.raises(DataSetError, match=r"bad\.geojson, " + says):
        read_annotations(path, 200, 200)


def test_on_the_edge_is_inside(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", [feature()])
    assert len(read_annotations(path, 110, 110)) == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "no annotated area"),
        (b"3", "feature 1"),
    ],
)
def test_bytes_that_are_no_annotations(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_bytes(data)
    with pytest.raises(DataSetError, match=rf"a\.geojson.*{says}"):
        read_annotations(tmp_path / "a.geojson", 200, 200)
