"""DICOM codes of a HER2 result: content of the structured report."""

from __future__ import annotations

from dataclasses import asdict

from pydicom.sr.coding import Code

from appliance.assays.assay import ReportContent
from appliance.assays.her2.guideline import Guideline, load_guideline
from appliance.assays.her2.second_reader import second_opinions
from appliance.domain import Her2Score
from appliance.findings.classes import CLASS_NAMES
from appliance.findings.findings import RESEARCH_USE, Findings
from appliance.findings.measured import CellFacts
from dicom import codes
from dicom.errors import ObjectError

Measured = tuple[Code, float, Code]


def report(findings: Findings) -> ReportContent:
    """Coded content of the report.

    HER2-low and the binary status are interpretations: they are left out while the case waits for a
    person.

    Raises
    ------
    SettingsError
        If the guideline of the findings is not there.
    dicom.errors.ObjectError
        If a score is no HER2 score.
    """
    guideline = load_guideline(findings.guideline)
    evaluations = _paper_scores(findings) + _statuses(findings)
    if low := _low_class(findings, guideline):
        evaluations.append((codes.LOW_CLASS, codes.LOW_CLASSES[low]))
    breast = findings.organ == "breast"
    return ReportContent(
        # LOINC has one term for breast and one for any other tissue.
        score_name=codes.HER2_SCORE if breast else codes.HER2_IN_TISSUE,
        score=codes.INDETERMINATE if findings.score is None else _coded(findings.score),
        measurements=_measurements(findings),
        evaluations=evaluations,
        texts=_texts(findings, f"{guideline.title}, {findings.guideline_version}"),
        roi_measurements=lambda number: _of_region(findings.rois[number].percent),
    )


def _known(score: str) -> str:
    if score not in codes.SCORES:
        raise ObjectError(f"'{score}' is no HER2 score; scores are {', '.join(codes.SCORES)}")
    return score


def _coded(score: str) -> Code:
    return codes.SCORES[_known(score)]


def _paper_scores(findings: Findings) -> list[tuple[Code, Code]]:
    """Algorithm 1 in both readings, under names that tell the fallback from the print."""
    if not findings.tells_paper:
        return []
    names = (codes.PAPER_SCORE, codes.PAPER_COUNT)
    if findings.paper_score_fallback:
        names = (codes.FALLBACK_SCORE, codes.FALLBACK_COUNT)
    scores = (findings.paper_score, findings.paper_score_by_count)
    return [
        (name, _coded(score))
        for name, score in zip(names, scores, strict=True)
        if score is not None
    ]


def _statuses(findings: Findings) -> list[tuple[Code, Code]]:
    """Binary status by the score and by px; none while the case waits for a person."""
    if findings.review:
        return []
    read = findings.read_outs
    said = (
        (codes.IHC_STATUS, None if read is None else read.binary),
        (codes.PIXEL_STATUS, findings.binary_by_pixels),
    )
    return [(name, codes.STATUSES[status]) for name, status in said if status is not None]


def digits_of(findings: Findings, least: int) -> int:
    """Digits behind the point of the shares: rounding does not take one past a limit."""
    if findings.as_before or not findings.has_numbers or {*findings.percent} != {*CLASS_NAMES}:
        return least
    return load_guideline(findings.guideline).digits(findings.percent, findings.cells, least)


def _shares(percent: dict[str, float], digits: int = 2) -> list[Measured]:
    return [
        (codes.TUMOR_SHARE[_known(name)], round(share, digits), codes.PERCENT)
        for name, share in percent.items()
    ]


def _of_region(percent: dict[str, float]) -> list[Measured]:
    """Shares of a region, and its mean class, which the map of intensity shows place by place."""
    shares = _shares(percent)  # refuses what is no score, whose first letter is no number
    mean = sum(int(name[0]) * share / 100 for name, share in percent.items())
    return [*shares, (codes.STAIN_INTENSITY, round(mean, 3), codes.NO_UNITS)]


def _measurements(findings: Findings) -> list[Measured]:
    told = findings.has_numbers
    completeness, intense = _membranes(findings.cells if told else None)
    measured = _shares(findings.percent, digits_of(findings, 2)) if told else []
    measured += [
        (name, round(value, 3), unit)
        for name, value, unit in (
            (codes.TUMOR_AREA, findings.tumor_area_mm2, codes.SQUARE_MM),
            (codes.UNSCORED_AREA, findings.unscored_tumor_area_mm2, codes.SQUARE_MM),
            (codes.H_SCORE, findings.h_score if told else None, codes.NO_UNITS),
            (codes.WSI_PERCENT, findings.wsi_percent if told else None, codes.PERCENT),
            (codes.WSI_OF_SLIDE, findings.wsi_percent_of_slide if told else None, codes.PERCENT),
            (codes.TUMOR_PERCENT, findings.tumor_percent, codes.PERCENT),
            (codes.REGISTRATION_ERROR, findings.alignment.error_um, codes.MICROMETER),
        )
        if value is not None
    ]
    measured += [
        (codes.COMPLETENESS[name], round(100 * share, 1), codes.PERCENT)
        for name, share in completeness.items()
    ]
    # The LOINC term is one of breast cancer.
    if intense is not None and findings.organ == "breast":
        measured.append((codes.COMPLETE_INTENSE_SHARE, round(intense, 2), codes.PERCENT))
    return measured


def _texts(findings: Findings, scheme: str) -> list[tuple[Code, str]]:
    correction = findings.correction
    texts = [
        (codes.COMMENT, f"HER2 IHC score: {findings.score or 'not scored'}{_origin(findings)}"),
        (codes.GUIDELINE, scheme),
        (codes.RESEARCH_NOTICE, RESEARCH_USE),
        *((codes.REVIEW, reason.sentence) for reason in findings.review),
    ]
    texts += [
        (codes.SECOND_READER, f"{opinion.reader.replace('_', ' ')}: {opinion.words}")
        for opinion in second_opinions(findings)
    ]
    if correction is not None:
        texts.append((codes.CORRECTION, correction.why))
    for code, text in (
        (codes.CATEGORY, findings.category),
        (codes.RULE, findings.rule),
        (codes.LOW_COMMENT, _comment(findings)),
    ):
        if text:
            texts.append((code, text))
    return texts


def _origin(findings: Findings) -> str:
    """Words on where the score comes from, in parentheses; empty where there is nothing to say."""
    words = []
    if findings.correction is not None:
        was = findings.correction.was or "-"
        words.append(f"corrected by a person; the appliance had said {was}")
    elif findings.estimated and findings.has_numbers:
        by_clusters = load_guideline(findings.guideline).is_by_clusters(findings.cells)
        measured = "the largest cluster of cells" if by_clusters else "areas, not from cells"
        words.append(f"estimated from {measured}")
    if findings.confirmations:
        words.append("confirmed by a person")
    return f" ({'; '.join(words)})" if words else ""


def _comment(findings: Findings) -> str:
    """Return the guideline's comment; empty while the case waits for a person."""
    return "" if findings.review else findings.comment


def _low_class(findings: Findings, guideline: Guideline) -> str:
    """Class of HER2-low that the guideline's comment states; empty where none.

    A comment that another version of the guideline worded is that of the score and the shares.
    """
    comments, comment = guideline.comments, _comment(findings)
    if comments is None or not comment or findings.score is None:
        return ""
    if comment not in asdict(comments).values():
        comment = guideline.comment(Her2Score(_known(findings.score)), findings.percent)
    return {comments.low: "HER2-low", comments.ultralow: "HER2-ultralow"}.get(comment, "")


def _membranes(cells: CellFacts | None) -> tuple[dict[str, float], float | None]:
    """Completeness (0-1) per class, where cells of it were measured, and the share (0-100) of cells
    that are 3+ with a complete membrane."""
    if cells is None:
        return {}, None
    found = {name: share for name, share in cells.completeness.items() if share is not None}
    complete = cells.complete_percent["3+"]
    # No cell of 3+ lies wholly on its tile: where there is none at all, the share is known.
    if complete is None:
        return found, None if cells.percent["3+"] else 0.0
    return found, cells.percent["3+"] * complete / 100
