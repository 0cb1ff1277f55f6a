"""Records of a case as markup: its way, deliveries, history and slides."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from appliance.ledger.lifecycle import CaseState, SlideState
from dashboard.lines import EventLine, SlideLine
from dashboard.queries import CaseDetail
from dashboard.views import look
from dashboard.wording import (
    DELIVERY_WORDS,
    OBJECT_WORDS,
    SLIDE_WORDS,
    TAKEN_OUT,
    stain_word,
)

SLIDE_PATH = (
    SlideState.ARRIVING,
    SlideState.ARRIVED,
    SlideState.IDENTIFIED,
    SlideState.INSPECTED,
    SlideState.READ,
)
CASE_PATH = (
    (CaseState.WAITING, "Waiting"),
    (CaseState.READY, "Mapping"),
    (CaseState.ALIGNED, "Scoring"),
    (CaseState.SCORED, "Scored"),
    (CaseState.WRITTEN, "Sending"),
    (CaseState.DELIVERED, "Delivered"),
)
DETOURS = {
    CaseState.PARTNERLESS: CaseState.WAITING,
    CaseState.HELD: CaseState.WAITING,
    CaseState.FAILED: CaseState.READY,
    CaseState.UNPROVEN: CaseState.WRITTEN,
    CaseState.UNDELIVERED: CaseState.WRITTEN,
}
"""State on the path at which a case in trouble stopped."""


def steps_markup(detail: CaseDetail) -> str:
    """Return the way of both slides and of the case, as markup."""
    lines = []
    for stain in detail.stains:
        lines.append((stain_word(stain), _slide_steps(detail.slides.get(stain))))
    state = DETOURS.get(detail.case.state, detail.case.state)
    if detail.case.state == CaseState.FAILED and detail.findings_key:
        state = CaseState.SCORED  # it failed in writing
    trouble = detail.trouble is not None
    here = [name for name, _ in CASE_PATH].index(state)
    lines.append(("Case", _path([label for _, label in CASE_PATH], here, trouble)))
    return (
        '<div class="td-steps">'
        + "".join(f'<div class="who">{escape(who)}</div>{path}' for who, path in lines)
        + "</div>"
    )


def _slide_steps(slide: SlideLine | None) -> str:
    labels = [SLIDE_WORDS[state].label for state in SLIDE_PATH]
    here = SLIDE_PATH.index(slide.state) if slide is not None else -1
    return _path(labels, here, False)


def _path(labels: list[str], here: int, trouble: bool) -> str:
    items = []
    for index, label in enumerate(labels):
        kind = "done" if index < here else "here" if index == here else ""
        if index == here and trouble:
            kind += " trouble"
        elif index == here == len(labels) - 1:
            kind += " last"
        items.append(f'<li class="{kind}">{escape(label)}</li>')
    return f"<ol>{''.join(items)}</ol>"


def pair_markup(detail: CaseDetail) -> str:
    """Return how far a case is and what came of it, as markup with a link to its page."""
    case = detail.case
    trouble = ""
    if detail.trouble is not None:
        trouble = (
            f'<div class="td-trouble"><div class="item">{escape(detail.trouble.sentence)}'
            f'<div class="remedy">{escape(detail.trouble.remedy)}</div></div></div>'
        )
    review = "".join(f"<li>{escape(sentence)}</li>" for sentence in case.review)
    score = f"<p>Score: {look.score_mark(case.score)}</p>" if case.score else ""
    link = look.case_link(case.id, f"The case: both slides, measurements, report (case-{case.id})")
    return f"{look.progress_line(case.progress)}{trouble}{score}<ul>{review}</ul><p>{link}</p>"


def deliveries_markup(detail: CaseDetail) -> str:
    """Return the objects at their destinations, as markup."""
    rows = []
    for line in detail.deliveries:
        words = TAKEN_OUT if line.is_taken_out else DELIVERY_WORDS[line.state]
        note = ""
        if line.error:
            note = f'<div class="small muted">{escape(line.error)}</div>'
        rows.append(
            (
                escape(OBJECT_WORDS.get(line.kind, line.kind)),
                str(line.objects),
                escape(line.destination),
                look.state_pill(words) + note,
                str(line.attempts),
                look.ago(line.changed_at),
            )
        )
    return (
        '<div class="td-card"><h2>Delivery</h2>'
        + look.table(
            ("Object", "Count", "Destination", "State", "Attempts", "For>"),
            rows,
            "Nothing to deliver yet.",
        )
        + "</div>"
    )


def timeline_markup(events: Sequence[EventLine], cut: str) -> str:
    """Return the events, newest first, with the person whose word an event was, as markup.

    `cut` says which events are not among them.
    """
    rows = [
        (
            f'<span class="muted">{look.moment(event.at)}</span>',
            f'<span class="nowrap">{escape(event.who)}</span>',
            escape(event.text)
            + (f' <span class="muted">× {event.count}</span>' if event.count > 1 else ""),
            f'<span class="nowrap">{escape(event.by)}</span>',
        )
        for event in reversed(events)
    ]
    return (
        '<div class="td-card"><h2>History</h2>'
        + look.table(("Time", "What", "Event", "Person"), rows, "Nothing happened yet.")
        + (f'<p class="muted">{escape(cut)}</p>' if cut else "")
        + "</div>"
    )


def slides_markup(detail: CaseDetail) -> str:
    """Return all slides of the block, also those that the case does not use, as markup."""
    used = {slide.id for slide in detail.slides.values()}
    anatomy = detail.slides.get(detail.stains[0]) if detail.stains else None
    rows = [
        (
            look.slide_link(slide.id, slide.name),
            escape(stain_word(slide.stain)),
            look.state_pill(SLIDE_WORDS[slide.state], slide.claimed),
            "yes" if slide.id in used else "no",
            escape(slide.reason or slide.held or (detail.interim if slide is anatomy else "")),
        )
        for slide in (*detail.slides.values(), *detail.others)
    ]
    return (
        '<div class="td-card"><h2>Slides of the block</h2>'
        + look.table(("File", "Stain", "State", "Used", "Note"), rows, "None.")
        + "</div>"
    )
