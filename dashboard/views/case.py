"""The case page: one line with score and actions, both slides as a deep zoom, then the records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from appliance.artifacts import ArtifactKey
from appliance.findings.codec import MAX_EDGE_PX
from appliance.findings.findings import Findings, Rasters
from appliance.slides.overview import load_overview
from dashboard.access import of_server
from dashboard.answers import NotShownError
from dashboard.assay_facts import binary_words, has_classes
from dashboard.interim import ATTENDED, HintMap
from dashboard.masking import HIDDEN
from dashboard.queries import CaseDetail, read_case
from dashboard.reports import report_file
from dashboard.stored import DAMAGED_OVERVIEW, ResultDamagedError, is_sound, sound_findings
from dashboard.views import acting, look, measured
from dashboard.views.pictures import offer
from dashboard.views.records import (
    deliveries_markup,
    slides_markup,
    steps_markup,
    timeline_markup,
)
from dashboard.wording import CASE_WORDS, stain_word

ZOOM_PX = 470
"""Height of the deep zoom: with the lines above and the tabs below, the page fits on 1280 x 720."""


@look.telling_trouble()
def render() -> None:
    """Render the page of the case that the address names (``case?case=3``)."""
    if not look.live():
        return
    wanted = look.wanted("case")
    detail = None if wanted is None else _read(wanted)
    if detail is None:
        look.block(
            '<a href="./" target="_self">← All cases</a>'
            '<div class="td-card">There is no such case. Choose one from the queue.</div>'
        )
        return
    if (access := of_server()) is not None:
        access.opened(look.token(), detail.case.id)
    findings = _findings_of(detail)
    acting.told()
    line, buttons = st.columns([5, 4], vertical_alignment="center", gap="small")
    with buttons:
        if acting.may_act():
            acting.case_buttons(detail, findings)
        else:
            acting.off()
    if findings is None:
        _unscored_pictures(detail)
        look.block(f'<div class="td-card">{steps_markup(detail)}</div>')
    else:
        version = ArtifactKey.parse(detail.findings_key).digest
        st.iframe(
            f"/zoom/{detail.case.id}?v={version}",
            height=ZOOM_PX,
            alt="Both slides of the case, linked: deep zoom with overlays",
        )
    records = _records(detail, findings)
    with line:
        can_retry = detail.trouble is not None
        _live(detail.case.id, _key_of(detail, findings), records, can_retry=can_retry)


# live parts


def _read(case_id: int) -> CaseDetail | None:
    return look.snapshots().of(
        ("case", case_id),
        lambda: read_case(look.ledger(), look.settings(), case_id),
        lambda detail: detail is not None and detail.moving,
    )


@st.fragment(run_every=look.REFRESH_SECONDS)
@look.telling_trouble()
def _live(case_id: int, shown: str, records: _Records, *, can_retry: bool) -> None:
    detail = _read(case_id)
    if detail is None:
        return
    findings = _findings_of(detail)
    if _key_of(detail, findings) != shown:
        # Pictures or actions have changed; draw the whole page anew.
        st.rerun(scope="app")
    delivery, history, slides = look.snapshots().of(
        ("records", case_id), lambda: _records_markup(case_id)
    )
    look.block(delivery, records.delivery)
    look.block(history, records.history)
    look.block(slides, records.slides)
    notes = look.interim_note(detail.interim) + look.second_note(detail.second)
    look.block(_line_markup(detail, findings) + notes)
    if findings is None and detail.findings_key:
        look.block(f'<div class="td-card">{escape(_why_unread(detail))}</div>')
    if detail.trouble is not None:
        more = "" if can_retry or not acting.may_act() else " Reload this page for Try again."
        look.block(
            f'<div class="td-trouble"><div class="item"><div>{escape(detail.trouble.sentence)} '
            f'<span class="muted small">{escape(detail.trouble.detail)}</span></div>'
            f'<div class="remedy">{escape(detail.trouble.remedy)}{more}</div></div></div>'
        )


def _key_of(detail: CaseDetail, findings: Findings | None) -> str:
    """Return the key that changes when the page is to be drawn anew; without findings that can be
    shown, the page shows how far the case is."""
    return detail.picture_key if findings else f"{detail.picture_key}|{detail.case.state}"


def _records_markup(case_id: int) -> tuple[str, str, str]:
    """Return delivery, history and slides of a case as markup."""
    detail = _read(case_id)
    if detail is None:
        return "", "", ""
    timeline = timeline_markup(detail.events, detail.cut)
    history = f'<div class="td-card">{steps_markup(detail)}</div>{timeline}'
    return deliveries_markup(detail), history, slides_markup(detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Records:
    """Places of the records that follow the ledger; the part that refreshes fills them."""

    delivery: DeltaGenerator
    history: DeltaGenerator
    slides: DeltaGenerator


def _records(detail: CaseDetail, findings: Findings | None) -> _Records:
    names = ["Measurements", "Report", "Delivery", "History", "Slides"]
    measures, report, delivery, history, slides = st.tabs(names)
    with measures:
        _measurements(detail, findings)
    with report:
        _report(detail)
    return _Records(delivery=delivery.empty(), history=history.empty(), slides=slides.empty())


# parts


def _measurements(detail: CaseDetail, findings: Findings | None) -> None:
    if findings is None:
        said = _why_unread(detail) if detail.findings_key else "Not scored yet."
        look.block(f'<div class="td-empty">{escape(said)}</div>')
        return
    if detail.case.review:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in detail.case.review)
        look.block(
            '<div class="td-review"><b>Review: a person should look at this case</b>'
            f"<ul>{items}</ul></div>"
        )
    left, right = st.columns(2)
    with left:
        look.block(f'<div class="td-card">{_score_markup(findings)}</div>')
        look.block(measured.percent(findings))
        look.block(measured.rois(findings))
        look.block(measured.opinions(findings))
        look.block(measured.models(findings))
    with right:
        look.block(measured.facts(findings))


def _report(detail: CaseDetail) -> None:
    offer(detail)
    if look.names_hidden():
        look.block(
            '<div class="td-empty">Names are hidden on this screen, and the report names the '
            "patient.</div>"
        )
        return
    case_id, keys = detail.case.id, (detail.findings_key, detail.objects_key)
    try:
        report_file(f"case-{case_id}", *keys, look.settings())
    except (NotShownError, OSError) as err:
        said = str(err) if isinstance(err, NotShownError) else f"It cannot be read: {err.strerror}."
        look.block(f'<div class="td-empty">{escape(said)}</div>')
        return
    version = ArtifactKey.parse(detail.objects_key).digest
    look.block(
        f'<p><a href="/reports/{case_id}.pdf" target="_blank">Open the report page (PDF)</a></p>'
        f'<img src="/reports/{case_id}.png?v={version}" alt="Report page of case-{case_id}; its '
        'words are in the PDF" loading="lazy" style="max-width: 100%; border: 1px solid #dfe5e8">'
    )


def _findings_of(detail: CaseDetail) -> Findings | None:
    """Load the findings; None without them, or where they cannot be read (`_why_unread`)."""
    if detail.findings_folder is None:
        return None
    try:
        return _load_findings(str(detail.findings_folder))
    except (ValueError, OSError):
        return None


def _why_unread(detail: CaseDetail) -> str:
    if detail.findings_folder is None:
        return "The stored result of this case is away. Restore artifacts/ of the state folder."
    try:
        _load_findings(str(detail.findings_folder))
    except ResultDamagedError as err:
        return f"The stored result of this case is damaged ({err}). Analyze the case again."
    except OSError as err:
        return (
            f"The stored result of this case cannot be read ({err.strerror}). See to the disk of "
            "the state folder."
        )
    except ValueError:
        pass
    return (
        "This case was scored by another version of Tandem, whose findings this one does not "
        "read. Its report is where it was delivered."
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def _load_findings(folder: str) -> Findings:
    """Load the findings of an artifact, which never changes, without their large arrays."""
    findings = sound_findings(Path(folder))
    nothing = Rasters(
        he_tumor=np.zeros((0, 0), np.uint8),
        he_mpp=findings.rasters.he_mpp,
        ihc_classes=None,
        ihc_mpp=findings.rasters.ihc_mpp,
        ihc_read=np.zeros((0, 0), np.uint8),
        he_probability=np.zeros((0, 0), np.float32),
    )
    return replace(findings, tiles=(), annotated=(), rasters=nothing)


def _unscored_pictures(detail: CaseDetail) -> None:
    with st.container(border=True, key="pictures"):
        for column, stain in zip(st.columns(2), detail.stains, strict=False):
            slide = detail.slides.get(stain)
            with column:
                if slide is not None and slide.thumbnail and is_sound(slide.thumbnail):
                    title = stain_word(stain)
                    look.block(f"<h2>{escape(title)}</h2>")
                    rgb = load_overview(slide.thumbnail, longest_px=MAX_EDGE_PX)
                    if detail.hint_map is not None and detail.hint_map.slide_id == slide.id:
                        _hinted_picture(rgb, detail.hint_map)
                    else:
                        st.image(rgb, width="stretch", output_format="JPEG", alt=title)
                else:
                    text = f"No {stain_word(stain)} slide yet."
                    if slide is not None and slide.thumbnail is not None:
                        text = DAMAGED_OVERVIEW
                    elif slide is not None:
                        text = f"The {stain_word(stain)} slide is not inspected yet."
                    look.block(f'<div class="td-missing">{escape(text)}</div>')


def _hinted_picture(overview: NDArray[np.uint8], shown: HintMap) -> None:
    """Render an overview with the attention of its hint, which a person can take off."""
    layer = st.toggle("Attention of the interim hint", value=True, key="hint_layer")
    st.image(
        shown.over(overview) if layer else overview,
        width="stretch",
        output_format="JPEG",
        alt=ATTENDED if layer else "Overview",
    )
    if layer:
        look.block(f'<div class="td-interim" data-testid="interim-map">{ATTENDED}</div>')


# markup


def _line_markup(detail: CaseDetail, findings: Findings | None) -> str:
    case = detail.case
    words = CASE_WORDS[case.state]
    if findings is None and detail.findings_key:
        score = '<span class="big none muted">The result cannot be shown</span>'
    elif findings is None:
        score = '<span class="big none muted">Not scored yet</span>'
    else:
        score = f'<span class="big" data-testid="score">{escape(findings.score or "–")}</span>'
    reasons = ""
    if case.review:
        text = escape(" ".join(case.review))
        reasons = f'<div class="reasons" title="{text}"><b>Review:</b> {text}</div>'
    said = "" if findings is None else f'<span class="said">{_meaning(findings)}</span>'
    held = f'<div class="muted small">{escape(case.held)}</div>' if case.held else ""
    return (
        f'<div class="td-line"><a href="worklist" target="_self">← Work list</a>{score}<div>'
        f"<h1>{escape(case.accession)} · block {escape(look.block_text(case))}</h1>"
        f"{look.state_pill(words, case.claimed)} {said}{look.progress_line(case.progress)}"
        f"{held}{reasons}</div></div>"
    )


def _meaning(findings: Findings) -> str:
    """Return the score in words, and by whom it is."""
    outs = findings.read_outs
    if findings.score is None:
        head = "<b>No score</b>"
    else:
        estimated = ", estimated" if findings.estimated else ""
        known = outs is not None and (findings.category is not None or not findings.review)
        words = binary_words(findings) if known else findings.category or "Score"
        head = f"<b>{escape(words)}</b>{estimated}"
    if findings.correction is not None:
        head += f", corrected by {escape(findings.correction.by)}"
    for each in findings.confirmations:
        head += f", confirmed by {escape(each.by)} on {each.when}"
    return head


def _score_markup(findings: Findings) -> str:
    guideline = f"{findings.guideline} ({findings.guideline_version})"
    paper = ""
    if has_classes(findings):
        said = _paper_words(findings)
        paper = f'<div class="muted small">Paper score (Algorithm 1): {said}</div>'
    said = "" if findings.review else findings.comment
    comment = f'<div class="small">{escape(said)}</div>' if said else ""
    rule = f'<div class="muted small">Rule: {escape(findings.rule)}</div>' if findings.rule else ""
    return (
        f'<div class="td-score"><div class="big{"" if findings.score else " none"}">'
        f"{escape(findings.score or '–')}</div><div><div>{_meaning(findings)}</div>"
        f'{comment}{_correction_markup(findings)}<div class="muted small">Guideline: '
        f"{escape(guideline)}</div>{rule}{paper}</div></div>"
    )


def _correction_markup(findings: Findings) -> str:
    """Return whose the score is, and whose the shares are; empty without a correction."""
    correction = findings.correction
    if correction is None:
        return ""
    was, why = correction.was or "no score", correction.why
    if look.names_hidden():
        why = HIDDEN
    numbers = "the shares, regions and numbers on this page are the appliance's"
    if findings.score is None:
        numbers = "the case cannot be scored, so shares and numbers are left out"
    elif not findings.has_numbers:
        numbers = "it gave no result, so shares and numbers are left out"
    return (
        f'<div class="small" data-testid="correction">The score is a person\'s: '
        f"{escape(correction.by)}. Why: {escape(why)}. The appliance had said "
        f"{escape(was)}; {numbers}.</div>"
    )


def _paper_words(findings: Findings) -> str:
    """Algorithm 1 in both readings, and whether they are the fallback, which the paper lacks."""
    if findings.paper_score is None or not findings.has_numbers:
        return "none"
    said = findings.paper_score
    if findings.paper_score_by_count is not None:
        said += f", by the largest count {findings.paper_score_by_count}"
    fallback = " (fallback of Tandem: no tile is 2+ or 3+)"
    return said + (fallback if findings.paper_score_fallback else "")
