"""Sides of an evaluation: the judged weights, and the baseline beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL, BASELINE = "model", "baseline"
"""Side of the first weights, whose figures are quoted without a prefix, and of the baseline."""


def side_names(weights: int) -> tuple[str, ...]:
    """Sides of an evaluation of several weights: ``model``, ``model-2``, …, ``baseline``."""
    further = (f"{MODEL}-{number}" for number in range(2, weights + 1))
    return (MODEL, *further, BASELINE)


def titles(names: list[str]) -> dict[str, str]:
    """Words for each side: ``Tandem`` for one set of weights, the names of several.

    Equal names are told apart by their position.
    """
    shown = ["Tandem"] if len(names) == 1 else names
    words = [
        f"{name} ({number})" if shown.count(name) > 1 else name
        for number, name in enumerate(shown, 1)
    ]
    return dict(zip(side_names(len(names)), (*words, BASELINE), strict=True))


def titles_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Words for each side of a result of ``tandem evaluate``."""
    sides: dict[str, str] = result.get("sides", {MODEL: "Tandem"})
    return sides


def quoted_names(result: Mapping[str, Any]) -> list[str]:
    """Names of the quoted figures: dotted keys that belong to no further side."""
    others = tuple(f"{side}." for side in titles_of(result) if side != MODEL)
    return [key for key in result if "." in key and not key.startswith(others)]


def quoted(result: Mapping[str, Any], side: str, name: str) -> float | None:
    """Figure that a result quotes for a side; None where it has none."""
    value: float | None = result.get(name if side == MODEL else f"{side}.{name}")
    return value
