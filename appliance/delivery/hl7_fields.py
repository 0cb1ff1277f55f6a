"""Fields of a segment of HL7 v2, as the `hl7` package splits them: texts without escapes.

Fields, components and subcomponents are numbered from 1, as in HL7.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import hl7

from appliance.delivery.order_files import decoded
from dicom.order import designator, fitting, plain
from dicom.study import LO_LENGTH

Segment: TypeAlias = Any
"""Segment of the `hl7` package, which has no types: a list of fields, the name first."""


def first_part(segments: Sequence[Segment], name: str, field: int) -> str:
    """Return a field of the first segment of a name; empty where there is none."""
    return next((part(segment, field) for segment in segments if name_of(segment) == name), "")


def name_of(segment: Segment) -> str:
    """Return the name of a segment, such as OBR."""
    return str(segment[0])


def part(segment: Segment, field: int, component: int = 1) -> str:
    """Return the text of a field's component in the first repetition; empty where it is absent."""
    found = repetitions(segment, field)
    return piece(found[0], component) if found else ""


def repetitions(segment: Segment, field: int) -> list[tuple[Any, Segment]]:
    """Return the repetitions of a field, each with its segment, which knows the separators."""
    return [(each, segment) for each in segment[field]] if field < len(segment) else []


def piece(repetition: tuple[Any, Segment], component: int, sub: int = 1) -> str:
    """Return the text of a subcomponent without escapes; ``""`` is HL7's null."""
    found, segment = repetition
    for number in (component, sub):
        parts = [found] if isinstance(found, str) else found
        found = parts[number - 1] if number <= len(parts) else ""
    text = str(found)
    return "" if text == hl7.NULL else plain(_unescaped(text, segment))


def whole(repetition: tuple[Any, Segment], component: int) -> str:
    """Return the text of a component with all its subcomponents, such as an issuer (HD)."""
    parts = [piece(repetition, component, sub) for sub in (1, 2, 3)]
    return "&".join(parts).rstrip("&")


def entity_issuer(where: tuple[Any, Segment]) -> str:
    """Return the issuer of an EI, which spreads it over components."""
    return designator(*(piece(where, number) for number in (2, 3, 4)))


def number_of(segment: Segment, field: int) -> tuple[str, str]:
    """Return the number of an order and its issuer (EI); both are empty where it has none."""
    number = fitting(part(segment, field), LO_LENGTH)
    return (number, entity_issuer(repetitions(segment, field)[0])) if number else ("", "")


def _unescaped(text: str, segment: Segment) -> str:
    """Return a text without HL7's escapes (v2.5.1, 2.7)."""
    escape = re.escape(str(segment.esc))
    signs = dict(zip("FRST", str(segment.separators)[1:], strict=False))
    meant = signs | {"E": str(segment.esc), ".br": " "}

    def put(found: re.Match[str]) -> str:
        code = found[1]
        if code.startswith("X"):
            with suppress(ValueError):
                return decoded(bytes.fromhex(code[1:]))
        return meant.get(code, "")

    return re.sub(f"{escape}([^{escape}]*){escape}", put, text)
