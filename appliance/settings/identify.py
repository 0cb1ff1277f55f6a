"""Settings of identification: sources, their weights, the lab's forms and words."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from appliance.settings.section import Section

SourceName = Literal["person", "sidecar", "header", "barcode", "label", "name", "folder"]
"""Source of an identity. The word of a person, then a sidecar, end every question."""
WEIGHTS: dict[SourceName, float] = {
    "header": 6.0,
    "barcode": 6.0,
    "label": 5.0,
    "name": 4.0,
    "folder": 1.0,
}
_STAIN_CODE = re.compile(r"[A-Z][A-Z0-9_-]{0,15}")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


class Writing(Section):
    """The site's rule of writing: what makes two numbers one. Upper and lower case always do:
    ``s26-00031`` is written S26-00031, block ``a1`` A1."""

    fold_case: bool = True
    """Without effect; settings files of earlier editions name it."""
    separators: Literal["keep", "drop"] = "keep"
    """``drop``: S26-00031 and S2600031 are one accession, written without separators."""
    leading_zeros: Literal["keep", "drop"] = "keep"
    """``drop``: S26-00031 and S26-31 are one accession, written without zeros."""

    def of_accession(self, text: str) -> str:
        """Return an accession as this site writes it."""
        written = text.strip().upper()
        if self.leading_zeros == "drop":
            written = _ZEROS.sub("", written)
        return re.sub(r"[-._/ ]", "", written) if self.separators == "drop" else written

    def of_block(self, text: str) -> str:
        """Return a block as this site writes it."""
        return text.strip().upper()


class Identify(Section):
    """Rules that find accession, block and stain of a slide."""

    patterns: tuple[str, ...] = ()
    """Regular expressions of the lab's own forms, applied to barcode, file name and folder name
    before the forms that Tandem knows. The first match wins. The groups are `accession` and
    `block`; without `block` the block is looked for behind the accession."""
    stains: dict[str, tuple[str, ...]] = Field(default={})
    """The lab's words for stain codes, matched as whole words without regard to case and
    separators. They replace the words that the assay has for that stain; a stain that is not named
    keeps the assay's."""
    other_stains: tuple[str, ...] = ()
    """More words of the lab for stains of no assay. Slides with one are known and left alone. Some
    250 antibodies and special stains are known without this setting."""
    weights: dict[SourceName, Annotated[float, Field(ge=0)]] = Field(default={})
    """Weight of a source where two disagree. Default: header 6, barcode 6, label 5, name
    4, folder 1. A source of weight 0 is not asked."""
    outweighs: Annotated[float, Field(gt=1)] = 5.0
    """Factor by which what some sources say must outweigh what others say, to be believed without
    a person. Two sources of like weight that disagree always hold the slide."""
    writing: Writing = Writing()
    without_patient: Literal["none", "stand-in", "hold"] = "none"
    """Slides of which neither the header nor an order names the patient. none: objects carry no
    Patient ID, and an archive may take all of them for one patient. stand-in: converted slides and
    their results carry a Patient ID of Tandem's own, one for each accession. hold: the slide is set
    aside until an order names the patient."""

    slash_dates: Literal["month-first", "day-first"] = "month-first"
    """Order of day and month in dates with slashes in headers of the site's scanners, such as
    ``5/2/2026``, where both numbers may be either. Aperio's are month first, and those of MIRAX day
    first, whatever is set. Rescans are told apart by these dates."""

    @field_validator("stains")
    @classmethod
    def _codes_are_well_formed(
        cls, value: dict[str, tuple[str, ...]]
    ) -> dict[str, tuple[str, ...]]:
        wrong = sorted(code for code in value if not _STAIN_CODE.fullmatch(code))
        if wrong:
            raise ValueError(
                f"{wrong[0]!r} is not a stain code: use a capital letter, then up to 15 of A-Z, "
                "0-9, _ and -"
            )
        return value

    @field_validator("patterns")
    @classmethod
    def _patterns_are_well_formed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                groups = re.compile(pattern).groupindex
            except re.error as err:
                raise ValueError(f"{pattern!r} is no regular expression: {err}") from err
            if "accession" not in groups:
                raise ValueError(f"{pattern!r} has no group (?P<accession>…)")
        return value

    def weight(self, source: SourceName) -> float:
        """Return the weight of a source that is no person's word."""
        return self.weights.get(source, WEIGHTS.get(source, 0.0))
