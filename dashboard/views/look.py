"""Parts of every page: style sheet, header, footer, tables. Foreign text is always escaped."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from html import escape
from pathlib import Path

import streamlit as st
from PIL import Image, ImageDraw
from streamlit.delta_generator import DeltaGenerator

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
from dashboard.access import CHOSEN, COOKIE, HIDDEN_NAMES, of_server
from dashboard.lines import CaseLine
from dashboard.masking import hides, hiding
from dashboard.snapshots import Snapshots
from dashboard.wording import Tone, Wording, progress_words
from dashboard.worklist import SpokenCases

REFRESH_SECONDS = 2.0
"""Period of the live parts; a change of state is on the page within three seconds. What has not
changed has the same markup, and stays on the page as it is: a selection in it survives."""

CSS = Path(__file__).parents[1] / "static" / "pages.css"
"""Style sheet of the pages."""


@st.cache_resource
def icon() -> io.BytesIO:
    """Icon of the tab as PNG: two overlapping sections.

    The icon is drawn here, because the browser would fetch an emoji from the network. It is encoded
    once: each page that is opened would encode it again.
    """
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((4, 4, 44, 44), 10, fill=(203, 120, 165, 255))
    draw.rounded_rectangle((20, 20, 60, 60), 10, fill=(18, 52, 59, 255))
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded


@st.cache_resource
def settings_for(hidden: bool) -> Settings:
    """Return the settings that TANDEM_CONFIG names, for screens with or without hidden names."""
    return hiding(settings_for(False)) if hidden else load_settings()


def settings() -> Settings:
    """Return the settings as the session's screen has them.

    With hidden names their `dashboard.mask` is ``always``, and what is read by them has no names.
    What sessions share (``st.cache_resource``) has to be kept apart by `names_hidden`.
    """
    return settings_for(names_hidden())


def names_hidden() -> bool:
    """Return whether the session's screen hides names."""
    chosen, access = st.context.cookies.get(HIDDEN_NAMES) == CHOSEN, of_server()
    if access is None:
        return chosen or hides(settings_for(False))
    return access.hides(token(), chosen=chosen)


@st.cache_resource
def ledger() -> LedgerReader:
    """Return the ledger of the settings, opened for reading."""
    return LedgerReader(settings_for(False).ledger_url)


@st.cache_resource
def _snapshots() -> dict[bool, Snapshots]:
    return {hidden: Snapshots(ledger()) for hidden in (False, True)}


def snapshots() -> Snapshots:
    """Return what sessions share of the ledger whose screens hide names as this one's does."""
    return _snapshots()[names_hidden()]


@st.cache_resource
def spoken() -> SpokenCases:
    """Return the cases on whose result a person said a word."""
    return SpokenCases()


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
    sentence, hidden = alive.sentence, names_hidden()
    if hidden and alive.trouble:  # what troubles a lane may name a file
        sentence = "Tandem runs, held up in part; by what is hidden on this screen."
    said = sentence if alive.told else "No appliance has run here yet."
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
        f'<a href="access/names" target="_self">{"Names hidden" if hidden else "Hide names"}</a>'
        f'{out}<span class="ruo" role="note">{escape(RESEARCH_USE)}</span></div>'
    )
    lines = [*([sentence] if alive.told and not sound else []), *folders]
    if lines:
        items = "".join(f'<div class="item">{escape(line)}</div>' for line in lines)
        block(f'<div class="td-trouble" role="alert">{items}</div>')


def footer() -> None:
    """Show the last line of every page."""
    block(
        f'<div class="td-foot">{escape(RESEARCH_USE)} Scores are estimated from tumor area; '
        "a pathologist decides.</div>"
    )


def block(markup: str, place: DeltaGenerator | None = None) -> None:
    """Show markup in the page's style, here or in a place; the caller has escaped foreign text.

    A part that refreshes fills places outside of it: each part costs a run of its own.
    """
    (place or st).html(f'<div class="td">{markup}</div>')


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


@st.cache_resource
def _main_assay() -> str:
    """Return the name of the site's main assay; to ask for it costs 0.1 ms, which rows add up."""
    return pairings(settings())[0].assay


def block_text(case: CaseLine) -> str:
    """Return the block of a case, with the assay where it is not the site's main one."""
    return case.block if case.assay == _main_assay() else f"{case.block} · {case.assay}"


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
    """Markup of a table from cells of markup; a head that ends with ``>`` sets its column right.

    A cell of such a column names its head, for windows that are too narrow for columns.
    """
    lines = list(rows)
    if not lines:
        return f'<div class="td-empty">{escape(empty)}</div>'
    classes = ["num" if head.endswith(">") else "" for head in heads]
    top = "".join(
        f'<th class="{c}">{escape(head.rstrip(">"))}</th>'
        for head, c in zip(heads, classes, strict=True)
    )
    begins = [
        f'<td class="num" data-head="{escape(head[:-1])}">' if c else '<td class="">'
        for head, c in zip(heads, classes, strict=True)
    ]
    body = "".join(
        "<tr>"
        + "".join(f"{td}{cell}</td>" for td, cell in zip(begins, line, strict=True))
        + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def ago(at: float) -> str:
    """Markup of an age since seconds since epoch, with the exact time on hover."""
    return _time(at, "age")


def moment(at: float) -> str:
    """Markup of the date and time of seconds since epoch, in the viewer's zone."""
    return _time(at, "moment")


def hour(at: float) -> str:
    """Markup of hour and minute of seconds since epoch, in the viewer's zone."""
    return _time(at, "hour")


def _time(at: float, kind: str) -> str:
    """Markup of a time that ``static/times.js`` writes; before it does, the server's clock."""
    local = datetime.fromtimestamp(at).astimezone()
    return (
        f'<time class="nowrap" data-time="{kind}" datetime="{local.isoformat("T", "seconds")}">'
        f"{local:%Y-%m-%d %H:%M:%S %Z}</time>"
    )


def wanted(name: str) -> int | None:
    """Return the number that the address names; None where it names none."""
    text = st.query_params.get(name, "")
    fits = text.isascii() and text.isdecimal() and len(text) <= LONGEST_ID
    return int(text) if fits else None


def slide_link(slide_id: int, text: str) -> str:
    """Markup of a link to a slide's page."""
    return f'<a href="slide?slide={slide_id}" target="_self">{escape(text)}</a>'


def interim_note(sentence: str) -> str:
    """Return the markup of the sentence on an interim hint; empty for none."""
    if not sentence:
        return ""
    return f'<div class="td-interim" data-testid="interim">{escape(sentence)}</div>'


def second_note(sentences: Sequence[str]) -> str:
    """Return the markup of the sentences on second readers' opinions; empty for none."""
    return "".join(
        f'<div class="td-interim" data-testid="second">{escape(sentence)}</div>'
        for sentence in sentences
    )


def case_link(case_id: int, text: str) -> str:
    """Markup of a link to a case's page."""
    return f'<a href="case?case={case_id}" target="_self">{escape(text)}</a>'
