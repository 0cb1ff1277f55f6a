"""The work list of a pathologist; what is looked for, order and page are in the address."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

import streamlit as st

from appliance.findings.reasons import Reason
from dashboard.lines import CaseLine
from dashboard.views import look
from dashboard.wording import CASE_WORDS
from dashboard.worklist import ORDERS, WorkList, read_work_list

FIND, PAGE, REASON, ORDER = "find", "page", "reason", "order"
"""Names in the address."""
ANY_REASON = "Any reason, or none"


def render() -> None:
    """Render the page (``worklist?find=S26&reason=near-threshold&order=oldest&page=2``)."""
    find_at, reason_at, _ = st.columns([2, 2, 3])
    find_at.text_input(
        "Find",
        value=st.query_params.get(FIND, ""),
        placeholder="Find an accession, block or score",
        label_visibility="collapsed",
        key="worklist-find",
        on_change=_chosen,
    )
    reason = st.query_params.get(REASON, "")
    known = [ANY_REASON, *(each.value for each in Reason)]
    reason_at.selectbox(
        "Reason for review",
        known if reason in ("", *known) else [*known, reason],
        index=None if not reason else ([*known, reason]).index(reason),
        format_func=lambda code: code.replace("-", " "),
        placeholder=ANY_REASON,
        label_visibility="collapsed",
        key="worklist-reason",
        on_change=_chosen,
    )
    wanted = {
        name: text
        for name in (FIND, REASON, ORDER)
        if (text := st.query_params.get(name, "").strip())
    }
    _list(wanted, look.wanted(PAGE) or 1)


def _chosen() -> None:
    """Put what the person chose into the address; the page is the first one again."""
    order = st.query_params.get(ORDER, "")
    reason = st.session_state["worklist-reason"]
    given = {
        FIND: st.session_state["worklist-find"].strip(),
        REASON: "" if reason in (None, ANY_REASON) else reason,
        ORDER: order,
    }
    st.query_params.from_dict({name: text for name, text in given.items() if text})


@st.fragment(run_every=look.REFRESH_SECONDS)
@look.telling_trouble()
def _list(wanted: dict[str, str], number: int) -> None:
    if not look.live():
        return
    key = ("worklist", *sorted(wanted.items()), number)
    look.block(look.snapshots().of(key, lambda: _markup(wanted, number)))


def _markup(wanted: dict[str, str], number: int) -> str:
    found = read_work_list(
        look.ledger(),
        look.settings(),
        look.spoken(),
        find=wanted.get(FIND, ""),
        reason=wanted.get(REASON, ""),
        order=wanted.get(ORDER, ""),
        number=number,
    )
    some = wanted.get(FIND) or wanted.get(REASON)
    return (
        f'<div class="td-card td-list"><h1>Work list: {found.total} waiting</h1>'
        + _orders(wanted)
        + look.table(
            ("Picture", "Accession", "Block", "Score", "Why to look", "State", "For>"),
            [_cells(case) for case in found.cases],
            "No case matches." if some else "No result waits for a person.",
        )
        + _pages(found, wanted)
        + '<div class="muted small">Keys: j and k choose, Enter opens.</div></div>'
    )


def _cells(case: CaseLine) -> tuple[str, ...]:
    picture = ""
    if case.picture:
        picture = (
            f'<img class="td-thumb" src="/thumbs/{case.id}.jpg?v={case.picture}" loading="lazy" '
            f'alt="Scored slide of case-{case.id}">'
        )
    return (
        picture,
        look.case_link(case.id, case.accession),
        escape(look.block_text(case)),
        look.score_mark(case.score),
        escape(" ".join(case.review)),
        look.state_pill(CASE_WORDS[case.state], case.claimed),
        look.ago(case.created_at),
    )


def _orders(wanted: dict[str, str]) -> str:
    """Markup of the links that sort the list."""
    here = wanted.get(ORDER, "")
    links = []
    for order, (title, _) in ORDERS.items():
        current = ' aria-current="true"' if order == (here if here in ORDERS else "") else ""
        links.append(_link(title, wanted | {ORDER: order}, current))
    return f'<div class="td-pages td-sort small"><span>Sort by</span>{" ".join(links)}</div>'


def _link(text: str, wanted: dict[str, str], more: str = "") -> str:
    told = urlencode({name: value for name, value in wanted.items() if value})
    to = f"worklist?{told}" if told else "worklist"
    return f'<a href="{escape(to)}" target="_self"{more}>{escape(text)}</a>'


def _pages(found: WorkList, wanted: dict[str, str]) -> str:
    if found.pages == 1:
        return ""
    links = [
        _link(text, wanted | {PAGE: str(number)})
        for text, number in (("← Before", found.number - 1), ("Next →", found.number + 1))
        if 1 <= number <= found.pages
    ]
    place = f'<span class="muted">Page {found.number} of {found.pages}</span>'
    return f'<div class="td-pages">{" ".join([*links, place])}</div>'
