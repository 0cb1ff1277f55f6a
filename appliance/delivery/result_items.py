"""Result of a case for the laboratory's systems: which items are sent, and how far they stand."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydicom.sr.coding import Code

from dicom import codes
from dicom.errors import ObjectError
from dicom.result import Item, Result


class Standing(StrEnum):
    """How far a result stands, by its FHIR word."""

    PRELIMINARY = "preliminary"  #: no person has signed it
    FINAL = "final"  #: a person stands for it
    CORRECTED = "corrected"  #: the score is a person's, in place of an earlier one


def standing_of(result: Result) -> Standing:
    """Return how far a result stands."""
    if not result.is_signed:
        return Standing.PRELIMINARY
    return Standing.CORRECTED if result.corrects else Standing.FINAL


def chosen(result: Result, contents: Sequence[str] | None) -> list[Item]:
    """Return the items with the codes of `contents`, in its order; all of them without.

    Two follow, whatever `contents` names. The score of a result that has none, or that replaces
    another: an earlier score or number would stay in force beside it. Reasons for review of a
    result that nobody signed: the score alone would look as sure as one without any.

    Raises
    ------
    ObjectError
        If the result has none of them: a message of nothing would look like a result.
    """
    if contents is None:
        return list(result.items)
    found = [item for code in contents for item in result.items if item.name.value == code]
    score = [
        item
        for item in result.items
        if item.name == result.score_name and isinstance(item.value, Code)
    ]
    unscored = any(item.value == codes.INDETERMINATE for item in score)
    # A person's score may have no numbers. Else none of the codes is right.
    if not found and not unscored and not result.corrects:
        raise ObjectError(
            f"gets no result of {', '.join(contents)}: the report has none of these. Correct "
            "contents; then: tandem retry."
        )
    if (unscored or result.replaces) and result.score_name.value not in contents:
        found += score
    if result.is_signed or codes.REVIEW.value in contents:
        return found
    return found + [item for item in result.items if item.name == codes.REVIEW]
