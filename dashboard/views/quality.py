"""The quality page: people's words beside the appliance's scores, review rate, scores."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import streamlit as st

from dashboard.quality import FEW, MONTHS, Quality, Share, read_quality
from dashboard.views import look

KEPT_SECONDS = 600
"""Seconds for which all sessions share the facts: kappa's interval costs seconds."""


@look.telling_trouble()
def render() -> None:
    """Render the page (``quality``)."""
    if not look.live():
        return
    found = _facts()
    parts = ["<h1>Quality</h1>", *(_people(facts) for facts in found.people.values())]
    if not found.people:
        parts.append('<div class="td-empty">No case has a result yet.</div>')
    for assay, shares in found.scores.items():
        parts.append(f"<h2>Scores: {escape(assay)}</h2>{_shares('Score', shares)}")
    newest = f"<h2>Results to be reviewed, by month: the newest {MONTHS} months</h2>"
    parts.append(newest + _shares("Month", found.review))
    parts.append(
        '<p class="muted">Intervals of shares are 95 % (Wilson). Stain, focus and control tissue '
        "are not on this page. The figures are at most ten minutes old.</p>"
    )
    look.block(f'<div class="td-card">{"".join(parts)}</div>')


@st.cache_resource(ttl=KEPT_SECONDS, show_spinner=False)
def _facts() -> Quality:
    return read_quality(look.ledger(), look.settings())


def _people(facts: dict[str, Any]) -> str:
    """Markup of the agreement on one assay."""
    head = f"<h2>People beside the appliance: {escape(facts['title'])}</h2>"
    others = f"; on {facts['unscored']} they said that it cannot be scored"
    if facts["other_scores"]:
        others += f", and on {facts['other_scores']} a score that the assay does not have"
    said = (
        f"<p>People gave a score on {facts['n']} cases and agreed exactly on {facts['exact']}"
        f"{others}; nobody spoke on {facts['silent']}. They saw the score first and chose the "
        "cases, so this is agreement, not accuracy.</p>"
    )
    if facts["n"] < FEW:
        return f"{head}{said}<p>Fewer than {FEW} cases are too few for kappa.</p>"
    kappa = facts["kappa_quadratic"]
    interval = facts["interval"].get("kappa_quadratic")
    told = "undefined on these cases" if kappa is None else f"{kappa:.2f}"
    if kappa is not None and interval:
        told += f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})"
    scores = facts["scores"]
    matrix = look.table(
        ("Person", *(f"{escape(score)}>" for score in scores), "no score>"),
        [
            (escape(score), *(str(number) for number in row))
            for score, row in zip(scores, facts["confusion"], strict=True)
        ],
        "",
    )
    return f"{head}{said}<p>Quadratic kappa: {told}, n = {facts['n']}.</p>{matrix}"


def _shares(head: str, shares: Iterable[Share]) -> str:
    return look.table(
        (head, "Share", "Cases>", "95 % interval>"),
        [
            (
                escape(share.name),
                f'<div class="td-bar"><span style="width:{100 * share.part / share.n:.0f}%">'
                "</span></div>",
                f"{share.part} of {share.n}",
                "{:.0%} to {:.0%}".format(*share.interval),
            )
            for share in shares
        ],
        "No case has a result yet.",
    )
