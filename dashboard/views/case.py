"""The case page: score, reasons for review, slides with overlays, numbers, delivery, timeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st

from appliance.findings.codec import MAX_EDGE_PX, load_findings, load_pictures
from appliance.findings.findings import Findings, Rasters
from appliance.findings.overlay import (
    PROBABILITY_COLORS,
    Picture,
    blend,
    stain_layer,
    tumor_layer,
)
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.slides.overview import load_overview
from dashboard.assay_facts import binary_words, class_colors, has_classes, slide_labels
from dashboard.lines import SlideLine
from dashboard.queries import CaseDetail, read_case
from dashboard.views import look, measured
from dashboard.views.pictures import offer
from dashboard.wording import (
    CASE_WORDS,
    DELIVERY_WORDS,
    OBJECT_WORDS,
    SLIDE_WORDS,
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
    (CaseState.READY, "Scoring"),
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


@dataclass(frozen=True, slots=True)
class CasePictures:
    """Pictures of both slides, and the findings without their large arrays."""

    findings: Findings
    he: Picture
    ihc: Picture


@look.telling_trouble()
def render() -> None:
    """Render the page of the case that the address names (``case?case=3``)."""
    look.block('<a href="./" target="_self">← All cases</a>')
    if not look.live():
        return
    wanted = st.query_params.get("case", "")
    detail = (
        read_case(look.ledger(), look.settings(), int(wanted))
        if wanted.isascii() and wanted.isdecimal() and len(wanted) < 16
        else None
    )
    if detail is None:
        look.block('<div class="td-card">There is no such case. Choose one from the queue.</div>')
        return
    pictures = _pictures_of(detail)
    findings = pictures.findings if pictures is not None else None
    _status(detail.case.id, detail.picture_key)
    if pictures is not None:
        _scored_pictures(pictures)
        offer(detail)
    else:
        _unscored_pictures(detail)
    if findings is not None:
        left, right = st.columns(2)
        with left:
            look.block(measured.percent(findings))
            look.block(measured.rois(findings))
            look.block(measured.opinions(findings))
            look.block(measured.models(findings))
        with right:
            look.block(measured.facts(findings))
    _records(detail.case.id)


# live parts


@st.fragment(run_every=look.REFRESH_SECONDS)
@look.telling_trouble()
def _status(case_id: int, shown: str) -> None:
    detail = read_case(look.ledger(), look.settings(), case_id)
    if detail is None:
        return
    if detail.picture_key != shown:
        # The pictures have changed; draw the whole page anew.
        st.rerun(scope="app")
    pictures = _pictures_of(detail)
    findings = pictures.findings if pictures is not None else None
    if pictures is None and detail.findings_folder is not None:
        look.block(
            '<div class="td-card">This case was scored by another version of Tandem, whose '
            "findings this one does not read. Its report is where it was delivered.</div>"
        )
    look.block(_header_markup(detail, findings))
    if detail.trouble is not None:
        look.block(
            f'<div class="td-trouble"><div class="item"><div>{escape(detail.trouble.sentence)} '
            f'<span class="muted small">{escape(detail.trouble.detail)}</span></div>'
            f'<div class="remedy">{escape(detail.trouble.remedy)}</div></div></div>'
        )
    if detail.case.review:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in detail.case.review)
        look.block(
            '<div class="td-review"><b>Review: a person should look at this case</b>'
            f"<ul>{items}</ul></div>"
        )


@st.fragment(run_every=look.REFRESH_SECONDS)
@look.telling_trouble(shown=False)
def _records(case_id: int) -> None:
    detail = read_case(look.ledger(), look.settings(), case_id)
    if detail is None:
        return
    left, right = st.columns(2)
    with left:
        look.block(_deliveries_markup(detail))
    with right:
        look.block(_timeline_markup(detail))


# pictures


def _pictures_of(detail: CaseDetail) -> CasePictures | None:
    """Load the pictures; None without findings, or if another version of Tandem wrote them."""
    if detail.findings_folder is None:
        return None
    try:
        return _load_pictures(str(detail.findings_folder))
    except ValueError:
        return None


@st.cache_resource(max_entries=4, show_spinner=False)
def _load_pictures(folder: str) -> CasePictures:
    """Load findings and pictures of an artifact, which never changes; few are kept in memory."""
    findings = load_findings(Path(folder))
    he, ihc = load_pictures(Path(folder))
    rasters = findings.rasters
    pictures = (
        Picture(he, tumor_layer(rasters, findings.he, he.shape[:2])),
        Picture(
            ihc,
            stain_layer(
                rasters, findings.ihc, ihc.shape[:2], list(class_colors(findings).values())
            ),
        ),
    )
    nothing = Rasters(
        he_tumor=np.zeros((0, 0), np.uint8),
        he_mpp=rasters.he_mpp,
        ihc_classes=None,
        ihc_mpp=rasters.ihc_mpp,
        ihc_read=np.zeros((0, 0), np.uint8),
        he_probability=np.zeros((0, 0), np.float32),
    )
    return CasePictures(replace(findings, tiles=(), annotated=(), rasters=nothing), *pictures)


@st.fragment
def _scored_pictures(pictures: CasePictures) -> None:
    with st.container(border=True, key="pictures"):
        switch, slider, _ = st.columns([1, 2, 3], vertical_alignment="center")
        shown = switch.toggle("Overlays", value=True)
        percent = slider.slider(
            "Overlay opacity", 0, 100, 60, step=5, format="%d %%", disabled=not shown
        )
        opacity = percent / 100 if shown else 0.0
        left, right = st.columns(2)
        anatomy, target = slide_labels(pictures.findings.assay)
        with left:
            _image(f"{anatomy} with tumor heat map", blend(pictures.he, opacity))
            look.block(_tumor_legend())
        with right:
            _image(f"{target} with stain classes", blend(pictures.ihc, opacity))
            look.block(_class_legend(pictures.findings))


def _unscored_pictures(detail: CaseDetail) -> None:
    with st.container(border=True, key="pictures"):
        for column, stain in zip(st.columns(2), detail.stains, strict=False):
            slide = detail.slides.get(stain)
            with column:
                if slide is not None and slide.thumbnail is not None:
                    _image(
                        stain_word(stain), load_overview(slide.thumbnail, longest_px=MAX_EDGE_PX)
                    )
                else:
                    text = (
                        f"The {stain_word(stain)} slide is not inspected yet."
                        if slide is not None
                        else f"No {stain_word(stain)} slide yet."
                    )
                    look.block(f'<div class="td-missing">{escape(text)}</div>')


def _image(title: str, rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    look.block(f"<h2>{escape(title)}</h2>")
    # JPEG has a tenth of the size of PNG; the smooth overlay loses nothing visible.
    st.image(rgb, width="stretch", output_format="JPEG", alt=title)


def _class_legend(findings: Findings) -> str:
    items = "".join(
        f"<span>{measured.key(color)}{escape(name)}</span>"
        for name, color in class_colors(findings).items()
    )
    return (
        f'<div class="td-legend" data-testid="class-legend">{items}'
        '<span class="muted">faint or uncoloured: not tumor, or not scored</span></div>'
    )


def _tumor_legend() -> str:
    stops = ", ".join(f"rgb{color} {100 * stop:.0f}%" for stop, color in PROBABILITY_COLORS)
    return (
        '<div class="td-legend" data-testid="tumor-legend"><span>Tumor probability 0'
        f'<span class="td-ramp" style="background: linear-gradient(90deg, {stops})"></span>1</span>'
        '<span class="muted">dark line: rim of the tumor area</span></div>'
    )


# markup


def _header_markup(detail: CaseDetail, findings: Findings | None) -> str:
    case = detail.case
    words = CASE_WORDS[case.state]
    return (
        '<div class="td-card"><div class="td-case"><div>'
        f"<h1>{escape(case.accession)} · block {escape(look.block_text(case))}</h1>"
        f"<div>{look.state_pill(words, case.claimed)} "
        f'<span class="muted">{escape(words.sentence)} Since {look.clock(case.changed_at)}.</span>'
        f"{look.progress_line(case.progress)}</div>{_steps_markup(detail)}</div>{_score_markup(findings)}</div></div>"
    )


def _score_markup(findings: Findings | None) -> str:
    if findings is None:
        return '<div class="td-score"><div class="muted">Not scored yet</div></div>'
    guideline = f"{findings.guideline} ({findings.guideline_version})"
    paper = ""
    if has_classes(findings):
        said = _paper_words(findings)
        paper = f'<div class="muted small">Paper score (Algorithm 1): {said}</div>'
    outs = findings.read_outs
    if findings.score is None:
        head = "<b>No score</b>"
    else:
        estimated = ", estimated" if findings.estimated else ""
        known = outs is not None and (findings.category is not None or not findings.review)
        words = binary_words(findings) if known else findings.category or "Score"
        head = f"<b>{escape(words)}</b>{estimated}"
    if findings.correction is not None:
        head += ", corrected by a person"
    for each in findings.confirmations:
        head += f", confirmed by {escape(each.by)} on {each.when}"
    said = "" if findings.review else findings.comment
    comment = f'<div class="small">{escape(said)}</div>' if said else ""
    rule = f'<div class="muted small">Rule: {escape(findings.rule)}</div>' if findings.rule else ""
    big = escape(findings.score or "–")
    return (
        f'<div class="td-score"><div class="big{"" if findings.score else " none"}" '
        f'data-testid="score">{big}</div><div style="max-width: 21rem"><div>{head}</div>{comment}'
        f'<div class="muted small">Guideline: {escape(guideline)}</div>{rule}'
        f"{paper}</div></div>"
    )


def _paper_words(findings: Findings) -> str:
    """Algorithm 1 in both readings, and whether they are the fallback, which the paper lacks."""
    if findings.paper_score is None:
        return "none"
    said = findings.paper_score
    if findings.paper_score_by_count is not None:
        said += f", by the largest count {findings.paper_score_by_count}"
    fallback = " (fallback of Tandem: no tile is 2+ or 3+)"
    return said + (fallback if findings.paper_score_fallback else "")


def _steps_markup(detail: CaseDetail) -> str:
    lines = []
    for stain in detail.stains:
        lines.append((stain_word(stain), _slide_steps(detail.slides.get(stain))))
    state = DETOURS.get(detail.case.state, detail.case.state)
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


def _deliveries_markup(detail: CaseDetail) -> str:
    rows = []
    for line in detail.deliveries:
        words = DELIVERY_WORDS[line.state]
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


def _timeline_markup(detail: CaseDetail) -> str:
    rows = [
        (
            f'<span class="nowrap muted">{look.clock(event.at)}</span>',
            f'<span class="nowrap">{escape(event.who)}</span>',
            escape(event.text)
            + (f' <span class="muted">× {event.count}</span>' if event.count > 1 else ""),
        )
        for event in reversed(detail.events)
    ]
    return (
        '<div class="td-card"><h2>Timeline</h2><div style="max-height: 24rem; overflow-y: auto">'
        + look.table(("Time", "What", "Event"), rows, "Nothing happened yet.")
        + "</div></div>"
    )
