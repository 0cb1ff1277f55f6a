"""Overlays of a case: valid, and equal to the findings' rasters when read back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from fixtures.findings import HEIGHT_PX, MPP, WIDTH_PX, some_findings
from fixtures.judges import dicom_errors
from fixtures.slide_objects import ALGORITHM, identity, write_svs
from pydicom import Dataset, dcmread

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.assays.registry import LONGEST_TITLE
from appliance.delivery.context import ObjectContext
from appliance.delivery.overlays import block_sums, write_overlays
from appliance.domain import HE, HER2
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import MARGIN, SCORED, Findings
from appliance.findings.label_map import StoredLabels, save_labels
from appliance.settings.objects import ObjectSettings
from appliance.slides.raster import RasterGrid
from dicom import codes
from dicom.source import convert_slide, read_headers

MODIFIERS = "SegmentedPropertyTypeModifierCodeSequence"


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return a header of level 0 of a slide as large as the findings' slide."""
    folder = tmp_path_factory.mktemp("slide")
    done = convert_slide(write_svs(folder / "a.svs"), folder / "wsm", identity(), mpp=MPP)
    base = read_headers(done.paths)[0]
    base.TotalPixelMatrixColumns, base.TotalPixelMatrixRows = WIDTH_PX, HEIGHT_PX
    return base


def making(findings: Findings, header: Dataset, **settings: object) -> ObjectContext:
    return ObjectContext(
        findings=findings,
        assay=HER2_ASSAY,
        sources={stain: [header] for stain in (HE, HER2)},
        algorithms=dict.fromkeys(("tumor", "intensity", "segmentation"), ALGORITHM),
        settings=ObjectSettings(**settings),
        created=datetime(2026, 3, 4, tzinfo=UTC),
        seed="seed",
        software="0.1.0",
    )


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """Return findings with annotated tiles, and with the label map on disk as after a reading."""
    made = some_findings()
    scored = np.nan_to_num(made.rasters.he_probability) >= 0.5
    read = np.where(scored, SCORED, 0).astype(np.uint8)
    read[:14][read[:14] == SCORED] = MARGIN
    save_labels(made.rasters.ihc_classes, tmp_path / "labels.zip")
    stored = StoredLabels.open(tmp_path / "labels.zip")
    return replace(made, rasters=replace(made.rasters, ihc_read=read, ihc_classes=stored))


def test_a_cases_overlays_are_its_rasters(
    findings: Findings, header: Dataset, tmp_path: Path
) -> None:
    written = write_overlays(tmp_path, making(findings, header))
    assert {path.name: dicom_errors(path) for _, path in written} == {
        path.name: [] for _, path in written
    }
    rasters = findings.rasters
    (he, *_), (ihc, *coarser) = (
        [path for kind, path in written if kind == "SEG" and path.name.startswith(name)]
        for name in ("seg-he", "seg-ihc")
    )
    # 2, 8, 32 and 142 µm: the last is the multiple nearest to a tile.
    assert len(coarser) == 3
    assert np.array_equal(
        hd.seg.segread(he).get_total_pixel_matrix(combine_segments=True), rasters.he_tumor
    )
    opened = hd.seg.segread(ihc)
    classes = rasters.ihc_classes[:, :]
    grid = RasterGrid(*classes.shape, mpp=rasters.ihc_mpp)
    scored, annotated = (grid.expand(rasters.ihc_read == v) for v in (SCORED, MARGIN))
    assert (classes * scored).any() and (classes * annotated).any()
    for numbers, mask in (([1, 2, 3, 4], scored), ([6, 7, 8, 9], annotated)):
        found = opened.get_total_pixel_matrix(
            segment_numbers=numbers, combine_segments=True, relabel=True
        )
        assert np.array_equal(found, classes * mask)
    tumor = opened.get_total_pixel_matrix(segment_numbers=[5])[..., 0]
    assert np.array_equal(tumor, scored)
    assert [opened.get_segment_description(n).segment_label for n in range(1, 10)] == [
        *(f"HER2 {name}" for name in CLASS_NAMES),
        "Tumor, scored (from H&E)",
        *(f"HER2 {name}, not scored" for name in CLASS_NAMES),
    ]
    modifiers = [
        [code.CodeValue for code in segment.SegmentedPropertyTypeCodeSequence[0][MODIFIERS]]
        for segment in dcmread(ihc).SegmentSequence
    ]
    scores = [codes.SCORES[name].value for name in CLASS_NAMES]
    assert modifiers == [
        *([score] for score in scores),
        ["scored"],
        *([score, "not-scored"] for score in scores),
    ]
    assert "not scored" in opened.ContentDescription
    tiles = dcmread(coarser[-1])
    shape = (tiles.TotalPixelMatrixRows, tiles.TotalPixelMatrixColumns)
    assert shape == rasters.ihc_read.shape


def test_heat_maps_hold_probability_and_mean_class(
    findings: Findings, header: Dataset, tmp_path: Path
) -> None:
    written = dict(reversed(item) for item in write_overlays(tmp_path, making(findings, header)))
    heat = {path.name: dcmread(path) for path, kind in written.items() if kind == "PM"}
    assert set(heat) == {"pm-he-1.dcm", "pm-ihc-1.dcm", "pm-ihc-2.dcm"}
    probability = findings.rasters.he_probability
    frame = np.frombuffer(heat["pm-he-1.dcm"].PixelData, "<u2").reshape(128, 128)
    row, column = np.unravel_index(np.nanargmax(probability), probability.shape)
    assert frame[row, column] / 65535 == pytest.approx(probability[row, column], abs=1e-4)
    assert (frame[: len(probability), :42] > 0).sum() == np.isfinite(probability).sum()
    stored = findings.rasters.ihc_classes
    scored = RasterGrid(*stored.shape, mpp=findings.rasters.ihc_mpp).expand(
        findings.rasters.ihc_read == SCORED
    )
    total, counts = block_sums(stored, 16)
    classes = stored[:, :].astype(int)
    block = classes[64 * 16 : 65 * 16, 80 * 16 : 81 * 16]
    assert counts[64, 80] == (block > 0).sum() > 0
    assert total[64, 80] == (block[block > 0] - 1).sum()
    assert counts.sum() == (classes > 0).sum()
    assert counts.shape == (-(-classes.shape[0] // 16), -(-classes.shape[1] // 16))
    # Tiles that are not scored have no part in the heat map.
    _, within = block_sums((stored[:, :] * scored).astype(np.uint8), 16)
    assert 0 < (within > 0).sum() < (counts > 0).sum()
    frames = np.frombuffer(heat["pm-ihc-1.dcm"].PixelData, "<u2")
    assert np.count_nonzero(frames) == (within > 0).sum()
    # Unstained tumor counts as class 0, and the quantity says what is averaged.
    assert (classes == 1).any()
    functional = heat["pm-ihc-1.dcm"].SharedFunctionalGroupsSequence[0]
    (defined,) = functional.RealWorldValueMappingSequence[0].QuantityDefinitionSequence
    (quantity,) = defined.ConceptCodeSequence
    assert quantity.CodeMeaning == "Mean intensity class of tumor, 0 to 3"


def test_overlays_of_a_sites_own_assay_hold_its_title(
    findings: Findings, header: Dataset, tmp_path: Path
) -> None:
    own = replace(HER2_ASSAY, title="Claudin 18.2, 43-14A, RTU")
    made = replace(making(findings, header), assay=replace(own, title=own.title[:LONGEST_TITLE]))
    written = [path for _, path in write_overlays(tmp_path, made)]
    assert {path.name for path in written} >= {"seg-ihc-1.dcm", "pm-ihc-1.dcm"}
    for path in written:
        dataset = dcmread(path)
        assert dicom_errors(path) == []
        assert "research use only" in dataset.SeriesDescription
    values = dcmread(tmp_path / "pm-ihc-1.dcm").SharedFunctionalGroupsSequence[0]
    assert values.RealWorldValueMappingSequence[0].LUTLabel == "Claudin 18.2, 43"


def test_settings_leave_out_levels_and_heat_maps(
    findings: Findings, header: Dataset, tmp_path: Path
) -> None:
    written = write_overlays(tmp_path, making(findings, header, finest_um=8.0, heatmaps=False))
    assert {kind for kind, _ in written} == {"SEG"}
    finest = dcmread(tmp_path / "seg-ihc-1.dcm")
    spacing = finest.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert float(spacing[0]) == pytest.approx(0.008)


def test_other_forms_have_a_series_for_segments_that_overlap(
    findings: Findings, header: Dataset, tmp_path: Path
) -> None:
    chosen = making(findings, header, segmentation="labelmap", fractional=True, heatmaps=False)
    names = {path.name for _, path in write_overlays(tmp_path, chosen)}
    series = {"seg-ihc-1.dcm", "seg-ihc-tumor-1.dcm", "seg-ihc-annotated-1.dcm"}
    assert series | {"seg-he-probability.dcm"} < names
    mask = hd.seg.segread(tmp_path / "seg-ihc-tumor-1.dcm")
    scored = RasterGrid(*findings.rasters.ihc_classes.shape, mpp=findings.rasters.ihc_mpp).expand(
        findings.rasters.ihc_read == SCORED
    )
    assert np.array_equal(mask.get_total_pixel_matrix(combine_segments=True), scored)
    fraction = hd.seg.segread(tmp_path / "seg-he-probability.dcm").get_total_pixel_matrix()[..., 0]
    wanted = np.nan_to_num(findings.rasters.he_probability)
    np.testing.assert_allclose(fraction, wanted, atol=0.6 / 255)
