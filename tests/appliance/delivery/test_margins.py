"""Slides with margins that the scanner left out: results lie where the file has the tissue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from fixtures.case_objects import BLANK
from fixtures.findings import some_findings
from fixtures.judges import dicom_errors
from fixtures.margins import LEFT_OUT, write_mrxs
from fixtures.pairings import HER2_PAIR
from fixtures.slide_objects import MPP, segmentation, write_svs
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.her2.assay import HER2_ASSAY
from appliance.cli.annotated_slides import open_as_the_daemon
from appliance.delivery.frozen import freeze_source
from appliance.delivery.sources import slide_sources
from appliance.domain import HER2, Identity
from appliance.findings.codec import save_findings
from appliance.ledger.ledger import Ledger
from appliance.line.analyze_slide import open_facts
from appliance.operations.export import export_case
from appliance.settings.settings import Settings
from appliance.slides.header import bounds_offset
from appliance.slides.raster import RasterGrid
from appliance.slides.reader import SlideReader
from dicom.errors import ObjectError
from models.datasets.annotated import drawn_areas
from models.datasets.geojson import write_annotations
from models.spec import Task

TILE = 512
START = (256 * LEFT_OUT[0], 256 * LEFT_OUT[1])


def test_a_slide_with_margins_is_converted_whole_and_results_lie_on_it(tmp_path: Path) -> None:
    path = tmp_path / "ihc.mrxs"
    pixels = write_mrxs(path)
    ihc = open_facts(path)
    with SlideReader.of(ihc) as slide:
        assert bounds_offset(slide.properties) == START
    assert (ihc.height_px, ihc.width_px) == pixels.shape[:2]
    he = replace(open_facts(write_svs(tmp_path / "he.svs")), mpp=MPP)
    findings = replace(some_findings(), he=he, ihc=ihc)
    made = slide_sources(findings, HER2_ASSAY, Settings(state_dir=tmp_path / "state"))
    base = made.headers[HER2][0]
    assert (base.TotalPixelMatrixRows, base.TotalPixelMatrixColumns) == pixels.shape[:2]
    (file,) = (
        path for path in made.converted if dcmread(path).SOPInstanceUID == base.SOPInstanceUID
    )
    assert dicom_errors(file) == []
    scan = whole(dcmread(file))
    scanned = np.s_[256:-512, 512:-256]  # LEFT_OUT
    difference = np.abs(scan.astype(int) - pixels)[scanned]
    assert difference.mean() < 3
    assert (scan[:240] > 250).all() and (scan[:, :500] > 250).all()
    grid = RasterGrid.of(ihc, 1.0)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[scanned[0].start // 2, scanned[1].start // 2] = 1  # the first px of tissue
    overlay = segmentation(made.headers[HER2], labels, mpp=grid.mpp)[0]
    read = hd.seg.Segmentation.from_dataset(overlay).get_total_pixel_matrix(combine_segments=True)
    assert np.argwhere(read).tolist() == [[scanned[0].start // 2, scanned[1].start // 2]]
    assert overlay.FrameOfReferenceUID == base.FrameOfReferenceUID
    factor = base.TotalPixelMatrixColumns / overlay.TotalPixelMatrixColumns
    assert (factor, base.TotalPixelMatrixRows / overlay.TotalPixelMatrixRows) == (2, 2)
    measures = [
        each.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0]
        for each in (base, overlay)
    ]
    assert measures[1] == 2 * measures[0]


def test_a_conversion_of_another_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter's reader would make it so: it crops to the bounds."""
    path = tmp_path / "ihc.mrxs"
    write_mrxs(path)
    he = replace(open_facts(write_svs(tmp_path / "he.svs")), mpp=MPP)
    findings = replace(some_findings(), he=he, ihc=open_facts(path))
    monkeypatch.setattr("appliance.slides.general.is_bounded", lambda *_: False)
    settings = Settings(state_dir=tmp_path / "state")
    with pytest.raises(ObjectError, match="2304 x 1280 px, and the slide's file 3072 x 2048"):
        slide_sources(findings, HER2_ASSAY, settings)


def test_areas_count_from_where_qupath_does(tmp_path: Path) -> None:
    """QuPath shows the file cropped to its bounds, and takes their corner for (0, 0)."""
    path = tmp_path / "ihc.mrxs"
    write_mrxs(path)
    settings = Settings(state_dir=tmp_path / "state")
    he = replace(open_facts(write_svs(tmp_path / "he.svs")), mpp=MPP)
    made = some_findings()
    corners = ((300.0, 200.0), (400.0, 200.0), (400.0, 300.0))
    roi = replace(made.rois[0], outline_um=corners)
    findings = replace(made, he=he, ihc=open_facts(path), rois=(roi,))
    store, ledger = ArtifactStore(settings.artifacts_dir), Ledger(settings.ledger_url)
    freeze_source(findings.ihc, store)  # as identify does
    key = ArtifactKey.of("findings", case="1")
    with store.writing(key) as folder:
        save_findings(findings, folder, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    identity = Identity(accession=findings.accession, block="A1", stain=HER2)
    with ledger.transaction() as tx:
        tx.case_for(identity, 0.0, HER2_PAIR).findings_key = str(key)
    ledger.close()
    (file,) = export_case(settings, "case-1", geojson=tmp_path / "ihc.geojson")
    feature = json.loads(file.read_text())["features"][-1]
    px = np.array(corners) / findings.ihc.mpp
    assert feature["properties"]["name"] == roi.name
    assert feature["geometry"]["coordinates"][0][:3] == (px - START).tolist()
    feature["properties"]["classification"]["name"] = "3+"
    file.write_text(json.dumps(feature))
    with open_as_the_daemon(path) as slide:
        (drawn,) = drawn_areas(file, Task.INTENSITY, slide, {})
        assert drawn.area.rings[0][:3].tolist() == px.tolist()
        again = tmp_path / "again.geojson"
        write_annotations(again, [drawn.area], {"3+": (1, 2, 3)}, slide.offset_px)
    (written,) = json.loads(again.read_text())["features"]
    assert written["geometry"]["coordinates"][0][:3] == (px - START).tolist()


def whole(image: Dataset) -> NDArray[np.uint8]:
    """Px of a level, from its frames in their order."""
    rows, columns = image.TotalPixelMatrixRows, image.TotalPixelMatrixColumns
    across, down = -(-columns // TILE), -(-rows // TILE)
    frames = pixel_array(image).reshape(down, across, TILE, TILE, 3)
    joined: NDArray[np.uint8] = frames.swapaxes(1, 2).reshape(down * TILE, across * TILE, 3)
    return joined[:rows, :columns]
