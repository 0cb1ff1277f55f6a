"""DICOM codes of the result of a nuclear receptor: content of the structured report."""

from __future__ import annotations

from pydicom.sr.coding import Code

from appliance.assays.assay import ReportContent
from appliance.assays.nuclear.guideline import load_guideline
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.nuclear.scores import allred, average_intensity, h_score, positive_percent
from appliance.findings.classes import NUCLEAR_CLASSES
from appliance.findings.findings import RESEARCH_USE, Findings
from dicom import codes

LOW = "low positive"


def shares_of(findings: Findings) -> tuple[float, ...]:
    """Shares (0-100) of negative, weak, moderate and strong nuclei, in this order."""
    return tuple(findings.percent[name] for name in NUCLEAR_CLASSES)


def digits_of(findings: Findings, least: int) -> int:
    """Digits behind the point of the shares: rounding does not take the percentage past a limit."""
    if findings.as_before:
        return least
    guideline = load_guideline(findings.guideline)
    return guideline.digits(positive_percent(shares_of(findings)), least)


def report(receptor: Receptor, findings: Findings) -> ReportContent:
    """Coded content of the report.

    A low positive result is coded as positive, with its class beside it: no code of LOINC or SNOMED
    CT states it.

    Raises
    ------
    SettingsError
        If the guideline of the findings is not there.
    """
    guideline = load_guideline(findings.guideline)
    scored = findings.score is not None and findings.has_numbers
    score = codes.INDETERMINATE
    evaluations = []
    if findings.score is not None:
        score = codes.STATUSES[guideline.rule_of(findings.score).binary]
        if findings.score == LOW:
            evaluations.append((codes.RECEPTOR_CLASS, codes.LOW_POSITIVE))
    return ReportContent(
        score_name=receptor.presence,
        score=score,
        measurements=_measurements(receptor, findings) if scored else _areas(findings),
        evaluations=evaluations,
        texts=_texts(receptor, findings, f"{guideline.title}, {findings.guideline_version}"),
    )


def _measurements(receptor: Receptor, findings: Findings) -> list[tuple[Code, float, Code]]:
    percent = shares_of(findings)
    score, mean = allred(percent, as_before=findings.as_before), average_intensity(percent)
    digits = digits_of(findings, 2)
    measured = [(receptor.positive_cells, round(positive_percent(percent), digits), codes.PERCENT)]
    measured += [
        (codes.NUCLEI_SHARE[name], round(share, digits), codes.PERCENT)
        for name, share in zip(NUCLEAR_CLASSES, percent, strict=True)
    ]
    if findings.cells is not None:
        measured.append((codes.NUCLEI_COUNTED, float(findings.cells.counted), codes.NO_UNITS))
    if mean is not None:
        measured.append((codes.AVERAGE_INTENSITY, round(mean, 2), codes.NO_UNITS))
    measured += [
        (codes.ALLRED, float(score.total), codes.NO_UNITS),
        (codes.ALLRED_PROPORTION, float(score.proportion), codes.NO_UNITS),
        (codes.ALLRED_INTENSITY, float(score.intensity), codes.NO_UNITS),
        (codes.H_SCORE, round(h_score(percent), 1), codes.NO_UNITS),
    ]
    return measured + _areas(findings)


def _areas(findings: Findings) -> list[tuple[Code, float, Code]]:
    return [
        (codes.TUMOR_AREA, round(findings.tumor_area_mm2, 3), codes.SQUARE_MM),
        (codes.UNSCORED_AREA, round(findings.unscored_tumor_area_mm2, 3), codes.SQUARE_MM),
        (codes.REGISTRATION_ERROR, round(findings.alignment.error_um, 3), codes.MICROMETER),
    ]


def _texts(receptor: Receptor, findings: Findings, scheme: str) -> list[tuple[Code, str]]:
    said = f"{receptor.title} IHC: {findings.score or 'not scored'}{_origin(findings)}"
    texts = [
        (codes.COMMENT, said),
        (codes.GUIDELINE, scheme),
        (codes.RESEARCH_NOTICE, RESEARCH_USE),
        *((codes.REVIEW, reason.sentence) for reason in findings.review),
    ]
    if findings.correction is not None:
        texts.append((codes.CORRECTION, findings.correction.why))
    if findings.rule:
        texts.append((codes.RULE, findings.rule))
    if findings.comment and not findings.review:  # as on the page
        texts.append((codes.RESULT_COMMENT, findings.comment))
    return texts


def _origin(findings: Findings) -> str:
    """Words on where the result comes from, in parentheses; empty where there is nothing to say."""
    words = []
    if findings.correction is not None:
        was = findings.correction.was or "-"
        words.append(f"corrected by a person; the appliance had said {was}")
    elif findings.estimated and findings.score is not None:
        words.append("counted by color, size and shape of nuclei")
    if findings.confirmations:
        words.append("confirmed by a person")
    return f" ({'; '.join(words)})" if words else ""
