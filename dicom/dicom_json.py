"""Data sets as DICOM JSON (PS3.18 annex F), read without trust and written in parts."""

from __future__ import annotations

from typing import Any


def items_of(dataset: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """Return the items of a sequence; what is no item is left out."""
    return [item for item in _raw(dataset, tag) if isinstance(item, dict)]


def value_of(dataset: dict[str, Any], tag: str) -> str:
    """Return the first value of an attribute as text; empty where it has none."""
    values = _raw(dataset, tag)
    return str(values[0]).strip() if values and values[0] is not None else ""


def attribute(vr: str, *values: str) -> dict[str, Any]:
    """Return an attribute with values."""
    return {"vr": vr, "Value": list(values)}


def sequence(*datasets: dict[str, Any]) -> dict[str, Any]:
    """Return a sequence with items."""
    return {"vr": "SQ", "Value": list(datasets)}


def _raw(dataset: dict[str, Any], tag: str) -> list[Any]:
    """Return the values of an attribute; none where it is absent, or no attribute."""
    found = dataset.get(tag)
    values = found.get("Value") if isinstance(found, dict) else None
    return values if isinstance(values, list) else []
