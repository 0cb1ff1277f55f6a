"""Receptor: what differs between the assays of nuclear receptors."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from appliance.domain import Stain


@dataclass(frozen=True, slots=True, kw_only=True)
class Receptor:
    """Facts of a receptor: names, guideline, and LOINC names of its result.

    `presence` names positive or negative, `positive_cells` the percentage of positive cells.
    """

    assay: str
    title: str
    stain: Stain
    label: str
    words: tuple[str, ...]
    guideline: str
    presence: Code
    positive_cells: Code
