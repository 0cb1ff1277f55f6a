"""Algorithm 1 of arXiv 2512.22335 from both grids to the slide's score, compared with sums by hand.

H&E, 3 x 4 tiles, tumor probability (tumor from 0.5 on; "-" was not read):

    0.9  0.8  0.2  0.1
    0.9  0.7  0.6  0.1
    0.4  0.9  0.5   -

Eq. 3-4: the IHC section lies 1.2 tiles to the right and 0.1 down, so H&E (row, column) belongs to
IHC (row, column + 1). The IHC slide has no tissue at (2, 3): H&E tile (2, 2), tumor, has no
partner and is not scored. Six tiles are:

    H&E    IHC    px of M's 16: background, 0, 1+, 2+, 3+    L
    (0,0)  (0,1)    4  8  4  0  0                            none
    (0,1)  (0,2)    2  2  8  4  0                            faint
    (1,0)  (1,1)    0  0  4 10  2                            weak
    (1,1)  (1,2)   16  0  0  0  0                            strong
    (1,2)  (1,3)    0 16  0  0  0                            faint
    (2,1)  (2,2)    4  0  6  6  0                            faint

Eq. 5-6, 100 N{k} / 16, and Eq. 7, the class with most px of N{1..4}, a tie to the higher one,
joined with what L says:

    (0,1)  50    25     0     0     0    NF/0
    (0,2)  12.5  50    25     0     1+   NFW/1+
    (1,1)   0    25    62.5  12.5   2+   FWS/2+
    (1,2)   0     0     0     0     -    N whatever L says, annotated and not scored
    (1,3) 100     0     0     0     0    NF/0
    (2,2)   0    37.5  37.5   0     2+   FW/2+

Eq. 8: two tiles are of 2+ or 3+ (k in {3, 4}); the highest of them is 2+, and so is the one with
the largest count, (1,1) with 10 px.
Eq. 9: five tiles are scored, two of them 2+ or 3+: 100 * 2 / 5 = 40 %. The slide has 3 x 4 tiles:
over its H * W it is 100 * 2 / 12 = 16.67 %.
Tumor percentage: 7 of the 11 tiles that C read reach 0.5: 63.64 %.
Section 3.3, x in {1, 4}: 26 px of class 1 and 2 of class 4: negative.

Beside it, from the px: 0: 8 + 2 + 16 = 26, 1+: 4 + 8 + 4 + 6 = 22, 2+: 4 + 10 + 6 = 20, 3+: 2, of
70: 37.14, 31.43, 28.57 and 2.86 %. H-score: (22 + 2 * 20 + 3 * 2) * 100 / 70 = 97.14.
Tumor: 12 + 14 + 16 + 0 + 16 + 12 = 70 of 16 px a tile: 4.375 tiles.

With ``scoring.read_all_tissue`` L and M read the other five tissue tiles too. All figures above
stay as they are: the five are annotated.

    IHC    px of M's 16: background, 0, 1+, 2+, 3+    L
    (0,0)    0  0  0  0 16                            strong    S/3+
    (0,3)   16  0  0  0  0                            strong    N
    (1,0)    8  0  8  0  0                            none      NF/1+
    (2,0)   15  0  0  0  1                            strong    S/3+
    (2,1)   16  0  0  0  0                            none      N
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from fixtures.findings import some_opinions

from appliance.assays.assay import Declared, StepOutputs
from appliance.assays.her2.assay import HER2_ASSAY
from appliance.assays.registry import readers_in_use
from appliance.delivery.page import build_page
from appliance.domain import HE, HER2, Identity, SlideFacts
from appliance.findings.classes import count_classes
from appliance.findings.codec import IHC_CLASSES
from appliance.findings.findings import MARGIN, SCORED, Findings
from appliance.findings.label_map import StoredLabels, save_labels
from appliance.findings.measured import StainFocus
from appliance.geometry import TILE_MPP, TILE_PX, TILE_UM, Affine, TileGrid, TileIndex
from appliance.readers.cell_tally import CellTally
from appliance.readers.control import ControlReading
from appliance.readers.intensity import IntensityReading
from appliance.readers.low_resolution import LowResolutionReading
from appliance.readers.plain import PlainReading
from appliance.readers.reader import find_reader
from appliance.readers.segmentation import SegmentationReading
from appliance.readers.tile_pass import row_by_row
from appliance.readers.tumor import TumorReading
from appliance.registration.alignment import Alignment
from appliance.registration.mapping import SlideMapping
from appliance.registration.tile_plan import map_tumor
from appliance.settings.settings import Settings
from appliance.slides.appearance import Appearance
from dicom import codes

TUMOR = np.array(
    [[0.9, 0.8, 0.2, 0.1], [0.9, 0.7, 0.6, 0.1], [0.4, 0.9, 0.5, np.nan]], dtype=np.float32
)
SEGMENTED = {
    (0, 1): ([4, 8, 4, 0, 0], 0),
    (0, 2): ([2, 2, 8, 4, 0], 1),
    (1, 1): ([0, 0, 4, 10, 2], 2),
    (1, 2): ([16, 0, 0, 0, 0], 3),
    (1, 3): ([0, 16, 0, 0, 0], 1),
    (2, 2): ([4, 0, 6, 6, 0], 1),
}
"""IHC (row, column): px per class of M, and L's class."""
BESIDE = {
    (0, 0): ([0, 0, 0, 0, 16], 3),
    (0, 3): ([16, 0, 0, 0, 0], 3),
    (1, 0): ([8, 0, 8, 0, 0], 0),
    (2, 0): ([15, 0, 0, 0, 1], 3),
    (2, 1): ([16, 0, 0, 0, 0], 0),
}
"""The same of the tissue tiles without a tumor partner."""


def slide(name: str) -> SlideFacts:
    return SlideFacts(
        path=name,
        fingerprint=name,
        format="aperio",
        width_px=4 * TILE_PX,
        height_px=3 * TILE_PX,
        mpp=TILE_MPP,
        level_count=1,
        is_dicom=False,
    )


@pytest.fixture(params=[False, True], ids=["tumor", "all tissue"])
def findings(tmp_path: Path, request: pytest.FixtureRequest) -> Findings:
    """Findings of the slides, whether or not all tissue is read."""
    return decided(tmp_path, read_all_tissue=request.param)


def decided(
    tmp_path: Path,
    *,
    read_all_tissue: bool,
    outside: StainFocus | None = None,
    control: Collection[TileIndex] = (),
    cells: Mapping[TileIndex, CellTally] | None = None,
    **scoring: str,
) -> Findings:
    """Through the mapping of the tiles and from the files that the readers leave.

    `outside` is what the plain reader sees outside the tumor, `control` are tiles that hold some
    control tissue, `cells` the cells of tiles, none elsewhere.
    """
    # The twelve tiles hold less tumor than a score is interpreted on.
    settings = Settings.model_validate(
        {
            "review": {"min_tumor_area_mm2": 0.0},
            "scoring": {"read_all_tissue": read_all_tissue} | scoring,
        }
    )
    mapping = SlideMapping.of(Affine((1, 0, 0, 1), (1.2 * TILE_UM, 0.1 * TILE_UM)))
    grid = TileGrid(4, 3)
    tissue = np.ones((3, 4), dtype=np.float32)
    tissue[2, 3] = 0
    plan = map_tumor(
        TUMOR, mapping, grid, grid, tissue, threshold=0.5, margin_tiles=settings.scoring.margin
    )
    in_use = readers_in_use(HER2_ASSAY, Settings())
    folders = {reader.name: tmp_path / reader.name for reader in in_use}
    for folder in folders.values():
        folder.mkdir()
    read = sorted((*plan.ihc_tiles, *plan.margin), key=row_by_row)
    said = [(SEGMENTED | BESIDE)[t.row, t.column] for t in read]
    judged = np.array([t in plan.partner for t in read])
    counts = []
    for px, _ in said:
        label_map = np.repeat(np.arange(5, dtype=np.uint8), px).reshape(4, 4)
        counts.append(count_classes(label_map))
    labels = folders["segmentation"] / IHC_CLASSES
    save_labels(np.zeros((6, 8), np.uint8), labels)
    places = np.array([(t.column, t.row) for t in read], np.int32)
    of_c, of_l, of_m = some_opinions({"0": 100.0, "1+": 0.0, "2+": 0.0, "3+": 0.0})
    readings = {
        "tumor": TumorReading(opinion=of_c, probability=TUMOR),
        "intensity": IntensityReading(
            opinion=of_l,
            places=places,
            judged=judged,
            intensity=np.array([grade for _, grade in said], np.uint8),
            certainty=np.full(len(counts), 0.9, np.float32),
        ),
        "segmentation": SegmentationReading(
            opinion=of_m,
            places=places,
            judged=judged,
            counts=np.array(counts),
            on_control=np.array([t in control for t in read]),
            cells={
                number: (cells or {}).get(TileIndex(*place), CellTally())
                for number, place in enumerate(places.tolist())
            },
            labels=StoredLabels.open(labels),
            mpp=TILE_UM / 2,
            control=ControlReading(area_mm2=0.0, counts=[]),
            unreadable_control_percent=0.0,
        ),
        "plain": PlainReading(opinion=replace(of_l, reader="plain", weights=None), outside=outside),
        "low_resolution": LowResolutionReading(
            opinion=replace(
                of_l,
                reader="low_resolution",
                weights=None,
                certainty=None,
                probabilities=(0.0,) * len(of_l.classes),
            )
        ),
    }
    for name, folder in folders.items():
        find_reader(name).save(readings[name], folder)
    outputs = StepOutputs(
        identity=Identity(accession="S26-1", block="A1", stain=HER2),
        anatomy=slide("he"),
        target=slide("ihc"),
        declared=Declared(),
        readings={name: find_reader(name).load(folder) for name, folder in folders.items()},
        alignment=Alignment(mapping=mapping, error_um=5.0, overlap=1.0, agreement=0.9),
        plan=plan,
        read=np.full(grid.shape, 2, np.uint8),
        pictures={},
        appearance={HE: Appearance(), HER2: Appearance()},
        unreadable_percent={HE: 0.0, HER2: 0.0},
        marked_percent={HE: 0.0, HER2: 0.0},
    )
    assert plan.unscored_he == (TileIndex(2, 2),)
    return HER2_ASSAY.decide(outputs, settings)


def test_eq_3_and_4_give_each_tile_its_partner(findings: Findings) -> None:
    partners = {(t.he_row, t.he_column): (t.row, t.column) for t in findings.tiles}
    assert partners == {
        (0, 0): (0, 1),
        (0, 1): (0, 2),
        (1, 0): (1, 1),
        (1, 1): (1, 2),
        (1, 2): (1, 3),
        (2, 1): (2, 2),
    }
    assert findings.unscored_tumor_area_mm2 == pytest.approx(TILE_UM**2 / 1e6)


def test_eq_5_to_7_score_each_tile(findings: Findings) -> None:
    tiles = {(t.row, t.column): t for t in findings.tiles}
    percent = {place: tile.percent for place, tile in tiles.items()}
    assert percent == {
        (0, 1): (50, 25, 0, 0),
        (0, 2): (12.5, 50, 25, 0),
        (1, 1): (0, 25, 62.5, 12.5),
        (1, 2): (0, 0, 0, 0),
        (1, 3): (100, 0, 0, 0),
        (2, 2): (0, 37.5, 37.5, 0),
    }
    assert {place: tile.label for place, tile in tiles.items()} == {
        (0, 1): "NF/0",
        (0, 2): "NFW/1+",
        (1, 1): "FWS/2+",
        (1, 2): "N",
        (1, 3): "NF/0",
        (2, 2): "FW/2+",
    }
    assert tiles[1, 2].tumor_probability == pytest.approx(0.7)  # C's word on H&E (1, 1)


def test_tiles_without_a_tumor_partner_are_annotated_and_enter_no_score(tmp_path: Path) -> None:
    made = decided(tmp_path, read_all_tissue=True)
    labels = {(t.row, t.column): t.label for t in made.annotated}
    assert labels == {
        (0, 0): "S/3+",
        (0, 3): "N",
        (1, 0): "NF/1+",
        (2, 0): "S/3+",
        (2, 1): "N",
    }
    percent = {(t.row, t.column): t.percent for t in made.annotated}
    assert (percent[0, 0], percent[1, 0]) == ((0, 0, 0, 100), (0, 50, 0, 0))
    # They touch the tumor, and are no focus outside of it.
    assert made.outside_tumor is None


def test_a_tumor_tile_that_holds_control_tissue_too_is_not_scored(tmp_path: Path) -> None:
    """Control tissue lies close to the section: its 3+ would be that of the tumor."""
    rim = TileIndex(1, 1)
    made = decided(tmp_path, read_all_tissue=False, control=(rim,))
    assert rim not in [TileIndex(t.column, t.row) for t in made.tiles]
    assert rim in [TileIndex(t.column, t.row) for t in made.annotated]
    assert made.percent["3+"] == 0 and len(made.tiles) == 5
    assert made.unscored_tumor_area_mm2 == pytest.approx(2 * TILE_UM**2 / 1e6)
    read = made.rasters.ihc_read
    assert (read[1, 1], read[1, 2], (read == SCORED).sum()) == (MARGIN, SCORED, 5)


def test_a_persons_score_has_no_regions_and_no_status_that_it_does_not_tell(
    findings: Findings,
) -> None:
    assert findings.rois
    corrected = HER2_ASSAY.corrected(findings, "3+")
    assert corrected.rois == () and corrected.read_outs is not None
    # Of a colon 3+ is positive from 50 % on: the score alone does not tell it.
    colon = replace(findings, guideline="colorectal-heracles-2015", organ="colorectal")
    assert HER2_ASSAY.corrected(colon, "3+").read_outs is None


def test_of_a_gastric_biopsy_the_tile_with_the_cluster_decided(tmp_path: Path) -> None:
    """Another tile has more of 2+, scattered."""
    cluster, scattered = TileIndex(2, 0), TileIndex(1, 1)
    cells = {
        cluster: CellTally(counted=(0, 0, 6, 0), cluster=(6, 6, 6, 0)),
        scattered: CellTally(counted=(0, 0, 30, 4), cluster=(4, 4, 4, 1)),
    }
    biopsy = {"organ": "gastric", "specimen": "biopsy"}
    made = decided(tmp_path, read_all_tissue=False, cells=cells, **biopsy)
    assert (made.guideline, made.score) == ("gastric-biopsy-2014", "2+")
    (region,) = made.rois
    assert (region.tiles, region.grades["1+"]) == (1, 1)
    x, y = np.mean(region.outline_um, axis=0) / TILE_UM
    assert (int(x), int(y)) == (cluster.column, cluster.row)
    words = [text for code, text in HER2_ASSAY.objects.report(made).texts if code == codes.COMMENT]
    assert words == ["HER2 IHC score: 2+ (estimated from the largest cluster of cells)"]
    page = build_page(
        made,
        HER2_ASSAY,
        he_thumbnail=np.zeros((8, 8, 3), np.uint8),
        ihc_thumbnail=np.zeros((8, 8, 3), np.uint8),
        created=datetime(2026, 3, 4, tzinfo=UTC),
        software="0.1.0",
    )
    with pypdfium2.PdfDocument(page) as document:
        text = " ".join(document[0].get_textpage().get_text_bounded().split())
    assert "Estimated: the largest cluster of cells decides" in text and "not of cells" not in text


def test_where_no_cell_of_a_biopsy_was_counted_areas_decided(tmp_path: Path) -> None:
    made = decided(tmp_path, read_all_tissue=False, organ="gastric", specimen="biopsy")
    (said,) = [
        text for code, text in HER2_ASSAY.objects.report(made).texts if code == codes.COMMENT
    ]
    assert "estimated from areas, not from cells" in said
    assert sum(region.tiles for region in made.rois) > 1


def test_what_the_plain_reader_sees_outside_the_tumor_is_in_the_findings(tmp_path: Path) -> None:
    focus = StainFocus(area_mm2=0.02, x_um=300.0, y_um=120.0, reader="plain")
    made = decided(tmp_path, read_all_tissue=True, outside=focus)
    assert made.outside_tumor == focus


def test_eq_8_and_9_score_the_slide(findings: Findings) -> None:
    assert (findings.paper_score, findings.paper_score_by_count) == ("2+", "2+")
    assert findings.paper_score_fallback is False
    assert findings.wsi_percent == pytest.approx(40)
    assert findings.wsi_percent_of_slide == pytest.approx(100 * 2 / 12)


def test_the_tumor_percentage_of_the_slide_counts_every_tile_that_c_read(
    findings: Findings,
) -> None:
    assert findings.tumor_percent == pytest.approx(100 * 7 / 11)


def test_section_3_3_gives_a_status_by_px(findings: Findings) -> None:
    assert findings.binary_by_pixels == "negative"
    assert findings.read_outs is not None and findings.read_outs.binary == "equivocal"  # of 2+
    # A person's score replaces what the appliance says of the slide.
    assert HER2_ASSAY.corrected(findings, "3+").binary_by_pixels is None


def test_the_same_px_give_shares_and_h_score(findings: Findings) -> None:
    shares = {"0": 26 / 0.7, "1+": 22 / 0.7, "2+": 20 / 0.7, "3+": 2 / 0.7}
    assert findings.percent == pytest.approx(shares)
    assert findings.h_score == pytest.approx(97.142857)
    assert findings.tumor_area_mm2 == pytest.approx(4.375 * TILE_UM**2 / 1e6)
    # 2+ and 3+ in 31.4 %, more than 10; 3+ alone in 2.9: breast says 2+.
    assert findings.score == "2+"
