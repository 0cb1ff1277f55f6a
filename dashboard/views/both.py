"""Two slides beside each other, which a person looks at before saying that they are a pair."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from appliance.ledger.tables import id_named
from dashboard.queries import read_slide
from dashboard.stored import is_sound
from dashboard.views import look
from dashboard.wording import stain_word

NOT_SHOWN = "not-shown"
"""Name of a slide that no page showed: no slide has it."""


def show_both(names: Sequence[str]) -> dict[str, str]:
    """Show slides beside each other; return the names of what is shown (`seen`), by slide."""
    shown: dict[str, str] = {}
    for column, name in zip(st.columns(len(names)), names, strict=True):
        with column:
            number = id_named(f"slide-{name.removeprefix('slide-')}", "slide")
            detail = None if number is None else read_slide(look.ledger(), look.settings(), number)
            if detail is None:
                told = f"There is no slide {name}. Ids are such as slide-3." if name else ""
                look.block(f'<div class="muted">{escape(told)}</div>')
                continue
            slide = detail.slide
            place = f"{detail.accession or 'unknown'}, block {detail.block or 'unknown'}"
            look.block(
                f'<div class="anywhere"><b>slide-{slide.id}: {escape(slide.name)}</b></div>'
                f"<div>Accession {escape(place)}, stain {escape(stain_word(detail.stain))}</div>"
            )
            if slide.thumbnail is not None and is_sound(slide.thumbnail):
                st.image(slide.thumbnail, width=240, alt=f"Overview of slide-{slide.id}")
            shown[name] = slide.seen
    return shown
