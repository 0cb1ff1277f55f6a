"""Facts of an assay for the pages, with plain defaults for an assay that is not installed here."""

from __future__ import annotations

from appliance.assays.assay import RGB, SHARE_OF, Assay
from appliance.assays.registry import assays
from appliance.findings.findings import Findings

GRAY: RGB = (120, 120, 120)


def assay_of(name: str) -> Assay | None:
    """Assay of a name; None where it is not installed."""
    return next((assay for assay in assays() if assay.name == name), None)


def class_colors(findings: Findings) -> dict[str, RGB]:
    """Color of each class of the findings, lowest first; gray for classes of an unknown assay."""
    assay = assay_of(findings.assay)
    known = {} if assay is None else {named.name: named.color for named in assay.classes}
    colors = {name: color for name, color in known.items() if name in findings.percent}
    return colors | {name: GRAY for name in findings.percent if name not in known}


def share_of(findings: Findings) -> str:
    """What the percentages of the findings are shares of."""
    assay = assay_of(findings.assay)
    return SHARE_OF if assay is None else assay.objects.page.share_of


def own_rows(findings: Findings) -> list[tuple[str, str]]:
    """Rows of measurements that an assay has in place of areas and membranes; else none."""
    assay = assay_of(findings.assay)
    if assay is None or share_of(findings) == SHARE_OF:
        return []
    return [(row[0], row[1]) for row in assay.objects.page.measure_rows(findings)[1:]]


def has_classes(findings: Findings) -> bool:
    """Return whether the assay grades px, which H-score, WSI % and paper score need."""
    assay = assay_of(findings.assay)
    return assay is not None and bool(assay.classes) and share_of(findings) == SHARE_OF


def binary_words(findings: Findings) -> str:
    """Binary read-out in words; empty where the findings have none."""
    if findings.read_outs is None:
        return ""
    assay = assay_of(findings.assay)
    words = {} if assay is None else assay.binary_words
    return words.get(findings.read_outs.binary, findings.read_outs.binary)


def slide_labels(name: str) -> tuple[str, str]:
    """Names of the anatomy and the target slide of an assay, for people."""
    assay = assay_of(name)
    return ("H&E", name) if assay is None else (assay.anatomy.label, assay.target.label)
