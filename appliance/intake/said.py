"""A person's word on a slide, as the column `said` holds it. It takes precedence."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from appliance.ledger.tables import SlideRow, id_of
from appliance.text import readable

KEEP = "keep"
"""Word on a picture: it is what the slide is named for."""
_TICK_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Words of people on a slide; empty where nobody said anything.

    `kept_at` is when a person chose this slide among the scans that were there (`chosen_among`), of
    which `kept_over` is the highest id; 0 in words of an earlier edition. `apart` are the subjects
    of slides that it is not paired with. `by`, `why` and `at` belong to the last word. Once the
    file changed, `of` is the fingerprint of the bytes that the words are about, and `heard` the
    accessions that other sources stated of them.
    """

    accession: str = ""
    block: str = ""
    stain: str = ""
    organ: str = ""
    specimen: str = ""
    picture: str = ""
    excluded: bool = False
    kept_at: float = 0.0
    kept_over: int = 0
    apart: tuple[str, ...] = ()
    by: str = ""
    why: str = ""
    at: float = 0.0
    of: str = ""
    heard: tuple[str, ...] = ()

    @property
    def names_it(self) -> bool:
        """Return whether a person said whose slide it is, or that its name is right."""
        return bool(self.accession or self.block or self.stain or self.kept_at)

    def is_about(self, fingerprint: str) -> bool:
        """Return whether the words are about these bytes, as far as it is known."""
        return self.of in ("", fingerprint)


_KEYS = frozenset(field.name for field in fields(Said))


def said_of(slide: SlideRow) -> Said:
    """Return a person's word on a slide; keys of another version are left out."""
    stored: dict[str, Any] = json.loads(slide.said)
    known = {key: value for key, value in stored.items() if key in _KEYS}
    return Said(**known | {key: tuple(known.get(key, ())) for key in ("apart", "heard")})


def keep_former(slide: SlideRow) -> None:
    """Keep which bytes a person's word is about; call it before they count as changed."""
    said = said_of(slide)
    if said == Said() or said.of or not slide.fingerprint:
        return
    claims: list[dict[str, Any]] = json.loads(slide.evidence)
    others = [claim for claim in claims if claim.get("source") != "person"]
    heard = {str(claim.get("accession", "")) for claim in others}
    set_said(slide, replace(said, of=slide.fingerprint, heard=tuple(sorted(heard - {""}))))


def hold_on(slide: SlideRow) -> None:
    """Let a word that held for other bytes be about those that a slide has now.

    The choice among scans and the word on the picture (`keep`) were about the former file alone.
    """
    said = said_of(slide)
    if not said.is_about(slide.fingerprint):
        set_said(slide, replace(said, of="", heard=(), picture="", kept_at=0.0, kept_over=0))


def said_of_bytes(slide: SlideRow) -> Said:
    """Return a person's word on the bytes that a slide has now: none where it is about others."""
    said = said_of(slide)
    return said if said.is_about(slide.fingerprint) else Said()


def chosen_among(said: Said, slides: Iterable[SlideRow], now: float) -> Said:
    """Return a word with a choice among slides.

    Its time, in seconds since the epoch, is after each of them came or was chosen: the wall clock
    may have been ahead then. Which slides were there is told by their ids.
    """
    there = list(slides)
    former = (max(slide.created_at, said_of(slide).kept_at) for slide in there)
    at = max([now, *(at + _TICK_S for at in former)])
    return replace(said, kept_at=at, kept_over=max(id_of(slide) for slide in there))


def set_said(slide: SlideRow, said: Said) -> None:
    """Keep a person's word in a slide's row."""
    empty = asdict(Said())
    told = {key: value for key, value in asdict(said).items() if value != empty[key]}
    slide.said = readable(json.dumps(told, ensure_ascii=False))
