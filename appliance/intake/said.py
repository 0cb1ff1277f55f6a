"""A person's word on a slide, as the column `said` holds it. It takes precedence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from appliance.ledger.tables import SlideRow
from appliance.text import readable

KEEP = "keep"
"""Word on a picture: it is what the slide is named for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Words of people on a slide; empty where nobody said anything.

    `kept_at` is when a person chose this slide among the scans that were there (seconds since the
    epoch), `apart` the subjects of slides that it is not paired with. `by`, `why` and `at` belong
    to the last word.
    """

    accession: str = ""
    block: str = ""
    stain: str = ""
    organ: str = ""
    specimen: str = ""
    picture: str = ""
    excluded: bool = False
    kept_at: float = 0.0
    apart: tuple[str, ...] = ()
    by: str = ""
    why: str = ""
    at: float = 0.0

    @property
    def names_it(self) -> bool:
        """Return whether a person said whose slide it is, or that its name is right."""
        return bool(self.accession or self.block or self.stain or self.kept_at)


_KEYS = frozenset(field.name for field in fields(Said))


def said_of(slide: SlideRow) -> Said:
    """Return a person's word on a slide; keys of another version are left out."""
    stored: dict[str, Any] = json.loads(slide.said)
    known = {key: value for key, value in stored.items() if key in _KEYS}
    return Said(**known | {"apart": tuple(known.get("apart", ()))})


def set_said(slide: SlideRow, said: Said) -> None:
    """Keep a person's word in a slide's row."""
    empty = asdict(Said())
    told = {key: value for key, value in asdict(said).items() if value != empty[key]}
    slide.said = readable(json.dumps(told, ensure_ascii=False))
