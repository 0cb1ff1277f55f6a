"""`Findings`: the result of a case. Delivery and the dashboard read only this.

Files on disk: `appliance.findings.codec`. Frames of reference: `appliance.geometry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from appliance.domain import SlideFacts
from appliance.findings.label_map import LabelMap
from appliance.findings.measured import (
    AlignmentFacts,
    AnnotatedTile,
    CellFacts,
    ControlFacts,
    Roi,
    StainFocus,
    TileFinding,
)
from appliance.findings.opinion import ModelReference, Opinion
from appliance.findings.reasons import ReviewReason
from appliance.registration.mapping import SlideMapping

FINDINGS_VERSION = 10
MARGIN, SCORED = 1, 2
"""Values of `Rasters.ihc_read`: read and annotated, and scored."""
RESEARCH_USE = "For research use only. Not for diagnostic use."


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Score of a person in place of the appliance's.

    `by` is a DICOM person name, `why` the reason, `was` the score that the appliance had given in
    the findings with the key `corrects`.
    """

    by: str
    why: str
    was: str | None
    corrects: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOff:
    """A person's word that they stand for a result.

    `by` is a DICOM person name, `organization` the name of the person's laboratory (empty: not
    stated), `at` the time in whole seconds since the epoch, `signs` the key of the appliance's
    findings on which the result rests.
    """

    by: str
    organization: str
    at: int
    signs: str

    @property
    def when(self) -> str:
        """Time for people, in UTC."""
        return f"{datetime.fromtimestamp(self.at, tz=UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOuts:
    """Score in the words of two, three and four classes; `three_way` is None where it has none."""

    binary: str
    three_way: str | None
    four_way: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rasters:
    """Maps of both slides; each starts at its slide's top left corner.

    Attributes
    ----------
    he_tumor, he_mpp
        Tumor area of the anatomy slide: uint8 (rows, cols), 1 = tumor, at `he_mpp` µm/px.
    ihc_classes, ihc_mpp
        Label map of the target slide: uint8 (rows, cols), 0 background or not read, 1-4 the
        classes, at `ihc_mpp` µm/px; on disk where it was loaded. None for an assay without one.
    ihc_read
        uint8 (rows, columns of the target's tile grid): 0 not read, `MARGIN`, `SCORED`.
    he_probability
        float32 (rows, columns of the anatomy slide's tile grid), NaN where no tissue was read.
    attention
        By reader, float32 (rows, columns of the target's tile grid): weight of each tile in the
        answer of a second reader, with the sum 1; NaN where it saw no tile.
    """

    he_tumor: NDArray[np.uint8]
    he_mpp: float
    ihc_classes: LabelMap | None
    ihc_mpp: float
    ihc_read: NDArray[np.uint8]
    he_probability: NDArray[np.float32]
    attention: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Result of a case; `he` is its anatomy slide, `ihc` its target slide.

    Attributes
    ----------
    assay
        Name of the assay that decided.
    score
        Score as printed in reports; None where there was nothing to score: `review` says so.
    rule, category
        Rule of the guideline that decided, as printed, and the meaning of the score where the
        scheme states one.
    percent
        Share (0-100) of the scored tumor area per class; of the tumor nuclei for an assay of
        nuclei.
    paper_score, paper_score_by_count, paper_score_fallback
        Algorithm 1 of arXiv 2512.22335 in both readings of Eq. 8: the highest class, and the class
        of the largest count, of the tiles of 2+ and 3+. Fallback: the printed set of tiles was
        empty, and both are those of all scored tiles, which is Tandem's addition.
    wsi_percent, wsi_percent_of_slide
        Eq. 9 (0-100): tiles of 2+ and 3+ over the scored tiles, and their area over the slide's.
    binary_by_pixels
        Binary status by the px of classes {1, 4}, as in section 3.3 of arXiv 2512.22335.
    tumor_percent
        Share (0-100) of the anatomy slide's tissue tiles that are tumor. Like the fields of the
        paper above, None in findings of earlier versions.
    tumor_area_mm2, unscored_tumor_area_mm2
        Scored tumor, and tumor of the anatomy slide without a place on the target slide.
    opinions
        Answers of the readers, in the order in which the assay names them.
    interim
        Opinion that was given on the anatomy slide before this score: superseded, and no part of
        it. None without one.
    appearance
        Share (0-100) of the tiles read on ``he`` and ``ihc`` that look unlike those that trained
        the networks, where their weights tell.
    unreadable
        Share (0-100) of the wanted tiles that the file does not give.
    cells, control
        None without scored tiles, and without control tissue.
    outside_tumor
        Largest strongly stained focus of the target slide outside the tumor; None without one, and
        in findings of earlier versions.
    annotated
        Tiles of the target slide that were read and have no tumor partner.
    rois
        Largest blocks that decided the score, largest first.
    correction
        Score of a person in place of the appliance's; None without one.
    sign_offs
        People who stand for the result, in the order in which they said so: who corrected the score
        first, then who confirmed it. Empty in findings of earlier versions.
    as_before
        Objects of a former edition are written again, with the numbers that it told. Not stored.
    unscored_as_before
        Objects of an edition are written again that told numbers of a case which, by a person,
        cannot be scored, and the fields of the paper of any case. Not stored.
    """

    assay: str = "her2"
    accession: str
    block: str
    he: SlideFacts
    ihc: SlideFacts
    alignment: AlignmentFacts
    mapping: SlideMapping
    guideline: str
    guideline_version: str
    score: str | None
    estimated: bool
    paper_score: str | None = None
    paper_score_by_count: str | None = None
    paper_score_fallback: bool | None = None
    wsi_percent: float = 0.0
    wsi_percent_of_slide: float | None = None
    binary_by_pixels: str | None = None
    tumor_percent: float | None = None
    percent: dict[str, float]
    h_score: float = 0.0
    tumor_area_mm2: float
    unscored_tumor_area_mm2: float
    comment: str = ""
    review: tuple[ReviewReason, ...]
    opinions: tuple[Opinion, ...]
    interim: Opinion | None = None
    tiles: tuple[TileFinding, ...]
    annotated: tuple[AnnotatedTile, ...] = ()
    rasters: Rasters
    appearance: dict[str, float] = field(default_factory=dict)
    unreadable: dict[str, float] = field(default_factory=dict)
    cells: CellFacts | None = None
    control: ControlFacts | None = None
    outside_tumor: StainFocus | None = None
    rois: tuple[Roi, ...] = ()
    read_outs: ReadOuts | None = None
    organ: str = "breast"
    rule: str = ""
    category: str | None = None
    correction: Correction | None = None
    sign_offs: tuple[SignOff, ...] = ()
    version: int = FINDINGS_VERSION
    notice: str = RESEARCH_USE
    as_before: bool = False
    unscored_as_before: bool = False

    @property
    def has_numbers(self) -> bool:
        """Return whether the numbers are those of a score; without one the case has none.

        A person's score does not make numbers that were withheld those of a result, and what the
        appliance measured is none where a person said that the case cannot be scored.
        """
        was = self.score if self.correction is None else self.correction.was
        scored = self.score is not None or self.unscored_as_before
        return self.as_before or (scored and was is not None)

    @property
    def tells_paper(self) -> bool:
        """Return whether Algorithm 1 is told; objects of former editions told it of any case."""
        return self.has_numbers or self.unscored_as_before

    @property
    def models(self) -> tuple[ModelReference, ...]:
        """Weights that were used, each once, in the order of the opinions."""
        used = [opinion.weights for opinion in self.opinions if opinion.weights is not None]
        return tuple(dict.fromkeys(used))

    @property
    def corrector(self) -> SignOff | None:
        """Sign-off of the person who corrected the score; None without one."""
        by = None if self.correction is None else self.correction.by
        return next((each for each in self.sign_offs if each.by == by), None)

    @property
    def confirmations(self) -> tuple[SignOff, ...]:
        """Sign-offs of the people who confirmed the score as it was."""
        corrector = self.corrector
        return tuple(each for each in self.sign_offs if each != corrector)
