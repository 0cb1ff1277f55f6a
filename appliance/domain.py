"""Facts of the domain: stains, scores, identities, reasons. No I/O, no libraries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NewType

Binary = Literal["negative", "equivocal", "positive"]
"""A result in two classes, and what lies between them."""


Stain = NewType("Stain", str)
"""Code of what a slide is stained with, such as ``HE``. An open set: assays name their stains."""
HE = Stain("HE")
"""Hematoxylin and eosin: shows where the tumor is."""
HER2 = Stain("HER2")
"""HER2 immunohistochemistry: shows membranes in brown DAB."""
ER, PR = Stain("ER"), Stain("PR")
"""Estrogen and progesterone receptor immunohistochemistry: show nuclei in brown DAB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The two slides of a block that an assay needs.

    `anatomy` shows where the tumor is, `target` is scored. `expected`: the target slide is missed
    when only the anatomy slide has come; the cases of any other assay begin with their target.
    """

    assay: str
    anatomy: Stain
    target: Stain
    expected: bool

    @property
    def stains(self) -> tuple[Stain, Stain]:
        """Anatomy first."""
        return self.anatomy, self.target


class Her2Score(StrEnum):
    """HER2 IHC score, exactly as printed in reports."""

    ZERO = "0"
    ONE = "1+"
    TWO = "2+"
    THREE = "3+"

    @property
    def grade(self) -> int:
        """0, 1, 2 or 3."""
        return list(Her2Score).index(self)

    @classmethod
    def from_grade(cls, grade: int) -> Her2Score:
        """The score of `grade` (0-3); raises IndexError outside."""
        if grade < 0:
            raise IndexError(grade)
        return list(cls)[grade]

    @property
    def binary(self) -> Binary:
        """0 and 1+ negative, 2+ equivocal, 3+ positive (ASCO/CAP 2018)."""
        words: tuple[Binary, ...] = ("negative", "negative", "equivocal", "positive")
        return words[self.grade]


class ResultCategory(StrEnum):
    """Meaning of a score, where a guideline states one beside it (HERACLES)."""

    NEGATIVE = "negative"
    EQUIVOCAL = "equivocal"  #: retest and ISH decide
    POSITIVE_AFTER_RETEST = "positive after retest and ISH"  #: if both confirm it
    POSITIVE = "positive"


class QuarantineReason(StrEnum):
    """Code of why a slide is set aside; sentences and remedies are in `appliance.words`."""

    UNREADABLE = "unreadable"
    UNSUPPORTED = "unsupported"
    DAMAGED = "damaged"
    NOT_PYRAMIDAL = "not-pyramidal"
    NO_MPP = "no-mpp"
    IMPLAUSIBLE_MPP = "implausible-mpp"
    ANISOTROPIC = "anisotropic"
    SIDECAR = "sidecar"
    UNKNOWN_STAIN = "unknown-stain"
    NO_ACCESSION = "no-accession"
    NO_BLOCK = "no-block"
    IDENTITY_CONFLICT = "identity-conflict"
    WRONG_PICTURE = "wrong-picture"
    SAME_SLIDE = "same-slide"
    NO_PATIENT = "no-patient"
    MISSING_TAGS = "missing-tags"
    INVALID_UID = "invalid-uid"
    INVALID_HEADER = "invalid-header"
    NO_TISSUE = "no-tissue"
    NEVER_FINISHED = "never-finished"
    VANISHED = "vanished"
    WORKER_KILLED = "worker-killed"
    TOOK_TOO_LONG = "took-too-long"
    FILE_TOUCHED = "file-touched"
    FAILED = "failed"


UNIDENTIFIED = "UNIDENTIFIED"
"""Accession and block of a pair that a person processed by hand without naming them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Accession, block and stain of a slide. PHI: never logged above DEBUG.

    `accession` is DICOM SH (at most 16 characters), `block` the tissue block (``A1``).
    """

    accession: str
    block: str
    stain: Stain


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFacts:
    """Facts of a slide's header.

    Width and height in level-0 px, `mpp` in µm per level-0 px (mean of x and y).
    `fingerprint` is the SHA-256 of the file's bytes (of all the files of a multi-file slide).
    """

    path: str
    fingerprint: str
    format: str
    width_px: int
    height_px: int
    mpp: float
    level_count: int
    is_dicom: bool

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height in µm."""
        return self.width_px * self.mpp, self.height_px * self.mpp
