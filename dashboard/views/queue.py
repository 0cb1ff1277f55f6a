"""Queue page: trouble, counts, cases and slides; refreshed periodically."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from urllib.parse import quote

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from appliance.ledger.tables import id_named
from dashboard.flow import read_flow
from dashboard.lines import CaseLine, SlideLine
from dashboard.queries import Counts, Queue, read_queue
from dashboard.troubles import LIMIT, HeldCases, Trouble, TroubleGroup
from dashboard.views import acting, look
from dashboard.views.flow import flow_markup
from dashboard.wording import CASE_WORDS, SLIDE_WORDS, stain_word

CAUSE, PAGE = "cause", "page"
"""Names in the address: the one cause of trouble that is shown, and the page of its rows."""


def render() -> None:
    """Render the page (``?cause=slide:quarantined:no-mpp&page=2``)."""
    acting.told()
    top = st.container()
    left, _ = st.columns([1, 2])
    wanted = "a case by its number" if look.names_hidden() else "an accession or file name"
    search = left.text_input("Find", placeholder=f"Find {wanted}", label_visibility="collapsed")
    cases, slides = st.empty(), st.empty()
    with top:
        cause = st.query_params.get(CAUSE, "")
        _live(cause, look.wanted(PAGE) or 1, search.strip(), cases, slides)
    acting.retry_all_dialog()


@st.fragment(run_every=look.REFRESH_SECONDS)
def _live(
    cause: str, number: int, search: str, cases: DeltaGenerator, slides: DeltaGenerator
) -> None:
    with look.telling_trouble():
        if look.live():
            shown = _read(cause, number, search)
            _overview(shown.queue, cause, number)
            if not cause:
                look.block(_flow())
            look.block(shown.cases, cases)
            look.block(shown.slides, slides)
            return
    cases.empty()
    slides.empty()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """State and markup of both tables, which all sessions share."""

    queue: Queue
    cases: str
    slides: str


def _read(cause: str, number: int, search: str) -> _Shown:
    def read() -> _Shown:
        queue = read_queue(look.ledger(), look.settings(), search, cause=cause, number=number)
        return _Shown(
            queue=queue, cases=_cases_markup(queue, search), slides=_slides_markup(queue, search)
        )

    key = ("queue", cause, number, search)
    return look.snapshots().of(key, read, lambda shown: shown.queue.moving)


def _flow() -> str:
    return look.snapshots().of(
        "flow", lambda: flow_markup(read_flow(look.ledger(), look.settings()))
    )


def _overview(queue: Queue, cause: str, number: int) -> None:
    look.block(counts_markup(queue.counts))
    if cause:
        look.block('<a href="./" target="_self">← All causes</a>')
    for group in queue.troubles:
        look.block(group_markup(group, cause, number))
        acting.retry_all_button(group)
    if queue.held or queue.held_cases:
        look.block(_held_markup(queue))


def _cases_markup(queue: Queue, search: str) -> str:
    return (
        '<div class="td-card"><h2>Cases</h2>'
        + look.table(
            ("Accession", "Block", "State", "Score", "Review", "In this state for>"),
            [_case_cells(case) for case in queue.cases],
            "No case matches." if search else "No case yet. It appears with its first slide.",
        )
        + _more(len(queue.cases), queue.counts.cases, search)
        + "</div>"
    )


def _slides_markup(queue: Queue, search: str) -> str:
    return (
        '<div class="td-card"><h2>Slides</h2>'
        + look.table(
            ("File", "Stain", "State", "Note", "In this state for>"),
            [_slide_cells(slide) for slide in queue.slides],
            "No slide matches." if search else "No slide yet. Tandem watches the scanner's folder.",
        )
        + _more(len(queue.slides), queue.counts.slides, search)
        + "</div>"
    )


def counts_markup(counts: Counts) -> str:
    """Markup of the five numbers."""

    def tile(tone: str, number: int, name: str, note: str) -> str:
        zero = "" if number else " zero"
        return (
            f'<div class="td-count {tone}{zero}"><div class="name">{name}</div>'
            f'<div class="n">{number}</div><div class="muted small">{note}</div></div>'
        )

    working = f"{_many(counts.running_slides, 'slide')}, {_many(counts.running_cases, 'case')}"
    return (
        '<div class="td-counts">'
        + tile("trouble", counts.trouble, "Trouble", "waits for a person")
        + tile("review", counts.review, "Review", "scored, a person should look")
        + tile("waiting", counts.waiting, "Waiting", "cases without both slides read")
        + tile("running", counts.running_slides + counts.running_cases, "Running", working)
        + tile("good", counts.delivered, "Delivered", "cases proven at every destination")
        + "</div>"
    )


def group_markup(group: TroubleGroup, cause: str, number: int) -> str:
    """Markup of what waits for a person by one cause; `cause` and `number` are of the address."""
    remedy = f'<div class="remedy">{escape(group.remedy)}</div>' if group.remedy else ""
    return (
        f'<div class="td-trouble"><div class="item"><h2>{group.number} · '
        f"{escape(group.sentence)}</h2>{remedy}</div>"
        + "".join(_trouble_item(trouble, with_cause=not remedy) for trouble in group.items)
        + _rest(group, cause, number)
        + "</div>"
    )


def _rest(group: TroubleGroup, cause: str, number: int) -> str:
    """Markup of the links to the rows of a group that are not shown."""
    to = f'<a href="./?{CAUSE}={quote(group.cause)}&amp;{PAGE}='
    links = []
    if not cause and group.number > len(group.items):
        links.append(f'{to}1" target="_self">All {group.number}</a>')
    if cause and number > 1:
        links.append(f'{to}{number - 1}" target="_self">← Before</a>')
    if cause and group.number > number * LIMIT:
        links.append(f'{to}{number + 1}" target="_self">Next →</a>')
    return f'<div class="item td-pages">{" ".join(links)}</div>' if links else ""


def _trouble_item(trouble: Trouble, *, with_cause: bool) -> str:
    title = (
        look.case_link(trouble.case_id, trouble.title)
        if trouble.case_id is not None
        else escape(trouble.title)
    )
    detail = (
        f' <span class="muted small">({escape(trouble.detail)})</span>' if trouble.detail else ""
    )
    number = id_named(trouble.subject, "slide")
    subject = escape(trouble.subject)
    if number is not None:
        subject = look.slide_link(number, f"{trouble.subject}: put right")
    why = detail
    if with_cause:
        why = (
            f"<div>{escape(trouble.sentence)}{detail}</div>"
            f'<div class="remedy">{escape(trouble.remedy)}</div>'
        )
    return (
        f'<div class="item"><span class="title">{title}</span> '
        f'<span class="small">{subject}</span> '
        f'<span class="muted small">{look.ago(trouble.at)}</span>{why}</div>'
    )


def _held_markup(queue: Queue) -> str:
    lines = "".join(
        f"<div><b>{escape(held.destination)}</b>: {_many(held.objects, 'object')} "
        + (
            "sent, not proven to be there; "
            if held.unproven
            else "waiting after a failed attempt; "
        )
        + f"Tandem tries again by itself{_at(held.next_try_at)}. "
        f'<span class="muted small">{escape(held.error)}</span></div>'
        for held in queue.held
    )
    lines += "".join(
        f"<div><b>{_waiting(waiting)}</b> waiting; "
        f"Tandem tries again by itself{_at(waiting.next_try_at)}. "
        f'<span class="muted small">{escape(waiting.error)}</span></div>'
        for waiting in queue.held_cases
    )
    return f'<div class="td-held">{lines}</div>'


def _waiting(held: HeldCases) -> str:
    return _many(held.slides, "slide") if held.slides else _many(held.cases, "case")


def _at(time: float) -> str:
    return f" at {look.moment(time)}" if time else ""


def _case_cells(case: CaseLine) -> tuple[str, ...]:
    review = (
        f'<span title="{escape(" ".join(case.review))}">{look.pill("Review", "review")}</span>'
        if case.review
        else ""
    )
    return (
        look.case_link(case.id, case.accession),
        escape(look.block_text(case)),
        look.state_pill(CASE_WORDS[case.state], case.claimed) + look.progress_line(case.progress),
        look.score_mark(case.score),
        review,
        look.ago(case.changed_at),
    )


def _slide_cells(slide: SlideLine) -> tuple[str, ...]:
    words = SLIDE_WORDS[slide.state]
    note = slide.reason or slide.held or words.sentence
    name = look.slide_link(slide.id, slide.name)
    if slide.case_id is not None:
        name = look.case_link(slide.case_id, slide.name)
    return (
        f'<span style="overflow-wrap:anywhere">{name}</span>',
        f'<span class="nowrap">{escape(stain_word(slide.stain))}</span>',
        look.state_pill(words, slide.claimed) + look.progress_line(slide.progress),
        f'<span class="muted">{escape(note)}</span>',
        look.ago(slide.changed_at),
    )


def _more(shown: int, total: int, search: str) -> str:
    if shown < LIMIT:
        return ""
    of = "" if search else f" of {total}"
    return f'<div class="td-empty small">The newest {shown}{of}; use Find for older ones.</div>'


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
