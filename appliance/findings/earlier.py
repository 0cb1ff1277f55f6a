"""Findings of earlier versions, converted one version at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _of_5(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 6 of findings of version 5, which knew no corrections."""
    return raw | {"version": 6, "correction": None}


def _of_6(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 7 of findings of version 6.

    Version 6 stored a sentence in place of a reason's parameters, and the weights of three networks
    in place of opinions. Its first builds did not name the findings that a correction corrects.
    """
    about = {"tumor": ("tumor", "he_probability"), "segmentation": ("score", "ihc_classes")}
    percent = {name: float(share) for name, share in raw["percent"].items()}
    total = sum(percent.values())
    opinions = []
    for model in raw["models"]:
        asked, raster = about.get(model["task"], ("score", ""))
        scored = model["task"] == "segmentation"
        opinions.append(
            {
                "reader": model["task"],
                "version": 0,
                "about": asked,
                "weights": model,
                "classes": list(percent) if scored else [],
                "probabilities": [p / (total or 1.0) for p in percent.values()] if scored else [],
                "certainty": None,
                "raster": raster,
            }
        )
    correction = raw["correction"]
    return raw | {
        "version": 7,
        "assay": "her2",
        "opinions": opinions,
        "read_outs": raw.get("read_outs"),
        "category": raw.get("category"),
        "correction": None if correction is None else {"corrects": ""} | correction,
        "review": [
            {"code": reason["code"], "params": {"sentence": reason["sentence"]}}
            for reason in raw["review"]
        ],
    }


def _of_7(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 8 of findings of version 7.

    Version 7 knew no calibration of a site, one reading of the paper's score, one denominator of
    WSI %, and no tumor percentage of the slide.
    """
    opinions = [
        opinion | {"weights": opinion["weights"] and opinion["weights"] | {"calibration": None}}
        for opinion in raw["opinions"]
    ]
    return raw | {
        "version": 8,
        "opinions": opinions,
        "paper_score_by_count": None,
        "paper_score_fallback": None,
        "wsi_percent_of_slide": None,
        "binary_by_pixels": None,
        "tumor_percent": None,
    }


def _of_8(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 9 of findings of version 8, which did not look outside the tumor."""
    return raw | {"version": 9, "outside_tumor": None}


def _of_9(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 10 of findings of version 9, which knew no sign-offs: a correction named a person."""
    return raw | {"version": 10, "sign_offs": []}


LATER: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    5: _of_5,
    6: _of_6,
    7: _of_7,
    8: _of_8,
    9: _of_9,
}
"""Conversion of each earlier version to the next one."""
