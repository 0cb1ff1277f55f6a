"""Measurements of a case: alignment, tiles, cells, control tissue, regions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentFacts:
    """Fit of the anatomy slide on the target slide; see `registration.alignment.Alignment`.

    `matrix` (row-major 2 x 2) and `shift_um` are the affine part of the largest piece, anatomy µm
    to target µm.
    """

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
class AnnotatedTile:
    """Tile of the target slide as L and M see it (arXiv 2512.22335, Eq. 5-7); it enters no score.

    `column`, `row` lie in the target's grid. `percent` is the share (0-100) of the tile's px in
    classes 0, 1+, 2+, 3+. `grade` is the class (0-3) that covers most tumor px, `intensity` the
    class of L, `label` the paper's form (``NF/1+``).
    """

    column: int
    row: int
    intensity: int
    intensity_probability: float
    percent: tuple[float, float, float, float]
    grade: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFinding(AnnotatedTile):
    """Tile of the target slide with a tumor partner, which `he_column`, `he_row` name.

    The answers of the three networks stay apart: ⊕ of Eq. 7 is no sum. A tile whose `percent` is
    all 0 is not scored.
    """

    he_column: int
    he_row: int
    tumor_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StainFocus:
    """Strongly stained focus of the target slide outside the tumor of the anatomy slide.

    `area_mm2` is its strongly stained area, `x_um`, `y_um` the center in µm of the target slide.
    `reader` names the reader that saw it.
    """

    area_mm2: float
    x_um: float
    y_um: float
    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFacts:
    """Tumor cells of the scored tiles, or of 200 drawn from them.

    Dictionaries have one value per class, such as 0, 1+, 2+, 3+; those of membranes and clusters
    are empty where an assay measures nuclei alone. `counted` cells, of which `measured` lie
    wholly on their tile. `percent` (0-100) and `h_score` (0-300) count cells. `completeness` is the
    mean stained share (0-1) of the outline and `complete_percent` the share (0-100) of complete
    membranes, both over measured cells and None without any. `largest_cluster` counts cells of that
    class or a higher one that touch each other.
    """

    counted: int
    measured: int
    percent: dict[str, float]
    h_score: float
    completeness: dict[str, float | None]
    complete_percent: dict[str, float | None]
    largest_cluster: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFacts:
    """Tissue that the target slide alone shows, taken for control tissue.

    `tiles` of it were read. `percent` (0-100) is the share of each class of its cells' area, or of
    its nuclei where an assay counts these.
    `strongest` is the strongest class that enough of its tiles show. `works` tells whether that is
    the class that the site's control shows when the staining run worked.
    """

    area_mm2: float
    tiles: int
    percent: dict[str, float]
    strongest: str
    works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Roi:
    """Block of tiles that decided the score.

    `outline_um` is a polygon, (x, y) in µm of the target slide, its first point not repeated.
    `grades` and `intensities` count tiles per class as M and as L see them (counts of Table 3,
    arXiv 2512.22335). `percent` (0-100) is the share of each class of its tumor area.
    """

    name: str
    outline_um: tuple[tuple[float, float], ...]
    tiles: int
    tumor_area_mm2: float
    percent: dict[str, float]
    grades: dict[str, int]
    intensities: dict[str, int]
