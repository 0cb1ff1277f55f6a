"""`Findings`: everything the appliance says of a case. Delivery and the dashboard read only this.

On disk a folder: ``findings.json`` (all but what follows), ``tiles.parquet`` (one row per scored
IHC tile), ``rasters.npz``, ``mapping.npz`` and two thumbnails. Frames: see `appliance.geometry`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.analysis.mapping import SlideMapping
from appliance.analysis.readouts import ReadOuts, read_outs
from appliance.domain import Her2Score, ResultCategory, SlideFacts

FINDINGS_VERSION = 2
CLASS_NAMES = ("0", "1+", "2+", "3+")
"""Scores of the label map's values 1, 2, 3, 4; 0 is background."""
RESEARCH_USE = "For research use only. Not for diagnostic use."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """Which weights said it; `fingerprint` covers calibration and the rest of the manifest too."""

    task: str
    name: str
    version: str
    sha256: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReason:
    """Why a person should look: a stable code, and a sentence for people."""

    code: str
    sentence: str


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
    0 background or not read, 1-4 = 0, 1+, 2+, 3+, at `ihc_mpp`; `he_probability` float32
    (rows, columns of the H&E tile grid), NaN where no tissue was read.
    """

    he_tumor: NDArray[np.uint8]
    he_mpp: float
    ihc_classes: NDArray[np.uint8]
    ihc_mpp: float
    he_probability: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The result of a case.

    `percent` is the share (0-100) of the scored tumor area per class, `wsi_percent` Eq. 9,
    `paper_score` Algorithm 1 as printed, `score` the guideline's. `score` is None where no tumor
    was found on both slides: then `review` says so. `rule` is the guideline's rule that decided, as
    printed, and `category` what the score means, where the scheme says it. Areas in mm².
    `appearance` is the share (0-100) of the tiles read on ``he`` and ``ihc`` that look unlike those
    that trained the networks, where their weights tell.
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
    organ: str = "breast"
    rule: str = ""
    category: ResultCategory | None = None
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
            if name
            not in ("tiles", "rasters", "he", "ihc", "alignment", "mapping", "review", "models")
        }
        plain |= {
            "he": asdict(self.he),
            "ihc": asdict(self.ihc),
            "alignment": asdict(self.alignment),
            "review": [asdict(reason) for reason in self.review],
            "models": [asdict(model) for model in self.models],
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
        ihc_classes=findings.rasters.ihc_classes,
        he_probability=findings.rasters.he_probability,
    )
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
            ihc_classes=arrays["ihc_classes"],
            ihc_mpp=raw.pop("ihc_mpp"),
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
        review=tuple(ReviewReason(**reason) for reason in raw.pop("review")),
        models=tuple(ModelReference(**model) for model in raw.pop("models")),
        score=None if (score := raw.pop("score")) is None else Her2Score(score),
        category=None if (word := raw.pop("category", None)) is None else ResultCategory(word),
        paper_score=None if (paper := raw.pop("paper_score")) is None else Her2Score(paper),
        mapping=SlideMapping.load(folder / "mapping.npz"),
        tiles=tuple(TileFinding(**row | {"percent": tuple(row["percent"])}) for row in rows),
        rasters=rasters,
        **raw,
    )
