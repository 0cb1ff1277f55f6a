"""Assay of a nuclear receptor, of the receptor's facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from appliance.assays.assay import Assay, ClassFacts, Declared, ObjectFacts, StainFacts
from appliance.assays.nuclear.coding import report
from appliance.assays.nuclear.decide import corrected, decide
from appliance.assays.nuclear.guideline import load_guideline
from appliance.assays.nuclear.page import page_of
from appliance.assays.nuclear.receptor import Receptor
from appliance.assays.nuclear.review import organ_reasons, review
from appliance.assays.stains import HE_STAIN
from appliance.findings.classes import NUCLEAR_CLASSES
from appliance.readers.nuclei import NucleiReader
from appliance.readers.reader import Options
from appliance.settings.settings import Settings
from models.picture.kinds import MEMBRANE, NUCLEAR

DECISION_VERSION = 7
"""Counted up when the decision changes: findings of other versions are made anew."""
COLORS = ((68, 119, 170), (242, 205, 60), (230, 120, 25), (128, 14, 38))
"""Colors of negative to strong: those of HER2's classes, which color-blind readers tell apart."""
CIELAB = ((70, -10, -30), (85, 0, 60), (65, 30, 60), (40, 40, 30))


def make_assay(receptor: Receptor) -> Assay:
    """Assay of a receptor, not registered yet."""
    guideline = load_guideline(receptor.guideline)
    return Assay(
        name=receptor.assay,
        title=receptor.title,
        anatomy=HE_STAIN,
        target=StainFacts(
            code=receptor.stain,
            label=receptor.label,
            words=receptor.words,
            reading=f"nuclei on {receptor.title}",
            # A negative slide shows hematoxylin alone, which the check of pictures counts among
            # membranes. Brown membranes are told by the reader: `Measured.is_nuclear`.
            pictures=(NUCLEAR, MEMBRANE),
        ),
        scores=tuple(rule.score for rule in reversed(guideline.rules)),
        classes=tuple(
            ClassFacts(name=name, color=color, cielab=cielab)
            for name, color, cielab in zip(NUCLEAR_CLASSES, COLORS, CIELAB, strict=True)
        ),
        readers=("tumor", NucleiReader.name),
        options=_options,
        depends_on=partial(_depends_on, receptor),
        decide=partial(decide, receptor),
        review=partial(review, receptor),
        corrected=corrected,
        check=partial(_check, receptor),
        objects=ObjectFacts(report=partial(report, receptor), page=page_of(receptor)),
        binary_words={
            "negative": f"{receptor.title} negative",
            "positive": f"{receptor.title} positive",
        },
    )


def _options(settings: Settings, _: Declared) -> Mapping[str, Options]:
    limits = settings.nuclear
    return {
        NucleiReader.name: {"limits_od": [limits.weak_od, limits.moderate_od, limits.strong_od]}
    }


def _depends_on(receptor: Receptor, settings: Settings, declared: Declared) -> Mapping[str, Any]:
    return {
        "version": DECISION_VERSION,
        "organ": [
            reason.as_json() for reason in organ_reasons(receptor, declared, settings.scoring.organ)
        ],
        "guideline": asdict(load_guideline(receptor.guideline)),
        "nuclear": settings.nuclear.model_dump(),
    }


def _check(receptor: Receptor, _: Settings) -> str:
    guideline = load_guideline(receptor.guideline)
    return f"{guideline.title}, {guideline.version} ({guideline.status}; {guideline.source})"
