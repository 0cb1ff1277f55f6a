"""Facts of the domain: stains, scores, identities, reasons. No I/O, no libraries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Literal, NewType

Binary = Literal["negative", "equivocal", "positive"]
"""A result in two classes, and what lies between them."""


Stain = NewType("Stain", str)
"""Code of what a slide is stained with, such as ``HE``. An open set: assays name their stains."""
HE = Stain("HE")
"""Haematoxylin and eosin: shows where the tumor is."""
HER2 = Stain("HER2")
"""HER2 immunohistochemistry: shows membranes in brown DAB."""


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
    """What a score means, where a guideline says it beside the score (HERACLES)."""

    NEGATIVE = "negative"
    EQUIVOCAL = "equivocal"  #: retest and ISH decide
    POSITIVE_AFTER_RETEST = "positive after retest and ISH"  #: if both confirm it
    POSITIVE = "positive"


class QuarantineReason(Enum):
    """Why a slide is set aside: (code, sentence for people, remedy for people)."""

    UNREADABLE = (
        "unreadable",
        "The file is not a slide that can be opened.",
        "Check the export on the scanner and scan or export the slide again.",
    )
    UNSUPPORTED = (
        "unsupported",
        "The slide is compressed or laid out in a way that no reader here knows.",
        "Export it as SVS, NDPI, BigTIFF (JPEG or JPEG 2000) or DICOM WSM.",
    )
    DAMAGED = (
        "damaged",
        "The file opens but a part of its pixels cannot be decoded.",
        "Copy or scan the slide again.",
    )
    NOT_PYRAMIDAL = (
        "not-pyramidal",
        "The image is flat: it has neither tiles nor pyramid levels.",
        "Export it as a pyramidal tiled slide (SVS, NDPI, BigTIFF or DICOM WSM).",
    )
    NO_MPP = (
        "no-mpp",
        "The slide does not say its resolution (µm per pixel).",
        "Set it in a sidecar file NAME.tandem.toml (mpp = 0.25), then: tandem retry.",
    )
    IMPLAUSIBLE_MPP = (
        "implausible-mpp",
        "The stated resolution lies outside 0.1-1.1 µm per pixel.",
        "Correct it in a sidecar file NAME.tandem.toml (mpp = 0.25), then: tandem retry.",
    )
    UNKNOWN_STAIN = (
        "unknown-stain",
        "Neither the header nor the file name tells a stain that Tandem knows.",
        "Rename the export to ACCESSION_BLOCK_STAIN, or add the lab's word for the stain to "
        "[identify.stains] in the settings, then: tandem retry.",
    )
    NO_ACCESSION = (
        "no-accession",
        "Neither the header, the barcode nor the file name holds an accession number.",
        "Rename the export to ACCESSION_BLOCK_STAIN, or set identify.patterns to the lab's form, "
        "then: tandem retry.",
    )
    NO_BLOCK = (
        "no-block",
        "The accession is known, but not which tissue block the slide was cut from.",
        "Rename the export to ACCESSION_BLOCK_STAIN, or set identify.patterns to the lab's form, "
        "then: tandem retry.",
    )
    MISSING_TAGS = (
        "missing-tags",
        "The DICOM file lacks attributes that a whole slide image must have.",
        "Export the slide again, or update the scanner's DICOM export.",
    )
    NO_TISSUE = (
        "no-tissue",
        "No tissue was found on the slide.",
        "Look at the slide; if there is tissue, scan it again with a new focus map.",
    )
    NEVER_FINISHED = (
        "never-finished",
        "The file stopped growing before it became a whole slide.",
        "Copy or scan the slide again; it is taken up as soon as the file changes.",
    )
    WORKER_KILLED = (
        "worker-killed",
        "Reading the slide killed its worker process several times.",
        "Keep the file and report it; meanwhile score this case by hand.",
    )
    FAILED = (
        "failed",
        "A step failed with an error that Tandem does not know.",
        "See the case's events and the log, then: tandem retry.",
    )

    def __init__(self, code: str, sentence: str, remedy: str) -> None:
        self.code = code
        self.sentence = sentence
        self.remedy = remedy

    @classmethod
    def from_code(cls, code: str) -> QuarantineReason:
        """The reason whose stored code is `code`; raises StopIteration for none."""
        return next(r for r in cls if r.code == code)


UNIDENTIFIED = "UNIDENTIFIED"
"""Accession and block of a pair that a person processed by hand without naming them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a slide belongs to. PHI: never logged above DEBUG.

    `accession` is DICOM SH (at most 16 characters), `block` the tissue block (``A1``).
    """

    accession: str
    block: str
    stain: Stain


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFacts:
    """What a slide's header says.

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
