"""English sentences for reasons for review."""

from __future__ import annotations

from appliance.words.template import Params, Words

_SLIDE = {"HE": "H&E"}
"""Names of stains in sentences, where they differ from their codes."""
READERS = {
    "intensity": "the tile classifier",
    "plain": "the plain reader of colors",
    "segmentation": "the pixel segmentation",
    "low_resolution": "the reader of the whole slide at low resolution",
    "multiple_instance": "the reader that weighs the tiles of the whole slide",
}
"""Names of readers in sentences."""
_DIFFERS = {"stain": "their stain", "focus": "their focus"}


def _slide(stain: str) -> str:
    return _SLIDE.get(stain, stain)


def _target(p: Params) -> str:
    """Name of the target slide's stain; reasons of HER2 do not state theirs."""
    return _slide(p.get("stain", "HER2"))


def _unlike(p: Params) -> str:
    if p.get("blurred"):
        return (
            f"{p['percent']:.0f} % of the tumor's tiles of the {_slide(p['stain'])} slide are out "
            "of focus, and their stain is measured too weak: scan it again."
        )
    focus = p["differs_in"] == "focus"
    return (
        f"{p['percent']:.0f} % of the tiles of the {_slide(p['stain'])} slide look unlike those "
        f"that its networks know (by {_DIFFERS[p['differs_in']]}): "
        + ("scan it again." if focus else "what they say of it may be wrong.")
    )


def _clusters(p: Params) -> str:
    cells = p["cluster_cells"]
    largest = (
        "but no cell was found, and the stained share of the tumor area stood in"
        if cells is None
        else ", ".join(f"{cells[name]} of {name}" for name in ("3+", "2+", "1+")) + " or more"
    )
    return (
        f"The guideline scores the largest cluster of stained cells, {largest}: no site has "
        "confirmed Tandem's count yet."
    )


def _disagree(p: Params) -> str:
    if "votes" not in p:
        return (
            "The tile classifier and the pixel segmentation disagree by more than "
            f"{p['limit']:g} class."
        )
    others = " and ".join(
        f"{vote} by {READERS.get(name, name)}" for name, vote in p["votes"].items()
    )
    return f"The readers disagree: the score is {p['score']}, but {others}."


def _outside(p: Params) -> str:
    if "nuclei" in p:
        return (
            f"{p['percent']:.0f} % of {p['nuclei']} nuclei outside the tumor are stained, and "
            f"{p['inside']:.0f} % of those in it: tumor that was not found there is not counted. "
            "Nuclei of normal ducts are stained, too, but seldom most of them."
        )
    reader = READERS.get(p["reader"], p["reader"])
    return (
        f"{p['area_mm2']:.2f} mm² outside the tumor are stained strongly, as {reader} sees it, at "
        f"{p['x_mm']:.1f} mm from the left and {p['y_mm']:.1f} mm from the top of the "
        f"{_slide(p['stain'])} slide: tumor that was not found there is not scored."
    )


def _not_scored(p: Params) -> str:
    said = (
        f"{p['percent']:.0f} % of the tumor on the H&E slide has no place on the "
        f"{_target(p)} slide and is not scored."
    )
    if "all_of" in p:
        said += f" If all of it were {p['all_of']}, the result would be {p['score']}."
    return said


def _unknown(p: Params) -> str:
    if p.get("setting"):
        return (
            f"The settings name the {p['what']} {p['word']!r}, and the guideline is of "
            f"{', '.join(p['known'])}: the case was scored as {p['default']}."
        )
    return (
        f"No guideline knows the sidecar's {p['what']} {p['word']!r} (they know "
        f"{', '.join(p['known'])}): the case was scored as {p['default']}."
    )


def _not_nuclear(p: Params) -> str:
    seen = f"Only {p['percent']:.0f} % of the brown has the width of nuclei: it "
    # Findings of earlier versions do not state `or_pale`; their reports keep their words and UIDs.
    if p.get("or_pale"):
        return seen + (
            "may lie on membranes or fibers, or the slide has a pale stain or was scanned with a "
            "raised black level, where the rims of nuclei are not brown enough. It is not scored."
        )
    return seen + "lies on membranes or fibers, and is not scored."


def _not_proven(p: Params) -> str:
    # Findings of earlier versions do not state `few`; their reports keep their words and UIDs.
    seen, last = (
        ("Too few stained nuclei were", "and") if p.get("few") else ("No stained nucleus was", "or")
    )
    return (
        f"{seen} found, in the tumor, beside it {last} on control tissue: nothing shows that this "
        "slide was stained for nuclei, and it is not scored."
    )


def _pigment(p: Params) -> str:
    signs = "made of granules, of another color than DAB, or without hematoxylin"
    if p.get("proof"):
        return (
            f"The nuclei that show that this slide was stained look like pigment: {signs}. It may "
            "be an unstained run."
        )
    return (
        f"{p['nuclei']} of {p['stained']} stained nuclei of the tumor look like pigment: {signs}. "
        f"Without pigment the result may be {p['score']}."
    )


def _contradicted(p: Params) -> str:
    return (
        f"The sidecars of the two slides name two different {p['what']}s: that of the "
        f"{_target(p)} slide counts."
    )


REVIEW: Words = {
    "slides-do-not-match": (
        "Only {percent:.0f} % of the H&E tissue's structure is found again on the IHC slide: are "
        "the slides of the same block?"
    ),
    "match-unsure": (
        "The tissue is so small that slides of two blocks may fit by its outline alone, and only "
        "{percent:.0f} % of its inner structure is found again on the IHC slide: check on the "
        "labels that both are of one block."
    ),
    "tissue-missing": (
        "Only {percent:.0f} % of the H&E tissue lies on IHC tissue: the rest is not scored."
    ),
    "alignment-error": (
        "The slides fit onto each other only within {error_um:.0f} µm: the H&E tumor may lie on "
        "other IHC tissue."
    ),
    "mirrored": "One section, or a piece of it, lies face down on its slide.",
    "control-failed": (
        "The control tissue is stained {strongest} at most, not {expected}: the staining run may "
        "have failed."
    ),
    "control-missing": (
        "No control tissue was found on the HER2 slide: nothing shows that the staining run worked."
    ),
    "unreadable-tiles": lambda p: (
        f"{p['percent']:.0f} % of the tiles of the {_slide(p['stain'])} slide cannot be decoded: "
        "the file is damaged; copy or scan it again."
    ),
    "picture-unsure": lambda p: (
        f"The picture of the {_slide(p['stain'])} slide may be another stain, such as "
        f"{p['looks_like']}: look at the slide before you use the score."
    ),
    "out-of-distribution": _unlike,
    "out-of-focus": _unlike,
    "pen-or-fold": lambda p: (
        f"Pen or a fold lies over {p['percent']:.0f} % of the tumor on the {_slide(p['stain'])} "
        "slide."
    ),
    "stain-not-nuclear": _not_nuclear,
    "stain-not-proven": _not_proven,
    "nuclei-unseen": (
        "On {percent:.0f} % of the tumor's tiles hardly a nucleus is seen but brown ones: the "
        "counterstain may be too pale, and the percentage too high."
    ),
    "pigment": _pigment,
    "no-tumor": "No tumor was found that both slides show: there is nothing to score.",
    "little-tumor": (
        "Only {area_mm2:.2f} mm² of tumor with {cells} cells could be scored: too little for a "
        "percentage."
    ),
    "stain-outside-tumor": _outside,
    "tumor-not-scored": _not_scored,
    "tumor-disagrees": (
        "On {percent:.0f} % of the tiles that are tumor on the H&E slide none is found on the HER2 "
        "slide."
    ),
    "tumor-not-found": (
        "The pixel segmentation finds tumor on only {percent:.0f} % of the tumor tiles' area: "
        "most of the tumor may not be scored."
    ),
    "readers-disagree": _disagree,
    "second-reader-disagrees": lambda p: (
        f"A second reader is far from the score {p['score']}: "
        f"{READERS.get(p['reader'], p['reader'])} says {p['said']} ({p['percent']:.0f} %)."
    ),
    "heterogeneous": (
        "{strong:.0f} % of the tumor is stained 3+ and {faint:.0f} % is 0 or 1+: two kinds of "
        "tumor, or two parts of which one is stained badly."
    ),
    "internal-control-missing": (
        "No internal control was seen: of {nuclei} nuclei outside the tumor {stained} are stained. "
        "A result of at most {percent:g} % needs one."
    ),
    "membranes-incomplete": (
        "Complete intense membranes were measured on at most {percent:.0f} % of the tumor cells, "
        "and 3+ asks for more than 10 %: the score rests on areas."
    ),
    "near-threshold": (
        "A class lies within {band:g} points of a limit of the guideline: the neighboring result "
        "is almost as likely."
    ),
    "clusters-unconfirmed": _clusters,
    "organ-unknown": _unknown,
    "specimen-unknown": _unknown,
    "organ-contradicted": _contradicted,
    "specimen-contradicted": _contradicted,
    "guideline-unverified": "The site has not confirmed this guideline yet.",
}

SECOND: Words = {
    "waiting": lambda p: (
        f"Second reader, not a score: {p['said']} ({p['percent']:.0f} %) from the "
        f"{_slide(p['stain'])} slide alone, by {READERS.get(p['reader'], p['reader'])}. It is not "
        "delivered before the block is scored."
    ),
}
"""Sentences on second readers' opinions on a slide that is not scored yet: kind ``second``."""
