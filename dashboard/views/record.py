"""The record of access: who opened which case and who did what, for an admin."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

import streamlit as st

from appliance.operations.users import Role
from dashboard.record import Record, RecordLine, read_record
from dashboard.views import acting, look

WHO, CASE, BEFORE = "who", "case", "before"
"""Names in the address."""


_NO_CASE = (
    "There is no such case, so this says nothing of who opened one. Write the whole accession, or "
    "the number of the case; on a screen with hidden names its number."
)


@look.telling_trouble()
def render() -> None:
    """Render the page (``record?who=meyer&case=S26-0000001&before=1200``)."""
    if not look.live():
        return
    if not acting.may_see(Role.ADMIN):
        look.block(
            '<div class="td-card"><h1>Record of access</h1><div class="muted">An admin sees who '
            "opened which case and who did what.</div></div>"
        )
        return
    who_at, case_at, _ = st.columns([2, 2, 3])
    for place, name, title in ((who_at, WHO, "Person"), (case_at, CASE, "Accession or case")):
        place.text_input(
            title,
            value=st.query_params.get(name, ""),
            placeholder=title,
            label_visibility="collapsed",
            key=f"record-{name}",
            on_change=_chosen,
        )
    wanted = {name: text for name in (WHO, CASE) if (text := st.query_params.get(name, "").strip())}
    before = look.wanted(BEFORE) or 0
    found = read_record(
        look.ledger(),
        look.settings(),
        who=wanted.get(WHO, ""),
        case=wanted.get(CASE, ""),
        before=before,
    )
    look.block(_markup(found, wanted, before))


def _chosen() -> None:
    """Put what the person looks for into the address; the page is the newest again."""
    given = {name: st.session_state[f"record-{name}"].strip() for name in (WHO, CASE)}
    st.query_params.from_dict({name: text for name, text in given.items() if text})


def _markup(found: Record, wanted: dict[str, str], before: int) -> str:
    links = [_link("Newest", wanted)] if before else []
    if found.older is not None:
        links.append(_link("Older →", wanted | {BEFORE: str(found.older)}))
    since = f" Looked back to {look.moment(found.since)}." if found.since else ""
    return (
        '<div class="td-card"><h1>Record of access</h1><div class="muted small">Sign-ins, the '
        "first opening of each case in a session, and what people did; the newest first. It is in "
        f"the chain of events (tandem ledger verify).{since}</div>"
        + look.table(
            ("When", "Person", "What", "Case or slide"),
            [_cells(line) for line in found.lines],
            "Nobody did this in the time that was looked at." if found.is_case else _NO_CASE,
        )
        + f'<div class="td-pages">{" ".join(links)}</div></div>'
    )


def _cells(line: RecordLine) -> tuple[str, ...]:
    about = escape(line.about)
    if line.about and line.case_id is not None:
        about = look.case_link(line.case_id, line.about)
    elif line.about and line.slide_id is not None:
        about = look.slide_link(line.slide_id, line.about)
    return look.moment(line.at), escape(line.by or "nobody known"), escape(line.text), about


def _link(text: str, wanted: dict[str, str]) -> str:
    to = f"record?{urlencode(wanted)}" if wanted else "record"
    return f'<a href="{escape(to)}" target="_self">{escape(text)}</a>'
