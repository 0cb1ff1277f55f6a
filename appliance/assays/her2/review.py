"""Reasons for review of a HER2 case: uncertainty is a result of its own.

`docs/review.md` explains each reason and the setting that moves its limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.assays.assay import StepOutputs
from appliance.assays.her2.choice import choose_guideline
from appliance.assays.her2.guideline import Guideline, Rule
from appliance.assays.her2.measure import Measured, measure
from appliance.assays.her2.second_reader import distance, of_whole_slide, second_opinions
from appliance.assays.slide_reasons import alignment_reasons, because, picture_reasons
from appliance.domain import Stain
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import Findings
from appliance.findings.measured import ControlFacts, StainFocus
from appliance.findings.opinion import Opinion
from appliance.findings.reasons import Reason, ReviewReason, in_order
from appliance.readers.cell_tally import CellTally
from appliance.readers.intensity import IntensityReader
from appliance.readers.segmentation import SegmentationReader
from appliance.registration.alignment import Alignment
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings
from appliance.slides.appearance import Appearance
from appliance.slides.picture import PictureMatch

NO_TUMOR_SHARE = 0.02
"""M finds no tumor on a tile when it calls less of it tumor."""
INTENSE_PERCENT = 10.0
"""Share of tumor cells with complete intense membranes that a breast score of 3+ is to exceed
(ASCO/CAP 2018)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Facts that a score rests on.

    `percent` (0-100) per class of the tumor area; `unscored_tumor_percent` of the H&E slide's tumor
    tiles; `cells` of the scored tiles; `intensity_grade` the mean class (0-3) that L sees on the
    same tumor; `outcome` the score with its category; `votes` the outcome that the shares of each
    other reader give by the same guideline;
    `without_tumor_percent` of the tiles that C calls tumor and M finds none on; `found_percent` of
    the area of those tiles that M calls tumor; `outside` the largest strongly stained focus outside
    the tumor, on the slide `target`; `second` the opinions of readers of the whole slide;
    `pictures`, `appearance`, `marked_percent` (tumor tiles under pen or on a fold) and
    `unreadable_percent` (tiles that the file does not give) of each slide.
    """

    alignment: Alignment
    score: str | None
    percent: Mapping[str, float]
    tumor_area_mm2: float
    unscored_tumor_percent: float
    cells: CellTally
    intensity_grade: float
    outcome: str
    votes: Mapping[str, str]
    without_tumor_percent: float
    found_percent: float
    outside: StainFocus | None
    second: Sequence[Opinion]
    target: Stain
    pictures: Mapping[Stain, PictureMatch]
    appearance: Mapping[Stain, Appearance]
    marked_percent: Mapping[Stain, float]
    unreadable_percent: Mapping[Stain, float]
    control: ControlFacts | None


def review(
    outputs: StepOutputs, findings: Findings, settings: Settings
) -> tuple[ReviewReason, ...]:
    """All reasons that hold, in the order of `Reason`."""
    chosen = choose_guideline(settings.scoring, outputs.declared)
    evidence = _evidence(outputs, findings, measure(outputs, settings), chosen.guideline)
    reasons = review_reasons(settings.review, chosen.guideline, evidence)
    return in_order((*chosen.reasons, *reasons))


def _evidence(
    outputs: StepOutputs, findings: Findings, measured: Measured, guideline: Guideline
) -> Evidence:
    share = measured.tumor_share
    return Evidence(
        alignment=outputs.alignment,
        score=findings.score,
        percent=findings.percent,
        tumor_area_mm2=findings.tumor_area_mm2,
        unscored_tumor_percent=measured.unscored_percent,
        cells=measured.cells,
        intensity_grade=_weighted(measured),
        outcome=" ".join(word for word in (findings.score, findings.category) if word),
        votes=_votes(findings, guideline),
        without_tumor_percent=100 * float((share < NO_TUMOR_SHARE).mean()) if len(share) else 0.0,
        found_percent=100 * float(share.mean()) if len(share) else 0.0,
        outside=findings.outside_tumor,
        second=second_opinions(findings),
        target=outputs.identity.stain,
        pictures=outputs.pictures,
        appearance=outputs.appearance,
        marked_percent=outputs.marked_percent,
        unreadable_percent=outputs.unreadable_percent,
        control=findings.control,
    )


def _weighted(measured: Measured) -> float:
    """Mean class of L over the tumor that M sees, so that both speak of the same px."""
    total = float(measured.tumor_share.sum())
    if total <= 0:
        return 0.0
    intensities = [tile.intensity for tile in measured.tiles]
    return float(np.dot(intensities, measured.tumor_share)) / total


def _votes(findings: Findings, guideline: Guideline) -> dict[str, str]:
    """Outcomes by the guideline from the shares of each reader but M, which made the score.

    None where clusters decide, which M alone counts. L's classes have names of their own (none,
    faint, weak, strong), in the order of the scores. L's vote is that of the scored tiles: its
    opinion counts those that hold control tissue, too.
    """
    if guideline.asks_for_clusters:
        return {}
    found = {}
    for opinion in findings.opinions:
        of_tiles = opinion.reader == IntensityReader.name
        named = of_tiles or opinion.classes == CLASS_NAMES
        makes_score = opinion.reader == SegmentationReader.name
        votes = opinion.about == "score" and not makes_score and not of_whole_slide(opinion)
        shares = _shares_of_tiles(findings) if of_tiles else opinion.probabilities
        if named and votes and any(shares):
            percent = {name: 100 * share for name, share in zip(CLASS_NAMES, shares, strict=True)}
            found[opinion.reader] = _outcome(guideline.decide(percent))
    return found


def _shares_of_tiles(findings: Findings) -> Sequence[float]:
    """Share (0-1) of the scored tiles in each class of L; zeros without tiles."""
    said = [tile.intensity for tile in findings.tiles]
    return [said.count(grade) / max(1, len(said)) for grade in range(len(CLASS_NAMES))]


def _outcome(rule: Rule) -> str:
    """Score of a rule, with its category where the scheme has one."""
    return rule.score.value if rule.category is None else f"{rule.score.value} {rule.category}"


def review_reasons(
    settings: Review, guideline: Guideline, evidence: Evidence
) -> tuple[ReviewReason, ...]:
    """Reasons that the evidence gives, most serious first."""
    return (
        *alignment_reasons(settings, evidence.alignment),
        *_control(settings, evidence.control),
        *picture_reasons(
            settings,
            unreadable_percent=evidence.unreadable_percent,
            pictures=evidence.pictures,
            appearance=evidence.appearance,
            marked_percent=evidence.marked_percent,
        ),
        *_outside(settings, evidence),
        *_tumor(settings, guideline, evidence),
        *_score(settings, guideline, evidence),
    )


def _control(settings: Review, control: ControlFacts | None) -> Iterator[ReviewReason]:
    if control is None and settings.control_required:
        yield because(Reason.CONTROL_MISSING)
    if control is not None and not control.works:
        yield because(
            Reason.CONTROL_FAILED,
            strongest=control.strongest,
            expected=settings.control_strongest,
        )


def _outside(settings: Review, evidence: Evidence) -> Iterator[ReviewReason]:
    focus = evidence.outside
    if focus is not None and focus.area_mm2 > settings.max_stain_outside_tumor_mm2:
        yield because(
            Reason.STAIN_OUTSIDE_TUMOR,
            stain=evidence.target,
            reader=focus.reader,
            area_mm2=focus.area_mm2,
            x_mm=focus.x_um / 1000,
            y_mm=focus.y_um / 1000,
        )


def _tumor(settings: Review, guideline: Guideline, evidence: Evidence) -> Iterator[ReviewReason]:
    if evidence.score is None:
        yield because(Reason.NO_TUMOR)
        return
    cells = sum(evidence.cells.counted)
    if evidence.tumor_area_mm2 < settings.min_tumor_area_mm2 or cells < settings.min_tumor_cells:
        yield because(Reason.LITTLE_TUMOR, area_mm2=evidence.tumor_area_mm2, cells=cells)
    unscored = evidence.unscored_tumor_percent
    decides = unscored > settings.max_unscored_deciding_percent
    other = _with_unscored(guideline, evidence) if decides else {}
    if other or unscored > settings.max_unscored_tumor_percent:
        yield because(Reason.TUMOR_NOT_SCORED, percent=unscored, **other)
    if evidence.without_tumor_percent > settings.max_tumor_disagreement_percent:
        yield because(Reason.TUMOR_DISAGREES, percent=evidence.without_tumor_percent)
    elif evidence.found_percent < settings.min_found_tumor_percent:
        yield because(Reason.TUMOR_NOT_FOUND, percent=evidence.found_percent)


def _with_unscored(guideline: Guideline, evidence: Evidence) -> dict[str, str]:
    """Other outcome that the case has if all unscored tumor is of one class; empty if it has none.

    The classes are 3+ and 0: those between lie between in the outcome, too.
    """
    unscored, clusters = evidence.unscored_tumor_percent, evidence.cells.cluster_cells
    here = guideline.decide(evidence.percent, clusters).outcome
    for name in ("3+", "0"):
        mixed = {k: (1 - unscored / 100) * share for k, share in evidence.percent.items()}
        mixed[name] += unscored
        rule = guideline.decide(mixed, clusters)
        if rule.outcome != here:
            return {"all_of": name, "score": _outcome(rule)}
    return {}


def _complete_intense(evidence: Evidence) -> float | None:
    """Most (0-100) of the tumor cells that may have complete intense membranes; None without cells.

    Where no 3+ cell lies wholly on its tile, each of them may.
    """
    if not any(evidence.cells.counted):
        return None
    complete = evidence.cells.complete_percent["3+"]
    return evidence.cells.percent["3+"] * (100 if complete is None else complete) / 100


def _score(settings: Review, guideline: Guideline, evidence: Evidence) -> Iterator[ReviewReason]:
    if evidence.score is None:
        return
    percent = evidence.percent
    mean_grade = sum(grade * share / 100 for grade, share in enumerate(percent.values()))
    others = {name: vote for name, vote in evidence.votes.items() if vote != evidence.outcome}
    if others:
        yield because(Reason.READERS_DISAGREE, score=evidence.outcome, votes=others)
    elif abs(mean_grade - evidence.intensity_grade) > settings.max_reader_difference:
        yield because(Reason.READERS_DISAGREE, limit=settings.max_reader_difference)
    intense = _complete_intense(evidence)
    asked = guideline.organ == "breast" and evidence.score == "3+"
    if asked and intense is not None and intense <= INTENSE_PERCENT:
        yield because(Reason.MEMBRANES_INCOMPLETE, percent=intense)
    faint = percent["0"] + percent["1+"]
    if (
        percent["3+"] >= settings.heterogeneity_strong_percent
        and faint >= settings.heterogeneity_faint_percent
    ):
        yield because(Reason.HETEROGENEOUS, strong=percent["3+"], faint=faint)
    for opinion in evidence.second:
        if distance(evidence.score, opinion.said) >= settings.second_reader_distance:
            yield because(
                Reason.SECOND_READER,
                reader=opinion.reader,
                score=evidence.score,
                said=opinion.said,
                percent=100 * max(opinion.probabilities),
            )
    clusters = evidence.cells.cluster_cells
    if guideline.distance(percent, clusters) < settings.guard_band_percent:
        yield because(Reason.NEAR_THRESHOLD, band=settings.guard_band_percent)
    if guideline.asks_for_clusters:
        yield because(Reason.CLUSTERS_UNCONFIRMED, cluster_cells=clusters)
    if guideline.status != "published":
        yield because(Reason.GUIDELINE_UNVERIFIED)
