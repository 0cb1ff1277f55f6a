"""The work list of a pathologist; what is looked for and the page are in the address."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

import streamlit as st

from dashboard.lines import CaseLine
from dashboard.views import look
from dashboard.wording import CASE_WORDS
from dashboard.worklist import WorkList, read_work_list

FIND, PAGE = "find", "page"
"""Names in the address."""


def render() -> None:
    """Render the page (``worklist?find=S26&page=2``)."""
    left, _ = st.columns([1, 2])
    left.text_input(
        "Find",
        value=st.query_params.get(FIND, ""),
        placeholder="Find an accession, block or score",
        label_visibility="collapsed",
        key="worklist-find",
        on_change=_look_for,
    )
    _list(st.query_params.get(FIND, "").strip(), look.wanted(PAGE) or 1)


def _look_for() -> None:
    st.query_params.clear()
    if text := st.session_state["worklist-find"].strip():
        st.query_params[FIND] = text


@st.fragment(run_every=look.REFRESH_SECONDS)
@look.telling_trouble()
def _list(find: str, number: int) -> None:
    if not look.live():
        return
    found = read_work_list(look.ledger(), look.settings(), find=find, number=number)
    empty = "No case matches." if find else "No result waits for a person."
    look.block(
        f'<div class="td-card"><h1>Work list: {found.total} waiting</h1>'
        + look.table(
            ("Accession", "Block", "Score", "Why to look", "State", "For>"),
            [_cells(case) for case in found.cases],
            empty,
        )
        + _pages(found, find)
        + "</div>"
    )


def _cells(case: CaseLine) -> tuple[str, ...]:
    return (
        look.case_link(case.id, case.accession),
        escape(look.block_text(case)),
        look.score_mark(case.score),
        escape(" ".join(case.review)),
        look.state_pill(CASE_WORDS[case.state], case.claimed),
        look.ago(case.created_at),
    )


def _pages(found: WorkList, find: str) -> str:
    if found.pages == 1:
        return ""
    links = []
    for text, number in (("← Before", found.number - 1), ("Next →", found.number + 1)):
        if 1 <= number <= found.pages:
            told = urlencode(({FIND: find} if find else {}) | {PAGE: number})
            links.append(f'<a href="worklist?{escape(told)}" target="_self">{text}</a>')
    place = f'<span class="muted">Page {found.number} of {found.pages}</span>'
    return f'<div class="td-pages">{" ".join([*links, place])}</div>'
