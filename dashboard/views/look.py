"""Parts of every page: style sheet, header, footer, tables. Foreign text is always escaped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from html import escape

import streamlit as st
from PIL import Image, ImageDraw

from appliance.assays.registry import pairings
from appliance.errors import LedgerError
from appliance.findings.findings import RESEARCH_USE
from appliance.ledger.heartbeat import life
from appliance.ledger.progress import StepProgress
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import LONGEST_ID
from appliance.operations.scanner_folders import folder_lines
from appliance.operations.users import User
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings
from dashboard.access import COOKIE, of_server
from dashboard.lines import CaseLine
from dashboard.wording import Tone, Wording, age, progress_words

REFRESH_SECONDS = 2.0
"""Period of the live parts; a change of state is on the page within three seconds."""

CSS = """
<style>
.stMainBlockContainer { padding: 0 2.2rem 1.5rem; max-width: 1500px; }
header.stAppHeader { display: none; }
div[data-stale="true"] { opacity: 1 !important; transition: none !important; }
.td { color: #1c2833; font-size: 0.95rem; line-height: 1.45; }
.td a { color: #0f6b6b; text-decoration: none; font-weight: 600; }
.td a:hover { text-decoration: underline; }
.td h2 { font-size: 1.02rem; font-weight: 650; padding: 0; margin: 0 0 .55rem; }
.td .muted { color: #5d6d78; }
.td .small { font-size: .84rem; }
.td-top { display: flex; align-items: center; gap: 1rem; padding: .45rem 2.2rem; margin: 0 -2.2rem;
  background: #12343b; color: #fff; }
.td-top a, .td-top a:hover { color: #fff; text-decoration: none; }
.td-top .brand { font-size: 1.18rem; font-weight: 700; letter-spacing: .01em; }
.td-pages { padding-top: .6rem; display: flex; gap: 1rem; }
.td-top .what { color: #cfe0e2; font-size: .88rem; }
.td-top .dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%;
  margin-right: .45rem; background: #b8ced1; }
.td-top .dot.good { background: #58d6a4; }
.td-top .dot.trouble { background: #ff8a80; border-radius: 0; }
.td-top .ruo { margin-left: auto; border: 1px solid #e8c46a; color: #f6dc9a; border-radius: 4px;
  padding: .2rem .65rem; font-size: .85rem; font-weight: 600; }
.td-foot { color: #5d6d78; font-size: .82rem; border-top: 1px solid #dfe5e8; padding-top: .6rem; }
.td-card { background: #fff; border: 1px solid #dfe5e8; border-radius: 8px; padding: 1rem 1.15rem; }
.td-counts { display: grid; grid-template-columns: repeat(5, 1fr); gap: .9rem; }
.td-count { background: #fff; border: 1px solid #dfe5e8; border-left: 5px solid #9fb1b8;
  border-radius: 8px; padding: .7rem 1rem .75rem; }
.td-count .n { font-size: 2rem; font-weight: 700; line-height: 1.15;
  font-variant-numeric: tabular-nums; }
.td-count .name { font-weight: 650; }
.td-count.running { border-left-color: #1d6fb8; } .td-count.review { border-left-color: #b98300; }
.td-count.good { border-left-color: #1d7f5f; } .td-count.trouble { border-left-color: #b3261e; }
.td-count.zero .n { color: #a9b5bb; } .td-count.zero { border-left-color: #d3dbdf; }
.td table { width: 100%; border-collapse: collapse; margin: 0; }
.td th { text-align: left; font-weight: 600; font-size: .82rem; color: #5d6d78; border: 0;
  border-bottom: 1px solid #cfd8dc; padding: .3rem .6rem .35rem 0; white-space: nowrap; }
.td td { border: 0; border-bottom: 1px solid #edf0f2; padding: .48rem .6rem .48rem 0;
  vertical-align: top; }
.td tr:last-child td { border-bottom: 0; }
.td td.num, .td th.num { text-align: right; font-variant-numeric: tabular-nums; padding-right: 0; }
.td td.file { overflow-wrap: anywhere; }
.td .nowrap { white-space: nowrap; }
.pill { display: inline-block; border-radius: 999px; padding: .05rem .6rem; font-size: .84rem;
  font-weight: 600; white-space: nowrap; border: 1px solid transparent; }
.pill.waiting { background: #eef2f4; color: #47565f; border-color: #d5dde1; }
.td-bar { height: 4px; border-radius: 2px; background: #dfe7ec; margin: .35rem 0 .15rem; }
.td-bar span { display: block; height: 100%; border-radius: 2px; background: #1d6fb8; }
.pill.running { background: #e4f0fb; color: #12558f; border-color: #bcd9f2; }
.pill.good { background: #e1f3ec; color: #14604a; border-color: #b5dfcf; }
.pill.review { background: #fdf2d8; color: #7a5600; border-color: #efd594; }
.pill.trouble { background: #fbe6e4; color: #8f1d16; border-color: #f0bcb7; }
.pill.quiet { background: transparent; color: #5d6d78; border-color: #d5dde1; }
.score { display: inline-block; min-width: 2.3rem; text-align: center; font-weight: 700;
  border: 1px solid #cfd8dc; border-radius: 5px; padding: 0 .4rem; background: #fafbfc; }
.td-trouble { background: #fff; border: 1px solid #f0bcb7; border-left: 5px solid #b3261e;
  border-radius: 8px; padding: .3rem 1.15rem; }
.td-trouble .item { padding: .6rem 0; border-bottom: 1px solid #f5e3e1; }
.td-trouble .item:last-child { border-bottom: 0; }
.td-trouble .title { font-weight: 650; overflow-wrap: anywhere; }
.td-trouble .remedy::before { content: "What to do: "; font-weight: 600; }
.td-review { background: #fff9ea; border: 1px solid #efd594; border-left: 5px solid #b98300;
  border-radius: 8px; padding: .8rem 1.15rem; }
.td-review ul { margin: .3rem 0 0 1.1rem; padding: 0; } .td-review li { margin: .15rem 0; }
.td-held { background: #fff9ea; border: 1px solid #efd594; border-radius: 8px;
  padding: .6rem 1.15rem; }
.td-said { background: #e1f3ec; color: #14604a; border-radius: 6px; padding: .5rem .9rem; }
.td-said.refused { background: #fbe6e4; color: #8f1d16; }
.td-empty { color: #5d6d78; padding: .5rem 0; }
.td-line { display: flex; align-items: center; gap: .9rem; }
.td-line > a { white-space: nowrap; }
.td-line h1, .td h1 { font-size: 1.15rem; font-weight: 700; padding: 0; margin: 0; line-height: 1.3;
  overflow-wrap: anywhere; }
.td-line .big { font-size: 2.3rem; font-weight: 750; line-height: 1; white-space: nowrap; }
.td-line .big.none { font-size: 1rem; font-weight: 400; }
.td-line .said { font-size: .88rem; }
.td-line .reasons { font-size: .84rem; line-height: 1.25; color: #7a5600; overflow: hidden;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; }
.td-score { display: flex; align-items: center; gap: 1.1rem; }
.td-score .big { font-size: 4.2rem; font-weight: 750; line-height: 1; letter-spacing: -.02em; }
.td-score .big.none { color: #a9b5bb; font-weight: 400; }
.st-key-pictures { background: #fff; }
.td-steps { display: grid; grid-template-columns: 6rem 1fr; row-gap: .5rem; align-items: center;
  margin-top: 1rem; max-width: 46rem; }
.td-steps .who { font-weight: 600; font-size: .86rem; color: #47565f; }
.td-steps ol { display: flex; list-style: none; margin: 0; padding: 0; gap: 4px; }
.td-steps li { flex: 1; margin: 0; padding: .22rem 0 0; border-top: 4px solid #dfe5e8;
  color: #97a4ab; font-size: .8rem; }
.td-steps li.done { border-top-color: #63a892; color: #47565f; }
.td-steps li.here { border-top-color: #1d6fb8; color: #12558f; font-weight: 700; }
.td-steps li.here.last { border-top-color: #1d7f5f; color: #14604a; }
.td-steps li.here.trouble { border-top-color: #b3261e; color: #8f1d16; }
.td-bar { display: flex; height: 1.5rem; border-radius: 4px; overflow: hidden; background: #eef2f4;
  margin: .2rem 0 .7rem; }
.td-key { display: inline-block; width: .85rem; height: .85rem; border-radius: 2px;
  vertical-align: -.1rem; margin-right: .4rem; border: 1px solid rgba(0,0,0,.15); }
.td-legend { display: flex; flex-wrap: wrap; gap: .25rem 1.2rem; align-items: center;
  font-size: .86rem; }
.td-ramp { display: inline-block; width: 9rem; height: .85rem; border-radius: 2px; margin: 0 .4rem;
  vertical-align: -.1rem; border: 1px solid rgba(0,0,0,.15); }
.td-missing { display: flex; align-items: center; justify-content: center; min-height: 16rem;
  border: 1px dashed #c3ced3; border-radius: 8px; color: #5d6d78; background: #fafbfc; }
.td-facts td:first-child { color: #5d6d78; width: 42%; }
@media (max-width: 900px) {
  .td-counts { grid-template-columns: repeat(2, 1fr); }
  .td-score { border-left: 0; padding-left: 0; } .td-line { flex-wrap: wrap; }
}
</style>
"""


@st.cache_resource
def icon() -> Image.Image:
    """Icon of the tab: two overlapping sections.

    The icon is drawn here, because the browser would fetch an emoji from the network.
    """
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((4, 4, 44, 44), 10, fill=(203, 120, 165, 255))
    draw.rounded_rectangle((20, 20, 60, 60), 10, fill=(18, 52, 59, 255))
    return image


@st.cache_resource
def settings() -> Settings:
    """Return the settings that TANDEM_CONFIG names, read once."""
    return load_settings()


@st.cache_resource
def ledger() -> LedgerReader:
    """Return the ledger of the settings, opened for reading."""
    return LedgerReader(settings().ledger_url)


def token() -> str:
    """Return the token of the browser's session; empty without one."""
    return st.context.cookies.get(COOKIE, "")


def user() -> User | None:
    """Return the user who is signed in; None without a login."""
    access = of_server()
    return access.user(token()) if access is not None else None


def style() -> None:
    """Apply the style sheet."""
    st.html(CSS)


@st.fragment(run_every=REFRESH_SECONDS)
def header() -> None:
    """Show the bar of every page: whether the appliance runs, and the notice of research use.

    Trouble of the appliance or of the site is a red strip below it.
    """
    alive = life(settings())
    folders = folder_lines(settings())
    sound = alive.alive and not alive.trouble
    dot = "good" if sound else "trouble" if alive.told else "waiting"
    said = alive.sentence if alive.told else "No appliance has run here yet."
    known = user()
    out = (
        f'<a href="access/out" target="_self">{escape(known.person)}: sign out</a>' if known else ""
    )
    block(
        '<div class="td-top"><a class="brand" href="./" target="_self">Tandem</a>'
        '<a href="./" target="_self">Today</a><a href="worklist" target="_self">Work list</a>'
        '<a href="quality" target="_self">Quality</a>'
        '<a href="system" target="_self">System</a>'
        f'<span class="what" role="status"><span class="dot {dot}"></span>{escape(said)}</span>'
        f'{out}<span class="ruo" role="note">{escape(RESEARCH_USE)}</span></div>'
    )
    lines = [*([alive.sentence] if alive.told and not sound else []), *folders]
    if lines:
        items = "".join(f'<div class="item">{escape(line)}</div>' for line in lines)
        block(f'<div class="td-trouble" role="alert">{items}</div>')


def footer() -> None:
    """Show the last line of every page."""
    block(
        f'<div class="td-foot">{escape(RESEARCH_USE)} Scores are estimated from tumor area; '
        "a pathologist decides.</div>"
    )


def block(markup: str) -> None:
    """Show markup in the page's style; the caller has escaped foreign text."""
    st.html(f'<div class="td">{markup}</div>')


@contextmanager
def telling_trouble(*, shown: bool = True) -> Iterator[None]:
    """Tell the reader of trouble with the ledger in place of a part of a page.

    `shown` is False for all parts of a page but one.
    """
    try:
        yield
    except LedgerError as err:
        if shown:
            block(
                '<div class="td-card"><h2>The ledger cannot be shown</h2>'
                f"<div>{escape(str(err))}</div></div>"
            )


def readable() -> bool:
    """Return whether there is a ledger that this build can read."""
    try:
        return ledger().ready
    except LedgerError:
        return False


def live() -> bool:
    """Return whether there is a ledger to show; tell the reader if not.

    Raises
    ------
    LedgerError
        If it cannot be shown; `telling_trouble` tells the reader.
    """
    if ledger().ready:
        return True
    block(
        '<div class="td-card"><h2>Tandem has not started yet</h2>'
        '<div class="muted">There is no ledger in the state folder. Start the appliance with '
        "<b>tandem run</b>; this page fills by itself. To look at the folder, the names in it and "
        'the PACS before: <a href="first-run" target="_self">First run</a>.</div></div>'
    )
    return False


def block_text(case: CaseLine) -> str:
    """Return the block of a case, with the assay where it is not the site's main one."""
    main = pairings(settings())[0].assay
    return case.block if case.assay == main else f"{case.block} · {case.assay}"


def pill(text: str, tone: Tone | str) -> str:
    """Markup of a state as a colored word."""
    return f'<span class="pill {tone}">{escape(text)}</span>'


def state_pill(words: Wording, claimed: bool = False) -> str:
    """Markup of a state; a state in progress has a dot."""
    return f'<span title="{escape(words.sentence)}">' + (
        pill(("● " if claimed else "") + words.label, "running" if claimed else words.tone)
        + "</span>"
    )


def progress_line(progress: StepProgress | None) -> str:
    """Markup of a step's progress, under its state; empty where there is none."""
    if progress is None:
        return ""
    return (
        f'<div class="td-bar" title="{progress.done} of {progress.total} tiles">'
        f'<span style="width: {progress.percent:.0f}%"></span></div>'
        f'<div class="muted small">{escape(progress_words(progress))}</div>'
    )


def score_mark(score: str) -> str:
    """Markup of a score in a table."""
    return (
        f'<span class="score">{escape(score)}</span>' if score else '<span class="muted">–</span>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """Markup of a table from cells of markup; a head that ends with ``>`` sets its column right."""
    lines = list(rows)
    if not lines:
        return f'<div class="td-empty">{escape(empty)}</div>'
    classes = ["num" if head.endswith(">") else "" for head in heads]
    top = "".join(
        f'<th class="{c}">{escape(head.rstrip(">"))}</th>'
        for head, c in zip(heads, classes, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{c}">{cell}</td>' for cell, c in zip(line, classes, strict=True))
        + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def ago(at: float) -> str:
    """Markup of an age, with the exact time on hover."""
    return f'<span class="nowrap" title="{clock(at)}">{age(max(0.0, time.time() - at))}</span>'


def clock(at: float) -> str:
    """Local date and time of seconds since epoch."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def wanted(name: str) -> int | None:
    """Return the number that the address names; None where it names none."""
    text = st.query_params.get(name, "")
    fits = text.isascii() and text.isdecimal() and len(text) <= LONGEST_ID
    return int(text) if fits else None


def slide_link(slide_id: int, text: str) -> str:
    """Markup of a link to a slide's page."""
    return f'<a href="slide?slide={slide_id}" target="_self">{escape(text)}</a>'


def case_link(case_id: int, text: str) -> str:
    """Markup of a link to a case's page."""
    return f'<a href="case?case={case_id}" target="_self">{escape(text)}</a>'
