"""The slide page: what is known of a file, why it is set aside, and what a person can do."""

from __future__ import annotations

from html import escape

import streamlit as st

from appliance.ledger.lifecycle import SlideState
from dashboard.queries import read_slide
from dashboard.stored import DAMAGED_OVERVIEW, is_sound
from dashboard.views import acting, look
from dashboard.views.records import timeline_markup
from dashboard.wording import SLIDE_WORDS, stain_word


@look.telling_trouble()
def render() -> None:
    """Render the page of the slide that the address names (``slide?slide=3``)."""
    look.block('<a href="./" target="_self">← All cases</a>')
    if not look.live():
        return
    wanted = look.wanted("slide")
    detail = None if wanted is None else read_slide(look.ledger(), look.settings(), wanted)
    if detail is None:
        look.block('<div class="td-card">There is no such slide. Choose one from the queue.</div>')
        return
    slide = detail.slide
    acting.told()
    words = SLIDE_WORDS[slide.state]
    case = "" if slide.case_id is None else look.case_link(slide.case_id, f"case-{slide.case_id}")
    look.block(
        f'<div class="td-card"><h1>slide-{slide.id}: {escape(slide.name)}</h1>'
        f"<div>{look.state_pill(words, slide.claimed)} {escape(slide.held or words.sentence)} "
        f"{case}</div>"
        f'<div class="muted">Accession {escape(detail.accession or "unknown")}, block '
        f"{escape(detail.block or 'unknown')}, stain {escape(stain_word(detail.stain))}</div></div>"
    )
    if notes := look.interim_note(detail.interim) + look.second_note(detail.second):
        look.block(notes)
    if slide.reason or detail.remedy:
        remedy = f'<div class="remedy">{escape(detail.remedy)}</div>' if detail.remedy else ""
        look.block(
            f'<div class="td-trouble"><div class="item">{escape(slide.reason)} '
            f'<span class="muted small">{escape(slide.detail)}</span>{remedy}</div></div>'
        )
    if acting.may_act():
        if detail.signed:
            told = "Another name or pair, leaving it out and keeping it may take that away."
            look.block(f"<div>{escape(detail.signed)}. {told}</div>")
        acting.slide_forms(slide, detail.accession, detail.block, detail.stain)
    else:
        acting.off()
    if slide.thumbnail is not None and not is_sound(slide.thumbnail):
        look.block(f'<div class="muted">{DAMAGED_OVERVIEW}</div>')
    elif slide.thumbnail is not None:
        st.image(slide.thumbnail, width=420, alt=f"Overview of slide-{slide.id}")
    elif slide.state is SlideState.READ:
        look.block(
            '<div class="muted">Its overview is away: retention removes it some time after the '
            "case was delivered. The case has its pictures.</div>"
        )
    look.block(timeline_markup(detail.events, detail.cut))
