"""When the appliance is not sure: reasons for a person to look, as a result of its own.

What each reason means, and the setting that moves its limit: docs/review.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from appliance.assays.her2.guideline import ClusterCells, Guideline
from appliance.domain import HE, HER2, Her2Score, Stain
from appliance.findings.findings import ControlFacts, Reason, ReviewReason
from appliance.readers.cell_tally import CellTally
from appliance.registration.alignment import Alignment
from appliance.settings.scoring import Review
from appliance.slides.appearance import Appearance

_SLIDE = {HE: "H&E", HER2: "HER2"}
_DIFFERS = {"stain": "their stain", "focus": "their focus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a score rests on.

    `percent` (0-100) per class of the tumor area; `unscored_tumor_percent` of the H&E slide's tumor
    tiles; `cells` of the scored tiles; `intensity_grade` the mean class (0-3) that L sees on the
    same tumor; `without_tumor_percent` of the tiles that C calls tumor and M finds none on;
    `appearance`, `marked_percent` (tumor tiles under pen or on a fold) and `unreadable_percent`
    (tiles that the file does not give) of each slide.
    """

    alignment: Alignment
    score: Her2Score | None
    percent: Mapping[str, float]
    tumor_area_mm2: float
    unscored_tumor_percent: float
    cells: CellTally
    intensity_grade: float
    without_tumor_percent: float
    appearance: Mapping[Stain, Appearance]
    marked_percent: Mapping[Stain, float]
    unreadable_percent: Mapping[Stain, float]
    control: ControlFacts | None


def review_reasons(
    settings: Review, guideline: Guideline, evidence: Evidence
) -> tuple[ReviewReason, ...]:
    """All reasons that hold, most serious first."""
    return (
        *alignment_reasons(settings, evidence.alignment),
        *_control(settings, evidence.control),
        *_pictures(settings, evidence),
        *_tumor(settings, evidence),
        *_score(settings, guideline, evidence),
    )


def alignment_reasons(settings: Review, alignment: Alignment) -> tuple[ReviewReason, ...]:
    """Those that the alignment of the two slides gives."""
    return tuple(_alignment(settings, alignment))


def _alignment(settings: Review, alignment: Alignment) -> Iterator[ReviewReason]:
    if alignment.agreement < settings.min_agreement:
        yield _because(
            Reason.MISMATCH,
            f"Only {100 * alignment.agreement:.0f} % of the H&E tissue's structure is found again "
            "on the IHC slide: are the slides of the same block?",
        )
    elif alignment.overlap < settings.min_overlap:
        yield _because(
            Reason.TISSUE_MISSING,
            f"Only {100 * alignment.overlap:.0f} % of the H&E tissue lies on IHC tissue: the rest "
            "is not scored.",
        )
    if alignment.error_um > settings.max_alignment_error_um:
        yield _because(
            Reason.ALIGNMENT_ERROR,
            f"The slides fit onto each other only within {alignment.error_um:.0f} µm: the H&E "
            "tumor may lie on other IHC tissue.",
        )
    if alignment.mirrored:
        yield _because(Reason.MIRRORED, "One section lies face down on its slide.")


def _control(settings: Review, control: ControlFacts | None) -> Iterator[ReviewReason]:
    if control is None and settings.control_required:
        yield _because(
            Reason.CONTROL_MISSING,
            "No control tissue was found on the HER2 slide: nothing shows that the staining run "
            "worked.",
        )
    if control is not None and not control.works:
        yield _because(
            Reason.CONTROL_FAILED,
            f"The control tissue is stained {control.strongest} at most, not "
            f"{settings.control_strongest}: the staining run may have failed.",
        )


def _pictures(settings: Review, evidence: Evidence) -> Iterator[ReviewReason]:
    for stain, percent in evidence.unreadable_percent.items():
        if percent > settings.max_unreadable_percent:
            yield _because(
                Reason.UNREADABLE,
                f"{percent:.0f} % of the tiles of the {_SLIDE[stain]} slide cannot be decoded: the "
                "file is damaged; copy or scan it again.",
            )
    for stain, seen in evidence.appearance.items():
        if seen.unusual_percent > settings.max_unusual_tiles_percent:
            focus = seen.differs_in == "focus"
            yield _because(
                Reason.OUT_OF_FOCUS if focus else Reason.UNUSUAL,
                f"{seen.unusual_percent:.0f} % of the tiles of the {_SLIDE[stain]} slide look "
                f"unlike those that its networks know (by {_DIFFERS[seen.differs_in]}): "
                + ("scan it again." if focus else "what they say of it may be wrong."),
            )
    for stain, percent in evidence.marked_percent.items():
        if percent > settings.max_marked_tumor_percent:
            yield _because(
                Reason.MARKED,
                f"Pen or a fold lies over {percent:.0f} % of the tumor on the {_SLIDE[stain]} "
                "slide.",
            )


def _tumor(settings: Review, evidence: Evidence) -> Iterator[ReviewReason]:
    if evidence.score is None:
        yield _because(
            Reason.NO_TUMOR,
            "No tumor was found that both slides show: there is nothing to score.",
        )
        return
    cells = sum(evidence.cells.counted)
    if evidence.tumor_area_mm2 < settings.min_tumor_area_mm2 or cells < settings.min_tumor_cells:
        yield _because(
            Reason.LITTLE_TUMOR,
            f"Only {evidence.tumor_area_mm2:.2f} mm² of tumor with {cells} cells could be scored: "
            "too little for a percentage.",
        )
    if evidence.unscored_tumor_percent > settings.max_unscored_tumor_percent:
        yield _because(
            Reason.TUMOR_NOT_SCORED,
            f"{evidence.unscored_tumor_percent:.0f} % of the tumor on the H&E slide has no place "
            "on the HER2 slide and is not scored.",
        )
    if evidence.without_tumor_percent > settings.max_tumor_disagreement_percent:
        yield _because(
            Reason.TUMOR_DISAGREES,
            f"On {evidence.without_tumor_percent:.0f} % of the tiles that are tumor on the H&E "
            "slide none is found on the HER2 slide.",
        )


def _score(settings: Review, guideline: Guideline, evidence: Evidence) -> Iterator[ReviewReason]:
    if evidence.score is None:
        return
    percent = evidence.percent
    mean_grade = sum(grade * share / 100 for grade, share in enumerate(percent.values()))
    if abs(mean_grade - evidence.intensity_grade) > settings.max_reader_difference:
        yield _because(
            Reason.READERS_DISAGREE,
            "The tile classifier and the pixel segmentation disagree by more than "
            f"{settings.max_reader_difference:g} class.",
        )
    faint = percent["0"] + percent["1+"]
    if (
        percent["3+"] >= settings.heterogeneity_strong_percent
        and faint >= settings.heterogeneity_faint_percent
    ):
        yield _because(
            Reason.HETEROGENEOUS,
            f"{percent['3+']:.0f} % of the tumor is stained 3+ and "
            f"{faint:.0f} % is 0 or 1+: two kinds of tumor, or two "
            "parts of which one is stained badly.",
        )
    if guideline.distance(percent, evidence.cells.cluster_cells) < settings.guard_band_percent:
        yield _because(
            Reason.NEAR_THRESHOLD,
            f"A class lies within {settings.guard_band_percent:g} points of a limit of the "
            "guideline: the neighbouring result is almost as likely.",
        )
    if guideline.asks_for_clusters:
        yield _because(
            Reason.CLUSTERS_UNCONFIRMED,
            "The guideline scores the largest cluster of stained cells, "
            f"{_largest(evidence.cells.cluster_cells)}: no site has confirmed Tandem's count yet.",
        )
    if guideline.status != "published":
        yield _because(
            Reason.GUIDELINE_UNVERIFIED, "The site has not confirmed this guideline yet."
        )


def _largest(clusters: ClusterCells | None) -> str:
    if clusters is None:
        return "but no cell was found, and the stained share of the tumor area stood in"
    return ", ".join(f"{clusters[name]} of {name}" for name in ("3+", "2+", "1+")) + " or more"


def _because(code: Reason, sentence: str) -> ReviewReason:
    return ReviewReason(code=code, sentence=sentence)
