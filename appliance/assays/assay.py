"""Assay: what is scored and how, as one value that names its stains, readers and rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from appliance.domain import Identity, Pairing, SlideFacts, Stain
from appliance.findings.findings import Findings
from appliance.findings.reasons import ReviewReason
from appliance.readers.reader import Options, Reading
from appliance.registration.alignment import Alignment
from appliance.registration.tile_plan import TilePlan
from appliance.settings.settings import Settings
from appliance.slides.appearance import Appearance
from appliance.slides.picture import PictureMatch

RGB = tuple[int, int, int]
Rows = list[tuple[str, ...]]
"""Rows of words of a table; the first is its head."""
SHARE_OF = "tumor area"
"""Whole of which the percentages of findings are shares, unless the assay says otherwise."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StainFacts:
    """Stain of an assay.

    `label` names it to people, `words` are what laboratories write for it (matched as whole words,
    without regard to case), `reading` names the reading of its tiles in progress lines. `pictures`
    are the kinds (`models.picture.kinds`) that its picture may be; empty: any.
    """

    code: Stain
    label: str
    words: tuple[str, ...]
    reading: str
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFacts:
    """Class of the target's label map.

    `color` is RGB (0-255) on pictures, `cielab` (L*, a*, b*) the display color in DICOM.
    """

    name: str
    color: RGB
    cielab: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Words of the two slides' sidecars, target first; empty where a sidecar does not say."""

    organ: tuple[str, ...] = ()
    specimen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutputs:
    """Outcomes of the steps, from which an assay decides.

    Attributes
    ----------
    anatomy, target
        Facts of the two slides.
    readings
        Reading of each reader of the assay, by reader name.
    read
        uint8 of the shape of the target's tile grid: 0 not read, `MARGIN`, `SCORED`.
    pictures, appearance, unreadable_percent, marked_percent
        By stain: how surely the picture is of the stain, where it was looked at and no person said
        so; tiles unlike those of training; share (0-100) of wanted tiles that the file does not
        give; share (0-100) of tumor tiles under pen or on a fold.
    """

    identity: Identity
    anatomy: SlideFacts
    target: SlideFacts
    declared: Declared
    readings: Mapping[str, Reading]
    alignment: Alignment
    plan: TilePlan
    read: NDArray[np.uint8]
    pictures: Mapping[Stain, PictureMatch]
    appearance: Mapping[Stain, Appearance]
    unreadable_percent: Mapping[Stain, float]
    marked_percent: Mapping[Stain, float]

    def reading(self, name: str, kind: type[T]) -> T:
        """Reading of a reader; raises TypeError if it is of another kind."""
        found = self.readings[name]
        if not isinstance(found, kind):
            raise TypeError(f"reading of {name!r} is a {type(found).__name__}, not {kind.__name__}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """Coded content of the structured report, in the order in which it is written.

    `measurements` are (name, value, unit), `evaluations` (name, value), `texts` (name, text).
    `roi_measurements` gives those of one region by its position in `Findings.rois`.
    """

    score_name: Code
    score: Code
    measurements: Sequence[tuple[Code, float, Code]]
    evaluations: Sequence[tuple[Code, Code]] = ()
    texts: Sequence[tuple[Code, str]] = ()
    roi_measurements: Callable[[int], Sequence[tuple[Code, float, Code]]] = lambda _: ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWords:
    """Words and tables of the report page.

    `score_label` stands over the score, `target_caption` over the picture of the target slide.
    `scheme` names the guideline in full. `estimate` says why a score is an estimate, for all
    findings or for each. `class_rows` has at most six columns, `measure_rows` two. `share_of` is
    what the findings' percentages are shares of.
    """

    score_label: str
    target_caption: str
    scheme: Callable[[Findings], str]
    estimate: str | Callable[[Findings], str]
    class_rows: Callable[[Findings], Rows]
    measure_rows: Callable[[Findings], Rows]
    share_of: str = SHARE_OF


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """Writing of an assay's result: DICOM content and report page."""

    report: Callable[[Findings], ReportContent]
    page: PageWords


def no_check(_: Settings) -> str:
    """Check of an assay that every setting allows."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assay:
    """Assay: what is scored and how.

    Attributes
    ----------
    name, title
        Name in settings and the ledger; name for people, such as ``HER2``.
    anatomy, target
        Stain that shows where the tumor is, and stain that is scored.
    scores, classes
        Scores, lowest first, as printed; classes of the target's label map, empty without one.
    readers
        Names of the readers that are asked, in the order of the opinions.
    tumor_reader
        Reader of `readers` whose tumor tiles are looked for on the target slide.
    interim_reader
        Reader of the anatomy slide's bag that gives a hint before the target slide is scored, no
        part of the decision; empty: there is none.
    options
        Wishes for the readers of the target's tiles, by reader name; readings depend on them.
    depends_on
        JSON-serialisable facts that the decision depends on beside the readings.
    decide, review
        Findings from the outputs of the steps, without reasons for review; and these reasons.
    corrected
        Findings with a person's score in place of the appliance's.
    objects
        DICOM codes and page.
    check
        Raise SettingsError where the settings do not allow a decision; return the guideline's name.
    """

    name: str
    title: str
    anatomy: StainFacts
    target: StainFacts
    scores: tuple[str, ...]
    classes: tuple[ClassFacts, ...]
    readers: tuple[str, ...]
    tumor_reader: str = "tumor"
    interim_reader: str = ""
    decide: Callable[[StepOutputs, Settings], Findings]
    review: Callable[[StepOutputs, Findings, Settings], tuple[ReviewReason, ...]]
    corrected: Callable[[Findings, str], Findings]
    objects: ObjectFacts
    options: Callable[[Settings, Declared], Mapping[str, Options]] = lambda *_: {}
    depends_on: Callable[[Settings, Declared], Mapping[str, Any]] = lambda *_: {}
    check: Callable[[Settings], str] = no_check
    binary_words: Mapping[str, str] = field(default_factory=dict)
    """Words for the binary read-out, such as ``HER2 positive``."""

    @property
    def has_guideline(self) -> bool:
        """Return whether the assay decides by a guideline; `check` names the one chosen."""
        return self.check is not no_check

    @property
    def stains(self) -> tuple[StainFacts, StainFacts]:
        """Anatomy first."""
        return self.anatomy, self.target

    def pairing(self, *, expected: bool) -> Pairing:
        """Pair of stains for intake and ledger."""
        return Pairing(
            assay=self.name,
            anatomy=self.anatomy.code,
            target=self.target.code,
            expected=expected,
        )
