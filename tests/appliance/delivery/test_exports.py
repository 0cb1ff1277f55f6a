"""Exports for other programs: areas as GeoJSON, label maps as OME-TIFF."""

from __future__ import annotations

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import tifffile
from fixtures.case_objects import BLANK
from fixtures.daemon import tandem_here
from fixtures.findings import some_findings
from fixtures.instances import made_object
from fixtures.pairings import HER2_PAIR
from fixtures.slide_objects import HEIGHT, MPP, WIDTH, write_svs
from pynetdicom.sop_class import Comprehensive3DSRStorage

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.her2.assay import HER2_ASSAY
from appliance.delivery.destinations.contract import Instance, Proof, open_destination
from appliance.delivery.exports import write_export
from appliance.delivery.index import INDEX_NAME
from appliance.domain import HE, HER2, Identity
from appliance.errors import DestinationUnavailableError, SettingsError
from appliance.findings.codec import IHC_CLASSES, save_findings
from appliance.findings.findings import MARGIN, SCORED, Findings
from appliance.findings.outlines import thinned
from appliance.ledger.ledger import Ledger
from appliance.operations.export import export_case
from appliance.settings.destinations import FolderDestination
from appliance.settings.settings import Settings
from dicom.status import Outcome, Verdict
from models.datasets.geojson import read_annotations
from models.datasets.store import read_data_set_manifest

NAMES = [named.name for named in HER2_ASSAY.classes]


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Return findings whose label map has px of 6 µm."""
    made = some_findings()
    classes = made.rasters.ihc_classes
    assert classes is not None
    return replace(made, rasters=replace(made.rasters, ihc_classes=classes[::3, ::3], ihc_mpp=6.0))


def saved(findings: Findings, settings: Settings) -> ArtifactKey:
    """Keep findings as the line does."""
    key = ArtifactKey.of("findings", case="1")
    with ArtifactStore(settings.artifacts_dir).writing(key) as folder:
        save_findings(findings, folder, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    return key


def test_areas_come_back_px_for_px(findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    assert write_export("geojson", findings, HER2_ASSAY, HER2, path)
    areas = read_annotations(path, findings.ihc.width_px, findings.ihc.height_px)
    assert findings.rasters.ihc_classes is not None
    coarse = thinned(findings.rasters.ihc_classes, 2)  # 12 µm
    drawn = np.zeros_like(coarse)
    scale = findings.ihc.mpp / (findings.rasters.ihc_mpp * 2)
    for area in areas:
        if area.name in NAMES:
            # Three px for one, whose middle one is the center: OpenCV draws the edges, too.
            large = np.zeros((coarse.shape[0] * 3, coarse.shape[1] * 3), dtype=np.uint8)
            rings = [np.round(ring * scale * 3 - 0.5).astype(np.int32) for ring in area.rings]
            cv2.fillPoly(large, rings, 1)
            mask = large[1::3, 1::3]
            assert not drawn[mask > 0].any()
            drawn[mask > 0] = NAMES.index(area.name) + 1
    assert (drawn == coarse).all()
    others = [area for area in areas if area.name not in NAMES]
    assert [area.name for area in others] == ["Scored tumor*", "Region*"]
    (roi,) = findings.rois
    corners = np.array(roi.outline_um) / findings.ihc.mpp
    assert np.abs(others[1].rings[0][:-1] - corners).max() <= 0.005


def test_qupath_finds_what_it_reads_and_no_case(findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    write_export("geojson", findings, HER2_ASSAY, HER2, path)
    assert findings.accession.encode() not in path.read_bytes()
    document = json.loads(path.read_text())
    assert document["type"] == "FeatureCollection" and "research use only" in document["notice"]
    for feature in document["features"]:
        properties = feature["properties"]
        assert (feature["type"], properties["objectType"]) == ("Feature", "annotation")
        assert len(properties["classification"]["color"]) == 3
    assert len({feature["id"] for feature in document["features"]}) == len(document["features"])
    again = tmp_path / "b.geojson"
    write_export("geojson", findings, HER2_ASSAY, HER2, again)
    assert again.read_bytes() == path.read_bytes()


def test_areas_make_a_data_set_of_our_own(findings: Findings, tmp_path: Path) -> None:
    """The exported classes are read as annotations are, and give tiles of these classes."""
    stripes = np.minimum(np.arange(WIDTH // 4) * 4 // (WIDTH // 4) + 1, 4).astype(np.uint8)
    classes = np.repeat(stripes[None], HEIGHT // 4, axis=0)
    rasters = replace(findings.rasters, ihc_classes=classes, ihc_mpp=4 * MPP)
    slide = replace(findings.ihc, width_px=WIDTH, height_px=HEIGHT, mpp=MPP)
    roi = replace(findings.rois[0], outline_um=((10.0, 10.0), (30.0, 10.0), (30.0, 20.0)))
    small = replace(findings, ihc=slide, rasters=rasters, rois=(roi,))
    with (tmp_path / "slides.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("slide", "annotations", "patient"))
        for number in range(3):
            write_svs(tmp_path / f"{number}.svs", seed=number)
            write_export("geojson", small, HER2_ASSAY, HER2, tmp_path / f"{number}.geojson")
            rows.writerow((f"{number}.svs", f"{number}.geojson", f"P{number}"))
    command = ("annotations", tmp_path / "slides.csv", "--task", "segmentation")
    tandem_here("dataset", *command, "--out", tmp_path / "set")
    counts = read_data_set_manifest(tmp_path / "set").counts
    found = {name for split in counts.values() for name, tiles in split.classes.items() if tiles}
    assert found >= set(NAMES)
    assert sum(split.patients for split in counts.values()) == 3


@pytest.mark.parametrize("stain", [HE, HER2])
def test_a_label_map_is_a_pyramid_in_place(stain: str, findings: Findings, tmp_path: Path) -> None:
    rasters = findings.rasters
    path, again = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    for each in (path, again):
        assert write_export("label_map", findings, HER2_ASSAY, HE if stain == HE else HER2, each)
    assert path.read_bytes() == again.read_bytes()
    labels = rasters.he_tumor if stain == HE else rasters.ihc_classes
    assert labels is not None
    with tifffile.TiffFile(path) as tiff:
        assert (tiff.asarray() == labels[:, :]).all()
        (series,) = tiff.series
        assert series.levels[0].shape == labels.shape
        # The map of H&E is longer than the coarsest level may be.
        coarser = [level.asarray() for level in series.levels[1:]]
        assert len(coarser) == (stain == HE)
        assert all((level == thinned(labels, 4)).all() for level in coarser)
        assert f'PhysicalSizeX="{rasters.he_mpp if stain == HE else rasters.ihc_mpp}"' in (
            tiff.ome_metadata or ""
        )
        assert "research use only" in (tiff.ome_metadata or "")
    assert findings.accession.encode() not in path.read_bytes()
    without = replace(findings, rasters=replace(rasters, ihc_classes=None))
    assert not write_export("label_map", without, HER2_ASSAY, HER2, tmp_path / "c.ome.tif")


@pytest.mark.parametrize("kind", ["geojson", "label_map"])
def test_tiles_that_are_annotated_only_are_in_no_export(
    kind: Literal["geojson", "label_map"], findings: Findings, tmp_path: Path
) -> None:
    read = np.where(findings.rasters.ihc_read == SCORED, MARGIN, 0).astype(np.uint8)
    annotated = replace(findings, rasters=replace(findings.rasters, ihc_read=read))
    path = tmp_path / "export"
    for given, classes in ((findings, True), (annotated, False)):
        assert write_export(kind, given, HER2_ASSAY, HER2, path)
        if kind == "label_map":
            assert bool(tifffile.imread(path).any()) == classes
        else:
            features = json.loads(path.read_text())["features"]
            named = {f["properties"]["classification"]["name"] for f in features}
            assert bool(named & set(NAMES)) == classes


def test_a_case_is_exported_by_its_number(findings: Findings, tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        identity = Identity(accession=findings.accession, block="A1", stain=HE)
        case = tx.case_for(identity, 0.0, HER2_PAIR)
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="case-1 has no result yet"):
        export_case(settings, "case-1", geojson=out)
    with ledger.transaction() as tx:
        row = tx.case(case.id or 0)
        assert row is not None
        row.findings_key = str(saved(findings, settings))
    ledger.close()
    with pytest.raises(SettingsError, match="no 'case-9'"):
        export_case(settings, "case-9", geojson=out)
    with pytest.raises(SettingsError, match=r"no slide 'ER'\. Its slides are HE, HER2"):
        export_case(settings, "case-1", geojson=out, slide="ER")
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    places = ("--geojson", out, "--label-map", out)
    told = tandem_here("export", "case-1", *places, "--config", config).stdout.split()
    names = ["case-1-HE.geojson", "case-1-HE.ome.tif", "case-1-HER2.geojson", "case-1-HER2.ome.tif"]
    assert sorted(told) == sorted(str(path) for path in out.iterdir())
    assert sorted(path.name for path in out.iterdir()) == names
    (file,) = export_case(settings, "case-1", geojson=tmp_path / "one.geojson", slide="he")
    assert file.read_bytes() == (out / "case-1-HE.geojson").read_bytes()
    (file,) = export_case(settings, "case-1", geojson=tmp_path / "two.geojson")
    assert file.read_bytes() == (out / "case-1-HER2.geojson").read_bytes()


@pytest.mark.parametrize("kind", ["--geojson", "--label-map", "--out"])
def test_nothing_is_written_into_a_scanners_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "scans").mkdir()
    config = tmp_path / "tandem.toml"
    config.write_text(
        f'state_dir = "{tmp_path / "state"}"\n[watch]\nfolder = "{tmp_path / "scans"}"\n'
    )
    command = "picture" if kind == "--out" else "export"
    place = tmp_path / "scans" / "day"
    done = tandem_here(command, "case-1", kind, place, "--config", config, check=False)
    assert done.returncode == 1 and "to which nothing is written" in " ".join(done.stderr.split())
    assert not list((tmp_path / "scans").iterdir())


def refuse(folder: Path) -> Findings:
    raise OSError(errno.EIO, "Input/output error")


def test_a_folder_has_exports_beside_the_report(
    findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    objects = tmp_path / "objects"
    objects.mkdir()
    kept = saved(findings, settings)
    made_from = {"made_from": {"findings": str(kept)}}
    (objects / INDEX_NAME).write_text(json.dumps(made_from))
    report = objects / "sr.dcm"
    ref = made_object(report, sop_class=Comprehensive3DSRStorage)
    instance = Instance(path=report, ref=ref)
    section = FolderDestination(folder=tmp_path / "archive", geojson=True, label_map=True)
    (tmp_path / "archive").mkdir()
    archive, outcomes = open_destination(settings, section), list[Outcome]()
    archive.send([instance], lambda _: None, lambda _, outcome: outcomes.append(outcome))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.STORED]
    study = tmp_path / "archive" / ref.study_uid
    uid = ref.sop_instance_uid
    assert sorted(path.name for path in study.iterdir()) == sorted(
        (f"{uid}.dcm", *(f"{uid}-{s}{end}" for s in (HE, HER2) for end in (".geojson", ".ome.tif")))
    )
    assert archive.prove([instance])[uid].proof is Proof.THERE
    for pattern in (f"*-{HE}.geojson", "*.ome.tif"):
        for path in study.glob(pattern):
            path.rename(tmp_path / path.name)
        assert archive.prove([instance])[uid].proof is Proof.ABSENT
        for path in tmp_path.glob(pattern):
            path.rename(study / path.name)
    assert archive.prove([instance])[uid].proof is Proof.THERE
    with monkeypatch.context() as patched:  # a disk that cannot be read now blames no report
        patched.setattr("appliance.delivery.destinations.exports.load_findings", refuse)
        with pytest.raises(DestinationUnavailableError, match="cannot be read for the exports"):
            archive.send([instance], lambda _: None, lambda _, outcome: outcomes.append(outcome))
    assert len(outcomes) == 1
    other = objects / "seg.dcm"
    both = [instance, Instance(path=other, ref=made_object(other))]

    def refused() -> str:
        """Return why the report is not sent; another object of the case goes all the same."""
        archive.send(both, lambda _: None, lambda _, outcome: outcomes.append(outcome))
        assert [outcome.verdict for outcome in outcomes[-2:]] == [Verdict.NEVER, Verdict.STORED]
        return outcomes[-2].text

    with monkeypatch.context() as patched:
        patched.setattr("appliance.assays.registry.assays", tuple)
        assert "Add its module to extensions" in refused()
    labels = ArtifactStore(settings.artifacts_dir).path(kept) / IHC_CLASSES
    flipped = bytearray(labels.read_bytes())
    flipped[len(flipped) // 3] ^= 0xFF
    labels.write_bytes(flipped)
    assert "tandem rerun" in refused()
    (objects / INDEX_NAME).unlink()
    assert "tandem rerun" in refused()
    with pytest.raises(ValueError, match="add SR to objects"):
        FolderDestination(geojson=True, objects=("SEG",))
