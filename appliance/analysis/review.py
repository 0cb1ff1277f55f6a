"""When the appliance is not sure: reasons for a person to look, as a result of its own."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.analysis.alignment import Alignment
from appliance.analysis.appearance import Appearance
from appliance.analysis.findings import ReviewReason
from appliance.analysis.guideline import ClusterCells, Guideline
from appliance.domain import Her2Score, Stain
from appliance.settings import Review

_SLIDE = {Stain.HE: "H&E", Stain.HER2: "HER2"}
_DIFFERS = {"stain": "their stain", "focus": "their focus"}


def review_reasons(
    *,
    settings: Review,
    guideline: Guideline,
    alignment: Alignment,
    score: Her2Score | None,
    percent: Mapping[str, float],
    tumor_area_mm2: float,
    intensity_grade: float,
    appearance: Mapping[Stain, Appearance],
    cluster_cells: ClusterCells | None = None,
) -> tuple[ReviewReason, ...]:
    """All reasons that hold, most serious first.

    `percent` per class of the tumor area (0-100); `intensity_grade` the mean class (0-3) that L
    sees on the scored tiles, an independent reader of the same tiles; `appearance` of each slide;
    `cluster_cells` where cells were counted.
    """
    found: list[ReviewReason] = []

    def add(code: str, sentence: str) -> None:
        found.append(ReviewReason(code=code, sentence=sentence))

    found.extend(alignment_reasons(settings, alignment))
    for stain, seen in appearance.items():
        if seen.unusual_percent > settings.max_unusual_tiles_percent:
            add(
                "out-of-distribution",
                f"{seen.unusual_percent:.0f} % of the tiles of the {_SLIDE[stain]} slide look "
                f"unlike those that its networks know (by {_DIFFERS[seen.differs_in]}): what they "
                "say of it may be wrong.",
            )
    if score is None:
        add("no-tumor", "No tumor was found that both slides show: there is nothing to score.")
        return tuple(found)
    if tumor_area_mm2 < settings.min_tumor_area_mm2:
        add(
            "little-tumor",
            f"Only {tumor_area_mm2:.2f} mm² of tumor could be scored: too little for a percentage.",
        )
    if guideline.asks_for_clusters and cluster_cells is None:
        add(
            "clusters-not-counted",
            "The guideline scores the largest cluster of stained cells; cells were not counted, "
            "and the stained share of the tumor area stood in.",
        )
    if guideline.distance(percent, cluster_cells) < settings.guard_band_percent:
        add(
            "near-threshold",
            f"A class lies within {settings.guard_band_percent:g} points of a limit of the "
            "guideline: the neighbouring result is almost as likely.",
        )
    mean_grade = sum(grade * share / 100 for grade, share in enumerate(percent.values()))
    if abs(mean_grade - intensity_grade) > 1.0:
        add(
            "readers-disagree",
            "The tile classifier and the pixel segmentation disagree by more than one class.",
        )
    if guideline.status != "published":
        add("guideline-unverified", "The site has not confirmed this guideline yet.")
    return tuple(found)


def alignment_reasons(settings: Review, alignment: Alignment) -> tuple[ReviewReason, ...]:
    """Those that the alignment of the two slides gives."""
    found: list[ReviewReason] = []

    def add(code: str, sentence: str) -> None:
        found.append(ReviewReason(code=code, sentence=sentence))

    if alignment.agreement < settings.min_agreement:
        add(
            "slides-do-not-match",
            f"Only {100 * alignment.agreement:.0f} % of the H&E tissue's structure is found again "
            "on the IHC slide: are the slides of the same block?",
        )
    elif alignment.overlap < settings.min_overlap:
        add(
            "tissue-missing",
            f"Only {100 * alignment.overlap:.0f} % of the H&E tissue lies on IHC tissue: the rest "
            "is not scored.",
        )
    if alignment.error_um > settings.max_alignment_error_um:
        add(
            "alignment-error",
            f"The slides fit onto each other only within {alignment.error_um:.0f} µm: the H&E "
            "tumor may lie on other IHC tissue.",
        )
    if alignment.mirrored:
        add("mirrored", "One section lies face down on its slide.")
    return tuple(found)
