"""`Findings`: everything the appliance says of a case. Delivery and the dashboard read only this.

On disk a folder: ``findings.json`` (all but what follows), ``tiles.parquet`` (one row per scored
IHC tile), ``rasters.npz``, ``ihc_classes.zarr.zip``, ``mapping.npz`` and two thumbnails. Frames:
see `appliance.geometry`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.assays.her2.readouts import ReadOuts, read_outs
from appliance.domain import Her2Score, ResultCategory, SlideFacts
from appliance.findings.label_map import LabelMap, StoredLabels, save_labels
from appliance.registration.mapping import SlideMapping

FINDINGS_VERSION = 6
IHC_CLASSES = "ihc_classes.zarr.zip"
"""File of the label map, in the artifact of M and in that of the findings."""
MARGIN, SCORED = 1, 2
"""How a tile of the IHC slide was read."""
RESEARCH_USE = "For research use only. Not for diagnostic use."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """Which weights said it; `fingerprint` covers calibration and the rest of the manifest too."""

    task: str
    name: str
    version: str
    sha256: str
    fingerprint: str = ""


class Reason(StrEnum):
    """Why a person should look. Codes are stable; `docs/review.md` says what each means."""

    MISMATCH = "slides-do-not-match"
    TISSUE_MISSING = "tissue-missing"
    ALIGNMENT_ERROR = "alignment-error"
    MIRRORED = "mirrored"
    CONTROL_FAILED = "control-failed"
    CONTROL_MISSING = "control-missing"
    UNREADABLE = "unreadable-tiles"
    UNUSUAL = "out-of-distribution"
    OUT_OF_FOCUS = "out-of-focus"
    MARKED = "pen-or-fold"
    NO_TUMOR = "no-tumor"
    LITTLE_TUMOR = "little-tumor"
    TUMOR_NOT_SCORED = "tumor-not-scored"
    TUMOR_DISAGREES = "tumor-disagrees"
    READERS_DISAGREE = "readers-disagree"
    HETEROGENEOUS = "heterogeneous"
    NEAR_THRESHOLD = "near-threshold"
    CLUSTERS_UNCONFIRMED = "clusters-unconfirmed"
    ORGAN_UNKNOWN = "organ-unknown"
    ORGAN_CONTRADICTED = "organ-contradicted"
    SPECIMEN_UNKNOWN = "specimen-unknown"
    SPECIMEN_CONTRADICTED = "specimen-contradicted"
    GUIDELINE_UNVERIFIED = "guideline-unverified"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReason:
    """A reason that holds, and a sentence for people."""

    code: Reason
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A person's score in place of the appliance's: `by` whom (a DICOM person name), `why`, and
    `was`, the score that the appliance had given, in the findings with the key `corrects`."""

    by: str
    why: str
    was: Her2Score | None
    corrects: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFacts:
    """Tissue that the HER2 slide alone shows, taken for control tissue: `tiles` of it were read,
    `percent` (0-100) of its cells' area per class, `strongest` the strongest class that enough of
    its tiles show, `works` whether that is what the site's control shows when the run worked."""

    area_mm2: float
    tiles: int
    percent: dict[str, float]
    strongest: str
    works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFacts:
    """Tumor cells of the scored tiles, or of 200 drawn from them; dictionaries by class 0, 1+, 2+,
    3+.

    `counted` cells, of which `measured` lie wholly on their tile. `percent` (0-100) and `h_score`
    (0-300) by cells; `completeness` mean stained share (0-1) of the outline and `complete_percent`
    the share of complete membranes, over measured cells, None without any; `largest_cluster` cells
    of that class or a higher one that touch each other.
    """

    counted: int
    measured: int
    percent: dict[str, float]
    h_score: float
    completeness: dict[str, float | None]
    complete_percent: dict[str, float | None]
    largest_cluster: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roi:
    """A block of tiles that decided the score.

    `outline_um` a polygon, (x, y) in µm of the IHC slide, its first point not repeated; `grades`
    and `intensities` tiles per class as M and as L see them (the counts of Table 3, arXiv
    2512.22335); `percent` (0-100) per class of its tumor area.
    """

    name: str
    outline_um: tuple[tuple[float, float], ...]
    tiles: int
    tumor_area_mm2: float
    percent: dict[str, float]
    grades: dict[str, int]
    intensities: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFinding:
    """One IHC tile with a tumor partner (Eq. 5-7).

    `column`, `row` in the IHC grid, `he_column`, `he_row` its partner. `percent` is the share of
    the tile's pixels in classes 0, 1+, 2+, 3+. `grade` is the class (0-3) that covers most stained
    pixels, `intensity` L's class, `label` the paper's form (``NF/1+``). What the three networks
    say stays apart (⊕ of Eq. 7 is no sum). A tile whose `percent` is all 0 is not scored.
    """

    column: int
    row: int
    he_column: int
    he_row: int
    tumor_probability: float
    intensity: int
    intensity_probability: float
    percent: tuple[float, float, float, float]
    grade: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentFacts:
    """How well the H&E slide lies on the IHC slide, see `Alignment`; `matrix` (row-major 2 x 2) and
    `shift_um` are the affine part of its largest piece, H&E µm to IHC µm."""

    matrix: tuple[float, float, float, float]
    shift_um: tuple[float, float]
    error_um: float
    overlap: float
    agreement: float
    lost_mm2: float
    mirrored: bool
    pieces: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rasters:
    """The label maps; each starts at its slide's top left corner.

    `he_tumor` uint8 (rows, cols), 1 = tumor, at `he_mpp`; `ihc_classes` uint8 (rows, cols),
    0 background or not read, 1-4 = 0, 1+, 2+, 3+, at `ihc_mpp`, on disk where it was loaded;
    `ihc_read` uint8 (rows, columns of the IHC tile grid), 0 not read, `MARGIN` on the label map to
    be looked at, `SCORED`; `he_probability` float32 (rows, columns of the H&E tile grid), NaN where
    no tissue was read.
    """

    he_tumor: NDArray[np.uint8]
    he_mpp: float
    ihc_classes: LabelMap
    ihc_mpp: float
    ihc_read: NDArray[np.uint8]
    he_probability: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The result of a case.

    `percent` is the share (0-100) of the scored tumor area per class, `wsi_percent` Eq. 9,
    `paper_score` Algorithm 1 as printed, `score` the guideline's. `score` is None where no tumor
    was found on both slides: then `review` says so. `rule` is the guideline's rule that decided, as
    printed, and `category` what the score means, where the scheme says it. Areas in mm².
    `appearance` is the share (0-100) of the tiles read on ``he`` and ``ihc`` that look unlike those
    that trained the networks, where their weights tell; `unreadable` is the share of the tiles that
    were wanted and that the file does not give. `cells` is None without scored tiles, `control`
    without control tissue; `rois` are the largest blocks, largest first.
    """

    accession: str
    block: str
    he: SlideFacts
    ihc: SlideFacts
    alignment: AlignmentFacts
    mapping: SlideMapping
    guideline: str
    guideline_version: str
    score: Her2Score | None
    estimated: bool
    paper_score: Her2Score | None
    wsi_percent: float
    percent: dict[str, float]
    h_score: float
    tumor_area_mm2: float
    unscored_tumor_area_mm2: float
    comment: str
    review: tuple[ReviewReason, ...]
    models: tuple[ModelReference, ...]
    tiles: tuple[TileFinding, ...]
    rasters: Rasters
    appearance: dict[str, float] = field(default_factory=dict)
    unreadable: dict[str, float] = field(default_factory=dict)
    cells: CellFacts | None = None
    control: ControlFacts | None = None
    rois: tuple[Roi, ...] = ()
    organ: str = "breast"
    rule: str = ""
    category: ResultCategory | None = None
    correction: Correction | None = None
    version: int = FINDINGS_VERSION
    notice: str = RESEARCH_USE

    @property
    def read_outs(self) -> ReadOuts | None:
        """Binary, 3-way and 4-way read-out; ISH is not known yet."""
        if self.score is None:
            return None
        return read_outs(self.score, organ=self.organ, category=self.category)

    def summary(self) -> dict[str, Any]:
        """All but tiles and rasters, ready for JSON."""
        plain = {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in ("tiles", "rasters", "mapping", "review", "models", "rois")
        }
        plain |= {
            name: None if (part := plain[name]) is None else asdict(part)
            for name in ("he", "ihc", "alignment", "cells", "control", "correction")
        }
        plain |= {
            "review": [asdict(reason) for reason in self.review],
            "models": [asdict(model) for model in self.models],
            "rois": [asdict(roi) for roi in self.rois],
            "read_outs": None if self.read_outs is None else asdict(self.read_outs),
            "tiles_scored": len(self.tiles),
            "he_mpp": self.rasters.he_mpp,
            "ihc_mpp": self.rasters.ihc_mpp,
        }
        return plain


def save_findings(
    findings: Findings,
    folder: Path,
    *,
    he_thumbnail: NDArray[np.uint8],
    ihc_thumbnail: NDArray[np.uint8],
) -> None:
    """Write the folder's files; thumbnails are uint8 RGB (rows, cols, 3) of the whole slides."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = json.dumps(findings.summary(), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "findings.json").write_text(text + "\n")
    names = list(TileFinding.__slots__)
    columns = {name: [getattr(tile, name) for tile in findings.tiles] for name in names}
    pq.write_table(pa.table(columns), folder / "tiles.parquet")
    np.savez_compressed(
        folder / "rasters.npz",
        he_tumor=findings.rasters.he_tumor,
        ihc_read=findings.rasters.ihc_read,
        he_probability=findings.rasters.he_probability,
    )
    save_labels(findings.rasters.ihc_classes, folder / IHC_CLASSES)
    findings.mapping.save(folder / "mapping.npz")
    Image.fromarray(he_thumbnail).save(folder / "he_thumbnail.png")
    Image.fromarray(ihc_thumbnail).save(folder / "ihc_thumbnail.png")


def load_findings(folder: Path) -> Findings:
    """Read a folder that `save_findings` wrote.

    Raises
    ------
    ValueError
        If the folder holds another version's findings.
    """
    import pyarrow.parquet as pq

    raw = json.loads((folder / "findings.json").read_text())
    if raw["version"] != FINDINGS_VERSION:
        raise ValueError(f"{folder}: findings of version {raw['version']}; run the case again.")
    with np.load(folder / "rasters.npz", allow_pickle=False) as arrays:
        rasters = Rasters(
            he_tumor=arrays["he_tumor"],
            he_mpp=raw.pop("he_mpp"),
            ihc_classes=StoredLabels.open(folder / IHC_CLASSES),
            ihc_mpp=raw.pop("ihc_mpp"),
            ihc_read=arrays["ihc_read"],
            he_probability=arrays["he_probability"],
        )
    rows = pq.read_table(folder / "tiles.parquet").to_pylist()
    del raw["tiles_scored"]
    raw.pop("read_outs", None)
    alignment = raw.pop("alignment")
    return Findings(
        he=SlideFacts(**raw.pop("he")),
        ihc=SlideFacts(**raw.pop("ihc")),
        alignment=AlignmentFacts(
            **alignment
            | {"matrix": tuple(alignment["matrix"]), "shift_um": tuple(alignment["shift_um"])}
        ),
        review=tuple(
            ReviewReason(code=Reason(reason["code"]), sentence=reason["sentence"])
            for reason in raw.pop("review")
        ),
        correction=_correction(raw.pop("correction")),
        cells=None if (cells := raw.pop("cells")) is None else CellFacts(**cells),
        control=None if (control := raw.pop("control")) is None else ControlFacts(**control),
        rois=tuple(
            Roi(**roi | {"outline_um": tuple((x, y) for x, y in roi["outline_um"])})
            for roi in raw.pop("rois")
        ),
        models=tuple(ModelReference(**model) for model in raw.pop("models")),
        score=None if (score := raw.pop("score")) is None else Her2Score(score),
        category=None if (word := raw.pop("category", None)) is None else ResultCategory(word),
        paper_score=None if (paper := raw.pop("paper_score")) is None else Her2Score(paper),
        mapping=SlideMapping.load(folder / "mapping.npz"),
        tiles=tuple(TileFinding(**row | {"percent": tuple(row["percent"])}) for row in rows),
        rasters=rasters,
        **raw,
    )


def _correction(raw: dict[str, str | None] | None) -> Correction | None:
    if raw is None:
        return None
    was = raw["was"]
    return Correction(
        by=str(raw["by"]),
        why=str(raw["why"]),
        was=None if was is None else Her2Score(was),
        corrects=str(raw["corrects"]),
    )
