"""Cells of a table of orders: what spreadsheets make of the values that were written."""

from __future__ import annotations

import re
from collections.abc import Mapping

from appliance.delivery.order_files import REPLACEMENT
from dicom.order import plain

DECIDING = {"accession": "accession", "patient_id": "patient ID"}
"""Facts that one column alone may hold, and their names in sentences."""
_FORMULA = re.compile('="(.*)"', re.DOTALL)
"""Cell that Excel is to keep as text: ``="0004711"``."""
_ROUNDED = re.compile(r"\d(?:[.,]\d+)?E\+\d+", re.IGNORECASE)
"""Number as Excel shows a long one: digits are lost."""


class RowError(Exception):
    """A row that cannot be used; the text does not hold its values (PHI)."""


def value_of(cell: str) -> str:
    """Return the text of a cell as it was meant: Excel keeps text as a formula."""
    text = plain(cell)
    if formula := _FORMULA.fullmatch(text):
        text = plain(formula[1].replace('""', '"'))
    return text


def kept_values(values: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the values of a row that are as they were written, and sentences about the others.

    Block and stain stay: without them an order asks for all.

    Raises
    ------
    RowError
        If the accession or the patient ID is none of them.
    """
    kept, left_out = dict(values), []
    for fact, value in values.items():
        if fact in ("block", "stain"):
            continue
        if _ROUNDED.fullmatch(value):
            told = "was rounded by Excel: format the column as text"
        elif REPLACEMENT in value:
            told = "has letters that cannot be read"
        else:
            continue
        if fact in DECIDING:
            raise RowError(f"its {DECIDING[fact]} {told}")
        kept[fact] = ""
        left_out.append(f"the {fact.replace('_', ' ')} {told}; it is left out")
    return kept, left_out
