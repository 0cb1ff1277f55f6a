"""Facts of a structured report, as its maker gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from dicom.request import NO_REQUEST, OrderedRequest
from dicom.segmentation import AlgorithmFacts

Measured = tuple[Code, float, Code]
"""Name, value and unit (UCUM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiFacts:
    """Region that decided the score.

    `outline_um` is (N, 2), (x, y) in µm of the target slide from its top left corner.
    """

    outline_um: NDArray[np.float64]
    measurements: Sequence[Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionFacts:
    """Score of a person in place of the appliance's.

    `by` is a DICOM person name, `why` the reason, `was` the score that the appliance had given.
    """

    by: str
    why: str
    was: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierFacts:
    """Person who stands for the report: a DICOM person name, their organization, and when.

    The organization is empty where it is not stated.
    """

    by: str
    organization: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OpinionFacts:
    """Opinion of one reader.

    Attributes
    ----------
    reader
        Name of the reader.
    about
        Question that it answers: a key of `codes.OPINION_QUESTIONS`.
    shares
        Share or probability (0-1) of each class, by the class's name; all 0 where the reader saw
        nothing to judge.
    certainty
        Mean certainty (0-1) of the reader in its own answers; None where it states none.
    algorithm
        Network of the reader, or the reader itself where it has none.
    of_anatomy
        Whether the opinion is of the anatomy slide; else it is of the target slide.
    """

    reader: str
    about: str
    shares: Sequence[tuple[str, float]]
    certainty: float | None
    algorithm: AlgorithmFacts
    of_anatomy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """Content of the report.

    Attributes
    ----------
    accession
        Accession that was identified, as the header of the target slide writes it; empty: the
        report answers no request.
    title
        Target of the score, such as ``HER2``.
    said
        Score as printed; None where there was nothing to score.
    score_name, score
        Coded name of the score, and its coded value.
    category
        Meaning of the score by the guideline; empty where it states none.
    measurements, evaluations, texts
        (name, value, unit), (name, value) and (name, text) of the case, in the order of writing.
    read_mpp
        µm per level-0 px with which the target slide was read; None: that of its header.
    opinions
        Opinions of the readers, each in a group of its own.
    verifiers
        People who stand for the report; without one it is UNVERIFIED.
    request
        Numbers and procedure of the request that the report answers; empty where they are not
        known.
    installation
        Name of the installation, of which its Device Observer UID is made; empty: of none.
    as_before
        The report is written as by an edition that stated no block, and the accession of the
        slide's header alone.
    numbered_as_before
        The issuer of the header's accession stands beside any accession, as an earlier edition
        wrote it.
    described_as_before
        The report is about the first of several specimens in the header, whosever it is, and its
        parametric maps are of slide microscopy, as an earlier edition wrote it.
    specimens_as_before
        The report is about the first of several specimens that an identifier of the block names,
        as an earlier edition wrote it.
    """

    accession: str
    block: str
    title: str
    said: str | None
    score_name: Code
    score: Code
    category: str
    measurements: Sequence[Measured]
    evaluations: Sequence[tuple[Code, Code]]
    texts: Sequence[tuple[Code, str]]
    algorithms: Sequence[AlgorithmFacts]
    rois: Sequence[RoiFacts]
    read_mpp: float | None = None
    opinions: Sequence[OpinionFacts] = ()
    correction: CorrectionFacts | None = None
    verifiers: Sequence[VerifierFacts] = ()
    request: OrderedRequest = NO_REQUEST
    installation: str = ""
    as_before: bool = False
    numbered_as_before: bool = False
    described_as_before: bool = False
    specimens_as_before: bool = False
