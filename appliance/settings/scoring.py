"""Settings of the score: guideline, thresholds, and the conditions of a review."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.settings.section import Section

Specimen = Literal["resection", "biopsy"]


class Scoring(Section):
    """Guideline and thresholds of the score."""

    guideline: str | None = None
    """Name of a file in appliance/assays/her2/guidelines that scores every case. None: the
    guideline that fits the organ and the specimen."""
    organ: str = "breast"
    """Organ of slides whose sidecar names none: breast, gastric, colorectal or endometrial."""
    specimen: Specimen = "resection"
    """Kind of specimen of slides whose sidecar names none."""
    tumor_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Least tumor probability from C of a tile that counts as tumor."""
    margin_tiles: Annotated[int, Field(ge=0, le=20)] = 0
    """Width in tiles of the margin around the tumor of the IHC slide that L and M read too. Its
    tiles are annotated: in the label map and in findings, never in the score."""
    read_all_tissue: bool = False
    """L and M read every tissue tile of the IHC slide, as in arXiv 2512.22335. Tiles without a
    tumor partner are annotated as a margin is; `margin_tiles` does not count then. Reading time
    grows with the tissue that is not tumor."""

    @property
    def margin(self) -> int | None:
        """Width in tiles of what L and M read around the tumor; None: all tissue."""
        return None if self.read_all_tissue else self.margin_tiles


class Review(Section):
    """Limits beyond which a result is marked for review."""

    max_alignment_error_um: Annotated[float, Field(gt=0)] = 100.0
    """Alignment error above which the H&E tumor may lie on the wrong IHC tile (a tile is
    143 µm)."""
    min_overlap: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Least share of the H&E tissue that must lie on IHC tissue. Tissue outside is not scored."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Least share of the H&E tissue's patches whose structure must be found on the IHC slide at the
    place that their neighbors predict. Two slides of one block reach more than half, two blocks
    less than a tenth, but for tissue of some square millimeters (`match-unsure`)."""
    min_tumor_area_mm2: Annotated[float, Field(ge=0)] = 0.1
    """Least tumor area of a score."""
    min_tumor_cells: Annotated[int, Field(ge=0)] = 100
    """Least number of tumor cells of a score."""
    max_unscored_tumor_percent: Annotated[float, Field(ge=0, le=100)] = 30.0
    """Most of the H&E slide's tumor that may have no counterpart on the HER2 slide."""
    max_unscored_deciding_percent: Annotated[float, Field(ge=0, le=100)] = 10.0
    """The same where 3+ in all of that tumor, or 0, would change the result (ER and PR: strong, or
    negative). 10 % is the share of
    tumor from which most guidelines change a score."""
    max_stain_outside_tumor_mm2: Annotated[float, Field(ge=0)] = 0.1
    """Largest area in mm² of one strongly stained focus outside the tumor that C finds. 0.1 mm² are
    five tiles, and the least tumor area of a score. Control tissue does not count, but where more
    than a tenth of the H&E tissue has no place, which it may be."""
    max_tumor_disagreement_percent: Annotated[float, Field(ge=0, le=100)] = 50.0
    """Most of the tiles that C calls tumor on which M may find none."""
    min_found_tumor_percent: Annotated[float, Field(ge=0, le=100)] = 20.0
    """Least share of the area of the tiles that C calls tumor which M must call tumor."""
    max_reader_difference: Annotated[float, Field(gt=0, le=3)] = 1.0
    """Largest difference, in classes, between the mean of L and the mean of M."""
    second_reader_distance: Annotated[int, Field(ge=1, le=4)] = 2
    """Least distance in classes between the score and what a second reader of the whole slide says
    that sends a case to review. Low stands for 1+ and 2+, high for 2+ and 3+; low for a 3+, or high
    for a 1+, counts as 2. A distance of 1 is common between people. 4: never."""
    heterogeneity_strong_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    """Least share of 3+ of a heterogeneous tumor."""
    heterogeneity_faint_percent: Annotated[float, Field(ge=0, le=100)] = 25.0
    """Least share of 0 and 1+ together of a heterogeneous tumor, beside the share of 3+."""
    guard_band_percent: Annotated[float, Field(ge=0, le=50)] = 3.0
    """Distance of a class's percentage from the guideline's threshold within which the score is
    unsure."""
    min_picture_percent: Annotated[float, Field(ge=0, le=100)] = 80.0
    """Least probability of the kinds that the picture of an H&E slide may be. A picture that is
    surely of another kind is set aside before anything is read."""
    min_ihc_picture_percent: Annotated[float, Field(ge=0, le=100)] = 90.0
    """The same for an IHC slide. Brown cytoplasm and lymphocytes look more like membranes than any
    other dye looks like H&E."""
    max_unusual_tiles_percent: Annotated[float, Field(ge=0, le=100)] = 25.0
    """Most of a slide's tiles that may differ in stain or focus from those that trained its
    network. At most 1 % of the training tiles themselves do."""
    max_unreadable_percent: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Most of a slide's tiles that may be damaged in the file."""
    max_marked_tumor_percent: Annotated[float, Field(ge=0, le=100)] = 10.0
    """Most of the tumor tiles that may lie under pen or on a fold."""
    control_strongest: Literal["1+", "2+", "3+"] = "3+"
    """Strongest class of the site's control tissue in a run that worked."""
    control_required: bool = False
    """Every HER2 slide of the site carries control tissue. A slide without goes to review."""
