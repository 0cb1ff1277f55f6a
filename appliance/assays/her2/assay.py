"""HER2 immunohistochemistry: the first assay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from appliance.assays.assay import Assay, ClassFacts, Declared, ObjectFacts, StainFacts
from appliance.assays.her2.choice import choose_guideline
from appliance.assays.her2.coding import report
from appliance.assays.her2.decide import corrected, decide
from appliance.assays.her2.page import PAGE
from appliance.assays.her2.review import review
from appliance.assays.registry import register_assay
from appliance.assays.stains import HE_STAIN
from appliance.domain import HER2, Her2Score
from appliance.readers.reader import Options
from appliance.settings.settings import Settings

DECISION_VERSION = 15
"""Counted up when the decision changes: findings of other versions are made anew."""


def _options(settings: Settings, declared: Declared) -> Mapping[str, Options]:
    """M measures every cell where the guideline asks for the largest cluster."""
    guideline = choose_guideline(settings.scoring, declared).guideline
    return {"segmentation": {"every_cell": guideline.asks_for_clusters}}


def _depends_on(settings: Settings, declared: Declared) -> Mapping[str, Any]:
    chosen = choose_guideline(settings.scoring, declared)
    return {
        "version": DECISION_VERSION,
        "guideline": asdict(chosen),
        "control": settings.review.control_strongest,
    }


def _check(settings: Settings) -> str:
    guideline = choose_guideline(settings.scoring).guideline
    return f"{guideline.title}, {guideline.version} ({guideline.status}; {guideline.source})"


HER2_STAIN = StainFacts(
    code=HER2,
    label="HER2 IHC",
    words=(
        *("HER2", "HER2/NEU", "C-ERBB-2", "ERBB2", "HERCEPTEST", "4B5", "HER2-4B5", "4B5-HER2"),
        *("HER2-IHC", "PATHWAY-HER2", "VENTANA-4B5", "CB11", "A0485", "HERCEP-TEST", "HERCEP"),
        *("HER2-SP3", "HER2-EP3", "EP1045Y", "29D8"),
    ),
    reading="stain on IHC",
    pictures=("membrane",),
)

HER2_ASSAY = register_assay(
    Assay(
        name="her2",
        title="HER2",
        anatomy=HE_STAIN,
        target=HER2_STAIN,
        scores=tuple(score.value for score in Her2Score),
        # The colors differ in hue and in lightness: they stay apart for readers with protanopia,
        # deuteranopia and tritanopia, and in gray print from 1+ on they only get darker.
        classes=(
            ClassFacts(name="0", color=(68, 119, 170), cielab=(70, -10, -30)),
            ClassFacts(name="1+", color=(242, 205, 60), cielab=(85, 0, 60)),
            ClassFacts(name="2+", color=(230, 120, 25), cielab=(65, 30, 60)),
            ClassFacts(name="3+", color=(128, 14, 38), cielab=(40, 40, 30)),
        ),
        readers=(
            *("tumor", "intensity", "segmentation", "plain"),
            *("low_resolution", "multiple_instance"),
        ),
        interim_reader="interim",
        options=_options,
        depends_on=_depends_on,
        decide=decide,
        review=review,
        corrected=corrected,
        check=_check,
        objects=ObjectFacts(report=report, page=PAGE),
        binary_words={
            "negative": "HER2 negative",
            "equivocal": "HER2 equivocal",
            "positive": "HER2 positive",
        },
    )
)
